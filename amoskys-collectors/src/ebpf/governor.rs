//! Records less when the reader cannot keep up, and more again when it can.

use std::time::{Duration, Instant};

use super::config::CallStreams;

/// So long nothing may have been lost before more is recorded again.
const CALM: Duration = Duration::from_secs(10);
/// So long after a step down no other is taken: what was in the rings then has to be read first.
const SETTLE: Duration = Duration::from_millis(500);

/// Decides what is recorded of system calls.
#[derive(Debug)]
pub(super) struct Governor {
    wanted: CallStreams,
    now: CallStreams,
    changed: Option<Instant>,
    last_loss: Option<Instant>,
    /// Grows each time recording more led to losses again at once.
    calm: Duration,
}

impl Governor {
    pub(super) fn new(wanted: CallStreams) -> Self {
        Self {
            wanted,
            now: wanted,
            changed: None,
            last_loss: None,
            calm: CALM,
        }
    }

    /// What to record from now on, if that is to change, given how many calls were lost since the last time.
    pub(super) fn decide(&mut self, lost: u64, at: Instant) -> Option<CallStreams> {
        let since =
            |then: Option<Instant>| then.map_or(Duration::MAX, |then| at.saturating_duration_since(then));
        if lost > 0 {
            if self.now == CallStreams::None || since(self.changed) < SETTLE {
                return None;
            }
            if self.changed.is_some() && since(self.changed) < self.calm {
                self.calm = (self.calm * 2).min(CALM * 32);
            }
            self.last_loss = Some(at);
            return Some(self.change(self.now.less(), at));
        }
        if self.now < self.wanted && since(self.last_loss) >= self.calm && since(self.changed) >= self.calm {
            let more = match self.now {
                CallStreams::None => CallStreams::Histograms,
                _ => CallStreams::Sequences,
            };
            return Some(self.change(more.min(self.wanted), at));
        }
        None
    }

    fn change(&mut self, to: CallStreams, at: Instant) -> CallStreams {
        self.now = to;
        self.changed = Some(at);
        to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_down_step_by_step_and_comes_back_when_it_is_calm() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut governor = Governor::new(CallStreams::Sequences);
        assert_eq!(governor.decide(0, at(0)), None);
        assert_eq!(governor.decide(5, at(1)), Some(CallStreams::Histograms));
        // What was lost before the step took effect.
        assert_eq!(governor.decide(5, at(1)), None);
        assert_eq!(governor.decide(1, at(2)), Some(CallStreams::None));
        assert_eq!(governor.decide(9, at(3)), None);
        // The second step came soon after the first, so it waits twice as long.
        assert_eq!(governor.decide(0, at(13)), None);
        assert_eq!(governor.decide(0, at(23)), Some(CallStreams::Histograms));
        assert_eq!(governor.decide(0, at(24)), None);
        assert_eq!(governor.decide(0, at(44)), Some(CallStreams::Sequences));
        assert_eq!(governor.decide(0, at(99)), None);
    }

    #[test]
    fn it_never_records_more_than_was_wanted() {
        let start = Instant::now();
        let mut governor = Governor::new(CallStreams::Histograms);
        assert_eq!(governor.decide(1, start), Some(CallStreams::None));
        let later = start + CALM * 2;
        assert_eq!(governor.decide(0, later), Some(CallStreams::Histograms));
        assert_eq!(governor.decide(0, later + CALM * 9), None);
    }
}
