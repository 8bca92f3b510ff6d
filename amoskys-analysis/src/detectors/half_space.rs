//! Half-space trees: the mass of recent rows in random boxes.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use super::DetectorError;
use super::estimator::{Judge, Learn, check_range, check_width, detector};
use super::streaming::{Absorb, absorb_all};
use crate::iforest::Rows;
use crate::iforest::random::Random;

/// A walk ends in a box with less than this share of the window's rows: its mass says no more.
const LEAST_SHARE: f64 = 0.1;
/// A cut keeps this share of a box's reach away from its ends.
const MARGIN: f64 = 0.15;

/// Parameters of [`HalfSpaceTrees`]. Ranges are checked when starting or fitting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HalfSpaceTreesParams {
    trees: usize,
    height: usize,
    window: usize,
    seed: u64,
    threads: NonZeroUsize,
}

impl HalfSpaceTreesParams {
    /// The defaults: 25 trees of height 8, windows of 250 rows, seed 0, one thread.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            trees: 25,
            height: 8,
            window: 250,
            seed: 0,
            threads: NonZeroUsize::MIN,
        }
    }

    /// Number of trees, 1 to 1000. Default 25.
    #[must_use]
    pub const fn trees(mut self, trees: usize) -> Self {
        self.trees = trees;
        self
    }

    /// How often each tree halves space, 1 to 16. Default 8. Memory doubles with each.
    #[must_use]
    pub const fn height(mut self, height: usize) -> Self {
        self.height = height;
        self
    }

    /// Rows of a window, 10 to 1 000 000. Default 250. Rows are judged by the masses of the window before theirs.
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

    /// How many threads score training rows. Default 1. No result depends on it.
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
    pub fn start(&self, columns: usize) -> Result<HalfSpaceTrees, DetectorError> {
        self.check()?;
        check_width(columns)?;
        Ok(self.begin(columns))
    }

    fn begin(&self, columns: usize) -> HalfSpaceTrees {
        HalfSpaceTrees {
            columns: columns as u32,
            trees: self.trees as u32,
            height: self.height as u32,
            window: self.window as u32,
            seed: self.seed,
            seen: 0,
            first: Vec::new(),
            cuts: Vec::new(),
            usual: Vec::new(),
            latest: Vec::new(),
        }
    }
}

/// The mass that recent rows have in boxes, which random cuts of space make (Tan, Ting and Liu, 2011; cuts and sums as in River).
///
/// The first window of rows tells how far each column reaches, and until it is full all scores are 0. After that the trees stand,
/// and only the masses in their boxes change: rows are judged by those of the last full window. The score is how many bits below an
/// even spread the density around a row is, summed over the boxes that it is in.
///
/// - **Assumes** that the first window shows how far values reach, and that normal rows crowd together.
/// - **Fails** on anomalies inside the ranges of many columns at once, and where values wander out of the first ranges: beyond
///   them all are alike.
/// - **Costs** `trees * height` steps to score or learn a row. Memory is `trees * 2^height` boxes of 24 bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct HalfSpaceTrees {
    columns: u32,
    trees: u32,
    height: u32,
    window: u32,
    seed: u64,
    seen: u64,
    /// The rows of the first window, until it is full.
    first: Vec<f64>,
    /// The inner boxes of all trees, root first, the children of box `n` being `2n + 1` and `2n + 2`.
    cuts: Vec<Cut>,
    /// Rows of the last full window in each box, leaves after the inner ones.
    usual: Vec<u32>,
    /// Those of the window that fills.
    latest: Vec<u32>,
}

/// Rows below a value are in the left half.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Cut {
    value: f64,
    column: u32,
}

detector!(HalfSpaceTreesParams, HalfSpaceTrees, "half_space_trees");

impl HalfSpaceTrees {
    /// Parameters to start or fit one with.
    #[must_use]
    pub const fn params() -> HalfSpaceTreesParams {
        HalfSpaceTreesParams::new()
    }

    const fn inner(&self) -> usize {
        (1 << self.height) - 1
    }

    const fn boxes(&self) -> usize {
        (2 << self.height) - 1
    }

    /// The boxes of a tree that a row is in, from the root down.
    fn path(&self, tree: usize, row: &[f64]) -> impl Iterator<Item = usize> {
        let cuts = &self.cuts[tree * self.inner()..(tree + 1) * self.inner()];
        let mut next = Some(0);
        std::iter::from_fn(move || {
            let at = next?;
            next = cuts
                .get(at)
                .map(|cut| 2 * at + 1 + usize::from(row[cut.column as usize] >= cut.value));
            Some(at)
        })
    }

    fn score_row(&self, row: &[f64]) -> f64 {
        if self.cuts.is_empty() {
            return 0.0;
        }
        let least = (LEAST_SHARE * f64::from(self.window)) as u32;
        let mut density = 0.0;
        for (tree, masses) in self.usual.chunks_exact(self.boxes()).enumerate() {
            let mut space = 1.0;
            for at in self.path(tree, row) {
                density += f64::from(masses[at]) * space;
                if masses[at] < least {
                    break;
                }
                space *= 2.0;
            }
        }
        let (trees, window) = (f64::from(self.trees), f64::from(self.window));
        // Half a row in one tree is the least that could have been seen.
        -((density + 0.5) / (trees * window)).log2()
    }

