use amoskys_core::Timestamp;
use serde::{Deserialize, Serialize};

use super::seconds_between;

/// A clock that goes back by more than this has been set anew: what was counted before is forgotten. Packets
/// that overtake each other are orders of magnitude closer.
const RESET_SECONDS: f64 = 60.0;

/// A sum that forgets: what was added `tau` seconds ago counts 1/e.
///
/// For a burst much shorter than `tau` it is the number of events, for a steady stream the rate times `tau`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Leaky {
    value: f64,
    at: Timestamp,
}

impl Leaky {
    /// Adds an amount and returns the sum.
    pub(crate) fn add(&mut self, now: Timestamp, amount: f64, tau: f64) -> f64 {
        let passed = seconds_between(self.at, now);
        if !(-RESET_SECONDS..=0.0).contains(&passed) {
            self.value = self.read(now, tau);
            self.at = now;
        }
        self.value += amount;
        self.value
    }

    /// The sum at a time.
    pub(crate) fn read(&self, now: Timestamp, tau: f64) -> f64 {
        match seconds_between(self.at, now) {
            passed if passed < -RESET_SECONDS => 0.0,
            passed if passed <= 0.0 => self.value,
            passed => self.value * (-passed / tau).exp(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_counts_whole_and_fades() {
        let mut sum = Leaky::default();
        for n in 0..100 {
            sum.add(Timestamp::from_nanos(1_000_000 * n), 1.0, 10.0);
        }
        assert!(sum.read(Timestamp::from_secs(0), 10.0) > 99.0);
        assert!(sum.read(Timestamp::from_secs(100), 10.0) < 0.01);
    }

    #[test]
    fn absurd_times_leave_it_finite() {
        let mut sum = Leaky::default();
        for time in [
            Timestamp::MAX,
            Timestamp::MIN,
            Timestamp::from_secs(5),
            Timestamp::MAX,
            Timestamp::from_secs(6),
        ] {
            assert!(sum.add(time, 1.0, 10.0).is_finite());
        }
        assert_eq!(sum.add(Timestamp::from_secs(6), 1.0, 10.0), 2.0);
    }
}
