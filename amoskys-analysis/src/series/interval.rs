use serde::{Deserialize, Serialize};

use super::ranked::{RankedWindow, single_up};

/// How fast the level of a [`PredictionInterval`] follows what it got wrong, as a share of the points outside that are asked
/// for: faster, and a miss or two would make the range infinite.
const STEP: f64 = 0.1;

/// A range around predictions that covers a stated share of what comes: conformal prediction on the last so many errors, with
/// the level adapted so that the share holds whatever the series does (adaptive conformal inference: Gibbs and Candès, 2021).
///
/// *Promises* that over any T points, of any series, the share outside differs from the share α asked for by at most
/// `(10 / α + 1) / T`; and where errors are drawn alike, about that share from the start. *Fails* to say which points: after a
/// change, misses come together. *Costs* six bytes for each error remembered, in single precision rounded up, and 0.1 µs a point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PredictionInterval {
    errors: RankedWindow,
    outside: f64,
    /// The level in use; below 0 everything is covered, above 1 nothing.
    level: f64,
}

impl PredictionInterval {
    /// To cover such a share of points, from the last so many errors, at most 65,535.
    #[must_use]
    pub fn new(coverage: f64, errors: usize) -> Self {
        let outside = (1.0 - coverage).clamp(1e-6, 1.0);
        Self {
            errors: RankedWindow::new(errors),
            outside,
            level: outside,
        }
    }

    /// How far from the prediction a point may lie: infinitely far while there are too few errors to say, or to make up for
    /// misses. Negative if not even a perfect prediction counts as covered.
    #[must_use]
    pub fn width(&self) -> f64 {
        if self.level <= 0.0 {
            return f64::INFINITY;
        }
        if self.level >= 1.0 {
            return -1.0;
        }
        // The error of rank (1 - level)(n + 1), counted from 1.
        let n = self.errors.len();
        let rank = ((1.0 - self.level) * (n as f64 + 1.0)).ceil() as usize;
        match rank.checked_sub(1) {
            Some(at) => self.errors.at(at).unwrap_or(f64::INFINITY),
            None => -1.0,
        }
    }

    /// Takes the absolute error of a prediction, and says whether it was covered. One that is not finite was not, and is not
    /// remembered.
    pub fn push(&mut self, error: f64) -> bool {
        let error = error.abs();
        let covered = error <= self.width();
        let missed = f64::from(u8::from(!covered));
        self.level += STEP * self.outside * (self.outside - missed);
        if error.is_finite() {
            self.errors.push_single(single_up(error));
        }
        covered
    }

    /// Whether there are enough errors for a finite range.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        (self.errors.len() as f64 + 1.0) * self.outside >= 1.0
    }
}
