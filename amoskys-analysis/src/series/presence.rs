use amoskys_core::Timestamp;
use serde::{Deserialize, Serialize};

use super::sorted::SortedWindow;
use crate::measure::seconds_between;

/// Intervals by which the usual one is known, and the least number for that.
const INTERVALS: usize = 64;
const KNOWN: usize = 10;
/// A silence of so many usual intervals may be told.
const LEAST: f64 = 5.0;
/// If it is so many times the longest of late.
const LONGER: f64 = 2.0;
/// Intervals after which the longest silence is forgotten, or twice as many.
const SPAN: u32 = 10_000;

/// When values come, and when they fail to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Presence {
    /// When the last value came, and the last point at all.
    value: Option<Timestamp>,
    point: Option<Timestamp>,
    /// Seconds between values.
    intervals: SortedWindow,
    /// Longest silence in usual intervals: of this span and the one before.
    longest: (f64, f64),
    count: u32,
    told: bool,
    clock_steps: u64,
}

/// What the time of a point tells.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Arrival {
    /// The clock went backward.
    pub(crate) stepped: bool,
    /// The silence before, in usual intervals, if it is unusual and has not been told.
    pub(crate) silence: Option<f64>,
}

impl Presence {
    pub(crate) fn new() -> Self {
        Self {
            value: None,
            point: None,
            intervals: SortedWindow::new(INTERVALS),
            longest: (0.0, 0.0),
            count: 0,
            told: false,
            clock_steps: 0,
        }
    }

    pub(crate) const fn clock_steps(&self) -> u64 {
        self.clock_steps
    }

    pub(crate) fn push(&mut self, time: Timestamp, is_value: bool) -> Arrival {
        let stepped = self.point.is_some_and(|before| time < before);
        self.point = Some(time);
        if stepped {
            // Nothing is known about how long it took; the next interval is by the new clock.
            self.clock_steps += 1;
            self.value = Some(time);
            return Arrival {
                stepped,
                silence: None,
            };
        }
        let Some(before) = self.value else {
            self.value = is_value.then_some(time);
            return Arrival::default();
        };
        let seconds = seconds_between(before, time);
        let usual = self.intervals.quantile(0.5).filter(|&usual| usual > 0.0);
        let silence = usual.map(|usual| seconds / usual);
        let unusual = silence.filter(|&silence| {
            let known = self.intervals.len() >= KNOWN;
            known && !self.told && silence >= LEAST && silence > LONGER * self.longest.0.max(self.longest.1)
        });
        self.told |= unusual.is_some();
        if is_value {
            self.value = Some(time);
            self.told = false;
            self.intervals.push(seconds);
            self.longest.0 = self.longest.0.max(silence.unwrap_or(0.0));
            self.count += 1;
            if self.count >= SPAN {
                self.count = 0;
                self.longest = (0.0, self.longest.0);
            }
        }
        Arrival {
            stepped,
            silence: unusual,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silences(times: &[(i64, bool)]) -> Vec<(usize, Option<f64>)> {
        let mut presence = Presence::new();
        let told = times.iter().enumerate().map(|(at, &(second, is_value))| {
            (at, presence.push(Timestamp::from_secs(second), is_value).silence)
        });
        told.filter(|told| told.1.is_some()).collect()
    }

    #[test]
    fn a_silence_is_told_once_and_only_if_it_is_unusual() {
        let mut times: Vec<(i64, bool)> = (0..30).map(|n| (n * 60, true)).collect();
        assert_eq!(silences(&times), []);
        times.push((29 * 60 + 600, true));
        times.push((39 * 60 + 60, true));
        times.push((40 * 60 + 600, true));
        assert_eq!(
            silences(&times),
            [(30, Some(10.0))],
            "the second is as long as the first"
        );
        // Points without a value are silence too, and it is told before it is over.
        let mut holes: Vec<(i64, bool)> = (0..60).map(|n| (n * 60, n < 30)).collect();
        holes.extend((60..70).map(|n| (n * 60, true)));
        assert_eq!(silences(&holes), [(34, Some(5.0))]);
    }

    #[test]
    fn a_clock_that_steps_is_no_silence() {
        let mut presence = Presence::new();
        for n in 0..30 {
            presence.push(Timestamp::from_secs(1_000_000 + n * 60), true);
        }
        assert!(presence.push(Timestamp::from_secs(0), true).stepped);
        for n in 1..30 {
            assert_eq!(
                presence.push(Timestamp::from_secs(n * 60), true),
                Arrival::default()
            );
        }
        assert_eq!(presence.clock_steps(), 1);
        // Absurd times are taken as they are.
        presence.push(Timestamp::MAX, true);
        presence.push(Timestamp::MIN, false);
        presence.push(Timestamp::MAX, true);
    }
}
