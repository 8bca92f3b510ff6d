//! How unlike anything before the recent past of a series is: the distance of its last blocks to their nearest neighbour among
//! all stretches of the same length before, compared with what that distance usually is. This is the discord of a time series
//! (Keogh, Lin and Fu, 2005) as each block comes.
//!
//! Distances are computed afresh for each block. To carry them on from block to block, as STOMP does (Zhu and others, 2016), would
//! take as long, because the windows are short and share their sums, and five times the memory.

use serde::{Deserialize, Serialize};

use super::ranked::{RankedWindow, single};

/// Blocks that are remembered.
pub(crate) const HISTORY: usize = 1_000;
/// The longest window there may be, and so the blocks that are kept to compare it with.
const LONGEST: usize = 16;
const KEPT: usize = HISTORY + 1 + LONGEST;
/// Added to the usual distance, so that a series that repeats itself exactly is allowed to deviate by a trace.
const TRACE: f64 = 0.005;
/// Distances that must be known before one is called unusual.
const WARM_UP: u32 = 9;
/// The least scale, as a share of the whole range.
const LEAST_SCALE: f64 = 0.15;
/// Blocks between two looks at where they lie, and how far off zero, in their own spread, single precision still tells them well
/// apart: to about a millionth of the spread.
const LOOK: u32 = 64;
const FAR: f64 = 16.0;

/// A series in blocks of one length, and how new its end is by windows of several lengths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Novelty {
    blocks: Blocks,
    /// What is taken from a block before it is remembered; none before the first.
    origin: Option<f64>,
    past: RankedWindow,
    /// Blocks since it was looked where they lie.
    since: u32,
    windows: Vec<Window>,
}

impl Novelty {
    /// Blocks of so many points, and windows of so many blocks each: rising, 16 at most.
    pub(crate) fn new(points: usize, windows: &[usize]) -> Self {
        Self {
            blocks: Blocks::new(points),
            origin: None,
            past: RankedWindow::new(KEPT),
            since: 0,
            windows: windows.iter().map(|&length| Window::new(length)).collect(),
        }
    }

    /// Takes a finite value; true if it completed a block, so that [`ratios`](Self::ratios) are new.
    pub(crate) fn push(&mut self, value: f64) -> bool {
        let Some(block) = self.blocks.push(value) else {
            return false;
        };
        let origin = *self.origin.get_or_insert(block);
        self.past.push_single(single(block - origin));
        self.recentre();
        let scale = self.scale();
        let mut buffer = [0.0; KEPT];
        let mut length = 0;
        for part in self.past.parts() {
            if let Some(room) = buffer.get_mut(length..length + part.len()) {
                room.copy_from_slice(part);
                length += part.len();
            }
        }
        let past = buffer.get(..length).unwrap_or_default();
        let mut distances = Distances::new(past);
        for window in &mut self.windows {
            if let Some(nearest) = distances.nearest(window.length) {
                window.step(nearest, scale);
            }
        }
        true
    }

    /// For each window, the distance of the latest blocks to the most similar ones before, as a multiple of what it usually is;
    /// 0 while that is not known.
    pub(crate) fn ratios(&self) -> impl Iterator<Item = f64> {
        self.windows.iter().map(|window| window.ratio)
    }

    /// Whether a stored state is one of the same blocks and windows.
    pub(crate) fn fits(&self, fresh: &Self) -> bool {
        let lengths = |novelty: &Self| -> Vec<usize> {
            let windows = novelty.windows.iter();
            windows.map(|window| window.length).collect()
        };
        self.blocks.points == fresh.blocks.points
            && self.past.capacity() == fresh.past.capacity()
            && self.origin.is_none_or(f64::is_finite)
            && lengths(self) == lengths(fresh)
    }

    pub(crate) fn len(&self) -> usize {
        self.windows.len()
    }

    /// Keeps the blocks near zero, where single precision is fine.
    fn recentre(&mut self) {
        self.since += 1;
        if self.since < LOOK {
            return;
        }
        self.since = 0;
        let middle = self.past.quantile(0.5).unwrap_or(0.0);
        if middle.abs() > FAR * self.spread() {
            self.past.shift(middle);
            self.origin = self.origin.map(|origin| origin + middle);
        }
    }

