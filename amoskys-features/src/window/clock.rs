use std::time::Duration;

use amoskys_core::Timestamp;
use serde::{Deserialize, Serialize};

/// How a stream's clock follows its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockConfig {
    /// How much later than the latest event an earlier one may still come. Default 1 s. Punctuations state
    /// their own.
    pub allowed_lateness: Duration,
    /// An event further from the clock than this is not believed. Default 1 h.
    pub max_jump: Duration,
    /// So many events in a row that are not believed, but agree with each other, set the clock. Default 3.
    pub confirmations: u32,
}

impl Default for ClockConfig {
    fn default() -> Self {
        Self {
            allowed_lateness: Duration::from_secs(1),
            max_jump: Duration::from_secs(3600),
            confirmations: 3,
        }
    }
}

/// The clock of one stream: how far its event time has come.
///
/// The clock follows the events, and a punctuation sets it forward. One event with an absurd time moves
/// nothing: it takes several in a row that agree (default 3) to set the clock far forward or back, as after a
/// long silence or where captures of several days were joined.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StreamClock {
    config: ClockConfig,
    /// Latest believed event time.
    now: Option<Timestamp>,
    watermark: Timestamp,
    /// The earliest time of events in a row that agree, and how many they are.
    doubt: Option<(Timestamp, u32)>,
    counters: ClockCounters,
}

/// What the clock made of the events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockCounters {
    /// Events too far from the clock to be believed, and to be left out.
    pub implausible: u64,
    /// How often the clock was set anew because events agreed.
    pub reset: u64,
}

impl ClockCounters {
    pub(crate) const fn and(&self, other: &Self) -> Self {
        Self {
            implausible: self.implausible + other.implausible,
            reset: self.reset + other.reset,
        }
    }
}

/// What the clock says to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tick {
    /// Take it.
    Believed,
    /// Leave it out: its time is too far from the clock.
    Implausible,
    /// Close all windows, then take it: time goes on from here.
    Reset {
        /// The earliest time of the events that agreed.
        since: Timestamp,
    },
}

impl StreamClock {
    /// A clock that has seen nothing.
    #[must_use]
    pub const fn new(config: ClockConfig) -> Self {
        Self {
            config,
            now: None,
            watermark: Timestamp::MIN,
            doubt: None,
            counters: ClockCounters {
                implausible: 0,
                reset: 0,
            },
        }
    }

    /// Takes the time of an event.
    pub fn event(&mut self, time: Timestamp) -> Tick {
        let Some(now) = self.now else {
            self.set(time);
            return Tick::Believed;
        };
        if apart(now, time) <= self.config.max_jump {
            self.doubt = None;
            self.now = Some(now.max(time));
            self.watermark = self.watermark.max(time.minus(self.config.allowed_lateness));
            return Tick::Believed;
        }
        let (since, agreeing) = match self.doubt {
            Some((other, count)) if apart(other, time) <= self.config.max_jump => {
                (other.min(time), count.saturating_add(1))
            }
            _ => (time, 1),
        };
        if agreeing >= self.config.confirmations {
            self.counters.reset += 1;
            self.set(time);
            return Tick::Reset { since };
        }
        self.doubt = Some((since, agreeing));
        self.counters.implausible += 1;
        Tick::Implausible
    }

    /// Takes a punctuation: nothing earlier than `time - lateness` will follow.
    ///
    /// A punctuation is the sensor's own word, and is believed however far it goes forward.
    pub fn punctuation(&mut self, time: Timestamp, lateness: Duration) {
        self.now = Some(self.now.map_or(time, |now| now.max(time)));
        self.watermark = self.watermark.max(time.minus(lateness));
        self.doubt = None;
    }

    /// Everything before this time has been seen; what still comes is late. The earliest time there is, if
    /// nothing was seen.
    #[must_use]
    pub const fn watermark(&self) -> Timestamp {
        self.watermark
    }

    /// What the clock made of the events so far.
    #[must_use]
    pub const fn counters(&self) -> ClockCounters {
        self.counters
    }

    /// Forgets the time: the next event sets it, as after the end of a source.
    pub const fn forget(&mut self) {
        self.now = None;
        self.watermark = Timestamp::MIN;
        self.doubt = None;
    }

    fn set(&mut self, time: Timestamp) {
        self.now = Some(time);
        self.watermark = time.minus(self.config.allowed_lateness);
        self.doubt = None;
    }
}

fn apart(a: Timestamp, b: Timestamp) -> Duration {
    a.since(b).max(b.since(a))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn one_absurd_time_moves_nothing() {
        let mut clock = StreamClock::new(ClockConfig::default());
        assert_eq!(clock.event(at(1000)), Tick::Believed);
        for absurd in [Timestamp::MAX, Timestamp::MIN, at(1_000_000)] {
            assert_eq!(clock.event(absurd), Tick::Implausible);
            assert_eq!(clock.event(at(1001)), Tick::Believed);
        }
        assert_eq!(clock.watermark(), at(1000));
        assert_eq!(clock.counters().implausible, 3);
    }

    #[test]
    fn agreeing_events_set_the_clock_either_way() {
        let mut clock = StreamClock::new(ClockConfig::default());
        clock.event(at(1_000_000));
        for start in [5_000_000, 2_000] {
            assert_eq!(clock.event(at(start)), Tick::Implausible);
            assert_eq!(clock.event(at(start + 5)), Tick::Implausible);
            assert_eq!(clock.event(at(start + 3)), Tick::Reset { since: at(start) });
            assert_eq!(clock.watermark(), at(start + 2));
        }
        assert_eq!(
            clock.counters(),
            ClockCounters {
                implausible: 4,
                reset: 2
            }
        );
    }

    #[test]
    fn times_that_disagree_never_set_the_clock() {
        let mut clock = StreamClock::new(ClockConfig::default());
        clock.event(at(0));
        for n in 1..100 {
            assert_eq!(clock.event(at(n * 1_000_000)), Tick::Implausible);
        }
    }

    #[test]
    fn the_watermark_never_goes_back() {
        let mut clock = StreamClock::new(ClockConfig::default());
        clock.event(at(100));
        clock.punctuation(at(200), Duration::from_secs(5));
        assert_eq!(clock.watermark(), at(195));
        clock.punctuation(at(150), Duration::ZERO);
        clock.event(at(120));
        assert_eq!(clock.watermark(), at(195));
        clock.forget();
        assert_eq!(clock.event(at(7)), Tick::Believed);
    }
}
