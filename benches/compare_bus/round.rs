//! A stretch of work, with its time and its processor time.

use std::error::Error;
use std::time::{Duration, Instant};

use amoskys_benches::rounds::median;
use rustix::time::{ClockId, clock_gettime};

/// Why a measurement failed.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// What was done in one round.
#[derive(Clone, Copy)]
pub(crate) struct Round {
    pub(crate) events: u64,
    pub(crate) time: Duration,
    /// Of both sides, in all threads of the process.
    pub(crate) cpu: Duration,
}

/// Measures from now on.
pub(crate) struct Stopwatch {
    begun: Instant,
    cpu: Duration,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self {
            begun: Instant::now(),
            cpu: cpu(),
        }
    }

    pub(crate) fn stop(self, events: u64) -> Round {
        Round {
            events,
            time: self.begun.elapsed(),
            cpu: cpu().saturating_sub(self.cpu),
        }
    }
}

/// The median rate of some rounds.
pub(crate) fn events_per_second(rounds: &[Round]) -> f64 {
    1.0 / median(&per_event(rounds, |round| round.time)).as_secs_f64() * SCALE
}

/// Processor seconds a million events, the median of some rounds.
pub(crate) fn cpu_per_million(rounds: &[Round]) -> f64 {
    median(&per_event(rounds, |round| round.cpu)).as_secs_f64() * 1e6 / SCALE
}

/// Times of so many events are compared, because those of one are too short for whole nanoseconds.
const SCALE: f64 = 1000.0;

fn per_event(rounds: &[Round], time: impl Fn(&Round) -> Duration) -> Vec<Duration> {
    let scaled = |round: &Round| time(round).mul_f64(SCALE / round.events.max(1) as f64);
    rounds.iter().map(scaled).collect()
}

/// Processor time of this process so far.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(now.tv_nsec).unwrap_or_default())
}
