use std::collections::HashSet;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::random::Random;
use super::rows::Rows;
use super::scale::Scale;

/// A node of an isolation tree, in eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Node {
    /// A value above it goes to the right child. Infinite in a leaf, so that no value does.
    pub(super) threshold: f32,
    /// Which feature is compared.
    pub(super) feature: u16,
    /// Number of the left child; the right one follows it. A leaf names itself: walking on stays there, so that
    /// every walk has the same number of steps, and many can go on side by side.
    pub(super) left: u16,
}

/// An isolation tree: random cuts through a sample of rows, until each is alone or the depth is reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    /// For each node that is a leaf, its depth and how much deeper its rows would lie if the tree went on.
    pub(super) lengths: Vec<f32>,
    /// The longest walk, in steps.
    pub(super) depth: u16,
}

impl Tree {
    /// Whether every walk stays inside.
    pub(super) fn is_sound(&self, columns: usize) -> bool {
        let inside = |node: &Node| {
            let left = usize::from(node.left);
            let leaf = node.threshold == f32::INFINITY;
            usize::from(node.feature) < columns && left + usize::from(!leaf) < self.nodes.len()
        };
        !self.nodes.is_empty() && self.nodes.len() == self.lengths.len() && self.nodes.iter().all(inside)
    }
}

/// Scaled values, column by column.
struct Columns {
    values: Vec<f32>,
    rows: usize,
}

impl Columns {
    /// Scales some of the rows.
    fn of(rows: Rows<'_>, chosen: impl ExactSizeIterator<Item = usize>, scale: &Scale) -> Self {
        let count = chosen.len();
        let mut values = vec![0.0; rows.columns() * count];
        let mut scaled = vec![0.0; rows.columns()];
        for (at, row) in chosen.enumerate() {
            scale.apply(rows.row(row), &mut scaled);
            for (value, column) in scaled.iter().zip(values.chunks_exact_mut(count)) {
                column[at] = *value;
            }
        }
        Self { values, rows: count }
    }

    fn column(&self, feature: u16) -> &[f32] {
        let start = usize::from(feature) * self.rows;
        &self.values[start..start + self.rows]
    }
}

/// What trees are grown from.
pub(super) struct Ground<'a> {
    rows: Rows<'a>,
    scale: &'a Scale,
    /// Rows of a sample.
    size: usize,
    max_depth: u16,
    /// All rows scaled, where that is less than scaling each tree's sample.
    all: Option<Columns>,
}

/// A node whose cut is to be drawn.
struct Pending {
    node: usize,
    /// Its rows in the order.
    rows: Range<usize>,
    depth: u16,
    /// Features that may still vary among its rows.
    features: Vec<u16>,
}

impl<'a> Ground<'a> {
    /// For so many trees on so many rows each.
    pub(super) fn new(rows: Rows<'a>, scale: &'a Scale, trees: usize, size: usize) -> Self {
        let max_depth = size.next_power_of_two().trailing_zeros().max(1) as u16;
        let all = (rows.len() <= trees.saturating_mul(size)).then(|| Columns::of(rows, 0..rows.len(), scale));
        Self {
            rows,
            scale,
            size,
            max_depth,
            all,
        }
    }

    /// Grows a tree on a random sample of the rows.
    pub(super) fn grow(&self, random: &mut Random) -> Tree {
        let chosen = choose(self.rows.len(), self.size, random);
        match &self.all {
            Some(all) => self.grow_on(all, chosen.into_iter().map(|row| row as u32).collect(), random),
            None => {
                let sample = Columns::of(self.rows, chosen.into_iter(), self.scale);
                self.grow_on(&sample, (0..self.size as u32).collect(), random)
            }
        }
    }

    /// Grows a tree on rows of these columns. `order` names them; those of one node are kept together.
    fn grow_on(&self, columns: &Columns, mut order: Vec<u32>, random: &mut Random) -> Tree {
        let mut tree = Tree {
            nodes: Vec::new(),
            lengths: Vec::new(),
            depth: 0,
        };
        tree.push_leaf(0, order.len());
        let features = (0..self.rows.columns()).map(|feature| feature as u16).collect();
        let mut pending = vec![Pending {
            node: 0,
            rows: 0..order.len(),
            depth: 0,
            features,
        }];
        while let Some(mut at) = pending.pop() {
            let rows = &mut order[at.rows.clone()];
            let Some((feature, threshold)) = draw_cut(columns, rows, &mut at.features, random) else {
                continue;
            };
            let middle = at.rows.start + part(columns.column(feature), rows, threshold);
            let left = tree.nodes.len();
            tree.nodes[at.node] = Node {
                threshold,
                feature,
                left: left as u16,
            };
            let depth = at.depth + 1;
            tree.depth = tree.depth.max(depth);
            for (node, rows) in [(left, at.rows.start..middle), (left + 1, middle..at.rows.end)] {
                tree.push_leaf(depth, rows.len());
                if rows.len() > 1 && depth < self.max_depth {
                    pending.push(Pending {
                        node,
                        rows,
                        depth,
                        features: at.features.clone(),
                    });
                }
            }
        }
        tree
    }
}

