use serde::{Deserialize, Serialize};

use super::ranked::RankedWindow;

/// Shares of the numbers that make the tail, at most, and how many it takes at least.
const SHARE: f64 = 0.1;
const FEWEST: usize = 10;

/// The probability that a number is exceeded, learned from the last so many: the peaks-over-threshold method (Pickands, 1975;
/// as a detector by Siffer and others, 2017).
///
/// Below the highest tenth it is the share of numbers that are as high. The excesses of that tenth are taken to follow a
/// generalized Pareto distribution, fitted by probability-weighted moments (Hosking and Wallis, 1987), so that what has never
/// happened has a probability too.
///
/// *Assumes* that what comes is like the window; dependence between neighbours makes exceedances come in groups, not more of
/// them. *Fails* while a level changes, and where the tail is heavier than the window shows. Of numbers drawn alike, the share
/// below a probability α was between α / 3 and 3 α in the tests, for α from 0.001 to 0.05 and a window of 1,000. *Costs* six
/// bytes for each number of the window, and 0.2 µs a number. Numbers are kept in single precision.
///
/// ```
/// use amoskys_analysis::series::TailProbability;
///
/// let mut tail = TailProbability::new(1_000);
/// for n in 0..1_000_u32 {
///     tail.push(f64::from(n * 7 % 1_000));
/// }
/// assert!(tail.exceedance(500.0).is_some_and(|p| (p - 0.5).abs() < 0.01));
/// assert!(tail.exceedance(2_000.0).is_some_and(|p| p < 1e-6));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TailProbability {
    window: RankedWindow,
    /// Numbers since the tail was fitted.
    since: u32,
    tail: Option<Tail>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Tail {
    start: f64,
    share: f64,
    scale: f64,
    /// Above 0, heavier than exponential; below, bounded.
    shape: f64,
}

impl TailProbability {
    /// Learns from the last so many numbers, at least 10 and at most 65,535.
    #[must_use]
    pub fn new(window: usize) -> Self {
        Self {
            window: RankedWindow::new(window.max(FEWEST)),
            since: 0,
            tail: None,
        }
    }

    /// Takes a number. One that is not finite is left out.
    pub fn push(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.window.push(value);
        self.since += 1;
        // A tail of a tenth changes little while a hundredth of the window does.
        if self.tail.is_none() || self.since as usize * 100 >= self.window.len() {
            self.since = 0;
            self.tail = fit(&self.window);
        }
    }

    /// The probability that the next number is this high or higher. `None` while fewer than 10 numbers are known; a value that
    /// is not a number has probability 1.
    #[must_use]
    pub fn exceedance(&self, value: f64) -> Option<f64> {
        let n = self.window.len();
        if n < FEWEST {
            return None;
        }
        if value.is_nan() {
            return Some(1.0);
        }
        let ranked = ((n - self.window.below(value)) as f64 + 1.0) / (n as f64 + 1.0);
        Some(match self.tail {
            Some(tail) if value > tail.start => tail.exceedance(value).min(ranked),
            _ => ranked,
        })
    }

    /// How many numbers are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.window.len()
    }

    /// Whether none are.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.window.len() == 0
    }
}

impl Tail {
    fn exceedance(&self, value: f64) -> f64 {
        let excess = (value - self.start) / self.scale;
        let beyond = if self.shape.abs() < 1e-9 {
            (-excess).exp()
        } else {
            (1.0 + self.shape * excess).max(0.0).powf(-1.0 / self.shape)
        };
        (self.share * beyond).clamp(f64::MIN_POSITIVE, 1.0)
    }
}

/// `None` if there are too few numbers, or the tail is all alike.
fn fit(window: &RankedWindow) -> Option<Tail> {
    let count = ((window.len() as f64 * SHARE) as usize).max(FEWEST);
    let (below, high) = window.highest(count);
    let start = below?;
    let n = count as f64;
    let (mut mean, mut weighted) = (0.0, 0.0);
    for (rank, value) in high.enumerate() {
        let excess = value - start;
        mean += excess / n;
        // Weighted by the share of excesses that are higher.
        weighted += excess * (n - 1.0 - rank as f64) / (n - 1.0) / n;
    }
    if !(mean > 0.0 && mean.is_finite()) {
        return None;
    }
    // A mean that is less than twice the weighted one would need an infinite expectation.
    let ratio = mean - 2.0 * weighted;
    let (shape, scale) = if ratio > 0.0 {
        (2.0 - mean / ratio, 2.0 * mean * weighted / ratio)
    } else {
        (0.0, mean)
    };
    // Few excesses make the shape uncertain. A bounded tail would call anything beyond its end impossible.
    let shape = shape.clamp(0.0, 0.5);
    let scale = if shape == 0.0 { mean } else { scale };
    (scale > 0.0 && scale.is_finite()).then_some(Tail {
        start,
        share: (n + 1.0) / (window.len() as f64 + 1.0),
        scale,
        shape,
    })
}