    /// The range of the middle four fifths.
    fn spread(&self) -> f64 {
        let quantile = |share| self.past.quantile(share).unwrap_or(0.0);
        quantile(0.9) - quantile(0.1)
    }

    /// Twice the range of the middle four fifths: a few extremes do not make all else look alike. But no less than a share of
    /// the whole range, or a series that mostly rests would find each movement new.
    fn scale(&self) -> f64 {
        let range = self.past.max().unwrap_or(0.0) - self.past.min().unwrap_or(0.0);
        (2.0 * self.spread()).max(LEAST_SCALE * range)
    }
}

/// Points of a block so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Blocks {
    points: u32,
    count: u32,
    sum: f64,
    low: f64,
    high: f64,
    /// Mean of the block before.
    before: Option<f64>,
}

impl Blocks {
    fn new(points: usize) -> Self {
        Self {
            points: u32::try_from(points).unwrap_or(u32::MAX).max(1),
            count: 0,
            sum: 0.0,
            low: f64::INFINITY,
            high: f64::NEG_INFINITY,
            before: None,
        }
    }

    /// The block that this value completes: halfway between its mean and its value furthest from the mean of the block before.
    /// The mean alone would hide spikes, and the furthest value alone drown in noise.
    fn push(&mut self, value: f64) -> Option<f64> {
        self.count += 1;
        self.sum += value;
        self.low = self.low.min(value);
        self.high = self.high.max(value);
        if self.count < self.points {
            return None;
        }
        let mean = self.sum / f64::from(self.count);
        let before = self.before.replace(mean).unwrap_or(mean);
        let furthest = if self.high - before >= before - self.low {
            self.high
        } else {
            self.low
        };
        (self.count, self.sum) = (0, 0.0);
        (self.low, self.high) = (f64::INFINITY, f64::NEG_INFINITY);
        Some(f64::midpoint(furthest, mean))
    }
}

/// How far the last blocks of one length usually are from all before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Window {
    length: usize,
    /// Mean of the distances to the nearest neighbour so far, and their number.
    usual: f64,
    count: u32,
    ratio: f64,
}

impl Window {
    fn new(length: usize) -> Self {
        Self {
            length: length.clamp(1, LONGEST),
            usual: 0.0,
            count: 0,
            ratio: 0.0,
        }
    }

    /// Takes the distance to the nearest neighbour.
    fn step(&mut self, nearest: f64, scale: f64) {
        let distance = if scale > 0.0 {
            nearest / self.length as f64 / scale
        } else {
            0.0
        };
        self.ratio = if self.count >= WARM_UP {
            distance / (self.usual + TRACE)
        } else {
            0.0
        };
        // The mean of all, and once there are many, of about as many blocks as are remembered.
        self.count = (self.count + 1).min(HISTORY as u32);
        self.usual += (distance - self.usual) / f64::from(self.count);
    }
}

/// Sums of absolute differences between the latest blocks and those that end at each block before.
struct Distances<'a> {
    past: &'a [f32],
    sums: [f32; KEPT],
    /// Blocks that are summed up.
    length: usize,
}

impl<'a> Distances<'a> {
    fn new(past: &'a [f32]) -> Self {
        Self {
            past,
            sums: [0.0; KEPT],
            length: 0,
        }
    }

    /// The least over the stretches of this length that lie wholly within the past, at most [`HISTORY`] blocks before, and do not
    /// overlap the latest. To be asked for rising lengths: each goes on from the sums of the one before. `None` if there are none.
    fn nearest(&mut self, length: usize) -> Option<f64> {
        let newest = self.past.len().checked_sub(1)?;
        let reach = (self.past.len().checked_sub(length)?).min(HISTORY);
        if reach < length {
            return None;
        }
        // Where the stretches end.
        let (first, last) = (newest - reach, newest - length);
        while self.length < length {
            let back = self.length;
            let block = self.past[newest - back];
            let others = &self.past[first - back..=last - back];
            for (sum, other) in self.sums[first..=last].iter_mut().zip(others) {
                *sum += (block - other).abs();
            }
            self.length += 1;
        }
        Some(f64::from(least(&self.sums[first..=last])))
    }
}

