//! How unlike anything before the recent past of a series is: the distance of its last blocks to their nearest neighbour among
//! all stretches of the same length before, compared with what that distance usually is. This is the discord of a time series
//! (Keogh, Lin and Fu, 2005) as each block comes, with distances carried on along diagonals as in STOMP (Zhu and others, 2016).

use serde::{Deserialize, Serialize};

use super::sorted::SortedWindow;

/// Blocks that are remembered.
pub(crate) const HISTORY: usize = 1_000;
/// Added to the usual distance, so that a series that repeats itself exactly is allowed to deviate by a trace.
const TRACE: f64 = 0.005;
/// Distances that must be known before one is called unusual.
const WARM_UP: u32 = 9;
/// The least scale, as a share of the whole range.
const LEAST_SCALE: f64 = 0.15;
/// A range that shrinks by this factor has left rounding errors behind that matter.
const SHRUNK: f64 = 1e6;

/// A series in blocks of one length, and how new its end is by windows of several lengths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Novelty {
    blocks: Blocks,
    past: Vec<f64>,
    spread: SortedWindow,
    /// The widest range since distances were last computed afresh.
    widest: f64,
    windows: Vec<Window>,
}

impl Novelty {
    /// Blocks of so many points, and windows of so many blocks each.
    pub(crate) fn new(points: usize, windows: &[usize]) -> Self {
        Self {
            blocks: Blocks::new(points),
            past: Vec::new(),
            // All that a window is compared with, so that what leaves it leaves the sums too.
            spread: SortedWindow::new(HISTORY + 1 + windows.iter().copied().max().unwrap_or(0)),
            widest: 0.0,
            windows: windows.iter().map(|&length| Window::new(length)).collect(),
        }
    }

