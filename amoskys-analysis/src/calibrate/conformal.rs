use serde::{Deserialize, Serialize};

use super::interval::share_interval;
use super::{CalibrateError, Interval};

/// The highest share of the scores that the tail is fitted on.
const TAIL_SHARE: f64 = 0.1;
/// A tail of fewer scores says nothing.
const TAIL_SCORES: usize = 20;

/// Conformal p-values: how rare a score is among normal ones.
///
/// The p-value of a score is the share of normal scores at least as high, the new one included. If new rows come as the
/// normal ones did, a p-value of at most α occurs with probability at most α: a threshold on it keeps its promised
/// false-alarm rate, whatever the detector.
///
/// From n normal scores no p-value below 1 / (n + 1) comes. [`tail_p_value`](Self::tail_p_value) goes on beyond by an
/// exponential curve through the highest tenth of the scores; that is an assumption, not a guarantee.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct Conformal {
    /// Normal scores, rising.
    scores: Vec<f64>,
    /// Probability of an anomaly before its score is known.
    prior: f64,
    tail: Option<Tail>,
}

/// Beyond `start`, p-values fall by half every `ln 2 · mean_excess`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Tail {
    start: f64,
    share: f64,
    mean_excess: f64,
}

#[derive(Serialize, Deserialize)]
struct Parts {
    scores: Vec<f64>,
    prior: f64,
}

impl Conformal {
    /// From scores of normal data that the detector was not fitted on; scores of its training data are lower than new
    /// ones and make p-values too small. `prior` is the probability of an anomaly before its score is known, for
    /// [`probability`](Self::probability) alone. Scores that are not finite are left out. Keeps eight bytes a score.
    ///
    /// # Errors
    ///
    /// If no score is left, or the prior is not between 0 and 1.
    pub fn fit(normal: &[f64], prior: f64) -> Result<Self, CalibrateError> {
        if !(prior > 0.0 && prior < 1.0) {
            return Err(CalibrateError::Prior(prior));
        }
        let mut scores: Vec<f64> = normal.iter().copied().filter(|score| score.is_finite()).collect();
        if scores.is_empty() {
            return Err(CalibrateError::TooFew { needed: 1, found: 0 });
        }
        scores.sort_by(f64::total_cmp);
        let tail = fit_tail(&scores);
        Ok(Self { scores, prior, tail })
    }

    /// The p-value of a score: 1 / (n + 1) to 1.
    #[must_use]
    pub fn p_value(&self, score: f64) -> f64 {
        let below = self.scores.partition_point(|normal| *normal < score);
        let at_least = if score.is_nan() {
            self.scores.len()
        } else {
            self.scores.len() - below
        };
        (at_least as f64 + 1.0) / (self.scores.len() as f64 + 1.0)
    }

    /// The p-value of a score, continued beyond the highest normal scores by an exponential curve.
    #[must_use]
    pub fn tail_p_value(&self, score: f64) -> f64 {
        let exact = self.p_value(score);
        match self.tail {
            Some(Tail {
                start,
                share,
                mean_excess,
            }) if score > start => {
                let continued = share * (-(score - start) / mean_excess).exp();
                // The exact value is a bound where there are scores to count, and the curve where there are not.
                exact.min(continued.max(f64::MIN_POSITIVE))
            }
            _ => exact,
        }
    }

    /// The probability that a row of this score is an anomaly, at most: the prior odds, raised by the largest Bayes
    /// factor that a p-value p allows, 1 / (-e · p · ln p) for p below 1/e (Sellke, Bayarri and Berger, 2001).
    #[must_use]
    pub fn probability(&self, score: f64) -> f64 {
        self.probability_of(self.tail_p_value(score))
    }

    /// Between which bounds the share of normal rows lies that score as high, with a confidence between 0 and 1: so many normal
    /// scores cannot tell it better. The lower bound is 0 beyond the highest of them.
    #[must_use]
    pub fn p_value_interval(&self, score: f64, confidence: f64) -> (f64, f64) {
        let rows = self.scores.len() as f64;
        // Of the p-value's count, one is the new score itself.
        let at_least = self.p_value(score) * (rows + 1.0) - 1.0;
        share_interval(at_least.round(), rows, confidence)
    }

    /// [`probability`](Self::probability), and its bounds with a confidence between 0 and 1: those that the bounds of the
    /// p-value give. Beyond the highest normal scores the curve is trusted no further than they.
    #[must_use]
    pub fn interval(&self, score: f64, confidence: f64) -> Interval {
        let probability = self.probability(score);
        let (low, high) = self.p_value_interval(score, confidence);
        Interval {
            low: self.probability_of(high).min(probability),
            probability,
            high: self.probability_of(low).max(probability),
        }
    }

    /// The probability that a p-value allows at most, as of [`probability`](Self::probability). A p-value of 0 counts as the least
    /// positive number.
    #[must_use]
    pub fn probability_of(&self, p: f64) -> f64 {
        let p = p.max(f64::MIN_POSITIVE);
        let factor = if p < (-1.0_f64).exp() {
            1.0 / (-std::f64::consts::E * p * p.ln())
        } else {
            1.0
        };
        let odds = self.prior / (1.0 - self.prior) * factor;
        (1.0 / (1.0 + 1.0 / odds)).clamp(f64::EPSILON, 1.0 - f64::EPSILON)
    }
}

/// The mean excess over the start of the highest tenth; `None` if they are too few or all alike.
fn fit_tail(scores: &[f64]) -> Option<Tail> {
    let count = (scores.len() as f64 * TAIL_SHARE) as usize;
    if count < TAIL_SCORES {
        return None;
    }
    let (below, high) = scores.split_at(scores.len() - count);
    let start = *below.last()?;
    let mean_excess = high
        .iter()
        .map(|score| (score - start) / count as f64)
        .sum::<f64>();
    let share = (count as f64 + 1.0) / (scores.len() as f64 + 1.0);
    (mean_excess > 0.0 && mean_excess.is_finite()).then_some(Tail {
        start,
        share,
        mean_excess,
    })
}

impl TryFrom<Parts> for Conformal {
    type Error = CalibrateError;

    fn try_from(parts: Parts) -> Result<Self, Self::Error> {
        Self::fit(&parts.scores, parts.prior)
    }
}

impl From<Conformal> for Parts {
    fn from(conformal: Conformal) -> Self {
        Self {
            scores: conformal.scores,
            prior: conformal.prior,
        }
    }
}
