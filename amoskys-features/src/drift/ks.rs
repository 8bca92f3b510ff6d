use serde::{Deserialize, Serialize};

/// Products of sample sizes up to which p-values are exact.
const EXACT: usize = 4_000_000;

/// The two-sample test of Kolmogorov and Smirnov: whether two samples are of one distribution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct KsTest {
    /// The largest difference of the two empirical distribution functions, 0 to 1.
    pub statistic: f64,
    /// The probability of a difference this large or larger if there is one distribution. Exact (Hodges, 1957) while the
    /// product of the sizes is at most four million; the limit distribution with Stephens' correction (1970) beyond. With equal
    /// values it is an upper bound.
    pub p_value: f64,
}

impl KsTest {
    /// Tests two samples, in any order. Values that are not numbers are left out; `None` if nothing else is left of one.
    ///
    /// Costs the sorting, and for the exact p-value about two nanoseconds times the product of the sizes.
    ///
    /// ```
    /// use amoskys_features::drift::KsTest;
    ///
    /// let a = [1.0, 2.0, 3.0, 4.0, 5.0];
    /// let b = [6.0, 7.0, 8.0, 9.0, 10.0];
    /// let test = KsTest::two_sample(&a, &b).expect("numbers");
    /// assert_eq!(test.statistic, 1.0);
    /// // Two of the 252 orders of ten values have all of one sample before the other.
    /// assert!((test.p_value - 2.0 / 252.0).abs() < 1e-15);
    /// ```
    #[must_use]
    pub fn two_sample(a: &[f64], b: &[f64]) -> Option<Self> {
        let sorted = |values: &[f64]| {
            let mut values: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let (a, b) = (sorted(a), sorted(b));
        Self::of_sorted(&a, &b)
    }

    /// The same of rising values without any that are not numbers.
    pub(crate) fn of_sorted(a: &[f64], b: &[f64]) -> Option<Self> {
        if a.is_empty() || b.is_empty() {
            return None;
        }
        let largest = largest_difference(a, b);
        let product = a.len() as f64 * b.len() as f64;
        let statistic = largest as f64 / product;
        let p_value = if a.len().saturating_mul(b.len()) <= EXACT {
            exact(a.len(), b.len(), largest)
        } else {
            limit(statistic, product / (a.len() + b.len()) as f64)
        };
        Some(Self { statistic, p_value })
    }
}

/// The largest difference of the distribution functions, times both sizes: a whole number.
fn largest_difference(a: &[f64], b: &[f64]) -> u64 {
    let (n, m) = (a.len() as u64, b.len() as u64);
    let (mut i, mut j, mut largest) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        let value = if a[i] <= b[j] { a[i] } else { b[j] };
        while i < a.len() && a[i] <= value {
            i += 1;
        }
        while j < b.len() && b[j] <= value {
            j += 1;
        }
        largest = largest.max((i as u64 * m).abs_diff(j as u64 * n));
    }
    largest
}

/// The share of orders of the values whose difference reaches `largest`: by how they begin, the last value being of either
/// sample in proportion to how many each has.
fn exact(n: usize, m: usize, largest: u64) -> f64 {
    if largest == 0 {
        return 1.0;
    }
    let reaches = |i: usize, j: usize| (i as u64 * m as u64).abs_diff(j as u64 * n as u64) >= largest;
    let mut row = vec![0.0; m + 1];
    for i in 0..=n {
        for j in 0..=m {
            row[j] = if reaches(i, j) {
                1.0
            } else if i == 0 {
                if j == 0 { 0.0 } else { row[j - 1] }
            } else if j == 0 {
                row[0]
            } else {
                (i as f64 * row[j] + j as f64 * row[j - 1]) / (i + j) as f64
            };
        }
    }
    row[m]
}

/// Kolmogorov's limit distribution, at an effective size.
fn limit(statistic: f64, size: f64) -> f64 {
    let root = size.sqrt();
    let x = (root + 0.12 + 0.11 / root) * statistic;
    if x < 0.2 {
        return 1.0;
    }
    let term = |k: i32| {
        let sign = if k % 2 == 1 { 1.0 } else { -1.0 };
        sign * (-2.0 * f64::from(k * k) * x * x).exp()
    };
    (2.0 * (1..=100).map(term).sum::<f64>()).clamp(0.0, 1.0)
}

/// Compares the last values of a stream with its first ones.
///
/// After `reference` values, every quarter of a window the last `window` values are tested against these.
///
/// *States* a false-alarm rate for each test: its p-value is compared with `alpha`. Neighbouring tests share three quarters of
/// their values, so their false alarms come in groups. *Assumes* values that do not depend on each other; on autoregressive
/// ones it alarms too often. *Costs* memory for both windows, and each test their product.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KsDrift {
    reference: Vec<f64>,
    wanted: usize,
    recent: std::collections::VecDeque<f64>,
    window: usize,
    since: usize,
    alpha: f64,
}

impl KsDrift {
    /// With a reference of so many values, a window of so many (2 to 4,096 each), and a false-alarm rate per test.
    #[must_use]
    pub fn new(reference: usize, window: usize, alpha: f64) -> Self {
        Self {
            reference: Vec::new(),
            wanted: reference.clamp(2, 4_096),
            recent: std::collections::VecDeque::new(),
            window: window.clamp(2, 4_096),
            since: 0,
            alpha,
        }
    }

    /// Takes a value; gives a test if one was due. One that is not a number is left out.
    pub fn push(&mut self, value: f64) -> Option<KsTest> {
        if value.is_nan() {
            return None;
        }
        if self.reference.len() < self.wanted {
            self.reference.push(value);
            if self.reference.len() == self.wanted {
                self.reference.sort_by(f64::total_cmp);
            }
            return None;
        }
        if self.recent.len() >= self.window {
            self.recent.pop_front();
        }
        self.recent.push_back(value);
        self.since += 1;
        if self.recent.len() < self.window || self.since * 4 < self.window {
            return None;
        }
        self.since = 0;
        let mut recent: Vec<f64> = self.recent.iter().copied().collect();
        recent.sort_by(f64::total_cmp);
        KsTest::of_sorted(&self.reference, &recent)
    }

    /// Whether a test is a drift.
    #[must_use]
    pub fn is_drift(&self, test: &KsTest) -> bool {
        test.p_value <= self.alpha
    }

    /// Takes what comes next as the reference.
    pub fn reset(&mut self) {
        self.reference.clear();
        self.recent.clear();
        self.since = 0;
    }
}
