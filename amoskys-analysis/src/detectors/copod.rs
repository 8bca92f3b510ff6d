//! COPOD: tails of an empirical copula.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use super::DetectorError;
use super::ecdf::{Ecdf, Tails};
use super::estimator::{Judge, Learn, detector};
use crate::iforest::Rows;

/// Parameters of [`Copod`]: only threads, for the method has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopodParams {
    threads: NonZeroUsize,
}

impl CopodParams {
    /// One thread.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            threads: NonZeroUsize::MIN,
        }
    }

    /// How many threads sort columns and score training rows. Default 1. No result depends on it.
    #[must_use]
    pub const fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = threads;
        self
    }
}

/// Copula-based outlier detection (Li et al., 2020).
///
/// Tails are as in [`Ecod`](super::Ecod), and a column adds the larger of: the mean of left and right, and the tail on the side
/// to which the column is skewed (both together if it is not).
///
/// - **Assumes** that columns are independent and that anomalies are extreme values.
/// - **Fails** on anomalies in gaps between values or in combinations; an extreme value on the short side of a skewed
///   column counts half.
/// - **Costs** a sort of each column to fit, two binary searches a value to score. The model holds all training values. It has
///   no parameters.
///
/// A value beyond all training values counts as half a value of the tail; the published implementation would fit anew with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Copod {
    distribution: Ecdf,
}

detector!(CopodParams, Copod, "copod");

impl Copod {
    /// Parameters to fit one with.
    #[must_use]
    pub const fn params() -> CopodParams {
        CopodParams::new()
    }
}

impl Learn for CopodParams {
    type Model = Copod;

    fn check(&self) -> Result<(), DetectorError> {
        Ok(())
    }

    fn threads(&self) -> NonZeroUsize {
        self.threads
    }

    fn learn(&self, rows: Rows<'_>) -> Result<Copod, DetectorError> {
        Ok(Copod {
            distribution: Ecdf::fit(rows, self.threads),
        })
    }

    fn learn_and_score(&self, rows: Rows<'_>) -> Result<(Copod, Vec<f64>), DetectorError> {
        // One pass on one thread; on several, sorting and scoring apart is faster, and gives the same bits.
        if self.threads.get() == 1 && u32::try_from(rows.len()).is_ok() {
            let (distribution, scores) = Ecdf::fit_and_judge(rows, Tails::Mean);
            return Ok((Copod { distribution }, scores));
        }
        let model = self.learn(rows)?;
        let scores = super::estimator::judge(&model, rows, self.threads);
        Ok((model, scores))
    }
}

impl Judge for Copod {
    fn width(&self) -> usize {
        self.distribution.width()
    }

    fn is_sound(&self) -> bool {
        self.distribution.is_sound()
    }

    fn judge_into(&self, rows: Rows<'_>, scores: &mut [f64]) {
        self.distribution.judge_into(rows, Tails::Mean, scores);
    }
}