/// The least of some numbers, in lanes that a vector unit can take at once.
fn least(values: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [f32::INFINITY; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (least, &value) in lanes.iter_mut().zip(chunk) {
            *least = if value < *least { value } else { *least };
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::INFINITY, f32::min)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The distance to the nearest neighbour, as its definition says.
    fn nearest(past: &[f32], length: usize) -> Option<f64> {
        let (before, window) = past.split_at(past.len().checked_sub(length)?);
        let stretches = before.windows(length).rev().take(HISTORY + 1 - length);
        stretches
            .map(|stretch| {
                let differences = stretch.iter().zip(window);
                differences.map(|(a, b)| f64::from((a - b).abs())).sum::<f64>()
            })
            .min_by(f64::total_cmp)
    }

    fn check(past: &[f32], lengths: &[usize]) {
        let mut distances = Distances::new(past);
        for &length in lengths {
            let (expected, found) = (nearest(past, length), distances.nearest(length));
            match (expected, found) {
                (Some(expected), Some(found)) => {
                    assert!((expected - found).abs() < 1e-3, "{length}: {expected} {found}");
                }
                (None, None) => {}
                other => panic!("{length} in {} blocks: {other:?}", past.len()),
            }
        }
    }

    proptest! {
        #[test]
        fn distances_are_those_of_the_definition(past in proptest::collection::vec(-10.0..10.0_f32, 0..120)) {
            check(&past, &[1, 4, 10, 16]);
            check(&past, &[16]);
        }
    }

    #[test]
    fn distances_are_right_in_a_full_history() {
        let past: Vec<f32> = (0..KEPT as u32).map(|n| (n * n % 1_009) as f32 / 97.0).collect();
        check(&past, &[4, 10, 16]);
    }

    /// The ratios of a wave at this height, after many others.
    fn ratios(height: f64) -> Vec<Vec<f64>> {
        let wave = |n: u32| height + f64::from(n % 24) + f64::from(n * n % 7) / 10.0;
        let mut novelty = Novelty::new(1, &[4, 10]);
        let each = (0..2_500).map(|n| {
            novelty.push(wave(n));
            novelty.ratios().collect()
        });
        each.collect()
    }

    #[test]
    fn how_high_a_series_lies_does_not_matter() {
        let low = ratios(0.0);
        for high in [1e6, -3e9] {
            for (a, b) in low.iter().flatten().zip(ratios(high).iter().flatten()) {
                assert!((a - b).abs() <= 1e-3 * a.max(1.0), "{a} {b}");
            }
        }
    }

    #[test]
    fn a_series_that_moved_far_is_soon_as_well_known_as_before() {
        let wave = |n: u32| f64::from(n % 24) + f64::from(n * n % 7) / 10.0;
        let (mut moved, mut stayed) = (Novelty::new(1, &[4]), Novelty::new(1, &[4]));
        for n in 0..4_000 {
            moved.push(if n < 500 { wave(n) } else { 1e12 + wave(n) });
            stayed.push(wave(n));
        }
        let (a, b) = (moved.past.parts().concat(), stayed.past.parts().concat());
        let apart = |past: &[f32]| past.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>();
        for (a, b) in apart(&a).iter().zip(apart(&b)) {
            assert!((a - b).abs() < 1e-3, "{a} {b}");
        }
    }

    #[test]
    fn an_absurd_value_leaves_no_error_behind() {
        let wave = |n: u32| f64::from(n % 24) + f64::from(n * n % 7) / 10.0;
        let (mut hit, mut spared) = (Novelty::new(1, &[4]), Novelty::new(1, &[4]));
        for n in 0..1_500 {
            hit.push(if n == 30 { 1e60 } else { wave(n) });
            spared.push(wave(n));
        }
        let apart = |novelty: &Novelty| -> Vec<f32> {
            let past = novelty.past.parts().concat();
            past.windows(2).map(|pair| pair[1] - pair[0]).collect()
        };
        assert_eq!(apart(&hit), apart(&spared));
        assert_eq!(hit.scale(), spared.scale());
    }
}
