use std::num::NonZeroUsize;

use super::IsolationForestError;

/// Parameters of an isolation forest, to be checked before fitting.
///
/// The defaults are those of the paper: 100 trees on 256 rows each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IsolationForestParams(IsolationForestValidParams);

/// Parameters of an isolation forest that were checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IsolationForestValidParams {
    trees: usize,
    max_samples: usize,
    seed: u64,
    threads: NonZeroUsize,
}

impl IsolationForestParams {
    /// The defaults: 100 trees on at most 256 rows, seed 0, one thread.
    #[must_use]
    pub const fn new() -> Self {
        Self(IsolationForestValidParams {
            trees: 100,
            max_samples: 256,
            seed: 0,
            threads: NonZeroUsize::MIN,
        })
    }

    /// Number of trees, 1 to 10 000. Default 100. More trees make scores steadier, and cost in proportion.
    #[must_use]
    pub const fn trees(mut self, trees: usize) -> Self {
        self.0.trees = trees;
        self
    }

    /// How many rows each tree is grown on at most, 2 to 32 768. Default 256. Small samples keep crowds of anomalies
    /// from hiding each other.
    #[must_use]
    pub const fn max_samples(mut self, max_samples: usize) -> Self {
        self.0.max_samples = max_samples;
        self
    }

    /// Seed of all random choices. Default 0. The same data, parameters and seed give the same model.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.0.seed = seed;
        self
    }

    /// How many threads grow trees. Default 1. The model does not depend on it.
    #[must_use]
    pub const fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.0.threads = threads;
        self
    }

    /// Checks the ranges.
    ///
    /// # Errors
    ///
    /// [`IsolationForestError::Parameter`] if a parameter is out of range.
    pub fn validate(&self) -> Result<&IsolationForestValidParams, IsolationForestError> {
        let refuse = |parameter, value, range| {
            Err(IsolationForestError::Parameter {
                parameter,
                value,
                range,
            })
        };
        match self.0 {
            IsolationForestValidParams { trees, .. } if !(1..=10_000).contains(&trees) => {
                refuse("trees", trees, "1 to 10000")
            }
            IsolationForestValidParams { max_samples, .. } if !(2..=32_768).contains(&max_samples) => {
                refuse("max_samples", max_samples, "2 to 32768")
            }
            _ => Ok(&self.0),
        }
    }
}

impl Default for IsolationForestParams {
    fn default() -> Self {
        Self::new()
    }
}

impl IsolationForestValidParams {
    /// Number of trees.
    #[must_use]
    pub const fn trees(&self) -> usize {
        self.trees
    }

    /// How many rows each tree is grown on at most.
    #[must_use]
    pub const fn max_samples(&self) -> usize {
        self.max_samples
    }

    /// Seed of all random choices.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// How many threads grow trees.
    #[must_use]
    pub const fn threads(&self) -> NonZeroUsize {
        self.threads
    }
}
