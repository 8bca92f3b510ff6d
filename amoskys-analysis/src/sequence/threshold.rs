//! Where alarms begin, set on normal scores that the model was not fitted on.

use serde::{Deserialize, Serialize};

use super::SequenceError;

/// A score strictly above it is an alarm.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Threshold(pub f64);

impl Threshold {
    /// The threshold that a new normal score exceeds with at most this probability, if it is drawn as the given ones were (split
    /// conformal prediction, Vovk et al. 2005): the promise holds on the mean over such draws, whatever the distribution. With
    /// `n` scores, rates below 1 / (n + 1) cannot be promised. Scores that are not numbers are left out.
    ///
    /// Traces that are copies of one another are not drawn independently: give the score of each distinct trace once, and the
    /// promise is about distinct traces. Scores of training traces are lower than those of new ones and must not be used.
    ///
    /// # Errors
    ///
    /// [`SequenceError::Setting`] if the rate is not between 0 and 1, or too low for so many scores.
    pub fn conformal(normal: &[f64], rate: f64) -> Result<Self, SequenceError> {
        let scores = sorted(normal);
        let refuse = |reason| SequenceError::Setting {
            setting: "rate",
            reason,
        };
        if !(rate > 0.0 && rate < 1.0) {
            return Err(refuse("must be between 0 and 1"));
        }
        let above = ((scores.len() + 1) as f64 * rate).floor() as usize;
        match scores.len().checked_sub(above) {
            Some(at) if above > 0 && at < scores.len() => Ok(Self(scores[at])),
            _ => Err(refuse("is too low for so few normal scores")),
        }
    }

    /// The smallest threshold that at most this share of the scores exceeds. `None` if there are none.
    #[must_use]
    pub fn of_share(scores: &[f64], share: f64) -> Option<Self> {
        let scores = sorted(scores);
        let above = (share.clamp(0.0, 1.0) * scores.len() as f64) as usize;
        let at = scores.len().checked_sub(1)?.saturating_sub(above);
        Some(Self(scores[at]))
    }

    /// Whether a score is an alarm.
    #[must_use]
    pub fn is_alarm(self, score: f64) -> bool {
        score > self.0
    }
}

fn sorted(scores: &[f64]) -> Vec<f64> {
    let mut scores: Vec<f64> = scores.iter().copied().filter(|score| !score.is_nan()).collect();
    scores.sort_by(f64::total_cmp);
    scores
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_of_a_known_case() {
        let scores: Vec<f64> = (1..=99).map(f64::from).collect();
        // Of 100 equally likely places of a new score, the ten highest are above the 90th.
        assert_eq!(Threshold::conformal(&scores, 0.1).unwrap(), Threshold(90.0));
        assert_eq!(Threshold::conformal(&scores, 0.01).unwrap(), Threshold(99.0));
        assert!(Threshold::conformal(&scores, 0.009).is_err());
        assert!(Threshold::conformal(&scores, 0.0).is_err() && Threshold::conformal(&[], 0.5).is_err());
        let ten: Vec<f64> = (1..=10).map(f64::from).collect();
        assert_eq!(Threshold::of_share(&ten, 0.1), Some(Threshold(9.0)));
        assert_eq!(Threshold::of_share(&ten, 0.0), Some(Threshold(10.0)));
        assert_eq!(Threshold::of_share(&[f64::NAN], 0.1), None);
        assert!(!Threshold(1.0).is_alarm(1.0) && !Threshold(1.0).is_alarm(f64::NAN));
    }
}