    /// Takes a finite value; true if it completed a block, so that [`ratios`](Self::ratios) are new.
    pub(crate) fn push(&mut self, value: f64) -> bool {
        let Some(block) = self.blocks.push(value) else {
            return false;
        };
        self.remember(block);
        let scale = self.scale();
        if self.widest > SHRUNK * self.range() {
            self.widest = self.range();
            for window in &mut self.windows {
                window.recompute(&self.past);
            }
        }
        self.widest = self.widest.max(self.range());
        for window in &mut self.windows {
            window.step(&self.past, scale);
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
        let window = |(stored, fresh): (&Window, &Window)| {
            stored.length == fresh.length && stored.sums.len() == fresh.sums.len()
        };
        self.blocks.points == fresh.blocks.points
            && self.windows.len() == fresh.windows.len()
            && self.windows.iter().zip(&fresh.windows).all(window)
    }

    pub(crate) fn len(&self) -> usize {
        self.windows.len()
    }

    fn remember(&mut self, block: f64) {
        let longest = self.windows.iter().map(|window| window.length).max();
        let keep = HISTORY + longest.unwrap_or(0) + 1;
        if self.past.len() >= 2 * keep {
            self.past.drain(..self.past.len() - keep);
        }
        self.past.push(block);
        self.spread.push(block);
    }

    fn range(&self) -> f64 {
        self.spread.max().unwrap_or(0.0) - self.spread.min().unwrap_or(0.0)
    }

    /// Twice the range of the middle four fifths: a few extremes do not make all else look alike. But no less than a share of
    /// the whole range, or a series that mostly rests would find each movement new.
    fn scale(&self) -> f64 {
        let quantile = |share| self.spread.quantile(share).unwrap_or(0.0);
        (2.0 * (quantile(0.9) - quantile(0.1))).max(LEAST_SCALE * self.range())
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

/// The last blocks of one length, and how far they are from each stretch before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Window {
    length: usize,
    /// Sum of absolute differences to the stretch so many blocks before, from a lag of [`HISTORY`] down to 1.
    sums: Vec<f64>,
    /// Mean of the distances to the nearest neighbour so far, and their number.
    usual: f64,
    count: u32,
    ratio: f64,
}

impl Window {
    fn new(length: usize) -> Self {
        Self {
            length: length.max(1),
            sums: vec![0.0; HISTORY],
            usual: 0.0,
            count: 0,
            ratio: 0.0,
        }
    }

    /// `past` has got one more block.
    fn step(&mut self, past: &[f64], scale: f64) {
        let length = self.length;
        let newest = past.len() - 1;
        // Each lag gains the difference at the newest block, and loses the one that falls out of the window.
        let reach = newest.min(HISTORY);
        if reach < length {
            return;
        }
        let lags = HISTORY - reach..HISTORY - length + 1;
        let block = past[newest];
        for (sum, other) in self.sums[lags].iter_mut().zip(&past[newest - reach..]) {
            *sum += (block - other).abs();
        }
        if let Some(leaving) = newest.checked_sub(length)
            && leaving >= length
        {
            let reach = leaving.min(HISTORY);
            let lags = HISTORY - reach..HISTORY - length + 1;
            let block = past[leaving];
            for (sum, other) in self.sums[lags].iter_mut().zip(&past[leaving - reach..]) {
                *sum -= (block - other).abs();
            }
        }
        // Stretches that lie wholly within the past, and do not overlap the window.
        let reach = (past.len() - length).min(HISTORY);
        if reach < length {
            return;
        }
        let nearest = least(&self.sums[HISTORY - reach..HISTORY - length + 1]).max(0.0);
        let distance = if scale > 0.0 {
            nearest / length as f64 / scale
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

    /// Distances as of the block before the newest, free of what rounding has left in them.
    fn recompute(&mut self, past: &[f64]) {
        let Some((_, past)) = past.split_last() else {
            return;
        };
        for (at, sum) in self.sums.iter_mut().enumerate() {
            let lag = HISTORY - at;
            let later = past.iter().rev().take(self.length);
            *sum = match past.len().checked_sub(lag) {
                Some(shifted) if lag >= self.length => later
                    .zip(past[..shifted].iter().rev())
                    .map(|(a, b)| (a - b).abs())
                    .sum(),
                _ => 0.0,
            };
        }
    }
}

/// The least of some numbers, in lanes that a vector unit can take at once.
fn least(values: &[f64]) -> f64 {
    const LANES: usize = 8;
    let mut lanes = [f64::INFINITY; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (least, &value) in lanes.iter_mut().zip(chunk) {
            *least = if value < *least { value } else { *least };
        }
    }
    lanes.iter().chain(rest).copied().fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The distance to the nearest neighbour, as its definition says.
    fn nearest(past: &[f64], length: usize) -> Option<f64> {
        let (before, window) = past.split_at(past.len().checked_sub(length)?);
        let stretches = before.windows(length).rev().take(HISTORY + 1 - length);
        stretches
            .map(|stretch| {
                stretch
                    .iter()
                    .zip(window)
                    .map(|(a, b)| (a - b).abs())
                    .sum::<f64>()
            })
            .min_by(f64::total_cmp)
    }

    fn check(values: &[f64], length: usize) {
        let mut window = Window::new(length);
        let mut past = Vec::new();
        for &value in values {
            past.push(value);
            let before = window.clone();
            window.step(&past, 1.0);
            let expected = nearest(&past, length);
            let found = (window.count > before.count || window.usual != before.usual).then(|| {
                let n = f64::from(window.count);
                (before.usual + (window.usual - before.usual) * n) * length as f64
            });
            match (expected, found) {
                (Some(expected), Some(found)) => {
                    assert!((expected - found).abs() < 1e-6, "{expected} {found}")
                }
                (None, None) => {}
                // At the end of the history the mean forgets, and its count stands still.
                (Some(_), None) => assert!(before.count as usize == HISTORY),
                (None, Some(found)) => panic!("found {found} in {} blocks", past.len()),
            }
        }
    }

    proptest! {
        #[test]
        fn distances_are_those_of_the_definition(values in proptest::collection::vec(-10.0..10.0_f64, 1..120), length in 1_usize..9) {
            check(&values, length);
        }
    }

    #[test]
    fn distances_stay_right_for_a_long_time() {
        let values: Vec<f64> = (0..2_600_u32).map(|n| f64::from(n * n % 1_009) / 97.0).collect();
        let mut past = Vec::new();
        let mut window = Window::new(6);
        for &value in &values {
            past.push(value);
            window.step(&past, 1.0);
        }
        let least = least(&window.sums[..HISTORY - 5]);
        assert!((nearest(&past, 6).unwrap() - least).abs() < 1e-7, "{least}");
        let carried = window.sums.clone();
        past.push(0.0);
        window.recompute(&past);
        for (carried, fresh) in carried.iter().zip(&window.sums).take(HISTORY - 5) {
            assert!((carried - fresh).abs() < 1e-7);
        }
    }

    #[test]
    fn an_absurd_value_leaves_no_error_behind() {
        let wave = |n: u32| f64::from(n % 24) + f64::from(n * n % 7) / 10.0;
        let mut novelty = Novelty::new(1, &[4]);
        for n in 0..1_500 {
            novelty.push(if n == 30 { 1e60 } else { wave(n) });
        }
        let fresh = {
            let mut window = novelty.windows[0].clone();
            let mut past = novelty.past.clone();
            past.push(0.0);
            window.recompute(&past);
            window.sums
        };
        for (carried, fresh) in novelty.windows[0].sums.iter().zip(fresh).take(HISTORY - 4) {
            assert!((carried - fresh).abs() < 1e-6, "{carried} {fresh}");
        }
    }
}
