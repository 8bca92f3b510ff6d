//! Histogram-based outlier score: a row is anomalous where its values, one by one, fall where few others do.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use super::DetectorError;
use super::estimator::{Judge, Learn, check_range, detector};
use crate::iforest::Rows;

/// Parameters of [`Hbos`]. Ranges are checked when fitting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HbosParams {
    bins: usize,
    regularizer: f64,
    tolerance: f64,
    threads: NonZeroUsize,
}

impl HbosParams {
    /// The defaults: 10 bins, regularizer 0.1, tolerance 0.5, one thread.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bins: 10,
            regularizer: 0.1,
            tolerance: 0.5,
            threads: NonZeroUsize::MIN,
        }
    }

    /// Bins of equal width in each column, 2 to 4096. Default 10.
    #[must_use]
    pub const fn bins(mut self, bins: usize) -> Self {
        self.bins = bins;
        self
    }

    /// Added to each density before its logarithm is taken, above 0 to 1. Default 0.1. It bounds what an empty bin can add.
    #[must_use]
    pub const fn regularizer(mut self, regularizer: f64) -> Self {
        self.regularizer = regularizer;
        self
    }

    /// How far outside the training range a value still counts as in the outermost bin, in widths of a bin, 0 to 1.
    /// Default 0.5. Further out it counts as in the emptiest one.
    #[must_use]
    pub const fn tolerance(mut self, tolerance: f64) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// How many threads score training rows. Default 1. No result depends on it.
    #[must_use]
    pub const fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = threads;
        self
    }
}

/// Histogram-based outlier score (Goldstein and Dengel, 2012).
///
/// Each column gets a histogram of equal bins; the score of a row is the sum over its columns of `-log2(density + 0.1)`.
///
/// - **Assumes** that columns are independent and that anomalies have rare single values.
/// - **Fails** on anomalies that are rare only as a combination, and where one far value stretches a column so that
///   everything else falls into one bin. Densities have the unit of the column: scale columns alike first.
/// - **Costs** two passes over the rows; the model is a few numbers a bin and column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Hbos {
    columns: Vec<Histogram>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Histogram {
    /// One more than there are bins.
    edges: Vec<f64>,
    /// What a value adds to the score: below the range but near, in each bin, above the range but near, far off.
    adds: Vec<f64>,
    /// How far outside the range is near.
    near: f64,
}

detector!(HbosParams, Hbos, "hbos");

impl Hbos {
    /// Parameters to fit one with.
    #[must_use]
    pub const fn params() -> HbosParams {
        HbosParams::new()
    }
}

impl Learn for HbosParams {
    type Model = Hbos;

    fn check(&self) -> Result<(), DetectorError> {
        check_range("bins", self.bins as f64, 2.0..=4096.0, "2 to 4096")?;
        check_range(
            "regularizer",
            self.regularizer,
            f64::MIN_POSITIVE..=1.0,
            "above 0 to 1",
        )?;
        check_range("tolerance", self.tolerance, 0.0..=1.0, "0 to 1")
    }

    fn threads(&self) -> NonZeroUsize {
        self.threads
    }

    fn learn(&self, rows: Rows<'_>) -> Result<Hbos, DetectorError> {
        let mut ranges = vec![(f64::INFINITY, f64::NEG_INFINITY); rows.columns()];
        for at in 0..rows.len() {
            for (value, (min, max)) in rows.row(at).iter().zip(&mut ranges) {
                *min = min.min(*value);
                *max = max.max(*value);
            }
        }
        let edges: Vec<Vec<f64>> = ranges
            .iter()
            .map(|&(min, max)| edges(min, max, self.bins))
            .collect();
        let factors: Vec<f64> = edges
            .iter()
            .map(|edges| self.bins as f64 / (edges[self.bins] - edges[0]))
            .collect();
        let mut counts = vec![0_u64; rows.columns() * self.bins];
        for at in 0..rows.len() {
            for (column, value) in rows.row(at).iter().enumerate() {
                let bin = bin_from_left(&edges[column], factors[column], *value);
                counts[column * self.bins + bin] += 1;
            }
        }
        let histogram = |(edges, counts): (Vec<f64>, &[u64])| self.histogram(edges, counts, rows.len());
        let columns = edges
            .into_iter()
            .zip(counts.chunks_exact(self.bins))
            .map(histogram);
        Ok(Hbos {
            columns: columns.collect(),
        })
    }
}

