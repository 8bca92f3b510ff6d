//! From nanoseconds since boot, which the kernel counts in, to the wall clock.

use amoskys_core::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// The wall clock at boot, as it was found to be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BootClock {
    /// When the sensor began. Start times of processes are told by this for as long as it lasts, so that a process
    /// keeps its name when the clock is set.
    first: i64,
    /// Last looked at.
    #[cfg_attr(
        not(feature = "ebpf"),
        expect(dead_code, reason = "only events of the kernel need it")
    )]
    now: i64,
}

#[cfg(feature = "ebpf")]
/// The wall clock is followed once it has been set by more than this.
const STEP_NS: i64 = 10_000_000;

impl BootClock {
    pub(super) fn new() -> Self {
        let offset = measure();
        Self {
            first: offset,
            now: offset,
        }
    }

    #[cfg(feature = "ebpf")]
    /// Looks whether the wall clock has been set.
    pub(super) fn look(&mut self) {
        let offset = measure();
        if (offset - self.now).abs() > STEP_NS {
            self.now = offset;
        }
    }

    #[cfg(feature = "ebpf")]
    /// The time of an event.
    pub(super) fn time(&self, boot_ns: u64) -> Timestamp {
        at(self.now, boot_ns)
    }

    /// The time a process started.
    pub(super) fn start(&self, boot_ns: u64) -> Timestamp {
        at(self.first, boot_ns)
    }
}

fn at(offset: i64, boot_ns: u64) -> Timestamp {
    Timestamp::from_nanos(offset.saturating_add(i64::try_from(boot_ns).unwrap_or(i64::MAX)))
}

/// Nanoseconds since boot, suspend included.
pub(super) fn boot_ns() -> i64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec
        .saturating_mul(1_000_000_000)
        .saturating_add(time.tv_nsec)
}

/// The quickest of a few readings of both clocks is the truest.
fn measure() -> i64 {
    let once = || {
        let before = boot_ns();
        let wall = Timestamp::now().nanos();
        let after = boot_ns();
        (after - before, wall - before - (after - before) / 2)
    };
    (0..8).map(|_| once()).min().map_or(0, |(_, offset)| offset)
}
