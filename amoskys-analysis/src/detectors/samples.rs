//! Distance to small random samples.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use super::DetectorError;
use super::estimator::{Judge, Learn, check_range, detector};
use super::neighbours::squared_distance;
use super::parallel::in_parts;
use crate::iforest::Rows;
use crate::iforest::random::Random;

/// Parameters of [`NearestSample`]. Ranges are checked when fitting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NearestSampleParams {
    samples: usize,
    rows: usize,
    seed: u64,
    threads: NonZeroUsize,
}

impl NearestSampleParams {
    /// The defaults: 50 samples of 8 rows, seed 0, one thread.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            samples: 50,
            rows: 8,
            seed: 0,
            threads: NonZeroUsize::MIN,
        }
    }

    /// Number of samples, 1 to 10 000. Default 50. More make scores steadier.
    #[must_use]
    pub const fn samples(mut self, samples: usize) -> Self {
        self.samples = samples;
        self
    }

    /// Rows of a sample, 2 to 4096. Default 8. So few hardly ever hold two anomalies of a crowd, which then cannot vouch for
    /// each other.
    #[must_use]
    pub const fn rows(mut self, rows: usize) -> Self {
        self.rows = rows;
        self
    }

    /// Seed of all random choices. Default 0.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How many threads score training rows. Default 1. No result depends on it.
    #[must_use]
    pub const fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = threads;
        self
    }
}

/// Mean distance to the nearest row of small random samples (Sugiyama and Borgwardt, 2013; with many samples, Ting et al., 2017).
///
/// - **Assumes** that a distance means something: columns on one scale.
/// - **Fails** on local anomalies: a handful of rows shows the large groups only.
/// - **Costs** the distances to `samples * rows` rows, whatever the number of training rows. The model holds these rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct NearestSample {
    columns: u32,
    /// Rows of each sample.
    rows: u32,
    /// The rows of the first sample, then those of the second, and so on.
    values: Vec<f64>,
}

detector!(NearestSampleParams, NearestSample, "nearest_sample");

impl NearestSample {
    /// Parameters to fit one with.
    #[must_use]
    pub const fn params() -> NearestSampleParams {
        NearestSampleParams::new()
    }

    /// The score of a row. `itself` says which rows of the samples it is, in order.
    fn score_row(&self, row: &[f64], itself: &[u32]) -> f64 {
        let (columns, size) = (self.columns as usize, self.rows as usize);
        let mut itself = itself.iter().map(|at| *at as usize).peekable();
        let mut sum = 0.0;
        for (number, sample) in self.values.chunks_exact(size * columns).enumerate() {
            let mut nearest = f64::INFINITY;
            for (at, other) in sample.chunks_exact(columns).enumerate() {
                if itself.next_if_eq(&(number * size + at)).is_none() {
                    nearest = nearest.min(squared_distance(row, other));
                }
            }
            sum += nearest.sqrt();
        }
        sum * size as f64 * columns as f64 / self.values.len() as f64
    }
}

impl NearestSampleParams {
    fn sample(&self, rows: Rows<'_>) -> (NearestSample, Vec<usize>) {
        let size = self.rows.min(rows.len());
        let drawn: Vec<usize> = (0..self.samples)
            .flat_map(|number| Random::new(self.seed, number as u64).choose(rows.len(), size))
            .collect();
        let model = NearestSample {
            columns: rows.columns() as u32,
            rows: size as u32,
            values: drawn.iter().flat_map(|&at| rows.row(at)).copied().collect(),
        };
        (model, drawn)
    }
}

impl Learn for NearestSampleParams {
    type Model = NearestSample;

    fn check(&self) -> Result<(), DetectorError> {
        check_range("samples", self.samples as f64, 1.0..=10_000.0, "1 to 10000")?;
        check_range("rows", self.rows as f64, 2.0..=4096.0, "2 to 4096")
    }

    fn threads(&self) -> NonZeroUsize {
        self.threads
    }

    fn learn(&self, rows: Rows<'_>) -> Result<NearestSample, DetectorError> {
        Ok(self.sample(rows).0)
    }

    fn learn_and_score(&self, rows: Rows<'_>) -> Result<(NearestSample, Vec<f64>), DetectorError> {
        let (model, drawn) = self.sample(rows);
        let mut places: Vec<(usize, u32)> = drawn.into_iter().zip(0_u32..).collect();
        places.sort_unstable();
        let scores = in_parts(rows.len(), self.threads, |part| {
            let mut next = places.partition_point(|place| place.0 < part.start);
            let mut itself = Vec::new();
            part.map(|at| {
                itself.clear();
                while let Some(place) = places.get(next).filter(|place| place.0 == at) {
                    itself.push(place.1);
                    next += 1;
                }
                model.score_row(rows.row(at), &itself)
            })
            .collect()
        });
        Ok((model, scores))
    }
}

impl Judge for NearestSample {
    fn width(&self) -> usize {
        self.columns as usize
    }

    fn is_sound(&self) -> bool {
        let sample = self.columns as usize * self.rows as usize;
        sample > 0 && !self.values.is_empty() && self.values.len().is_multiple_of(sample)
    }

    fn judge_into(&self, rows: Rows<'_>, scores: &mut [f64]) {
        for (at, score) in scores.iter_mut().enumerate() {
            *score = self.score_row(rows.row(at), &[]);
        }
    }
}
