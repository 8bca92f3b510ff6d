use amoskys_core::Timestamp;
use amoskys_core::event::MetricKind;
use serde::{Deserialize, Serialize};

use crate::measure::seconds_between;

/// Makes a series of what a metric reports: of a gauge the value itself, of a counter its rise per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rate {
    before: Option<(Timestamp, f64)>,
}

impl Rate {
    /// The value of the series, not a number if there is none: at the first point of a counter, when it has started again, and
    /// when its time has not moved on.
    pub(crate) fn push(&mut self, kind: MetricKind, time: Timestamp, value: f64) -> f64 {
        if kind != MetricKind::Counter {
            return value;
        }
        if !value.is_finite() {
            return f64::NAN;
        }
        let Some((then, before)) = self.before.replace((time, value)) else {
            return f64::NAN;
        };
        let seconds = seconds_between(then, time);
        if seconds > 0.0 && value >= before {
            (value - before) / seconds
        } else {
            f64::NAN
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_becomes_a_rate() {
        let mut rate = Rate::default();
        let mut push = |second, value| rate.push(MetricKind::Counter, Timestamp::from_secs(second), value);
        assert!(push(0, 100.0).is_nan());
        assert_eq!(push(10, 200.0), 10.0);
        assert!(push(10, 300.0).is_nan(), "no time has passed");
        assert!(push(20, f64::NAN).is_nan());
        assert_eq!(push(30, 340.0), 2.0, "since the last value");
        assert!(push(40, 5.0).is_nan(), "it has started again");
        assert_eq!(push(50, 15.0), 1.0);
        assert_eq!(rate.push(MetricKind::Gauge, Timestamp::from_secs(0), 7.0), 7.0);
    }
}
