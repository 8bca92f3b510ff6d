//! Grows a tree, always at the leaf whose split lowers the loss most.

use std::num::NonZeroUsize;
use std::ops::Range;

use super::bins::{Binned, Edges};
use super::histogram::{Members, Sums, fill, subtract};
use super::split::{Rules, Split};
use super::tree::{Node, Tree};

/// Below so many values to add, starting a thread costs more than it saves.
const WORTH_A_THREAD: usize = 1 << 19;

/// What trees are grown on, with memory that is used again for each.
pub(super) struct Ground<'a> {
    table: &'a Binned,
    edges: &'a [Edges],
    rules: Rules,
    leaves: usize,
    threads: NonZeroUsize,
    /// Rows of the table; those of a node lie together.
    order: Vec<u32>,
    aside: Vec<u32>,
    /// The node of each row.
    nodes: Vec<u16>,
    ordered: Vec<Sums>,
    spare: Vec<Vec<Sums>>,
}

/// A leaf that may be split.
struct Open {
    node: usize,
    rows: Range<usize>,
    total: Sums,
    histograms: Vec<Sums>,
    /// Columns on which its rows are not all alike.
    columns: Vec<u32>,
    split: Split,
}

impl<'a> Ground<'a> {
    pub(super) fn new(
        table: &'a Binned,
        edges: &'a [Edges],
        rules: Rules,
        leaves: usize,
        threads: NonZeroUsize,
    ) -> Self {
        Self {
            table,
            edges,
            rules,
            leaves,
            threads,
            order: Vec::new(),
            aside: Vec::new(),
            nodes: Vec::new(),
            ordered: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// Grows a tree on the derivatives of each row; `rate` is how much of its values the leaves get. The leaf that each row
    /// ends in is in [`leaf_of`](Self::leaf_of) afterwards.
    pub(super) fn grow(&mut self, all: &[Sums], rate: f64) -> Tree {
        self.order.clear();
        self.order.extend(0..self.table.rows as u32);
        self.nodes.clear();
        self.nodes.resize(self.table.rows, 0);
        let total = all.iter().fold(Sums::default(), |sum, &one| sum + one);
        let mut tree = Tree {
            nodes: vec![leaf(self.rules.value(total) * rate)],
        };
        let columns: Vec<u32> = (0..self.table.columns.len() as u32).collect();
        let rows = 0..self.order.len();
        let mut open: Vec<Open> = Vec::new();
        if self.rules.divisible(rows.len()) {
            let histograms = self.histograms(all, &columns, &rows, total, 0);
            open.extend(self.open(0, rows, total, histograms, &columns));
        }
        let mut leaves = 1;
        while leaves < self.leaves
            && let Some(best) = most_gain(&open)
        {
            let parent = open.swap_remove(best);
            self.split(&mut tree, parent, all, rate, leaves + 1 < self.leaves, &mut open);
            leaves += 1;
        }
        self.spare.extend(open.into_iter().map(|open| open.histograms));
        tree
    }

    /// The leaf of each row in the tree grown last.
    pub(super) fn leaf_of(&self) -> &[u16] {
        &self.nodes
    }

    /// Splits a leaf; its children come to `open` if they can be split again, and if anyone will.
    fn split(
        &mut self,
        tree: &mut Tree,
        parent: Open,
        all: &[Sums],
        rate: f64,
        goes_on: bool,
        open: &mut Vec<Open>,
    ) {
        let Open {
            node,
            rows,
            total,
            mut histograms,
            columns,
            split,
        } = parent;
        let left = tree.nodes.len();
        let column = split.column as usize;
        tree.nodes[node] = Node {
            threshold: self.threshold(column, split.bin),
            left: left as u16,
            column: column as u16,
            missing_left: split.missing_left,
        };
        let sums = [split.left, total - split.left];
        tree.nodes
            .extend(sums.map(|sums| leaf(self.rules.value(sums) * rate)));
        let middle = self.part(rows.clone(), split, left);
        let parts = [rows.start..middle, middle..rows.end];
        let divisible = parts.each_ref().map(|rows| self.rules.divisible(rows.len()));
        if !goes_on || divisible == [false, false] {
            self.spare.push(histograms);
            return;
        }
        let small = usize::from(parts[1].len() < parts[0].len());
        let large = 1 - small;
        let smaller = self.histograms(all, &columns, &parts[small], sums[small], left + small);
        subtract(self.table, &columns, &smaller, &mut histograms);
        for (part, histograms) in [(small, smaller), (large, histograms)] {
            if divisible[part] {
                open.extend(self.open(left + part, parts[part].clone(), sums[part], histograms, &columns));
            } else {
                self.spare.push(histograms);
            }
        }
    }

    /// The highest value that goes left: none does beyond the last edge, where only missing values are told apart.
    fn threshold(&self, column: usize, bin: u8) -> f64 {
        if bin + 1 == self.edges[column].missing() {
            f64::INFINITY
        } else {
            self.edges[column].end(bin)
        }
    }

    fn open(
        &mut self,
        node: usize,
        rows: Range<usize>,
        total: Sums,
        histograms: Vec<Sums>,
        columns: &[u32],
    ) -> Option<Open> {
        let (split, columns) = self.rules.best(self.table, columns, &histograms, total);
        let Some(split) = split else {
            self.spare.push(histograms);
            return None;
        };
        Some(Open {
            node,
            rows,
            total,
            histograms,
            columns,
            split,
        })
    }

    /// Brings the rows that go left before the others, and gives both their nodes. Returns where the right ones begin.
    fn part(&mut self, rows: Range<usize>, split: Split, left: usize) -> usize {
        let column = &self.table.columns[split.column as usize];
        self.aside.clear();
        let (mut next, start) = (rows.start, rows.start);
        for at in rows.clone() {
            let row = self.order[at];
            let bin = column.bins[row as usize];
            let goes_left = if bin == column.missing {
                split.missing_left
            } else {
                bin <= split.bin
            };
            if goes_left {
                self.order[next] = row;
                next += 1;
            } else {
                self.aside.push(row);
            }
        }
        self.order[next..rows.end].copy_from_slice(&self.aside);
        for &row in &self.order[start..next] {
            self.nodes[row as usize] = left as u16;
        }
        for &row in &self.order[next..rows.end] {
            self.nodes[row as usize] = left as u16 + 1;
        }
        next
    }

    /// The histograms of some columns over the rows of a node.
    fn histograms(
        &mut self,
        all: &[Sums],
        columns: &[u32],
        rows: &Range<usize>,
        total: Sums,
        node: usize,
    ) -> Vec<Sums> {
        let size = self.table.starts[self.table.columns.len()];
        let mut histograms = self.spare.pop().unwrap_or_else(|| vec![Sums::default(); size]);
        let order = &self.order[rows.clone()];
        self.ordered.clear();
        self.ordered.extend(order.iter().map(|&row| all[row as usize]));
        let members = Members {
            order,
            sums: &self.ordered,
            total,
            nodes: &self.nodes,
            node: node as u16,
            all,
        };
        let work = order.len().saturating_mul(columns.len());
        let threads = self.threads.get().min(work / WORTH_A_THREAD).max(1);
        if threads == 1 {
            fill(self.table, columns, &members, 0, &mut histograms);
            return histograms;
        }
        let share = columns.len().div_ceil(threads);
        std::thread::scope(|scope| {
            let (mut rest, mut start) = (histograms.as_mut_slice(), 0);
            for columns in columns.chunks(share) {
                let end = columns
                    .last()
                    .map_or(start, |&last| self.table.starts[last as usize + 1]);
                let (part, others) = std::mem::take(&mut rest).split_at_mut(end - start);
                let (members, table, first) = (&members, self.table, start);
                scope.spawn(move || fill(table, columns, members, first, part));
                (rest, start) = (others, end);
            }
        });
        histograms
    }
}

const fn leaf(value: f64) -> Node {
    Node {
        threshold: value,
        left: 0,
        column: 0,
        missing_left: false,
    }
}

/// The leaf with the best split; of equals, the one that is older.
fn most_gain(open: &[Open]) -> Option<usize> {
    (0..open.len()).reduce(|best, at| {
        let better = open[at]
            .split
            .gain
            .total_cmp(&open[best].split.gain)
            .then(open[best].node.cmp(&open[at].node));
        if better.is_gt() { at } else { best }
    })
}
