use serde::{Deserialize, Serialize};

/// A tree of decisions, root first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
}

/// A node, in 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Node {
    /// A value up to it goes left. In a leaf, what the leaf adds.
    pub(super) threshold: f64,
    /// Where values up to the threshold go. 0 in a leaf: nobody goes back to the root. The right child follows it.
    pub(super) left: u16,
    pub(super) column: u16,
    /// Whether missing values go left.
    pub(super) missing_left: bool,
}

impl Tree {
    /// What the leaf adds in which a row ends.
    #[inline]
    pub(super) fn value(&self, row: &[f64]) -> f64 {
        let mut node = self.nodes[0];
        while node.left != 0 {
            let value = row[usize::from(node.column)];
            // Not a number is not above anything.
            let right = if value.is_nan() {
                !node.missing_left
            } else {
                value > node.threshold
            };
            node = self.nodes[usize::from(node.left) + usize::from(right)];
        }
        node.threshold
    }

    /// Whether every walk stays inside and ends.
    pub(super) fn is_sound(&self, columns: usize) -> bool {
        let sound = |(at, node): (usize, &Node)| {
            let left = usize::from(node.left);
            let inner = left > at && left + 1 < self.nodes.len() && usize::from(node.column) < columns;
            !node.threshold.is_nan()
                && if left == 0 {
                    node.threshold.is_finite()
                } else {
                    inner
                }
        };
        !self.nodes.is_empty() && self.nodes.iter().enumerate().all(sound)
    }
}
