//! Extended isolation forest: isolation by cuts that are not parallel to the axes.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use super::DetectorError;
use super::estimator::{Judge, Learn, check_range, detector};
use super::parallel::in_parts;
use crate::iforest::random::Random;
use crate::iforest::{Rows, average_path};

/// Parameters of [`ExtendedIsolationForest`]. Ranges are checked when fitting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedIsolationForestParams {
    trees: usize,
    max_samples: usize,
    cut_columns: usize,
    seed: u64,
    threads: NonZeroUsize,
}

impl ExtendedIsolationForestParams {
    /// The defaults: 100 trees on at most 256 rows, cuts through at most 16 columns, seed 0, one thread.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            trees: 100,
            max_samples: 256,
            cut_columns: 16,
            seed: 0,
            threads: NonZeroUsize::MIN,
        }
    }

    /// Number of trees, 1 to 10 000. Default 100.
    #[must_use]
    pub const fn trees(mut self, trees: usize) -> Self {
        self.trees = trees;
        self
    }

    /// How many rows each tree is grown on at most, 2 to 32 768. Default 256.
    #[must_use]
    pub const fn max_samples(mut self, max_samples: usize) -> Self {
        self.max_samples = max_samples;
        self
    }

    /// How many columns a cut mixes at most, 1 to 65 535. Default 16; those that vary are drawn anew for each cut. 1 is close to
    /// a plain isolation forest.
    #[must_use]
    pub const fn cut_columns(mut self, cut_columns: usize) -> Self {
        self.cut_columns = cut_columns;
        self
    }

    /// Seed of all random choices. Default 0.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How many threads grow trees and score training rows. Default 1. No result depends on it.
    #[must_use]
    pub const fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = threads;
        self
    }
}