impl HbosParams {
    fn histogram(&self, edges: Vec<f64>, counts: &[u64], rows: usize) -> Histogram {
        let add = |(count, edges): (&u64, &[f64])| {
            let density = *count as f64 / (edges[1] - edges[0]) / rows as f64;
            -(density + self.regularizer).log2()
        };
        let in_bins: Vec<f64> = counts.iter().zip(edges.windows(2)).map(add).collect();
        let rarest = in_bins.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let near = (edges[1] - edges[0]) * self.tolerance;
        let adds = std::iter::once(in_bins[0])
            .chain(in_bins.iter().copied())
            .chain([in_bins[in_bins.len() - 1], rarest])
            .collect();
        Histogram { edges, adds, near }
    }
}

/// Equally spaced edges; a column of one value gets a range around it.
fn edges(min: f64, max: f64, bins: usize) -> Vec<f64> {
    let (mut low, mut high) = (min, max);
    if !(max - min).is_normal() || min + (max - min) / bins as f64 <= min {
        let half = 0.5_f64.max(min.abs() * 1e-9).min(f64::MAX / 4.0);
        (low, high) = (min / 2.0 + max / 2.0 - half, min / 2.0 + max / 2.0 + half);
        if !(max - min).is_finite() {
            (low, high) = (min / 2.0, max / 2.0);
        }
    }
    let step = (high - low) / bins as f64;
    let edge = |at: usize| if at == bins { high } else { low + step * at as f64 };
    (0..=bins).map(edge).collect()
}

/// The bin that counts a value: closed on the left, the last one on both sides.
fn bin_from_left(edges: &[f64], factor: f64, value: f64) -> usize {
    let last = edges.len() - 2;
    let mut bin = (((value - edges[0]) * factor) as usize).min(last);
    // Rounding may have taken it across an edge.
    while bin > 0 && value < edges[bin] {
        bin -= 1;
    }
    while bin < last && value >= edges[bin + 1] {
        bin += 1;
    }
    bin
}

impl Histogram {
    /// What a value adds. Bins are closed on the right here: a value on an edge counts as in the lower bin, where a heap
    /// of equal values at the lower end of a column has its place.
    fn add(&self, factor: f64, value: f64) -> f64 {
        let last = self.edges.len() - 1;
        if value <= self.edges[0] {
            let at = if self.edges[0] - value <= self.near {
                0
            } else {
                last + 2
            };
            return self.adds[at];
        }
        if value > self.edges[last] {
            let at = if value - self.edges[last] <= self.near {
                last + 1
            } else {
                last + 2
            };
            return self.adds[at];
        }
        let mut edge = (((value - self.edges[0]) * factor) as usize + 1).min(last);
        while edge > 1 && value <= self.edges[edge - 1] {
            edge -= 1;
        }
        while value > self.edges[edge] {
            edge += 1;
        }
        self.adds[edge]
    }

    fn factor(&self) -> f64 {
        let last = self.edges.len() - 1;
        last as f64 / (self.edges[last] - self.edges[0])
    }
}

impl Judge for Hbos {
    fn width(&self) -> usize {
        self.columns.len()
    }

    fn is_sound(&self) -> bool {
        let sound = |column: &Histogram| {
            let rising = column.edges.windows(2).all(|pair| pair[0] <= pair[1]);
            let finite = column
                .edges
                .iter()
                .chain(&column.adds)
                .all(|value| value.is_finite());
            column.edges.len() > 1 && column.adds.len() == column.edges.len() + 2 && rising && finite
        };
        !self.columns.is_empty() && self.columns.iter().all(sound)
    }

    fn judge_into(&self, rows: Rows<'_>, scores: &mut [f64]) {
        let factors: Vec<f64> = self.columns.iter().map(Histogram::factor).collect();
        for (at, score) in scores.iter_mut().enumerate() {
            let values = rows.row(at).iter().zip(&self.columns).zip(&factors);
            *score = values
                .map(|((value, column), factor)| column.add(*factor, *value))
                .sum();
        }
    }
}
