//! Distance to the k-th nearest neighbour.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use super::DetectorError;
use super::estimator::{Judge, Learn, check_range, detector};
use super::neighbours::{Distinct, Neighbour, Neighbours};
use super::parallel::in_parts;
use crate::iforest::Rows;

/// Which distance is the score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum KnnDistance {
    /// That of the k-th neighbour.
    #[default]
    Largest,
    /// The mean over the k nearest.
    Mean,
}

/// Parameters of [`Knn`]. Ranges are checked when fitting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnnParams {
    neighbours: usize,
    distance: KnnDistance,
    threads: NonZeroUsize,
}

impl KnnParams {
    /// The defaults: the distance to the fifth neighbour, one thread.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            neighbours: 5,
            distance: KnnDistance::Largest,
            threads: NonZeroUsize::MIN,
        }
    }

    /// Number of neighbours, 1 to 1000. Default 5. With fewer training rows, all of them.
    #[must_use]
    pub const fn neighbours(mut self, neighbours: usize) -> Self {
        self.neighbours = neighbours;
        self
    }

    /// Which distance is the score. Default the largest.
    #[must_use]
    pub const fn distance(mut self, distance: KnnDistance) -> Self {
        self.distance = distance;
        self
    }

    /// How many threads score training rows. Default 1. No result depends on it.
    #[must_use]
    pub const fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = threads;
        self
    }
}

/// Distance to nearest neighbours (Ramaswamy, Rastogi and Shim, 2000).
///
/// The score is the Euclidean distance to the k-th nearest training row, or the mean distance to the k nearest.
///
/// - **Assumes** that a distance means something: columns on one scale, few of them irrelevant.
/// - **Fails** where anomalies come in crowds of k or more, as floods and scans do; where one group is dense and another
///   sparse (see [`Lof`](super::Lof)); and in many columns, where all distances become alike.
/// - **Costs** a sort to fit. A search visits a small part of the rows up to 15 columns, and all of them beyond. Equal rows are
///   searched for once. The model holds the distinct training rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Knn {
    index: Neighbours,
    neighbours: u32,
    distance: KnnDistance,
}

detector!(KnnParams, Knn, "knn");

impl Knn {
    /// Parameters to fit one with.
    #[must_use]
    pub const fn params() -> KnnParams {
        KnnParams::new()
    }

    fn score_of(&self, found: &[Neighbour]) -> f64 {
        match self.distance {
            KnnDistance::Largest => found.last().map_or(0.0, |last| last.distance),
            KnnDistance::Mean => {
                let sum: f64 = found.iter().map(|near| near.distance * near.count as f64).sum();
                let count: usize = found.iter().map(|near| near.count).sum();
                sum / count.max(1) as f64
            }
        }
    }
}

impl KnnParams {
    fn model(self, rows: Distinct) -> Knn {
        Knn {
            index: Neighbours::new(rows),
            neighbours: self.neighbours as u32,
            distance: self.distance,
        }
    }
}

impl Learn for KnnParams {
    type Model = Knn;

    fn check(&self) -> Result<(), DetectorError> {
        check_range("neighbours", self.neighbours as f64, 1.0..=1000.0, "1 to 1000")
    }

    fn threads(&self) -> NonZeroUsize {
        self.threads
    }

    fn learn(&self, rows: Rows<'_>) -> Result<Knn, DetectorError> {
        Ok(self.model(Distinct::of(rows).0))
    }

    fn learn_and_score(&self, rows: Rows<'_>) -> Result<(Knn, Vec<f64>), DetectorError> {
        let (distinct, numbers) = Distinct::of(rows);
        let model = self.model(distinct);
        let found = in_parts(model.index.rows().len(), self.threads, |part| {
            let mut scores = Vec::with_capacity(part.len());
            model
                .index
                .of_training(part.start, part.end, self.neighbours, |at, found| {
                    scores.push((at, model.score_of(found)));
                });
            scores
        });
        let mut scores = vec![0.0; found.len()];
        found.into_iter().for_each(|(at, score)| scores[at] = score);
        let scores = numbers
            .into_iter()
            .map(|number| scores[number as usize])
            .collect();
        Ok((model, scores))
    }
}

impl Judge for Knn {
    fn width(&self) -> usize {
        self.index.rows().columns()
    }

    fn is_sound(&self) -> bool {
        (1..=1000).contains(&self.neighbours)
    }

    fn judge_into(&self, rows: Rows<'_>, scores: &mut [f64]) {
        self.index.of_rows(rows, self.neighbours as usize, |at, found| {
            scores[at] = self.score_of(found);
        });
    }
}
