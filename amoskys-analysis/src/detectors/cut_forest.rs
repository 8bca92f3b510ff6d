//! Robust random cut forest.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use super::DetectorError;
use super::cut_tree::{CutTree, Shape, Window};
use super::estimator::{Judge, Learn, check_range, check_width, detector};
use super::streaming::{Absorb, absorb_all, absorb_and_judge};
use crate::iforest::Rows;
use crate::iforest::random::Random;

/// Values are drawn in to this, so that no sum of reaches overflows.
const FARTHEST: f64 = 1e150;

/// Parameters of [`RandomCutForest`]. Ranges are checked when starting or fitting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandomCutForestParams {
    trees: usize,
    window: usize,
    seed: u64,
    threads: NonZeroUsize,
}

impl RandomCutForestParams {
    /// The defaults: 40 trees over the last 256 rows, seed 0, one thread.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            trees: 40,
            window: 256,
            seed: 0,
            threads: NonZeroUsize::MIN,
        }
    }

    /// Number of trees, 1 to 1000. Default 40.
    #[must_use]
    pub const fn trees(mut self, trees: usize) -> Self {
        self.trees = trees;
        self
    }

    /// How many of the last rows are remembered, 2 to 65 536. Default 256.
    #[must_use]
    pub const fn window(mut self, rows: usize) -> Self {
        self.window = rows;
        self
    }

    /// Seed of all random choices. Default 0.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How many threads score rows after fitting. Default 1. No result depends on it.
    #[must_use]
    pub const fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = threads;
        self
    }

    /// One that has learned nothing yet, for rows of so many columns.
    ///
    /// # Errors
    ///
    /// If a parameter is out of range, or there are no columns or more than 65 535.
    pub fn start(&self, columns: usize) -> Result<RandomCutForest, DetectorError> {
        self.check()?;
        check_width(columns)?;
        Ok(self.begin(columns))
    }

    fn begin(&self, columns: usize) -> RandomCutForest {
        RandomCutForest {
            columns,
            window: self.window,
            seed: self.seed,
            seen: 0,
            rows: Vec::new(),
            trees: vec![CutTree::new(); self.trees],
        }
    }
}

/// How much a row would disturb random trees over the last rows: collusive displacement in a robust random cut forest (Guha et al.,
/// 2016).
///
/// Every tree holds the last rows, and forgets the oldest when one comes. A row's score is the mean over the trees of the most rows
/// that would change their depth with it, for each row that went together with it: a small crowd of like anomalies does not hide
/// each other.
///
/// - **Assumes** columns on one scale: cuts fall into columns by how far they reach.
/// - **Fails** on anomalies that last longer than the window: they become usual, as they should where behaviour changes.
/// - **Costs** `trees * depth * columns` to score or learn a row, the depth being about `2 log2(window)`. Memory is
///   `trees * window * (32 * columns + 112)` bytes at most.
#[derive(Clone, Debug)]
pub struct RandomCutForest {
    columns: usize,
    window: usize,
    seed: u64,
    seen: u64,
    /// The last rows; the oldest is overwritten by the next.
    rows: Vec<f64>,
    trees: Vec<CutTree>,
}

/// The stored form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Parts {
    columns: u32,
    window: u32,
    seed: u64,
    seen: u64,
    rows: Vec<f64>,
    trees: Vec<Shape>,
}

detector!(RandomCutForestParams, RandomCutForest, "random_cut_forest");

impl RandomCutForest {
    /// Parameters to start or fit one with.
    #[must_use]
    pub const fn params() -> RandomCutForestParams {
        RandomCutForestParams::new()
    }

    fn parts(&self) -> Parts {
        Parts {
            columns: self.columns as u32,
            window: self.window as u32,
            seed: self.seed,
            seen: self.seen,
            rows: self.rows.clone(),
            trees: self.trees.iter().map(CutTree::shape).collect(),
        }
    }

