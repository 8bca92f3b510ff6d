//! Small measuring instruments that the detectors share. Each has a bounded size, and none asks the clock.

mod bounded;
mod distinct;
mod leaky;
mod ring;

pub(crate) use self::bounded::BoundedMap;
pub(crate) use self::distinct::{Distinct, hash_address, hash_bytes, mix};
pub(crate) use self::leaky::Leaky;
pub(crate) use self::ring::Ring;

use amoskys_core::Timestamp;

/// Seconds from `earlier` to `later`; negative if the clock went backward.
#[expect(
    clippy::cast_precision_loss,
    reason = "sub-microsecond precision is not needed"
)]
pub(crate) fn seconds_between(earlier: Timestamp, later: Timestamp) -> f64 {
    (i128::from(later.nanos()) - i128::from(earlier.nanos())) as f64 / 1e9
}

/// The median; the mean of the middle two if their number is even, 0 if there are none. Reorders the values.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Spread of the values around their median as a share of it: 1.4826 times the median absolute deviation,
/// which for normally distributed values is the standard deviation, over the median. 0 for fewer than two
/// values, and infinite if the median is 0 and the values differ.
pub(crate) fn relative_spread(values: &mut [f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let middle = median(values);
    for value in values.iter_mut() {
        *value = (*value - middle).abs();
    }
    let deviation = 1.4826 * median(values);
    if deviation == 0.0 {
        0.0
    } else {
        deviation / middle.abs()
    }
}

/// A whole number as a float.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts beyond 2^53 do not occur, and would only be rounded"
)]
pub(crate) const fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_ignores_a_minority_of_outliers() {
        let mut steady = [10.0, 10.1, 9.9, 10.0, 60.0, 10.05];
        assert!(relative_spread(&mut steady) < 0.02);
        let mut loose = [1.0, 20.0, 5.0, 12.0, 40.0, 3.0];
        assert!(relative_spread(&mut loose) > 0.5);
        assert_eq!(relative_spread(&mut [7.0]), 0.0);
        assert_eq!(relative_spread(&mut [0.0, 0.0, 0.0]), 0.0);
        assert_eq!(median(&mut []), 0.0);
        assert_eq!(median(&mut [4.0, 1.0, 3.0, 2.0]), 2.5);
    }

    #[test]
    fn seconds_survive_absurd_times() {
        assert!(seconds_between(Timestamp::MIN, Timestamp::MAX) > 1e10);
        assert!(seconds_between(Timestamp::MAX, Timestamp::MIN) < -1e10);
    }
}
