use std::time::Duration;

use amoskys_core::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Aggregate, Stacked};
use crate::pack::{put, take};

/// Sums in which a number counts the less the longer ago it came: half as much after each 1/λ seconds, where λ is
/// `PER_1000_S` / 1000 a second.
///
/// With w = 2^(-λ (now - time)) for each number, it holds Σ w, Σ w v and Σ w v² (the damped windows of Kitsune,
/// Mirsky and others, NDSS 2018). Order does not matter: a number that comes late counts as little as if it had come
/// in time.
///
/// Size: 32 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Damped<const PER_1000_S: u32> {
    sums: DampedSums,
}

/// The sums of [`Damped`], for a rate that is known at run time only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DampedSums {
    weight: f64,
    sum: f64,
    squares: f64,
    /// The latest time; meaningless while the weight is 0.
    at: Timestamp,
}

impl<const PER_1000_S: u32> Damped<PER_1000_S> {
    /// λ: how often a second weights halve.
    #[must_use]
    pub fn rate_hz() -> f64 {
        f64::from(PER_1000_S) / 1000.0
    }

    /// Takes a number. What is not finite is left out.
    pub fn add(&mut self, time: Timestamp, value: f64) {
        self.sums.add(Self::rate_hz(), time, value);
    }

    /// The sums at the time of the latest number.
    #[must_use]
    pub const fn sums(&self) -> &DampedSums {
        &self.sums
    }

    /// Σ w at this time, or at the latest if that is later: numbers in the last 1.44/λ seconds, about.
    #[must_use]
    pub fn weight(&self, now: Timestamp) -> f64 {
        self.sums.weight * decay(Self::rate_hz(), now.since(self.sums.at))
    }
}

impl DampedSums {
    /// Takes a number. What is not finite is left out.
    pub fn add(&mut self, rate_hz: f64, time: Timestamp, value: f64) {
        if !value.is_finite() {
            return;
        }
        let share = self.decay_to(rate_hz, time);
        self.weight += share;
        self.sum += share * value;
        self.squares += share * value * value;
    }

    /// Brings the sums to this time, and says what a number of this time weighs in them: 1, or less if the latest
    /// time is later.
    pub fn decay_to(&mut self, rate_hz: f64, time: Timestamp) -> f64 {
        if self.weight == 0.0 {
            // Whatever is left of the other sums is of the same age.
            *self = Self {
                at: time,
                ..Self::default()
            };
            return 1.0;
        }
        if time < self.at {
            return decay(rate_hz, self.at.since(time));
        }
        if time > self.at {
            let share = decay(rate_hz, time.since(self.at));
            self.weight *= share;
            self.sum *= share;
            self.squares *= share;
            self.at = time;
        }
        1.0
    }

    /// Σ w at the latest time; 0 if nothing came.
    #[must_use]
    pub const fn weight(&self) -> f64 {
        self.weight
    }

    /// Σ w v at the latest time.
    #[must_use]
    pub const fn sum(&self) -> f64 {
        self.sum
    }

    /// Σ w v² at the latest time.
    #[must_use]
    pub const fn squares(&self) -> f64 {
        self.squares
    }

    /// The latest time.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        self.at
    }

    /// Damped mean; NaN if nothing came, or too long ago to tell.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.weight > f64::MIN_POSITIVE {
            self.sum / self.weight
        } else {
            f64::NAN
        }
    }

    /// Damped variance |Σ w v² / Σ w - mean²|; NaN as the mean.
    #[must_use]
    pub fn variance(&self) -> f64 {
        let mean = self.mean();
        (self.squares / self.weight - mean * mean).abs()
    }

    /// Damped standard deviation; NaN as the mean.
    #[must_use]
    pub fn std_dev(&self) -> f64 {
        self.variance().sqrt()
    }
}

impl<const PER_1000_S: u32> Aggregate for Damped<PER_1000_S> {
    type Sliding = Stacked<Self>;
    const PACKS: bool = true;

    fn merge(&mut self, later: &Self) {
        if later.sums.weight == 0.0 {
            return;
        }
        let share = self.sums.decay_to(Self::rate_hz(), later.sums.at);
        self.sums.weight += share * later.sums.weight;
        self.sums.sum += share * later.sums.sum;
        self.sums.squares += share * later.sums.squares;
    }

    #[inline]
    fn pack(&self, into: &mut Vec<u8>) -> bool {
        let DampedSums {
            weight,
            sum,
            squares,
            at,
        } = self.sums;
        for number in [weight, sum, squares] {
            put(into, number.to_le_bytes());
        }
        put(into, at.nanos().to_le_bytes());
        true
    }

    #[inline]
    fn unpack(&mut self, from: &mut &[u8]) {
        let [weight, sum, squares] = [(); 3].map(|()| f64::from_le_bytes(take(from)));
        self.sums = DampedSums {
            weight,
            sum,
            squares,
            at: Timestamp::from_nanos(i64::from_le_bytes(take(from))),
        };
    }
}

/// 2^(-λ t).
pub(crate) fn decay(rate_hz: f64, time: Duration) -> f64 {
    (-rate_hz * time.as_secs_f64()).exp2()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Tenth = Damped<100>;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    proptest! {
        /// By the definition, with each weight computed from the number's own time.
        #[test]
        fn agrees_with_the_definition(
            numbers in proptest::collection::vec((0_i64..60_000, -1e3..1e3_f64), 1..100),
            cut in 0.0..1.0_f64,
        ) {
            let cut = (numbers.len() as f64 * cut) as usize;
            let fill = |part: &[(i64, f64)]| {
                let mut damped = Tenth::default();
                part.iter().for_each(|&(ms, value)| damped.add(at(ms), value));
                damped
            };
            let mut damped = fill(&numbers[..cut]);
            damped.merge(&fill(&numbers[cut..]));
            let now = numbers.iter().map(|number| number.0).max().unwrap();
            let total = |power: i32| -> f64 {
                let weight = |ms: i64| 2_f64.powf(-0.1 * (now - ms) as f64 / 1e3);
                numbers.iter().map(|&(ms, value)| weight(ms) * value.powi(power)).sum()
            };
            let sums = damped.sums();
            for (power, found) in [(0, sums.weight()), (1, sums.sum()), (2, sums.squares())] {
                let expected = total(power);
                prop_assert!((found - expected).abs() <= 1e-9 * (1.0 + expected.abs() + 1e3), "{found} {expected}");
            }
            prop_assert!((damped.weight(at(now + 10_000)) - 0.5 * sums.weight()).abs() < 1e-9);
        }
    }

    #[test]
    fn what_is_long_past_counts_for_nothing() {
        let mut damped = Tenth::default();
        assert!(damped.sums().mean().is_nan());
        damped.add(at(0), 5.0);
        damped.add(at(1_000_000_000), 7.0);
        assert_eq!((damped.sums().mean(), damped.sums().std_dev()), (7.0, 0.0));
        damped.add(at(1_000_000_000), f64::NAN);
        assert_eq!(damped.sums().weight(), 1.0);
    }
}
