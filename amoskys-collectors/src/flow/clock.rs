//! The meter's clock: event time, made from the time stamps of packets, which may be anything.

/// A step larger than this between two packets is looked at twice.
const SUSPICIOUS_STEP_NS: i64 = 3600 * 1_000_000_000;
/// So many packets in a row must lie far in the past before it is the clock that was set back.
const STEP_BACK_PACKETS: u32 = 16;

/// Turns packet times into a clock that never goes back.
///
/// - Ordinary disorder, up to an hour, leaves a packet its own time; the clock stays at the latest.
/// - A step forward of more than an hour may be a quiet night, the seam of two joined captures, or one damaged
///   time stamp. The next packet tells: if it goes back, the one before was damaged.
/// - A packet more than an hour in the past gets the clock's time. After sixteen in a row the capture's clock was
///   set back; event time then goes on from where it was.
#[derive(Clone, Debug, Default)]
pub(super) struct Clock {
    now: i64,
    started: bool,
    /// What is added to packet times since the clock was last set back.
    offset: i64,
    behind: u32,
    pub(super) corrected: u64,
    pub(super) set_back: u64,
}

/// What to make of a packet's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Observed {
    /// It happened then.
    At(i64),
    /// It lies far ahead: keep the packet until the next one is seen.
    FarAhead,
}

impl Clock {
    /// The latest time; `i64::MIN` before the first packet.
    #[inline]
    pub(super) fn now(&self) -> i64 {
        if self.started { self.now } else { i64::MIN }
    }

    #[inline]
    pub(super) fn observe(&mut self, packet_time: i64) -> Observed {
        let time = packet_time.saturating_add(self.offset);
        let step = time.saturating_sub(self.now);
        if (0..=SUSPICIOUS_STEP_NS).contains(&step) && self.started {
            self.now = time;
            self.behind = 0;
            return Observed::At(time);
        }
        self.observe_odd(time, step)
    }

    #[cold]
    fn observe_odd(&mut self, time: i64, step: i64) -> Observed {
        if !self.started {
            self.started = true;
            self.now = time;
        } else if step > SUSPICIOUS_STEP_NS {
            return Observed::FarAhead;
        } else if step < -SUSPICIOUS_STEP_NS {
            return Observed::At(self.far_behind(step));
        } else {
            self.behind = 0;
        }
        Observed::At(time)
    }

    fn far_behind(&mut self, step: i64) -> i64 {
        self.behind += 1;
        self.corrected += 1;
        if self.behind >= STEP_BACK_PACKETS {
            self.behind = 0;
            self.set_back += 1;
            self.offset = self.offset.saturating_sub(step);
        }
        self.now
    }

    /// Whether a packet at `next` confirms that one at `held`, which was far ahead, was right.
    pub(super) fn confirms(held: i64, next: i64) -> bool {
        next >= held.saturating_sub(SUSPICIOUS_STEP_NS)
    }

    /// Accepts the time of a packet that was far ahead.
    pub(super) fn jump(&mut self, packet_time: i64) -> i64 {
        self.now = self.now.max(packet_time.saturating_add(self.offset));
        self.started = true;
        self.behind = 0;
        self.now
    }

    /// The time for a packet whose own is damaged.
    pub(super) fn correct(&mut self) -> i64 {
        self.corrected += 1;
        self.now
    }

    /// The latest time, if the packets' times are taken as they are.
    pub(super) fn plain(&self) -> Option<i64> {
        (self.started && self.offset == 0).then_some(self.now)
    }

    /// Whether a packet at `next` is in order, and no step is to be looked at twice.
    #[inline]
    pub(super) fn is_next(now: i64, next: i64) -> bool {
        next >= now && next.wrapping_sub(now).cast_unsigned() <= SUSPICIOUS_STEP_NS.cast_unsigned()
    }

    /// Takes over the time after packets that were all in order, or that of a clock that observed them elsewhere.
    #[inline]
    pub(super) fn follow(&mut self, now: i64) {
        (self.now, self.started, self.behind) = (now, true, 0);
    }

    /// Moves the clock on without a packet.
    pub(super) fn advance(&mut self, time: i64) {
        self.now = if self.started { self.now.max(time) } else { time };
        self.started = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = SUSPICIOUS_STEP_NS;

    #[test]
    fn disorder_keeps_its_own_time() {
        let mut clock = Clock::default();
        assert_eq!(clock.now(), i64::MIN);
        assert_eq!(clock.observe(100), Observed::At(100));
        assert_eq!(clock.observe(50), Observed::At(50));
        assert_eq!(clock.now(), 100);
    }

    #[test]
    fn far_ahead_waits_for_the_next() {
        let mut clock = Clock::default();
        clock.observe(0);
        assert_eq!(clock.observe(30 * HOUR), Observed::FarAhead);
        assert_eq!(clock.now(), 0);
        assert!(Clock::confirms(30 * HOUR, 31 * HOUR));
        assert!(!Clock::confirms(30 * HOUR, HOUR));
        assert_eq!(clock.jump(30 * HOUR), 30 * HOUR);
    }

    #[test]
    fn a_clock_set_back_goes_on_from_where_it_was() {
        let mut clock = Clock::default();
        clock.observe(100 * HOUR);
        for _ in 0..STEP_BACK_PACKETS {
            assert_eq!(clock.observe(7), Observed::At(100 * HOUR));
        }
        assert_eq!((clock.set_back, clock.corrected), (1, 16));
        assert_eq!(clock.observe(8), Observed::At(100 * HOUR + 1));
    }

    #[test]
    fn extremes_do_not_overflow() {
        let mut clock = Clock::default();
        clock.observe(i64::MIN);
        assert_eq!(clock.observe(i64::MAX), Observed::FarAhead);
        clock.jump(i64::MAX);
        for _ in 0..40 {
            clock.observe(i64::MIN);
        }
        assert_eq!(clock.now(), i64::MAX);
    }
}
