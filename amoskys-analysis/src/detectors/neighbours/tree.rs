use super::distinct::Distinct;
use super::nearest::{Nearest, squared_distance};

/// Rows of a leaf at most.
const LEAF: usize = 12;

/// A k-d tree: the rows are halved by the column in which they reach farthest, until few are left.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tree {
    /// Numbers of the rows, those of a node side by side.
    order: Vec<u32>,
    nodes: Vec<Node>,
    /// The rows in this order, so that a leaf is read in one go.
    values: Vec<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Node {
    /// Its rows in the order.
    start: u32,
    end: u32,
    /// Number of the node above the split, which comes later; the one below is the next. 0 in a leaf.
    above: u32,
    column: u16,
    /// Rows below reach up to here, and rows above begin there.
    below_ends: f64,
    above_begins: f64,
}

impl Tree {
    pub(super) fn build(rows: &Distinct) -> Self {
        let mut tree = Self {
            order: (0_u32..).zip(0..rows.len()).map(|(number, _)| number).collect(),
            nodes: Vec::new(),
            values: Vec::new(),
        };
        let mut order = std::mem::take(&mut tree.order);
        tree.grow(rows, &mut order, 0);
        tree.order = order;
        tree.values = tree
            .order
            .iter()
            .flat_map(|&at| rows.row(at as usize))
            .copied()
            .collect();
        tree
    }

    /// Depth is the logarithm of the number of rows, for each split is in the middle.
    fn grow(&mut self, rows: &Distinct, order: &mut [u32], start: u32) {
        let number = self.nodes.len();
        let count = order.len() as u32;
        self.nodes.push(Node {
            start,
            end: start + count,
            above: 0,
            column: 0,
            below_ends: 0.0,
            above_begins: 0.0,
        });
        if order.len() <= LEAF {
            return;
        }
        let column = widest(rows, order);
        let value = |at: u32| rows.row(at as usize)[column];
        let middle = order.len() / 2;
        order.select_nth_unstable_by(middle, |&a, &b| value(a).total_cmp(&value(b)).then(a.cmp(&b)));
        let (below, above) = order.split_at_mut(middle);
        let below_ends = below
            .iter()
            .map(|&at| value(at))
            .fold(f64::NEG_INFINITY, f64::max);
        let above_begins = above.first().map_or(below_ends, |&at| value(at));
        self.grow(rows, below, start);
        let next = self.nodes.len() as u32;
        self.grow(rows, above, start + middle as u32);
        self.nodes[number] = Node {
            above: next,
            column: column as u16,
            below_ends,
            above_begins,
            ..self.nodes[number]
        };
    }

    /// The row at a place of the order.
    pub(super) fn place(&self, at: usize) -> usize {
        self.order[at] as usize
    }

    pub(super) fn search(&self, rows: &Distinct, row: &[f64], nearest: &mut Nearest) {
        // How far the row lies outside the node in each column, so that bounds add up over columns.
        let mut outside = [0.0; super::TREE_COLUMNS];
        self.descend(0, 0.0, rows, row, &mut outside, nearest);
    }

    fn descend(
        &self,
        number: usize,
        bound: f64,
        rows: &Distinct,
        row: &[f64],
        outside: &mut [f64; super::TREE_COLUMNS],
        nearest: &mut Nearest,
    ) {
        let node = &self.nodes[number];
        if node.above == 0 {
            let columns = row.len();
            let (start, end) = (node.start as usize, node.end as usize);
            let values = self.values[start * columns..end * columns].chunks_exact(columns);
            for (&at, other) in self.order[start..end].iter().zip(values) {
                let squared = squared_distance(row, other);
                if squared <= nearest.limit() {
                    nearest.offer(at as usize, squared, rows.count(at as usize));
                }
            }
            return;
        }
        let column = usize::from(node.column);
        let value = row[column];
        let to_below = (value - node.below_ends).max(0.0);
        let to_above = (node.above_begins - value).max(0.0);
        let (first, second, far) = if to_below <= to_above {
            (number + 1, node.above as usize, to_above)
        } else {
            (node.above as usize, number + 1, to_below)
        };
        self.descend(first, bound, rows, row, outside, nearest);
        let known = outside[column];
        let far = far.max(known);
        let bound = bound - known * known + far * far;
        // Bounds are rounded; a little room keeps a row on the edge from being missed.
        if bound * (1.0 - 1e-12) <= nearest.limit() {
            outside[column] = far;
            self.descend(second, bound, rows, row, outside, nearest);
            outside[column] = known;
        }
    }
}

/// The column in which rows reach farthest.
fn widest(rows: &Distinct, order: &[u32]) -> usize {
    let mut ranges = [(f64::INFINITY, f64::NEG_INFINITY); super::TREE_COLUMNS];
    for &at in order {
        for (value, (min, max)) in rows.row(at as usize).iter().zip(&mut ranges) {
            *min = min.min(*value);
            *max = max.max(*value);
        }
    }
    let mut widest = (0, f64::NEG_INFINITY);
    for (column, (min, max)) in ranges.iter().take(rows.columns()).enumerate() {
        let width = max / 2.0 - min / 2.0;
        if width > widest.1 {
            widest = (column, width);
        }
    }
    widest.0
}
