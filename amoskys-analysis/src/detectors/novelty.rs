//! Novelty: how unlike honest rows a row is, for training data without anomalies.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use super::DetectorError;
use super::estimator::{Judge, Learn, check_range, detector, judge};
use super::knn::{Knn, KnnParams};
use super::pca::{Pca, PcaParams, PcaScore};
use super::scaling::Scaling;
use crate::iforest::Rows;
use crate::iforest::random::Random;

/// Rows scored together: their scaled copies are small.
const BLOCK: usize = 4096;
/// The least distance, so that a row that equals an honest one still has a logarithm.
const LEAST: f64 = 1e-6;

/// Parameters of [`Novelty`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoveltyParams {
    most_rows: usize,
    seed: u64,
    threads: NonZeroUsize,
}

impl NoveltyParams {
    /// The defaults: at most 100 000 rows to compare with, seed 0, one thread.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            most_rows: 100_000,
            seed: 0,
            threads: NonZeroUsize::MIN,
        }
    }

    /// Of more training rows than this, 2 to 10 000 000, so many are drawn to find the nearest among. Default 100 000. Fewer are
    /// faster to score with, and know less of what is rare but honest.
    #[must_use]
    pub const fn most_rows(mut self, rows: usize) -> Self {
        self.most_rows = rows;
        self
    }

    /// Seed of the draw. Default 0.
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

/// How unlike the training rows a row is, where these are honest: two distances, multiplied.
///
/// Columns are brought to `sign(x) ln(1 + |x|)`, as counts, bytes and durations ask for, and then to 0..1. The score is the logarithm
/// of the distance to the nearest training row ([`Knn`]) plus that of the Mahalanobis distance
/// ([`Pca`] with [`PcaScore::Variances`]): has it been seen, and does it go together as usual?
///
/// - **Assumes** training rows without anomalies, or with very few: each vouches for all that resemble it.
/// - **Fails** where honest traffic changes and the model does not, and on attacks that look like honest rows one at a time.
/// - **Costs** as [`Knn`] and [`Pca`]: beyond 15 columns, a distance to every distinct training row, or to those drawn if there are
///   more than [`most_rows`](NoveltyParams::most_rows).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Novelty {
    scaling: Scaling,
    nearest: Knn,
    usual: Pca,
}

detector!(NoveltyParams, Novelty, "novelty");

impl Novelty {
    /// Parameters to fit one with.
    #[must_use]
    pub const fn params() -> NoveltyParams {
        NoveltyParams::new()
    }
}

fn fused(nearest: f64, usual: f64) -> f64 {
    (nearest + LEAST).ln() + 0.5 * (usual + LEAST).ln()
}

impl NoveltyParams {
    /// The rows to compare with, and the distance of each training row to the nearest of them that is not itself.
    fn nearest(&self, rows: Rows<'_>) -> Result<(Knn, Vec<f64>), DetectorError> {
        let knn = KnnParams::new().neighbours(1).threads(self.threads);
        if rows.len() <= self.most_rows {
            return knn.learn_and_score(rows);
        }
        let chosen = Random::new(self.seed, 0).choose(rows.len(), self.most_rows);
        let values: Vec<f64> = chosen.iter().flat_map(|&at| rows.row(at)).copied().collect();
        let (nearest, apart) = knn.learn_and_score(Rows::of_columns(&values, rows.columns()))?;
        let mut distances = judge(&nearest, rows, self.threads);
        for (at, distance) in chosen.into_iter().zip(apart) {
            distances[at] = distance;
        }
        Ok((nearest, distances))
    }
}

impl Learn for NoveltyParams {
    type Model = Novelty;

    fn check(&self) -> Result<(), DetectorError> {
        check_range("most_rows", self.most_rows as f64, 2.0..=1e7, "2 to 10000000")
    }

    fn threads(&self) -> NonZeroUsize {
        self.threads
    }

    fn learn(&self, rows: Rows<'_>) -> Result<Novelty, DetectorError> {
        Ok(self.learn_and_score(rows)?.0)
    }

    fn learn_and_score(&self, rows: Rows<'_>) -> Result<(Novelty, Vec<f64>), DetectorError> {
        let scaling = Scaling::signed_log(rows);
        let scaled = scaling.apply(rows);
        let scaled = Rows::of_columns(&scaled, rows.columns());
        let (nearest, distances) = self.nearest(scaled)?;
        let pca = PcaParams::new().score(PcaScore::Variances).threads(self.threads);
        let (usual, lengths) = pca.learn_and_score(scaled)?;
        let scores = distances
            .into_iter()
            .zip(lengths)
            .map(|(near, usual)| fused(near, usual));
        let model = Novelty {
            scaling,
            nearest,
            usual,
        };
        Ok((model, scores.collect()))
    }
}

impl Judge for Novelty {
    fn width(&self) -> usize {
        self.scaling.width()
    }

    fn is_sound(&self) -> bool {
        self.scaling.is_sound() && self.nearest.width() == self.width() && self.usual.width() == self.width()
    }

    fn judge_into(&self, rows: Rows<'_>, scores: &mut [f64]) {
        let mut usual = vec![0.0; BLOCK.min(rows.len())];
        for (piece, scores) in rows.pieces(BLOCK).zip(scores.chunks_mut(BLOCK)) {
            let scaled = self.scaling.apply(piece);
            let scaled = Rows::of_columns(&scaled, piece.columns());
            self.nearest.judge_into(scaled, scores);
            self.usual.judge_into(scaled, &mut usual[..piece.len()]);
            for (score, usual) in scores.iter_mut().zip(&usual) {
                *score = fused(*score, *usual);
            }
        }
    }
}
