//! One detector for tables that nobody has looked at.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use super::DetectorError;
use super::estimator::{Judge, Learn, detector};
use super::samples::{NearestSample, NearestSampleParams};
use super::scaling::{Scaling, quantile};
use crate::iforest::{IsolationForest, IsolationForestError, IsolationForestParams, Rows};

/// Rows scored together: their scaled copies are small.
const BLOCK: usize = 4096;
/// A score beyond the 99th percentile by more than so many times its distance from the median counts as that far.
const FARTHEST: f64 = 5.0;

/// Parameters of [`Ensemble`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnsembleParams {
    seed: u64,
    threads: NonZeroUsize,
}

impl EnsembleParams {
    /// Seed 0, one thread.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            seed: 0,
            threads: NonZeroUsize::MIN,
        }
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

/// An automatic ensemble: the same configuration for every table, without labels and without a look at the data.
///
/// Three members score each row: the distance to small random samples ([`NearestSample`]) on columns scaled to 0..1; the same on
/// columns scaled robustly (`asinh` of the distance from the median in interquartile ranges); and an isolation forest
/// ([`IsolationForest`]) on the latter. Each member's scores are standardised by their mean and deviation over the training
/// rows, far scores drawn in before. The score is the median of the three: two views must agree.
///
/// - **Assumes** that anomalies are few, and apart from the large groups of rows.
/// - **Fails** on anomalies that are only local, or only in how columns go together: for these, add [`Lof`](super::Lof) or
///   [`Pca`](super::Pca). Where what is labelled an anomaly is ordinary in the data, no choice without labels helps.
/// - **Costs** 800 distances and 100 short walks a row. The model holds 800 rows and the trees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Ensemble {
    even: Scaling,
    robust: Scaling,
    even_samples: NearestSample,
    robust_samples: NearestSample,
    forest: IsolationForest,
    standards: [Standard; 3],
}

/// How a member's scores spread over the training rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Standard {
    most: f64,
    mean: f64,
    factor: f64,
}

detector!(EnsembleParams, Ensemble, "ensemble");

impl Ensemble {
    /// Parameters to fit one with.
    #[must_use]
    pub const fn params() -> EnsembleParams {
        EnsembleParams::new()
    }

    fn fused(&self, scores: [f64; 3]) -> f64 {
        let [a, b, c] = std::array::from_fn(|member| self.standards[member].apply(scores[member]));
        // The middle one.
        a.min(b).max(a.max(b).min(c))
    }
}

impl Standard {
    fn fit(scores: &[f64]) -> Self {
        let mut sorted = scores.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let high = quantile(&sorted, 0.99);
        let most = high + FARTHEST * (high - quantile(&sorted, 0.5));
        let n = scores.len() as f64;
        let mean = scores.iter().map(|score| score.min(most)).sum::<f64>() / n;
        let variance = scores
            .iter()
            .map(|score| (score.min(most) - mean).powi(2))
            .sum::<f64>()
            / n;
        let factor = 1.0 / variance.sqrt();
        // Of a member to which all rows are alike nothing is learned.
        let factor = if factor.is_finite() { factor } else { 0.0 };
        Self { most, mean, factor }
    }

    /// What lies beyond is drawn in, but keeps its order.
    fn apply(self, score: f64) -> f64 {
        let beyond = (score - self.most).max(0.0) * self.factor;
        (score.min(self.most) - self.mean) * self.factor + beyond / (1.0 + beyond)
    }
}

fn forest_failed(source: IsolationForestError) -> DetectorError {
    DetectorError::Part {
        part: "the isolation forest",
        source: Box::new(source),
    }
}

impl Learn for EnsembleParams {
    type Model = Ensemble;

    fn check(&self) -> Result<(), DetectorError> {
        Ok(())
    }

    fn threads(&self) -> NonZeroUsize {
        self.threads
    }

    fn learn(&self, rows: Rows<'_>) -> Result<Ensemble, DetectorError> {
        Ok(self.learn_and_score(rows)?.0)
    }

    fn learn_and_score(&self, rows: Rows<'_>) -> Result<(Ensemble, Vec<f64>), DetectorError> {
        let (even, robust) = (Scaling::min_max(rows), Scaling::robust(rows));
        let samples = NearestSampleParams::new().seed(self.seed).threads(self.threads);
        let scaled = even.apply(rows);
        let (even_samples, by_even) = samples.learn_and_score(Rows::of_columns(&scaled, rows.columns()))?;
        drop(scaled);
        let scaled = robust.apply(rows);
        let scaled = Rows::of_columns(&scaled, rows.columns());
        let (robust_samples, by_robust) = samples.learn_and_score(scaled)?;
        let forest = IsolationForestParams::new().seed(self.seed).threads(self.threads);
        let forest = forest
            .validate()
            .and_then(|params| params.fit_rows(scaled))
            .map_err(forest_failed)?;
        let by_forest = forest
            .score_parallel(scaled, self.threads)
            .map_err(forest_failed)?;
        let model = Ensemble {
            even,
            robust,
            even_samples,
            robust_samples,
            forest,
            standards: [
                Standard::fit(&by_even),
                Standard::fit(&by_robust),
                Standard::fit(&by_forest),
            ],
        };
        let members = by_even.into_iter().zip(by_robust).zip(by_forest);
        let scores = members.map(|((a, b), c)| model.fused([a, b, c])).collect();
        Ok((model, scores))
    }
}

impl Judge for Ensemble {
    fn width(&self) -> usize {
        self.even.width()
    }

    fn is_sound(&self) -> bool {
        let columns = self.width();
        self.even.is_sound()
            && self.robust.is_sound()
            && [
                self.robust.width(),
                self.even_samples.width(),
                self.robust_samples.width(),
                self.forest.columns(),
            ]
            .iter()
            .all(|width| *width == columns)
    }

    fn judge_into(&self, rows: Rows<'_>, scores: &mut [f64]) {
        let mut members = [(); 3].map(|()| vec![0.0; BLOCK.min(rows.len())]);
        for (piece, scores) in rows.pieces(BLOCK).zip(scores.chunks_mut(BLOCK)) {
            let [by_even, by_robust, by_forest] = &mut members;
            let scaled = self.even.apply(piece);
            self.even_samples.judge_into(
                Rows::of_columns(&scaled, piece.columns()),
                &mut by_even[..piece.len()],
            );
            let scaled = self.robust.apply(piece);
            let scaled = Rows::of_columns(&scaled, piece.columns());
            self.robust_samples
                .judge_into(scaled, &mut by_robust[..piece.len()]);
            self.forest.score_into(scaled, &mut by_forest[..piece.len()]);
            for (at, score) in scores.iter_mut().enumerate() {
                *score = self.fused([members[0][at], members[1][at], members[2][at]]);
            }
        }
    }
}