    fn count(&mut self, row: &[f64]) {
        let boxes = self.boxes();
        for tree in 0..self.trees as usize {
            let mut at = 0;
            loop {
                self.latest[tree * boxes + at] += 1;
                let Some(cut) = (at < self.inner()).then(|| self.cuts[tree * self.inner() + at]) else {
                    break;
                };
                at = 2 * at + 1 + usize::from(row[cut.column as usize] >= cut.value);
            }
        }
    }

    /// Builds the trees on the ranges of the first window, which becomes the last full one.
    fn build(&mut self) {
        let columns = self.columns as usize;
        let first = std::mem::take(&mut self.first);
        let mut ranges = vec![(f64::INFINITY, f64::NEG_INFINITY); columns];
        for row in first.chunks_exact(columns) {
            for (range, &value) in ranges.iter_mut().zip(row) {
                *range = (range.0.min(value), range.1.max(value));
            }
        }
        for tree in 0..u64::from(self.trees) {
            let mut random = Random::new(self.seed, tree);
            let mut space: Vec<(f64, f64)> = ranges.iter().copied().map(widened).collect();
            let mut cuts = vec![
                Cut {
                    value: 0.0,
                    column: 0
                };
                self.inner()
            ];
            halve(&mut cuts, 0, &mut space, &mut random);
            self.cuts.extend(cuts);
        }
        let masses = self.trees as usize * self.boxes();
        self.latest = vec![0; masses];
        for row in first.chunks_exact(columns) {
            self.count(row);
        }
        self.usual = std::mem::replace(&mut self.latest, vec![0; masses]);
    }
}

/// Half as far again on each side: rows to come reach further than the first did.
fn widened((low, high): (f64, f64)) -> (f64, f64) {
    let margin = (high / 2.0 - low / 2.0).min(f64::MAX / 16.0);
    (low - margin, high + margin)
}

/// Draws the cut of a box, and of all inside it. `space` is how far the box reaches, and is left as it was.
fn halve(cuts: &mut [Cut], at: usize, space: &mut [(f64, f64)], random: &mut Random) {
    if at >= cuts.len() {
        return;
    }
    let column = random.below(space.len());
    let whole = space[column];
    // Not too near the ends, where a cut parts nothing.
    let share = MARGIN + (1.0 - 2.0 * MARGIN) * random.unit_f64();
    let middle = whole.0 * (1.0 - share) + whole.1 * share;
    cuts[at] = Cut {
        value: middle,
        column: column as u32,
    };
    space[column] = (whole.0, middle);
    halve(cuts, 2 * at + 1, space, random);
    space[column] = (middle, whole.1);
    halve(cuts, 2 * at + 2, space, random);
    space[column] = whole;
}

impl Absorb for HalfSpaceTrees {
    fn absorb(&mut self, row: &[f64]) {
        self.seen += 1;
        if self.cuts.is_empty() {
            self.first.extend(row);
            if self.seen >= u64::from(self.window) {
                self.build();
            }
            return;
        }
        self.count(row);
        if self.seen.is_multiple_of(u64::from(self.window)) {
            std::mem::swap(&mut self.usual, &mut self.latest);
            self.latest.fill(0);
        }
    }

    fn absorbed(&self) -> u64 {
        self.seen
    }
}

impl Learn for HalfSpaceTreesParams {
    type Model = HalfSpaceTrees;

    fn check(&self) -> Result<(), DetectorError> {
        check_range("trees", self.trees as f64, 1.0..=1000.0, "1 to 1000")?;
        check_range("height", self.height as f64, 1.0..=16.0, "1 to 16")?;
        check_range("window", self.window as f64, 10.0..=1e6, "10 to 1000000")
    }

    fn threads(&self) -> NonZeroUsize {
        self.threads
    }

    fn learn(&self, rows: Rows<'_>) -> Result<HalfSpaceTrees, DetectorError> {
        // A table shorter than a window is one.
        let window = self.window.min(rows.len());
        Ok(absorb_all(Self { window, ..*self }.begin(rows.columns()), rows))
    }
}

impl Judge for HalfSpaceTrees {
    fn width(&self) -> usize {
        self.columns as usize
    }

    fn is_sound(&self) -> bool {
        let (columns, window) = (self.columns as usize, u64::from(self.window));
        let ranges = columns > 0
            && (1..=1000).contains(&self.trees)
            && (1..=16).contains(&self.height)
            && (1..=1_000_000).contains(&self.window);
        let filling = || {
            self.seen < window
                && self.first.len() as u64 == self.seen * columns as u64
                && self.first.iter().all(|value| value.is_finite())
                && [&self.usual, &self.latest].iter().all(|masses| masses.is_empty())
        };
        let standing = || {
            let masses = self.trees as usize * self.boxes();
            let inside = |cut: &Cut| (cut.column as usize) < columns && !cut.value.is_nan();
            // Masses that fit a window cannot overflow.
            let counts = |masses: &[u32]| masses.iter().all(|&mass| mass <= self.window);
            self.seen >= window
                && self.first.is_empty()
                && self.cuts.len() == self.trees as usize * self.inner()
                && self.cuts.iter().all(inside)
                && [&self.usual, &self.latest]
                    .iter()
                    .all(|found| found.len() == masses && counts(found))
        };
        ranges
            && if self.cuts.is_empty() {
                filling()
            } else {
                standing()
            }
    }

    fn judge_into(&self, rows: Rows<'_>, scores: &mut [f64]) {
        for (at, score) in scores.iter_mut().enumerate() {
            *score = self.score_row(rows.row(at));
        }
    }
}
