//! A robust random cut tree over the rows of a window.

use serde::{Deserialize, Serialize};

use crate::iforest::random::Random;

/// A tree that cuts space at random, columns by their reach, until rows are alone. Rows come and go, and the tree is always one
/// that could have been drawn for the rows there are (Guha et al., 2016).
#[derive(Clone, Debug)]
pub(super) struct CutTree {
    nodes: Vec<Node>,
    /// Nodes that are not in use.
    free: Vec<u32>,
    root: Option<u32>,
    /// How far each node reaches: lowest, then highest values.
    reach: Vec<f64>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    parent: Option<u32>,
    /// Rows below it.
    rows: u32,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Values up to `value` are in the first child.
    Cut {
        column: u32,
        value: f64,
        children: [u32; 2],
    },
    /// Equal rows, of which this one shows the values.
    Leaf(u32),
}

/// A tree as it is stored: nodes from the root down, first children first. All else follows from the rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Shape(Vec<Step>);

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Step {
    Cut { column: u32, value: f64 },
    Leaf(u32),
}

/// The rows of a window, by their place in it.
#[derive(Clone, Copy)]
pub(super) struct Window<'a> {
    pub(super) values: &'a [f64],
    pub(super) columns: usize,
}

impl<'a> Window<'a> {
    pub(super) fn row(self, place: u32) -> &'a [f64] {
        let start = place as usize * self.columns;
        &self.values[start..start + self.columns]
    }

    pub(super) fn len(self) -> usize {
        self.values.len() / self.columns
    }
}

/// Where a new row would go.
struct Entry {
    /// Beside or, if there is no cut, into this node.
    node: u32,
    /// Column and value of the cut between, and whether the new row is the first child.
    cut: Option<(u32, f64, bool)>,
    /// The most rows that stood apart from it for each row on its side, on any level.
    displacement: f64,
}

impl CutTree {
    pub(super) const fn new() -> Self {
        Self {
            nodes: Vec::new(),
            free: Vec::new(),
            root: None,
            reach: Vec::new(),
        }
    }

    /// The collusive displacement that a row would have if it came now: on some level, so many rows would change their depth for
    /// each that goes, if it went together with those on its side.
    pub(super) fn displacement(&self, row: &[f64], random: &mut Random) -> f64 {
        self.entry(row, random).map_or(0.0, |entry| entry.displacement)
    }

    /// Adds the row at a place of the window.
    pub(super) fn insert(&mut self, place: u32, row: &[f64], random: &mut Random) {
        let Some(entry) = self.entry(row, random) else {
            self.root = Some(self.add(None, Kind::Leaf(place), row, row));
            return;
        };
        let node = entry.node as usize;
        let Some((column, value, is_first)) = entry.cut else {
            self.grow_from(Some(entry.node), row);
            return;
        };
        let parent = self.nodes[node].parent;
        let leaf = self.add(None, Kind::Leaf(place), row, row);
        let children = if is_first {
            [leaf, entry.node]
        } else {
            [entry.node, leaf]
        };
        let columns = row.len();
        let beside = self.reach[node * 2 * columns..(node + 1) * 2 * columns].to_vec();
        let kind = Kind::Cut {
            column,
            value,
            children,
        };
        let cut = self.add(parent, kind, &beside[..columns], &beside[columns..]);
        self.nodes[cut as usize].rows = self.nodes[node].rows;
        match parent {
            Some(parent) => self.replace_child(parent, entry.node, cut),
            None => self.root = Some(cut),
        }
        for child in children {
            self.nodes[child as usize].parent = Some(cut);
        }
        self.grow_from(Some(cut), row);
    }

