//! Nearest neighbours among training rows, exactly.
//!
//! Equal rows are kept once, with their number: telemetry repeats itself, and a crowd of equal rows must not cost the square of
//! its size. Up to [`TREE_COLUMNS`] columns a k-d tree is asked, beyond that all distances are computed, as products of
//! matrices.
//!
//! `linfa-nn` was measured in its place: finding the five nearest of 20,000 random rows takes its k-d tree 3 times as long in 5
//! columns and 6 times as long in 10, its ball tree 14 and 27 times, and of 4,000 rows in 30 columns all of its searches 17 times
//! and more.

mod all;
mod distinct;
mod nearest;
mod tree;

use serde::{Deserialize, Serialize};

pub(super) use self::distinct::Distinct;
use self::nearest::Nearest;
pub(super) use self::nearest::Neighbour;
pub(super) use self::nearest::squared_distance;
use self::tree::Tree;
use crate::iforest::Rows;

/// With more columns than this, a tree hardly spares anything.
const TREE_COLUMNS: usize = 15;

/// An index of distinct rows.
///
/// Only the rows are stored; the tree follows from them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Distinct", into = "Distinct")]
pub(super) struct Neighbours {
    rows: Distinct,
    tree: Option<Tree>,
}

impl Neighbours {
    pub(super) fn new(rows: Distinct) -> Self {
        let tree = (rows.columns() <= TREE_COLUMNS).then(|| Tree::build(&rows));
        Self { rows, tree }
    }

    pub(super) const fn rows(&self) -> &Distinct {
        &self.rows
    }

    /// Hands the `k` nearest training rows of each row to `take`, with the row's place: the nearest first, equal ones in
    /// the order of training.
    pub(super) fn of_rows(&self, rows: Rows<'_>, k: usize, mut take: impl FnMut(usize, &[Neighbour])) {
        match &self.tree {
            Some(tree) => {
                let mut nearest = Nearest::new(k, None);
                for at in 0..rows.len() {
                    nearest.restart(None);
                    tree.search(&self.rows, rows.row(at), &mut nearest);
                    take(at, nearest.finish());
                }
            }
            None => all::search(&self.rows, rows, k, take),
        }
    }

    /// The same for training rows, by number among the distinct ones, each without itself: of several equal rows the others
    /// stay, at distance 0. The order in which they are handed over is not theirs.
    pub(super) fn of_training(
        &self,
        from: usize,
        to: usize,
        k: usize,
        mut take: impl FnMut(usize, &[Neighbour]),
    ) {
        match &self.tree {
            Some(tree) => {
                let mut nearest = Nearest::new(k, None);
                // Rows that lie side by side in the tree ask for much the same part of it.
                for at in from..to {
                    let at = tree.place(at);
                    nearest.restart(Some(at));
                    tree.search(&self.rows, self.rows.row(at), &mut nearest);
                    take(at, nearest.finish());
                }
            }
            None => all::search_training(&self.rows, from, to, k, take),
        }
    }
}

impl TryFrom<Distinct> for Neighbours {
    type Error = &'static str;

    fn try_from(rows: Distinct) -> Result<Self, Self::Error> {
        if rows.is_sound() {
            Ok(Self::new(rows))
        } else {
            Err("not a table of distinct rows")
        }
    }
}

impl From<Neighbours> for Distinct {
    fn from(neighbours: Neighbours) -> Self {
        neighbours.rows
    }
}