    fn from_parts(parts: Parts) -> Option<Self> {
        let (columns, window) = (parts.columns as usize, parts.window as usize);
        let within = (1..=usize::from(u16::MAX)).contains(&columns)
            && (2..=1 << 16).contains(&window)
            && (1..=1000).contains(&parts.trees.len());
        let held = parts.seen.min(window as u64) * columns as u64;
        if !within || parts.rows.len() as u64 != held || !parts.rows.iter().all(|v| v.abs() <= FARTHEST) {
            return None;
        }
        let rows = Window {
            values: &parts.rows,
            columns,
        };
        let trees: Option<Vec<CutTree>> = parts
            .trees
            .iter()
            .map(|shape| CutTree::from_shape(shape, rows))
            .collect();
        Some(Self {
            columns,
            window,
            seed: parts.seed,
            seen: parts.seen,
            trees: trees?,
            rows: parts.rows,
        })
    }

    /// The random numbers that decide where the next row goes in a tree. Scoring draws the same ones as learning.
    fn random(&self, tree: usize) -> Random {
        Random::new(
            self.seed ^ self.seen.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            tree as u64,
        )
    }

    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.parts().serialize(serializer)
    }

    fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parts = Parts::deserialize(deserializer)?;
        Self::from_parts(parts).ok_or_else(|| serde::de::Error::custom("not a forest over its rows"))
    }
}

/// The same rows, cuts and course to come.
impl PartialEq for RandomCutForest {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

/// Within bounds, and with one zero only.
fn bounded(row: &[f64]) -> Vec<f64> {
    row.iter()
        .map(|value| value.clamp(-FARTHEST, FARTHEST) + 0.0)
        .collect()
}

impl Absorb for RandomCutForest {
    fn absorb(&mut self, row: &[f64]) {
        let row = bounded(row);
        let place = (self.seen % self.window as u64) as usize;
        let (start, end) = (place * self.columns, (place + 1) * self.columns);
        let is_full = self.rows.len() == self.window * self.columns;
        let randoms: Vec<Random> = (0..self.trees.len()).map(|tree| self.random(tree)).collect();
        if !is_full {
            self.rows.extend_from_slice(&row);
        }
        let window = Window {
            values: &self.rows,
            columns: self.columns,
        };
        for (tree, mut random) in self.trees.iter_mut().zip(randoms) {
            if is_full {
                tree.remove(place as u32, window);
            }
            tree.insert(place as u32, &row, &mut random);
        }
        self.rows[start..end].copy_from_slice(&row);
        self.seen += 1;
    }

    fn absorbed(&self) -> u64 {
        self.seen
    }
}

impl Learn for RandomCutForestParams {
    type Model = RandomCutForest;

    fn check(&self) -> Result<(), DetectorError> {
        check_range("trees", self.trees as f64, 1.0..=1000.0, "1 to 1000")?;
        check_range("window", self.window as f64, 2.0..=65_536.0, "2 to 65536")
    }

    fn threads(&self) -> NonZeroUsize {
        self.threads
    }

    fn learn(&self, rows: Rows<'_>) -> Result<RandomCutForest, DetectorError> {
        Ok(absorb_all(self.begin(rows.columns()), rows))
    }

    /// Each row is scored before it is learned.
    fn learn_and_score(&self, rows: Rows<'_>) -> Result<(RandomCutForest, Vec<f64>), DetectorError> {
        Ok(absorb_and_judge(self.begin(rows.columns()), rows))
    }
}

impl Judge for RandomCutForest {
    fn width(&self) -> usize {
        self.columns
    }

    /// Reading checks it.
    fn is_sound(&self) -> bool {
        true
    }

    fn judge_into(&self, rows: Rows<'_>, scores: &mut [f64]) {
        for (at, score) in scores.iter_mut().enumerate() {
            let row = bounded(rows.row(at));
            let sum: f64 = (0..self.trees.len())
                .map(|tree| self.trees[tree].displacement(&row, &mut self.random(tree)))
                .sum();
            *score = sum / self.trees.len() as f64;
        }
    }
}