    /// Takes away the row at a place of the window, which still holds it.
    pub(super) fn remove(&mut self, place: u32, window: Window<'_>) {
        let row = window.row(place);
        let Some(leaf) = self.leaf(row) else { return };
        let node = self.nodes[leaf as usize];
        if node.rows > 1 {
            // Another of the equal rows shows the values from now on.
            let mut places = 0..window.len() as u32;
            if let Some(other) = places.find(|&other| other != place && window.row(other) == row) {
                self.nodes[leaf as usize].kind = Kind::Leaf(other);
            }
            let mut at = Some(leaf);
            while let Some(node) = at {
                self.nodes[node as usize].rows -= 1;
                at = self.nodes[node as usize].parent;
            }
            return;
        }
        self.free.push(leaf);
        let Some(parent) = node.parent else {
            self.root = None;
            return;
        };
        let Kind::Cut { children, .. } = self.nodes[parent as usize].kind else {
            return;
        };
        let sibling = children[usize::from(children[0] == leaf)];
        let above = self.nodes[parent as usize].parent;
        self.free.push(parent);
        self.nodes[sibling as usize].parent = above;
        match above {
            Some(above) => self.replace_child(above, parent, sibling),
            None => self.root = Some(sibling),
        }
        self.shrink_from(above, window.columns);
    }

    /// Walks down and draws a cut at each node, as if the row were among its rows, until one parts it from them. The walk takes the
    /// same course for the same state of `random`.
    fn entry(&self, row: &[f64], random: &mut Random) -> Option<Entry> {
        let mut at = self.root?;
        let mut displacement = 0.0_f64;
        loop {
            let node = self.nodes[at as usize];
            let rows = f64::from(node.rows);
            let (low, high) = self.reach_of(at, row.len());
            let entry = |cut, displacement| Entry {
                node: at,
                cut,
                displacement,
            };
            if let Some(cut) = draw(row, low, high, random) {
                return Some(entry(Some(cut), displacement.max(rows)));
            }
            let Kind::Cut {
                column,
                value,
                children,
            } = node.kind
            else {
                // Among its equals.
                return Some(entry(None, displacement));
            };
            let side = usize::from(row[column as usize] > value);
            let [mine, other] =
                [side, 1 - side].map(|side| f64::from(self.nodes[children[side] as usize].rows));
            displacement = displacement.max(other / (mine + 1.0));
            at = children[side];
        }
    }

    fn leaf(&self, row: &[f64]) -> Option<u32> {
        let mut at = self.root?;
        while let Kind::Cut {
            column,
            value,
            children,
        } = self.nodes[at as usize].kind
        {
            at = children[usize::from(row[column as usize] > value)];
        }
        Some(at)
    }

    fn reach_of(&self, node: u32, columns: usize) -> (&[f64], &[f64]) {
        let start = node as usize * 2 * columns;
        self.reach[start..start + 2 * columns].split_at(columns)
    }