/// Extended isolation forest (Hariri, Carrasco Kind and Brunner, 2021).
///
/// As an isolation forest, but a cut is a hyperplane: normal random weights for some columns, each divided by what the column
/// spans in the node, and a random threshold among the values the node's rows take. The score is `2^(-mean depth / usual depth)`.
///
/// - **Assumes** that anomalies are few and apart. It sees rows that are apart only in a mixture of columns.
/// - **Fails** on local anomalies near a dense group, and on anomalies in one column among many, which mixing dilutes.
/// - **Costs** the number of columns of a cut times what an isolation forest costs; fitting does not depend on the number of
///   rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct ExtendedIsolationForest {
    columns: u32,
    trees: Vec<Tree>,
    usual_path: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tree {
    nodes: Vec<Node>,
    /// Weights of the cuts, one after another.
    weights: Vec<(u16, f64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Node {
    /// Its cut's weights.
    start: u32,
    end: u32,
    /// A row whose weighted sum is above goes to the right child. In a leaf, the length of the path.
    threshold: f64,
    /// Number of the left child, which is later; the right one follows it. 0 in a leaf.
    left: u32,
}

detector!(
    ExtendedIsolationForestParams,
    ExtendedIsolationForest,
    "extended_isolation_forest"
);

impl ExtendedIsolationForest {
    /// Parameters to fit one with.
    #[must_use]
    pub const fn params() -> ExtendedIsolationForestParams {
        ExtendedIsolationForestParams::new()
    }
}

impl Learn for ExtendedIsolationForestParams {
    type Model = ExtendedIsolationForest;

    fn check(&self) -> Result<(), DetectorError> {
        check_range("trees", self.trees as f64, 1.0..=10_000.0, "1 to 10000")?;
        check_range(
            "max_samples",
            self.max_samples as f64,
            2.0..=32_768.0,
            "2 to 32768",
        )?;
        check_range(
            "cut_columns",
            self.cut_columns as f64,
            1.0..=65_535.0,
            "1 to 65535",
        )
    }

    fn threads(&self) -> NonZeroUsize {
        self.threads
    }

    fn learn(&self, rows: Rows<'_>) -> Result<ExtendedIsolationForest, DetectorError> {
        let size = self.max_samples.min(rows.len());
        let trees = in_parts(self.trees, self.threads, |numbers| {
            numbers
                .map(|number| {
                    let mut random = Random::new(self.seed, number as u64);
                    let sample = random.choose(rows.len(), size);
                    self.grow(rows, sample, &mut random)
                })
                .collect()
        });
        Ok(ExtendedIsolationForest {
            columns: rows.columns() as u32,
            trees,
            usual_path: average_path(size),
        })
    }
}

/// Rows of a sample that have yet to be cut.
struct Pending {
    node: usize,
    rows: Vec<usize>,
    depth: u32,
}

impl ExtendedIsolationForestParams {
    fn grow(&self, rows: Rows<'_>, sample: Vec<usize>, random: &mut Random) -> Tree {
        let max_depth = sample.len().next_power_of_two().trailing_zeros().max(1);
        let mut tree = Tree {
            nodes: vec![leaf(0, sample.len())],
            weights: Vec::new(),
        };
        let mut pending = vec![Pending {
            node: 0,
            rows: sample,
            depth: 0,
        }];
        while let Some(at) = pending.pop() {
            if at.rows.len() < 2 || at.depth >= max_depth {
                continue;
            }
            let start = tree.weights.len();
            self.draw_weights(rows, &at.rows, random, &mut tree.weights);
            let weights = &tree.weights[start..];
            let sums: Vec<f64> = at.rows.iter().map(|&row| mix(weights, rows.row(row))).collect();
            let low = sums.iter().copied().fold(f64::INFINITY, f64::min);
            let high = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let threshold = low + (high - low) * random.unit_f64();
            if weights.is_empty() || !(low < high && threshold < high) {
                // Rows that no cut parts.
                tree.weights.truncate(start);
                continue;
            }
            let left = tree.nodes.len();
            tree.nodes[at.node] = Node {
                start: start as u32,
                end: tree.weights.len() as u32,
                threshold,
                left: left as u32,
            };
            let (mut below, mut above) = (Vec::new(), Vec::new());
            for (row, sum) in at.rows.into_iter().zip(sums) {
                if sum > threshold {
                    above.push(row)
                } else {
                    below.push(row)
                }
            }
            for (node, rows) in [(left, below), (left + 1, above)] {
                let depth = at.depth + 1;
                tree.nodes.push(leaf(depth, rows.len()));
                pending.push(Pending { node, rows, depth });
            }
        }
        tree
    }

    /// Weights for some of the columns that vary among the rows.
    fn draw_weights(&self, rows: Rows<'_>, of: &[usize], random: &mut Random, weights: &mut Vec<(u16, f64)>) {
        let mut candidates: Vec<u16> = (0..rows.columns()).map(|column| column as u16).collect();
        let wanted = self.cut_columns.min(candidates.len());
        let start = weights.len();
        while !candidates.is_empty() && weights.len() - start < wanted {
            let drawn = random.below(candidates.len());
            let column = candidates.swap_remove(drawn);
            let values = || of.iter().map(|&row| rows.row(row)[usize::from(column)]);
            let low = values().fold(f64::INFINITY, f64::min);
            let high = values().fold(f64::NEG_INFINITY, f64::max);
            let span = high - low;
            if span > 0.0 && span.is_finite() {
                weights.push((column, random.normal() / span));
            }
        }
        weights[start..].sort_unstable_by_key(|weight| weight.0);
    }
}

fn leaf(depth: u32, rows: usize) -> Node {
    Node {
        start: 0,
        end: 0,
        threshold: f64::from(depth) + average_path(rows),
        left: 0,
    }
}

#[inline]
fn mix(weights: &[(u16, f64)], row: &[f64]) -> f64 {
    weights
        .iter()
        .map(|(column, weight)| row[usize::from(*column)] * weight)
        .sum()
}

impl Tree {
    fn path(&self, row: &[f64]) -> f64 {
        let mut node = &self.nodes[0];
        while node.left != 0 {
            let sum = mix(&self.weights[node.start as usize..node.end as usize], row);
            node = &self.nodes[node.left as usize + usize::from(sum > node.threshold)];
        }
        node.threshold
    }

    fn is_sound(&self, columns: u32) -> bool {
        let inside = |(number, node): (usize, &Node)| {
            let left = node.left as usize;
            (left == 0 || (left > number && left + 1 < self.nodes.len()))
                && node.start <= node.end
                && node.end as usize <= self.weights.len()
        };
        !self.nodes.is_empty()
            && self.nodes.iter().enumerate().all(inside)
            && self
                .weights
                .iter()
                .all(|(column, _)| u32::from(*column) < columns)
    }
}

impl Judge for ExtendedIsolationForest {
    fn width(&self) -> usize {
        self.columns as usize
    }

    fn is_sound(&self) -> bool {
        self.columns > 0
            && self.usual_path >= 0.0
            && !self.trees.is_empty()
            && self.trees.iter().all(|tree| tree.is_sound(self.columns))
    }

    fn judge_into(&self, rows: Rows<'_>, scores: &mut [f64]) {
        // Tree by tree, so that each stays in the cache.
        for tree in &self.trees {
            for (at, sum) in scores.iter_mut().enumerate() {
                *sum += tree.path(rows.row(at));
            }
        }
        let usual = if self.usual_path > 0.0 {
            self.usual_path
        } else {
            1.0
        };
        for score in scores {
            *score = (-(*score / self.trees.len() as f64) / usual).exp2();
        }
    }
}
