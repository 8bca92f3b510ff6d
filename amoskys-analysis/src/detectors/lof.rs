//! Local outlier factor.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use super::DetectorError;
use super::estimator::{Judge, Learn, check_range, detector};
use super::neighbours::{Distinct, Neighbour, Neighbours};
use super::parallel::in_parts;
use crate::iforest::Rows;

/// Added to mean distances, so that crowds of equal rows have a density.
const SMALLEST: f64 = 1e-10;

/// Parameters of [`Lof`]. Ranges are checked when fitting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LofParams {
    neighbours: usize,
    threads: NonZeroUsize,
}

impl LofParams {
    /// The defaults: 20 neighbours, one thread.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            neighbours: 20,
            threads: NonZeroUsize::MIN,
        }
    }

    /// Number of neighbours, 1 to 1000. Default 20. With fewer training rows, all of them.
    #[must_use]
    pub const fn neighbours(mut self, neighbours: usize) -> Self {
        self.neighbours = neighbours;
        self
    }

    /// How many threads search. Default 1. No result depends on it.
    #[must_use]
    pub const fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = threads;
        self
    }
}

/// Local outlier factor (Breunig, Kriegel, Ng and Sander, 2000).
///
/// The score is how much thinner rows lie around a row than around its nearest neighbours: about 1 inside a group, dense or
/// sparse, and more at its edge and beyond.
///
/// - **Assumes** that a distance means something, and that an anomaly is thin compared with its neighbourhood.
/// - **Fails** where anomalies come in crowds as large as the neighbourhood, where many rows are equal (their density is
///   without bound, and whatever lies beside them looks anomalous), and in many columns.
/// - **Costs** a search for the neighbours of every training row to fit, and one more search a row to score. The model holds
///   the distinct training rows with two numbers each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Lof {
    index: Neighbours,
    neighbours: u32,
    /// Of each distinct training row, the distance to its k-th neighbour and its local density.
    reaches: Vec<f64>,
    densities: Vec<f64>,
}

detector!(LofParams, Lof, "lof");

impl Lof {
    /// Parameters to fit one with.
    #[must_use]
    pub const fn params() -> LofParams {
        LofParams::new()
    }
}

/// The reachability density at a row with these neighbours.
fn density(found: &[Neighbour], reaches: &[f64]) -> f64 {
    let reached = |near: &Neighbour| near.distance.max(reaches[near.row]) * near.count as f64;
    1.0 / (found.iter().map(reached).sum::<f64>() / counted(found) + SMALLEST)
}

/// The mean density at the neighbours, compared with the row's own.
fn factor(found: &[Neighbour], densities: &[f64], own: f64) -> f64 {
    let sum: f64 = found
        .iter()
        .map(|near| densities[near.row] * near.count as f64)
        .sum();
    sum / counted(found) / own
}

fn counted(found: &[Neighbour]) -> f64 {
    found.iter().map(|near| near.count).sum::<usize>().max(1) as f64
}

impl LofParams {
    fn model_and_scores(&self, distinct: Distinct) -> (Lof, Vec<f64>) {
        let index = Neighbours::new(distinct);
        let rows = index.rows().len();
        let searched = in_parts(rows, self.threads, |part| {
            let mut all = Vec::with_capacity(part.len());
            index.of_training(part.start, part.end, self.neighbours, |at, found| {
                all.push((at, Vec::from(found)));
            });
            all
        });
        let mut found = vec![Vec::new(); rows];
        searched.into_iter().for_each(|(at, near)| found[at] = near);
        let reach = |near: &Vec<Neighbour>| near.last().map_or(0.0, |last| last.distance);
        let reaches: Vec<f64> = found.iter().map(reach).collect();
        let densities: Vec<f64> = found.iter().map(|near| density(near, &reaches)).collect();
        let scores = found
            .iter()
            .zip(&densities)
            .map(|(near, own)| factor(near, &densities, *own));
        let scores = scores.collect();
        let model = Lof {
            index,
            neighbours: self.neighbours as u32,
            reaches,
            densities,
        };
        (model, scores)
    }
}

impl Learn for LofParams {
    type Model = Lof;

    fn check(&self) -> Result<(), DetectorError> {
        check_range("neighbours", self.neighbours as f64, 1.0..=1000.0, "1 to 1000")
    }

    fn threads(&self) -> NonZeroUsize {
        self.threads
    }

    fn learn(&self, rows: Rows<'_>) -> Result<Lof, DetectorError> {
        Ok(self.model_and_scores(Distinct::of(rows).0).0)
    }

    fn learn_and_score(&self, rows: Rows<'_>) -> Result<(Lof, Vec<f64>), DetectorError> {
        let (distinct, numbers) = Distinct::of(rows);
        let (model, scores) = self.model_and_scores(distinct);
        let scores = numbers
            .into_iter()
            .map(|number| scores[number as usize])
            .collect();
        Ok((model, scores))
    }
}

impl Judge for Lof {
    fn width(&self) -> usize {
        self.index.rows().columns()
    }

    fn is_sound(&self) -> bool {
        let rows = self.index.rows().len();
        let sound = |values: &[f64]| values.len() == rows && values.iter().all(|value| *value >= 0.0);
        (1..=1000).contains(&self.neighbours) && sound(&self.reaches) && sound(&self.densities)
    }

    fn judge_into(&self, rows: Rows<'_>, scores: &mut [f64]) {
        self.index.of_rows(rows, self.neighbours as usize, |at, found| {
            scores[at] = factor(found, &self.densities, density(found, &self.reaches));
        });
    }
}