    fn add(&mut self, parent: Option<u32>, kind: Kind, low: &[f64], high: &[f64]) -> u32 {
        let node = Node {
            parent,
            rows: 1,
            kind,
        };
        let width = 2 * low.len();
        let at = match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = node;
                at
            }
            None => {
                self.nodes.push(node);
                self.reach.resize(self.reach.len() + width, 0.0);
                self.nodes.len() as u32 - 1
            }
        };
        let start = at as usize * width;
        self.reach[start..start + low.len()].copy_from_slice(low);
        self.reach[start + low.len()..start + width].copy_from_slice(high);
        at
    }

    fn replace_child(&mut self, parent: u32, old: u32, new: u32) {
        if let Kind::Cut { children, .. } = &mut self.nodes[parent as usize].kind {
            for child in children {
                if *child == old {
                    *child = new;
                }
            }
        }
    }

    /// A row came to this node: it and those above have one more, and reach as far.
    fn grow_from(&mut self, mut at: Option<u32>, row: &[f64]) {
        let columns = row.len();
        while let Some(node) = at {
            let start = node as usize * 2 * columns;
            let (low, high) = self.reach[start..start + 2 * columns].split_at_mut(columns);
            for ((low, high), &value) in low.iter_mut().zip(high).zip(row) {
                *low = low.min(value);
                *high = high.max(value);
            }
            self.nodes[node as usize].rows += 1;
            at = self.nodes[node as usize].parent;
        }
    }

    /// A row left this node.
    fn shrink_from(&mut self, mut at: Option<u32>, columns: usize) {
        while let Some(node) = at {
            self.nodes[node as usize].rows -= 1;
            self.join_reach(node, columns);
            at = self.nodes[node as usize].parent;
        }
    }

    /// A cut reaches as far as its children.
    fn join_reach(&mut self, node: u32, columns: usize) {
        let Kind::Cut { children, .. } = self.nodes[node as usize].kind else {
            return;
        };
        let [first, second] = children.map(|child| child as usize * 2 * columns);
        let start = node as usize * 2 * columns;
        for column in 0..columns {
            self.reach[start + column] = self.reach[first + column].min(self.reach[second + column]);
            let high = columns + column;
            self.reach[start + high] = self.reach[first + high].max(self.reach[second + high]);
        }
    }

    /// Its stored form.
    pub(super) fn shape(&self) -> Shape {
        let mut steps = Vec::new();
        let mut pending: Vec<u32> = self.root.into_iter().collect();
        while let Some(at) = pending.pop() {
            steps.push(match self.nodes[at as usize].kind {
                Kind::Leaf(place) => Step::Leaf(place),
                Kind::Cut {
                    column,
                    value,
                    children: [first, second],
                } => {
                    pending.extend([second, first]);
                    Step::Cut { column, value }
                }
            });
        }
        Shape(steps)
    }

    /// Reads the stored form; `None` if it is not a tree over these rows.
    pub(super) fn from_shape(shape: &Shape, window: Window<'_>) -> Option<Self> {
        let mut tree = Self::new();
        let columns = window.columns;
        // Cuts that wait for a child.
        let mut open: Vec<u32> = Vec::new();
        for (at, step) in shape.0.iter().enumerate() {
            if at > 0 && open.is_empty() {
                return None;
            }
            let parent = open.last().copied();
            let (kind, row) = match *step {
                Step::Leaf(place) if (place as usize) < window.len() => {
                    (Kind::Leaf(place), window.row(place).to_vec())
                }
                Step::Cut { column, value } if (column as usize) < columns && value.is_finite() => {
                    let children = [u32::MAX; 2];
                    let kind = Kind::Cut {
                        column,
                        value,
                        children,
                    };
                    (kind, vec![0.0; columns])
                }
                _ => return None,
            };
            let node = tree.add(parent, kind, &row, &row);
            tree.nodes[node as usize].rows = 0;
            if let Some(parent) = parent
                && let Kind::Cut { children, .. } = &mut tree.nodes[parent as usize].kind
            {
                let second = usize::from(children[0] != u32::MAX);
                children[second] = node;
                if second == 1 {
                    open.pop();
                }
            }
            if matches!(kind, Kind::Cut { .. }) {
                open.push(node);
            }
        }
        if !open.is_empty() {
            return None;
        }
        tree.root = (!tree.nodes.is_empty()).then_some(0);
        // Every row must come to a leaf of its values, and every leaf have one.
        for place in 0..window.len() as u32 {
            let row = window.row(place);
            let mut at = tree.leaf(row);
            let Kind::Leaf(shown) = tree.nodes[at? as usize].kind else {
                return None;
            };
            if window.row(shown) != row {
                return None;
            }
            while let Some(node) = at {
                tree.nodes[node as usize].rows += 1;
                at = tree.nodes[node as usize].parent;
            }
        }
        // Children come after their parents.
        for node in (0..tree.nodes.len() as u32).rev() {
            tree.join_reach(node, columns);
        }
        tree.nodes.iter().all(|node| node.rows > 0).then_some(tree)
    }
}

/// Draws a cut of the box that holds a row and a node: columns by their reach, evenly within. `None` if it does not part the two.
fn draw(row: &[f64], low: &[f64], high: &[f64], random: &mut Random) -> Option<(u32, f64, bool)> {
    let reach = |(&value, (&low, &high)): (&f64, (&f64, &f64))| high.max(value) - low.min(value);
    let box_of = || row.iter().zip(low.iter().zip(high));
    let total: f64 = box_of().map(reach).sum();
    if total <= 0.0 {
        return None;
    }
    let mut place = random.unit_f64() * total;
    let mut last = None;
    for (column, (&value, (&low, &high))) in (0_u32..).zip(box_of()) {
        let (from, to) = (low.min(value), high.max(value));
        if from < to {
            let cut = (from + place).min(to.next_down());
            let apart = (value < low && cut < low) || (value > high && cut >= high);
            last = apart.then_some((column, cut, value < low));
            if place < to - from {
                return last;
            }
            place -= to - from;
        }
    }
    // Rounding left a little over, which is the last column's.
    last
}
