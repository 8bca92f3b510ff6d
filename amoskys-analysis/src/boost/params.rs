use std::num::NonZeroUsize;

use crate::detectors::DetectorError;
use crate::detectors::estimator::check_range;

/// Whether fitting ends before all trees are grown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum EarlyStopping {
    /// As `Always` with more than 10 000 rows, as `Never` with fewer.
    #[default]
    Automatic,
    /// A tenth of the rows, of each label alike, is not fitted on; fitting ends when ten trees in a row have not lowered the loss
    /// on these.
    Always,
    /// All trees are grown, on all rows.
    Never,
}

/// Parameters of [`BoostedTrees`](super::BoostedTrees). Ranges are checked when fitting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoostedTreesParams {
    pub(super) trees: usize,
    pub(super) learning_rate: f64,
    pub(super) leaves: usize,
    pub(super) least_rows: usize,
    pub(super) regularisation: f64,
    pub(super) stopping: EarlyStopping,
    pub(super) seed: u64,
    pub(super) threads: NonZeroUsize,
}

impl BoostedTreesParams {
    /// The defaults: 100 trees of at most 31 leaves of at least 20 rows, learning rate 0.1, no regularisation, automatic
    /// early stopping, seed 0, one thread.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            trees: 100,
            learning_rate: 0.1,
            leaves: 31,
            least_rows: 20,
            regularisation: 0.0,
            stopping: EarlyStopping::Automatic,
            seed: 0,
            threads: NonZeroUsize::MIN,
        }
    }

    /// Number of trees at most, 1 to 10 000. Default 100.
    #[must_use]
    pub const fn trees(mut self, trees: usize) -> Self {
        self.trees = trees;
        self
    }

    /// What share of its correction each tree makes, above 0 to 1. Default 0.1. Lower ones need more trees.
    #[must_use]
    pub const fn learning_rate(mut self, rate: f64) -> Self {
        self.learning_rate = rate;
        self
    }

    /// Leaves of a tree at most, 2 to 4096. Default 31.
    #[must_use]
    pub const fn leaves(mut self, leaves: usize) -> Self {
        self.leaves = leaves;
        self
    }

    /// Training rows of a leaf at least, 1 to 1 000 000. Default 20.
    #[must_use]
    pub const fn least_rows(mut self, rows: usize) -> Self {
        self.least_rows = rows;
        self
    }

    /// What is added to the sum of second derivatives of a leaf (L2 regularisation), 0 to 1e9. Default 0.
    #[must_use]
    pub const fn regularisation(mut self, regularisation: f64) -> Self {
        self.regularisation = regularisation;
        self
    }

    /// Whether fitting ends early. Default [`EarlyStopping::Automatic`].
    #[must_use]
    pub const fn early_stopping(mut self, stopping: EarlyStopping) -> Self {
        self.stopping = stopping;
        self
    }

    /// Seed of the random choices: which rows are held back for early stopping and, beyond 200 000 rows, which ones bins are
    /// made from. Default 0.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How many threads fit. Default 1. No result depends on it.
    #[must_use]
    pub const fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = threads;
        self
    }

    pub(super) fn check(&self) -> Result<(), DetectorError> {
        check_range("trees", self.trees as f64, 1.0..=10_000.0, "1 to 10000")?;
        let rate = f64::MIN_POSITIVE..=1.0;
        check_range("learning_rate", self.learning_rate, rate, "above 0 to 1")?;
        check_range("leaves", self.leaves as f64, 2.0..=4096.0, "2 to 4096")?;
        check_range("least_rows", self.least_rows as f64, 1.0..=1e6, "1 to 1000000")?;
        check_range("regularisation", self.regularisation, 0.0..=1e9, "0 to 1e9")
    }
}

impl Default for BoostedTreesParams {
    fn default() -> Self {
        Self::new()
    }
}
