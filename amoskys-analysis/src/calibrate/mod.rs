//! Calibration: from a detector's score to a probability.
//!
//! Scores of different detectors cannot be compared, and a score of 0.6 is not 60 %. A calibration maps scores to
//! probabilities that mean what they say, and never turns their order around.
//!
//! | calibration | fitted on | assumes | use it when |
//! |---|---|---|---|
//! | [`Isotonic`] | labelled scores | only that higher is more likely | there are a thousand labels or more |
//! | [`Platt`] | labelled scores | a logistic curve | there are few labels |
//! | [`Conformal`] | scores of normal data, no labels | what comes is drawn as the normal data was | there are no labels |
//!
//! ```
//! use amoskys_analysis::calibrate::{Calibration, Conformal};
//!
//! # fn main() -> Result<(), amoskys_analysis::calibrate::CalibrateError> {
//! let normal: Vec<f64> = (0..999).map(|n| f64::from(n) / 1000.0).collect();
//! let conformal = Conformal::fit(&normal, 0.01)?;
//! // Of 999 normal scores, 10 are this high: with the new one, 11 of 1000.
//! assert_eq!(conformal.p_value(0.989), 0.011);
//! let calibration = Calibration::from(conformal);
//! assert!(calibration.probability(2.0) > calibration.probability(0.5));
//! # Ok(())
//! # }
//! ```

mod conformal;
mod interval;
mod isotonic;
mod platt;

use amoskys_core::event::ScoreInterval;
use serde::{Deserialize, Serialize};

pub use self::conformal::Conformal;
pub use self::interval::{Interval, count_interval, share_interval};
pub use self::isotonic::Isotonic;
pub use self::platt::Platt;

/// A fitted calibration of any kind, as it is stored with a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Calibration {
    /// Isotonic regression.
    Isotonic(Isotonic),
    /// A logistic curve.
    Platt(Platt),
    /// Conformal p-values.
    Conformal(Conformal),
}

impl Calibration {
    /// The probability that a row of this score is an anomaly: above 0, below 1, never falling as the score rises. A
    /// score that is not a number gives what the lowest score would.
    #[must_use]
    pub fn probability(&self, score: f64) -> f64 {
        match self {
            Self::Isotonic(isotonic) => isotonic.probability(score),
            Self::Platt(platt) => platt.probability(score),
            Self::Conformal(conformal) => conformal.probability(score),
        }
    }

    /// The probability, and between which bounds it lies with a confidence between 0 and 1, for the number of rows that the
    /// calibration was fitted on. Bounds tell nothing of data that comes otherwise than those rows.
    #[must_use]
    pub fn interval(&self, score: f64, confidence: f64) -> Interval {
        match self {
            Self::Isotonic(isotonic) => isotonic.interval(score, confidence),
            Self::Platt(platt) => platt.interval(score, confidence),
            Self::Conformal(conformal) => conformal.interval(score, confidence),
        }
    }

    /// The bounds of a verdict that takes this probability for its score. `None` where no rows are behind it, as of a curve of one's
    /// own.
    #[must_use]
    pub fn score_interval(&self, score: f64) -> Option<ScoreInterval> {
        match self {
            Self::Platt(platt) if !platt.is_fitted() => None,
            _ => {
                let interval = self.interval(score, ScoreInterval::CONFIDENCE);
                interval.of_score(interval.probability)
            }
        }
    }
}

impl From<Isotonic> for Calibration {
    fn from(isotonic: Isotonic) -> Self {
        Self::Isotonic(isotonic)
    }
}

impl From<Platt> for Calibration {
    fn from(platt: Platt) -> Self {
        Self::Platt(platt)
    }
}

impl From<Conformal> for Calibration {
    fn from(conformal: Conformal) -> Self {
        Self::Conformal(conformal)
    }
}

/// Why a calibration could not be fitted.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrateError {
    /// There are more scores than labels, or fewer.
    #[error("{scores} scores have {labels} labels")]
    Labels {
        /// Number of scores.
        scores: usize,
        /// Number of labels.
        labels: usize,
    },
    /// Only one of the two labels occurs.
    #[error("a calibration needs anomalies and other rows, and there is only one kind")]
    OneKind,
    /// There are too few scores that are numbers.
    #[error("a calibration needs {needed} finite scores at least, and there are {found}")]
    TooFew {
        /// How many are needed.
        needed: usize,
        /// How many there are.
        found: usize,
    },
    /// The prior probability is not between 0 and 1.
    #[error("the prior probability is {0}, but must be above 0 and below 1")]
    Prior(f64),
}

/// Scores with labels, in order of the scores; what is not finite is left out.
fn labelled(scores: &[f64], labels: &[bool]) -> Result<Vec<(f64, bool)>, CalibrateError> {
    if scores.len() != labels.len() {
        return Err(CalibrateError::Labels {
            scores: scores.len(),
            labels: labels.len(),
        });
    }
    let mut pairs: Vec<(f64, bool)> = scores.iter().copied().zip(labels.iter().copied()).collect();
    pairs.retain(|pair| pair.0.is_finite());
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let anomalies = pairs.iter().filter(|pair| pair.1).count();
    if anomalies == 0 || anomalies == pairs.len() {
        return Err(CalibrateError::OneKind);
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests;
