//! LODA: histograms of random projections.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use super::DetectorError;
use super::estimator::{Judge, Learn, check_range, detector};
use super::parallel::in_parts;
use crate::iforest::Rows;
use crate::iforest::random::Random;

/// What an empty bin counts as, so that its logarithm is finite.
const EMPTY: f64 = 1e-12;

/// Parameters of [`Loda`]. Ranges are checked when fitting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LodaParams {
    projections: usize,
    bins: usize,
    seed: u64,
    threads: NonZeroUsize,
}

impl LodaParams {
    /// The defaults: 100 projections, 10 bins each, seed 0, one thread.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            projections: 100,
            bins: 10,
            seed: 0,
            threads: NonZeroUsize::MIN,
        }
    }

    /// Number of projections, 1 to 10 000. Default 100.
    #[must_use]
    pub const fn projections(mut self, projections: usize) -> Self {
        self.projections = projections;
        self
    }

    /// Bins of a histogram, 2 to 4096. Default 10.
    #[must_use]
    pub const fn bins(mut self, bins: usize) -> Self {
        self.bins = bins;
        self
    }

    /// Seed of all random choices. Default 0.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How many threads fit and score training rows. Default 1. No result depends on it.
    #[must_use]
    pub const fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = threads;
        self
    }
}

/// Lightweight on-line detector of anomalies (Pevný, 2016).
///
/// Each projection weighs about `sqrt(columns)` random columns with normal random weights, and its values make a histogram. The
/// score is the mean of `-ln(share of the bin)`.
///
/// - **Assumes** that an anomaly is rare in some mixture of columns. Weights are alike for all columns: scale them first.
/// - **Fails** where one far value stretches histograms so that all else shares a bin, and with few columns, where few
///   mixtures exist.
/// - **Costs** `projections * sqrt(columns)` products a row, to fit and to score; the model is a few kilobytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Loda {
    columns: u32,
    projections: Vec<Projection>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Projection {
    weights: Vec<(u16, f64)>,
    low: f64,
    /// Bins per unit.
    factor: f64,
    /// What each bin adds to the score.
    adds: Vec<f64>,
    /// What a value outside the training range adds.
    empty: f64,
}

detector!(LodaParams, Loda, "loda");

impl Loda {
    /// Parameters to fit one with.
    #[must_use]
    pub const fn params() -> LodaParams {
        LodaParams::new()
    }
}

impl Learn for LodaParams {
    type Model = Loda;

    fn check(&self) -> Result<(), DetectorError> {
        check_range(
            "projections",
            self.projections as f64,
            1.0..=10_000.0,
            "1 to 10000",
        )?;
        check_range("bins", self.bins as f64, 2.0..=4096.0, "2 to 4096")
    }

    fn threads(&self) -> NonZeroUsize {
        self.threads
    }

    fn learn(&self, rows: Rows<'_>) -> Result<Loda, DetectorError> {
        let projections = in_parts(self.projections, self.threads, |part| {
            part.map(|number| self.projection(rows, number)).collect()
        });
        Ok(Loda {
            columns: rows.columns() as u32,
            projections,
        })
    }
}

impl LodaParams {
    fn projection(&self, rows: Rows<'_>, number: usize) -> Projection {
        let mut random = Random::new(self.seed, number as u64);
        let used = rows.columns().isqrt().max(1);
        let columns = random.choose(rows.columns(), used);
        let weights: Vec<(u16, f64)> = columns
            .into_iter()
            .map(|column| (column as u16, random.normal()))
            .collect();
        let values: Vec<f64> = (0..rows.len())
            .map(|at| project(&weights, rows.row(at)))
            .collect();
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let factor = self.bins as f64 / (high - low);
        // One value, or a range beyond what floats hold: a single bin takes all, and the projection says nothing.
        let factor = if factor.is_finite() { factor } else { 0.0 };
        let mut counts = vec![0_u64; self.bins];
        for value in values {
            counts[bin(value, low, factor, self.bins)] += 1;
        }
        let all = rows.len() as f64 + EMPTY * self.bins as f64;
        let add = |count: u64| -((count as f64 + EMPTY) / all).ln();
        Projection {
            weights,
            low,
            factor,
            adds: counts.into_iter().map(add).collect(),
            empty: add(0),
        }
    }
}

fn project(weights: &[(u16, f64)], row: &[f64]) -> f64 {
    weights
        .iter()
        .map(|(column, weight)| row[usize::from(*column)] * weight)
        .sum()
}

fn bin(value: f64, low: f64, factor: f64, bins: usize) -> usize {
    // What lies below the range converts to 0.
    (((value - low) * factor) as usize).min(bins - 1)
}

impl Projection {
    fn add(&self, row: &[f64]) -> f64 {
        let value = project(&self.weights, row);
        let place = (value - self.low) * self.factor;
        // Rounding may take the training maximum a little beyond the last bin.
        let outside = place < 0.0 || place > self.adds.len() as f64 * (1.0 + 1e-9);
        if outside {
            self.empty
        } else {
            self.adds[bin(value, self.low, self.factor, self.adds.len())]
        }
    }
}

impl Judge for Loda {
    fn width(&self) -> usize {
        self.columns as usize
    }

    fn is_sound(&self) -> bool {
        let sound = |projection: &Projection| {
            let inside = projection
                .weights
                .iter()
                .all(|(column, _)| u32::from(*column) < self.columns);
            inside && !projection.adds.is_empty()
        };
        self.columns > 0 && !self.projections.is_empty() && self.projections.iter().all(sound)
    }

    fn judge_into(&self, rows: Rows<'_>, scores: &mut [f64]) {
        for (at, score) in scores.iter_mut().enumerate() {
            let sum: f64 = self
                .projections
                .iter()
                .map(|projection| projection.add(rows.row(at)))
                .sum();
            *score = sum / self.projections.len() as f64;
        }
    }
}
