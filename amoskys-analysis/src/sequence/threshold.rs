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

    /// The same for traces that repeat each other: each score with the number of its copies. The promise is about traces, not
    /// about distinct ones, and copies count; but no group of copies counts more than `most` of all, 0 to 1, so that one program
    /// that ran often does not decide alone where alarms begin. A hundredth is a good value: no group then moves the rate by more
    /// than a point. With 0 each group counts once, and with 1 every copy does.
    ///
    /// Where a single group is a large part of new traces, the realised rate depends on whether it is among them: no threshold
    /// can keep a promise about both cases.
    ///
    /// # Errors
    ///
    /// [`SequenceError::Setting`] if the rate is not between 0 and 1, `most` is not from 0 to 1, or the rate is too low for so
    /// many scores.
    pub fn conformal_of_copies(normal: &[(f64, usize)], rate: f64, most: f64) -> Result<Self, SequenceError> {
        let refuse = |setting, reason| SequenceError::Setting { setting, reason };
        if !(rate > 0.0 && rate < 1.0) {
            return Err(refuse("rate", "must be between 0 and 1"));
        }
        if !(0.0..=1.0).contains(&most) {
            return Err(refuse("most", "must be from 0 to 1"));
        }
        let mut groups: Vec<(f64, f64)> = normal
            .iter()
            .filter(|(score, copies)| !score.is_nan() && *copies > 0)
            .map(|(score, copies)| (*score, *copies as f64))
            .collect();
        bound(&mut groups, most);
        groups.sort_by(|a, b| b.0.total_cmp(&a.0));
        // One more for the new trace, which may be the highest of all.
        let allowed = rate * (groups.iter().map(|(_, weight)| weight).sum::<f64>() + 1.0);
        let mut above = 1.0;
        let mut groups = groups.into_iter();
        while above <= allowed {
            match groups.next() {
                Some((score, weight)) => {
                    above += weight;
                    if above > allowed {
                        return Ok(Self(score));
                    }
                }
                None => break,
            }
        }
        Err(refuse("rate", "is too low for so few normal scores"))
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

/// Lowers weights above this share of what all add up to afterwards, but to no less than one.
fn bound(groups: &mut [(f64, f64)], most: f64) {
    groups.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut rest: f64 = groups.iter().map(|(_, weight)| weight).sum();
    let mut limit = 1.0;
    // With so many of the heaviest bounded, each weighs `most` of the sum of all.
    let mut number = 0.0;
    for (_, weight) in groups.iter() {
        if number * most >= 1.0 {
            break;
        }
        let bounded = (most * rest / (1.0 - number * most)).max(1.0);
        if *weight <= bounded {
            limit = bounded;
            break;
        }
        rest -= weight;
        number += 1.0;
    }
    groups
        .iter_mut()
        .for_each(|(_, weight)| *weight = weight.min(limit));
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
        // Each once, the same; with most of the weight in one low score, what is above it counts less.
        let once: Vec<(f64, usize)> = scores.iter().map(|score| (*score, 1)).collect();
        let of_copies = |groups: &[(f64, usize)], most| Threshold::conformal_of_copies(groups, 0.1, most);
        assert_eq!(of_copies(&once, 1.0).unwrap(), Threshold(90.0));
        let mut crowd = once.clone();
        crowd[0].1 = 102;
        assert_eq!(of_copies(&crowd, 0.0).unwrap(), Threshold(90.0));
        assert_eq!(of_copies(&crowd, 1.0).unwrap(), Threshold(80.0));
        // Bounded, it weighs a hundredth of about a hundred.
        assert_eq!(of_copies(&crowd, 0.01).unwrap(), Threshold(90.0));
        assert_eq!(of_copies(&crowd, 0.5).unwrap(), Threshold(81.0));
        assert!(of_copies(&crowd, -0.1).is_err() && of_copies(&once[..5], 1.0).is_err());
        assert!(Threshold::conformal_of_copies(&once, 1.0, 1.0).is_err());
        assert!(!Threshold(1.0).is_alarm(1.0) && !Threshold(1.0).is_alarm(f64::NAN));
    }
}
