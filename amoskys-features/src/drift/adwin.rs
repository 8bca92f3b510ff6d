use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Buckets of a size before two of them become one of the next.
const BUCKETS: usize = 5;
/// Sizes, as powers of two: a window of more than 10¹² values forgets its oldest.
const SIZES: usize = 38;
/// Values between two looks for a cut, and the fewest on each side of one.
const EVERY: u64 = 32;
const FEWEST: f64 = 5.0;

/// A window that grows while the mean of a stream stays, and drops its older part when the mean has changed: ADWIN (Bifet and
/// Gavaldà, 2007).
///
/// *Promises*, for values between 0 and 1 that do not depend on each other, that a window is cut at one place without cause
/// with a probability of at most `delta`; the bound used is the paper's for small variances, which is approximate. Values of
/// any range may come; the bound then is as if the range of the window were 1. *Fails* where only the spread changes. *Costs*
/// memory and time that grow with the logarithm of the window: 4 kB, 0.1 µs a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Adwin {
    delta: f64,
    /// By size, the newest bucket of each in front.
    rows: Vec<VecDeque<Bucket>>,
    total: Bucket,
    count: u64,
    /// Lowest and highest value since the last cut.
    range: (f64, f64),
    since: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Bucket {
    count: f64,
    mean: f64,
    /// Sum of squared deviations from the mean.
    spread: f64,
}

/// What a cut has dropped.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdwinCut {
    /// Mean before.
    pub before: f64,
    /// Mean of the values that are kept.
    pub after: f64,
    /// How many values were dropped.
    pub dropped: u64,
}

impl Adwin {
    /// With this probability of a false cut, between 1e-12 and 0.5.
    #[must_use]
    pub fn new(delta: f64) -> Self {
        Self {
            delta: if delta.is_nan() {
                0.002
            } else {
                delta.clamp(1e-12, 0.5)
            },
            rows: Vec::new(),
            total: Bucket::default(),
            count: 0,
            range: (f64::INFINITY, f64::NEG_INFINITY),
            since: 0,
        }
    }

    /// Takes a value; gives a cut if the mean has changed. One that is not finite is left out.
    pub fn push(&mut self, value: f64) -> Option<AdwinCut> {
        if !value.is_finite() {
            return None;
        }
        let value = value.clamp(-1e100, 1e100);
        self.range = (self.range.0.min(value), self.range.1.max(value));
        self.insert(Bucket {
            count: 1.0,
            mean: value,
            spread: 0.0,
        });
        self.count += 1;
        self.since += 1;
        if self.since < EVERY {
            return None;
        }
        self.since = 0;
        self.cut()
    }

    /// How many values the window holds.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.count
    }

    /// Whether it holds none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Their mean.
    #[must_use]
    pub const fn mean(&self) -> f64 {
        self.total.mean
    }

    fn insert(&mut self, bucket: Bucket) {
        self.total = self.total.with(bucket);
        let mut carried = Some(bucket);
        let mut size = 0;
        while let Some(bucket) = carried.take() {
            if size == SIZES {
                self.count = self.count.saturating_sub(bucket.count as u64);
                return;
            }
            if self.rows.len() == size {
                self.rows.push(VecDeque::new());
            }
            let row = &mut self.rows[size];
            row.push_front(bucket);
            if row.len() > BUCKETS
                && let (Some(oldest), Some(older)) = (row.pop_back(), row.pop_back())
            {
                carried = Some(oldest.with(older));
            }
            size += 1;
        }
    }

    /// Drops the oldest buckets as long as what came before some place differs from what came after.
    fn cut(&mut self) -> Option<AdwinCut> {
        let before = self.total.mean;
        let held = self.count;
        while self.differs() {
            let Some(oldest) = self.rows.last_mut().and_then(VecDeque::pop_back) else {
                break;
            };
            while self.rows.last().is_some_and(VecDeque::is_empty) {
                self.rows.pop();
            }
            self.count = self.count.saturating_sub(oldest.count as u64);
            // Subtracting would leave rounding errors behind.
            let all = self.rows.iter().rev().flat_map(|row| row.iter().rev());
            self.total = all.fold(Bucket::default(), |sum, bucket| sum.with(*bucket));
        }
        (self.count < held).then(|| {
            self.range = (f64::INFINITY, f64::NEG_INFINITY);
            AdwinCut {
                before,
                after: self.total.mean,
                dropped: held - self.count,
            }
        })
    }

    fn differs(&self) -> bool {
        let n = self.total.count;
        if n < 2.0 * FEWEST {
            return false;
        }
        let variance = self.total.spread / n;
        let range = self.range.1 - self.range.0;
        if range <= 0.0 {
            return false;
        }
        // What summing up rounds away is no difference.
        let rounding = 1e-12 * self.range.0.abs().max(self.range.1.abs());
        // The confidence is shared among the places that are looked at.
        let log = (2.0 * n.ln().max(1.0) / self.delta).ln();
        let mut old = Bucket::default();
        for bucket in self.rows.iter().rev().flat_map(|row| row.iter().rev()) {
            old = old.with(*bucket);
            let new = n - old.count;
            if new < FEWEST {
                return false;
            }
            if old.count < FEWEST {
                continue;
            }
            let new_mean = (self.total.mean * n - old.mean * old.count) / new;
            let inverse = 1.0 / old.count + 1.0 / new;
            let limit =
                (2.0 * inverse * variance * log).sqrt() + 2.0 / 3.0 * inverse * log * range + rounding;
            if (old.mean - new_mean).abs() > limit {
                return true;
            }
        }
        false
    }
}

impl Bucket {
    /// Both together (Chan, Golub and LeVeque, 1979).
    fn with(self, other: Self) -> Self {
        let count = self.count + other.count;
        if count == 0.0 {
            return self;
        }
        let apart = other.mean - self.mean;
        Self {
            count,
            mean: self.mean + apart * other.count / count,
            spread: self.spread + other.spread + apart * apart * self.count * other.count / count,
        }
    }
}
