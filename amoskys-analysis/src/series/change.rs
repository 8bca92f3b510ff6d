use serde::{Deserialize, Serialize};

/// The shift, in standard deviations, that is found fastest is twice this.
const SLACK: f64 = 0.5;
/// Points after a change before the next can be told.
const WARM_UP: u64 = 20;
/// Points whose mean and deviation are remembered, at most.
const MEMORY: u64 = 2_000;
/// Surprises are cut here, in standard deviations: one outlier is no change.
const LIMIT: f64 = 3.0;

/// Tells when the level of a series has changed, and when that began: a two-sided cumulative sum (Page, 1954) of what is
/// unforeseen.
///
/// Each point is predicted from the one before by an autoregression learned since the last change, and its error is turned into
/// a standard normal number by the t distribution (self-starting: Hawkins, 1987). The limit of the sums follows from the
/// false-alarm rate that is asked for, by Siegmund's approximation (1985).
///
/// *Assumes* that between changes the series is a level with normal noise and short memory. On independent and on
/// autoregressive noise (0.6) the mean time between false alarms was within a third and three times of the one asked for in the
/// tests; heavy tails are cut. *Fails* on seasons, whose every turn is a change, and on slow drifts of less than half a
/// standard deviation. *Costs* 0.1 µs a point and 100 bytes.
///
/// ```
/// use amoskys_analysis::series::ChangeDetector;
///
/// let mut changes = ChangeDetector::new(1e5);
/// let noise = |n: u32| f64::from(n * 7_919 % 1_000) / 1_000.0;
/// let told: Vec<u32> = (0..400)
///     .filter(|&n| changes.push(noise(n) + if n < 200 { 0.0 } else { 2.0 }).is_some())
///     .collect();
/// assert!((200..210).contains(&told[0]));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangeDetector {
    limit: f64,
    /// Points since the last change.
    count: u64,
    before: Option<f64>,
    level: Running,
    /// Mean product of neighbours, around the level.
    product: f64,
    error: Running,
    up: Sum,
    down: Sum,
}

/// A change of level that has been told.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The level before it.
    pub before: f64,
    /// The mean since it began.
    pub after: f64,
    /// How many points ago it began, the latest counted as 1.
    pub points: u64,
}

/// A sum that never falls below zero, since it last was there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sum {
    sum: f64,
    points: u64,
    total: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Running {
    mean: f64,
    variance: f64,
}

impl ChangeDetector {
    /// `between` is the mean number of points between false alarms that is asked for, between 100 and 1e9.
    #[must_use]
    pub fn new(between: f64) -> Self {
        Self {
            limit: limit(if between.is_nan() {
                1e9
            } else {
                between.clamp(100.0, 1e9)
            }),
            count: 0,
            before: None,
            level: Running::default(),
            product: 0.0,
            error: Running::default(),
            up: Sum::default(),
            down: Sum::default(),
        }
    }

    /// Takes a value, and tells a change that it completes. One that is not finite is left out.
    pub fn push(&mut self, value: f64) -> Option<Change> {
        if !value.is_finite() {
            return None;
        }
        let value = value.clamp(-1e100, 1e100);
        let level = self.level.mean;
        let deviation = value - level;
        let error = match self.before {
            Some(before) => deviation - self.coefficient() * (before - level),
            None => deviation,
        };
        let mut change = None;
        if self.count >= WARM_UP {
            let surprise = self.surprise(error);
            self.up.add(surprise - SLACK, value);
            self.down.add(-surprise - SLACK, value);
            let told = [self.up, self.down].into_iter().find(|sum| sum.sum > self.limit);
            change = told.map(|sum| Change {
                before: level,
                after: sum.total / sum.points as f64,
                points: sum.points,
            });
        }
        if let Some(Change { after, .. }) = change {
            *self = Self {
                limit: self.limit,
                before: Some(value),
                level: Running {
                    mean: after,
                    variance: 0.0,
                },
                ..Self::new(0.0)
            };
            self.count = 1;
            return change;
        }
        self.count = self.count.saturating_add(1);
        let n = self.count.min(MEMORY) as f64;
        if let Some(before) = self.before {
            self.product += (deviation * (before - level) - self.product) / n;
        }
        self.level.push(value, n);
        self.error.push(error, n);
        self.before = Some(value);
        None
    }

    /// The level since the last change: the mean of its points, of late if there are many.
    #[must_use]
    pub const fn level(&self) -> f64 {
        self.level.mean
    }

    fn coefficient(&self) -> f64 {
        // Few points do not tell a coefficient.
        let n = self.count as f64;
        let shrunk = self.product / self.level.variance * (n / (n + 10.0));
        if shrunk.is_finite() {
            shrunk.clamp(-0.95, 0.95)
        } else {
            0.0
        }
    }

    /// An error in standard deviations, as a normal number.
    fn surprise(&self, error: f64) -> f64 {
        let n = self.count.min(MEMORY) as f64;
        let freedom = n - 2.0;
        let t = (error - self.error.mean) / (self.error.variance * (n + 1.0) / (n - 1.0)).sqrt();
        if t.is_nan() {
            return 0.0;
        }
        if t.is_infinite() {
            return LIMIT.copysign(t);
        }
        // Wallace's approximation (1959) of the normal number of the same probability.
        let size =
            (8.0 * freedom + 1.0) / (8.0 * freedom + 3.0) * (freedom * (t * t / freedom).ln_1p()).sqrt();
        size.min(LIMIT).copysign(t)
    }
}

impl Sum {
    fn add(&mut self, step: f64, value: f64) {
        self.sum += step;
        if self.sum <= 0.0 {
            *self = Self::default();
        } else {
            self.points += 1;
            self.total += value;
        }
    }
}

impl Running {
    fn push(&mut self, value: f64, n: f64) {
        let before = value - self.mean;
        self.mean += before / n;
        self.variance += (before * (value - self.mean) - self.variance) / n;
    }
}

/// The limit of two sums that keeps so many points between false alarms on independent normal numbers.
fn limit(between: f64) -> f64 {
    let one_sided = |limit: f64| {
        let b = limit + 1.166;
        ((2.0 * SLACK * b).exp() - 2.0 * SLACK * b - 1.0) / (2.0 * SLACK * SLACK)
    };
    let (mut low, mut high) = (0.0, 50.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if one_sided(middle) / 2.0 < between {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}
