use serde::{Deserialize, Serialize};

use super::{Aggregate, Stacked};
use crate::pack::{put, put_number, take, take_number};

/// Count, sum, mean, standard deviation and extremes of a series of numbers.
///
/// The deviation is computed by Welford's method and joined by Chan's, which stay exact where the difference
/// of the sum of squares and the square of the sum does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    count: u64,
    sum: f64,
    mean: f64,
    /// Sum of the squared distances from the mean.
    squares: f64,
    min: f64,
    max: f64,
}

impl Moments {
    /// Takes one number. What is not finite is left out.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a count of numbers stays far below 2^53"
    )]
    pub fn add(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        let first = self.count == 0;
        self.count = self.count.saturating_add(1);
        self.sum += value;
        let apart = value - self.mean;
        self.mean += apart / self.count as f64;
        self.squares += apart * (value - self.mean);
        self.min = if first { value } else { self.min.min(value) };
        self.max = if first { value } else { self.max.max(value) };
    }

    /// The same of all numbers plus a constant.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "a count of numbers stays far below 2^53"
    )]
    pub(crate) fn shifted(mut self, by: f64) -> Self {
        if self.count > 0 {
            self.sum += by * self.count as f64;
            self.mean += by;
            self.min += by;
            self.max += by;
        }
        self
    }

    /// How many numbers.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Their sum.
    #[must_use]
    pub const fn sum(&self) -> f64 {
        self.sum
    }

    /// Their mean; NaN if there are none.
    #[must_use]
    pub const fn mean(&self) -> f64 {
        if self.count == 0 { f64::NAN } else { self.mean }
    }

    /// Their sample standard deviation (divided by `count - 1`); NaN for fewer than two.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "a count of numbers stays far below 2^53"
    )]
    pub fn std_dev(&self) -> f64 {
        if self.count < 2 {
            f64::NAN
        } else {
            (self.squares.max(0.0) / (self.count - 1) as f64).sqrt()
        }
    }

    /// The standard deviation in units of the mean; NaN for fewer than two numbers or a mean of 0.
    #[must_use]
    pub fn variation(&self) -> f64 {
        if self.mean == 0.0 {
            f64::NAN
        } else {
            self.std_dev() / self.mean.abs()
        }
    }

    /// The smallest; NaN if there are none.
    #[must_use]
    pub const fn min(&self) -> f64 {
        if self.count == 0 { f64::NAN } else { self.min }
    }

    /// The largest; NaN if there are none.
    #[must_use]
    pub const fn max(&self) -> f64 {
        if self.count == 0 { f64::NAN } else { self.max }
    }
}

impl Aggregate for Moments {
    type Sliding = Stacked<Self>;
    const PACKS: bool = true;

    #[expect(
        clippy::cast_precision_loss,
        reason = "a count of numbers stays far below 2^53"
    )]
    fn merge(&mut self, later: &Self) {
        if later.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = *later;
            return;
        }
        let (n, m) = (self.count as f64, later.count as f64);
        let apart = later.mean - self.mean;
        self.mean += apart * (m / (n + m));
        self.squares += later.squares + apart * apart * (n * m / (n + m));
        self.count = self.count.saturating_add(later.count);
        self.sum += later.sum;
        self.min = self.min.min(later.min);
        self.max = self.max.max(later.max);
    }

    #[inline]
    fn pack(&self, into: &mut Vec<u8>) -> bool {
        put_number(into, self.count);
        for number in [self.sum, self.mean, self.squares, self.min, self.max] {
            put(into, number.to_le_bytes());
        }
        true
    }

    #[inline]
    fn unpack(&mut self, from: &mut &[u8]) {
        let count = take_number(from);
        let [sum, mean, squares, min, max] = [(); 5].map(|()| f64::from_le_bytes(take(from)));
        *self = Self {
            count,
            sum,
            mean,
            squares,
            min,
            max,
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[f64]) -> Moments {
        let mut moments = Moments::default();
        values.iter().for_each(|&value| moments.add(value));
        moments
    }

    proptest! {
        #[test]
        fn agree_with_two_passes(
            parts in proptest::collection::vec(proptest::collection::vec(-1e6..1e6_f64, 0..20), 1..8),
        ) {
            let all: Vec<f64> = parts.concat();
            let mut merged = Moments::default();
            parts.iter().for_each(|part| merged.merge(&of(part)));
            prop_assert_eq!(merged.count(), all.len() as u64);
            let n = all.len() as f64;
            let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * (1.0 + a.abs().max(b.abs()));
            if !all.is_empty() {
                let mean = all.iter().sum::<f64>() / n;
                prop_assert!(close(merged.mean(), mean));
                prop_assert!(close(merged.sum(), mean * n));
                prop_assert_eq!(merged.min(), all.iter().copied().fold(f64::INFINITY, f64::min));
                prop_assert_eq!(merged.max(), all.iter().copied().fold(f64::NEG_INFINITY, f64::max));
                if all.len() > 1 {
                    let variance = all.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (n - 1.0);
                    prop_assert!(close(merged.std_dev(), variance.sqrt()));
                }
            }
        }
    }

    #[test]
    fn nothing_is_not_a_number() {
        let none = of(&[f64::NAN, f64::INFINITY]);
        assert_eq!(none.count(), 0);
        assert!(none.mean().is_nan() && none.min().is_nan() && none.std_dev().is_nan());
        assert!(of(&[1.0]).std_dev().is_nan());
        assert!(of(&[1.0, -1.0]).variation().is_nan());
    }
}
