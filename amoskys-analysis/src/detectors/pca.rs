//! Principal components: a row is anomalous where it leaves the directions in which rows usually differ.

use std::num::NonZeroUsize;

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use super::DetectorError;
use super::estimator::{Judge, Learn, detector};
use super::symmetric::{ROUNDING, dot, eigen};
use crate::iforest::Rows;

/// Rows that are multiplied together: few enough to stay in the second-level cache.
const BLOCK: usize = 256;

/// How components make a score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum PcaScore {
    /// The sum of the Euclidean distances from the standardised row to the tip of each component, over the component's share
    /// of the variance: what PyOD computes, and what reference scores were made with. Not symmetric in the sign of a
    /// component, which is chosen so that its largest entry is positive.
    #[default]
    Distances,
    /// The sum of squared coordinates over the variance of each component: the squared Mahalanobis distance, as in the paper.
    Variances,
}

/// Parameters of [`Pca`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PcaParams {
    score: PcaScore,
    threads: NonZeroUsize,
}

impl PcaParams {
    /// The defaults: distances to all components, one thread.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            score: PcaScore::Distances,
            threads: NonZeroUsize::MIN,
        }
    }

    /// How components make a score. Default [`PcaScore::Distances`].
    #[must_use]
    pub const fn score(mut self, score: PcaScore) -> Self {
        self.score = score;
        self
    }

    /// How many threads score training rows. Default 1. No result depends on it.
    #[must_use]
    pub const fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = threads;
        self
    }
}

/// Principal component classifier (Shyu, Chen, Sarinnapakorn and Chang, 2003), on all components of standardised columns.
///
/// - **Assumes** one group of rows, shaped about like an ellipsoid; then what breaks a correlation stands out.
/// - **Fails** on several groups, on curved ones, and where anomalies are many or far enough to turn components towards
///   themselves. Components without variance weigh most: one constant sum of columns that a row breaks decides its score.
/// - **Costs** `columns^2` a row to fit and to score, and about `8 * columns^3` to fit. The model is a matrix of that width.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Pca {
    score: PcaScore,
    /// Mean and inverse standard deviation of each column.
    scales: Vec<(f64, f64)>,
    /// Row by row, that of the largest variance first.
    components: Vec<f64>,
    /// What each component weighs.
    weights: Vec<f64>,
}

detector!(PcaParams, Pca, "pca");

impl Pca {
    /// Parameters to fit one with.
    #[must_use]
    pub const fn params() -> PcaParams {
        PcaParams::new()
    }
}

impl Learn for PcaParams {
    type Model = Pca;

    fn check(&self) -> Result<(), DetectorError> {
        Ok(())
    }

    fn threads(&self) -> NonZeroUsize {
        self.threads
    }

    fn learn(&self, rows: Rows<'_>) -> Result<Pca, DetectorError> {
        let scales = scales(rows);
        let columns = rows.columns();
        let mut products = Array2::<f64>::zeros((columns, columns));
        let mut block = Vec::with_capacity(BLOCK * columns);
        for piece in rows.pieces(BLOCK) {
            standardise(&scales, piece, &mut block);
            if let Ok(block) = ArrayView2::from_shape((piece.len(), columns), &block) {
                general_mat_mul(1.0, &block.t(), &block, 1.0, &mut products);
            }
        }
        products /= rows.len() as f64 - 1.0;
        let (variances, components) = eigen(products.as_slice().unwrap_or_default(), columns);
        let all: f64 = variances.iter().map(|variance| variance.max(0.0)).sum();
        let least = (variances.first().copied().unwrap_or(0.0) * ROUNDING).max(f64::MIN_POSITIVE);
        let weight = |variance: f64| match self.score {
            PcaScore::Distances => all.max(least) / variance.max(least),
            PcaScore::Variances => 1.0 / variance.max(least),
        };
        Ok(Pca {
            score: self.score,
            scales,
            components,
            weights: variances.into_iter().map(weight).collect(),
        })
    }
}

/// Mean and inverse standard deviation of each column; a column of one value keeps its unit.
pub(super) fn scales(rows: Rows<'_>) -> Vec<(f64, f64)> {
    let n = rows.len() as f64;
    let mut means = vec![0.0; rows.columns()];
    let mut squares = vec![0.0; rows.columns()];
    for at in 0..rows.len() {
        means
            .iter_mut()
            .zip(rows.row(at))
            .for_each(|(mean, value)| *mean += value / n);
    }
    for at in 0..rows.len() {
        for ((square, value), mean) in squares.iter_mut().zip(rows.row(at)).zip(&means) {
            *square += (value - mean) * (value - mean);
        }
    }
    let scale = |(mean, square): (f64, f64)| {
        let deviation = (square / n).sqrt();
        // What is left of a constant column is rounding of its mean.
        let varies = deviation > 10.0 * f64::EPSILON * mean.abs() && deviation.is_finite();
        (mean, if varies { 1.0 / deviation } else { 1.0 })
    };
    means.into_iter().zip(squares).map(scale).collect()
}

fn standardise(scales: &[(f64, f64)], rows: Rows<'_>, block: &mut Vec<f64>) {
    block.clear();
    for at in 0..rows.len() {
        block.extend(
            rows.row(at)
                .iter()
                .zip(scales)
                .map(|(value, (mean, factor))| (value - mean) * factor),
        );
    }
}

impl Judge for Pca {
    fn width(&self) -> usize {
        self.scales.len()
    }

    fn is_sound(&self) -> bool {
        let columns = self.scales.len();
        columns > 0 && self.weights.len() == columns && self.components.len() == columns * columns
    }

    fn judge_into(&self, rows: Rows<'_>, scores: &mut [f64]) {
        let columns = self.width();
        let Ok(components) = ArrayView2::from_shape((columns, columns), &self.components) else {
            return;
        };
        let mut block = Vec::with_capacity(BLOCK * columns);
        let mut coordinates = Array2::<f64>::zeros((BLOCK, columns));
        for (piece, scores) in rows.pieces(BLOCK).zip(scores.chunks_mut(BLOCK)) {
            standardise(&self.scales, piece, &mut block);
            // Always as many rows, so that a row's score does not depend on how many come with it.
            block.resize(BLOCK * columns, 0.0);
            if let Ok(block) = ArrayView2::from_shape((BLOCK, columns), &block) {
                general_mat_mul(1.0, &block, &components.t(), 0.0, &mut coordinates);
            }
            for ((score, row), coordinates) in scores
                .iter_mut()
                .zip(block.chunks_exact(columns))
                .zip(coordinates.outer_iter())
            {
                let weighted = coordinates.iter().zip(&self.weights);
                *score = match self.score {
                    PcaScore::Distances => {
                        let beyond = dot(row, row) + 1.0;
                        weighted
                            .map(|(at, weight)| (beyond - 2.0 * at).max(0.0).sqrt() * weight)
                            .sum()
                    }
                    PcaScore::Variances => weighted.map(|(at, weight)| at * at * weight).sum(),
                };
            }
        }
    }
}