/// A random threshold of a random feature that varies among the rows; `None` if none does. Features found constant are
/// taken out of the list.
fn draw_cut(
    columns: &Columns,
    rows: &[u32],
    features: &mut Vec<u16>,
    random: &mut Random,
) -> Option<(u16, f32)> {
    while !features.is_empty() {
        let drawn = random.below(features.len());
        let feature = features[drawn];
        let column = columns.column(feature);
        let first = column[*rows.first()? as usize];
        let (mut min, mut max) = (first, first);
        for &row in rows {
            let value = column[row as usize];
            min = min.min(value);
            max = max.max(value);
        }
        if min < max {
            let threshold = min + (max - min) * random.unit();
            // Rounding may bring it to the upper end, where nothing would lie above it.
            return Some((feature, if threshold < max { threshold } else { min }));
        }
        features.swap_remove(drawn);
    }
    None
}

/// Brings rows up to the threshold before the others, and says how many they are.
fn part(column: &[f32], rows: &mut [u32], threshold: f32) -> usize {
    let mut middle = 0;
    for at in 0..rows.len() {
        if column[rows[at] as usize] <= threshold {
            rows.swap(at, middle);
            middle += 1;
        }
    }
    middle
}

impl Tree {
    fn push_leaf(&mut self, depth: u16, rows: usize) {
        let itself = self.nodes.len() as u16;
        self.nodes.push(Node {
            threshold: f32::INFINITY,
            feature: 0,
            left: itself,
        });
        self.lengths.push((f64::from(depth) + average_path(rows)) as f32);
    }
}

/// The average length of a path to a row in a random binary tree of so many rows: c(n) of Liu, Ting and Zhou (2008).
pub(crate) fn average_path(rows: usize) -> f64 {
    const EULER: f64 = 0.577_215_664_901_532_9;
    match rows {
        0 | 1 => 0.0,
        2 => 1.0,
        n => {
            let n = n as f64;
            2.0 * ((n - 1.0).ln() + EULER) - 2.0 * (n - 1.0) / n
        }
    }
}

/// So many different numbers below `all`, by Floyd's algorithm.
fn choose(all: usize, size: usize, random: &mut Random) -> Vec<usize> {
    if size >= all {
        return (0..all).collect();
    }
    let mut seen = HashSet::with_capacity(size);
    let one_of = |last: usize| {
        let drawn = random.below(last + 1);
        if seen.insert(drawn) {
            drawn
        } else {
            seen.insert(last);
            last
        }
    };
    (all - size..all).map(one_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_rows_differ_and_are_spread_evenly() {
        let mut counts = [0_u32; 20];
        for part in 0..5000 {
            let chosen = choose(20, 8, &mut Random::new(3, part));
            let different: HashSet<usize> = chosen.iter().copied().collect();
            assert_eq!((chosen.len(), different.len()), (8, 8));
            chosen.into_iter().for_each(|row| counts[row] += 1);
        }
        assert!(
            counts.iter().all(|count| (1800..2200).contains(count)),
            "{counts:?}"
        );
        assert_eq!(choose(3, 8, &mut Random::new(3, 0)), [0, 1, 2]);
    }

    #[test]
    fn each_row_of_the_sample_reaches_its_own_leaf() {
        let values: Vec<f64> = (0..64)
            .flat_map(|n| [f64::from(n), f64::from(n * 37 % 64)])
            .collect();
        let rows = Rows::new(&values, 2).unwrap();
        let scale = Scale::fit(rows);
        let mut ground = Ground::new(rows, &scale, 1, 64);
        // Deep enough that every row ends alone.
        ground.max_depth = 64;
        let tree = ground.grow(&mut Random::new(1, 1));
        assert!(tree.is_sound(2));
        assert_eq!(tree.nodes.len(), 2 * 64 - 1);
        let mut leaves = HashSet::new();
        for at in 0..64 {
            let mut scaled = [0.0; 2];
            scale.apply(rows.row(at), &mut scaled);
            let mut node = 0;
            for _ in 0..tree.depth {
                let Node {
                    threshold,
                    feature,
                    left,
                } = tree.nodes[node];
                node = usize::from(left) + usize::from(scaled[usize::from(feature)] > threshold);
            }
            assert_eq!(tree.nodes[node].threshold, f32::INFINITY);
            leaves.insert(node);
        }
        assert_eq!(leaves.len(), 64);
    }

    #[test]
    fn scaling_all_rows_or_each_sample_is_the_same() {
        let values: Vec<f64> = (0..300).map(|n| f64::from(n * n % 101)).collect();
        let rows = Rows::new(&values, 3).unwrap();
        let scale = Scale::fit(rows);
        let whole = Ground::new(rows, &scale, 10, 20);
        let each = Ground {
            all: None,
            ..Ground::new(rows, &scale, 10, 20)
        };
        assert!(whole.all.is_some());
        assert_eq!(
            whole.grow(&mut Random::new(5, 1)),
            each.grow(&mut Random::new(5, 1))
        );
    }

    #[test]
    fn average_paths() {
        assert_eq!(
            [average_path(0), average_path(1), average_path(2)],
            [0.0, 0.0, 1.0]
        );
        assert!(
            (average_path(256) - 10.244_770_920_11).abs() < 1e-6,
            "{}",
            average_path(256)
        );
    }
}
