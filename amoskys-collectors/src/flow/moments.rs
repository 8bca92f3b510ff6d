//! Running sums from which a distribution can be told, exactly and without division.

use amoskys_core::event::Summary;

/// Lengths: 32-bit numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lengths {
    sum: u64,
    squares: u64,
    min: u32,
    max: u32,
}

impl Lengths {
    pub(super) const NONE: Self = Self {
        sum: 0,
        squares: 0,
        min: u32::MAX,
        max: 0,
    };

    #[inline]
    pub(super) fn add(&mut self, length: u32) {
        let wide = u64::from(length);
        self.sum = self.sum.saturating_add(wide);
        self.squares = self.squares.saturating_add(wide * wide);
        self.min = self.min.min(length);
        self.max = self.max.max(length);
    }

    pub(super) fn sum(&self) -> u64 {
        self.sum
    }

    pub(super) fn summary(&self, count: u32) -> Summary {
        summary(
            u64::from(count),
            self.sum,
            u64::from(self.min),
            u64::from(self.max),
            u128::from(self.squares),
        )
    }
}

/// Periods in nanoseconds: 64-bit numbers, whose squares need 128 bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Periods {
    sum: u64,
    min: u64,
    max: u64,
    /// Low and high half: a `u128` would make what holds it larger by its alignment.
    squares: [u64; 2],
}

impl Periods {
    pub(super) const NONE: Self = Self {
        sum: 0,
        min: u64::MAX,
        max: 0,
        squares: [0; 2],
    };

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the halves of a number")]
    pub(super) fn add(&mut self, period: u64) {
        self.sum = self.sum.saturating_add(period);
        self.min = self.min.min(period);
        self.max = self.max.max(period);
        let squares = self
            .squares()
            .saturating_add(u128::from(period) * u128::from(period));
        self.squares = [squares as u64, (squares >> 64) as u64];
    }

    #[inline]
    fn squares(&self) -> u128 {
        u128::from(self.squares[1]) << 64 | u128::from(self.squares[0])
    }

    pub(super) fn summary(&self, count: u32) -> Summary {
        summary(u64::from(count), self.sum, self.min, self.max, self.squares())
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a deviation needs no more than 53 bits"
)]
fn summary(count: u64, sum: u64, min: u64, max: u64, squares: u128) -> Summary {
    if count == 0 {
        return Summary::default();
    }
    let std_dev = match (u32::try_from(sum), u64::try_from(squares)) {
        _ if count < 2 => 0.0,
        // The same in half the digits, which takes a fraction of the time.
        (Ok(sum), Ok(squares)) => {
            let square = u64::from(sum) * u64::from(sum);
            let (mean_square, rest) = (square / count, square % count);
            deviation(count, squares.saturating_sub(mean_square) as f64, rest as f64)
        }
        _ => {
            // In whole numbers, so that two large terms that are nearly equal leave the right difference.
            let square = u128::from(sum) * u128::from(sum);
            let count_128 = u128::from(count);
            let mean_square = square / count_128;
            let rest = square - mean_square * count_128;
            deviation(count, squares.saturating_sub(mean_square) as f64, rest as f64)
        }
    };
    Summary {
        count,
        sum,
        min,
        max,
        std_dev,
    }
}

/// The sample deviation, when the squares of the differences from the mean add up to `deviations` less `rest` / count.
#[expect(
    clippy::cast_precision_loss,
    reason = "a count of packets has fewer than 53 bits"
)]
fn deviation(count: u64, deviations: f64, rest: f64) -> f64 {
    // What the division leaves over counts: it is half of everything for two lengths that differ by one.
    ((deviations - rest / count as f64).max(0.0) / (count - 1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_from_sums() {
        let mut lengths = Lengths::NONE;
        assert_eq!(lengths.summary(0), Summary::default());
        for length in [2, 4, 4, 4, 5, 5, 7, 9] {
            lengths.add(length);
        }
        let summary = lengths.summary(8);
        assert_eq!((summary.min, summary.max, summary.sum), (2, 9, 40));
        assert!((summary.std_dev - (32.0_f64 / 7.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn what_a_division_leaves_over_counts() {
        let mut lengths = Lengths::NONE;
        lengths.add(100);
        lengths.add(101);
        assert!((lengths.summary(2).std_dev - 0.5_f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn small_differences_of_large_numbers_survive() {
        let mut periods = Periods::NONE;
        let year = 31_536_000_000_000_000;
        for period in [year, year + 2, year + 4] {
            periods.add(period);
        }
        assert!((periods.summary(3).std_dev - 2.0).abs() < 1e-9);
    }

    #[test]
    fn absurd_numbers_saturate() {
        let mut periods = Periods::NONE;
        for _ in 0..3 {
            periods.add(u64::MAX);
        }
        assert_eq!(periods.summary(3).sum, u64::MAX);
        assert!(periods.summary(3).std_dev.is_finite());
    }
}
