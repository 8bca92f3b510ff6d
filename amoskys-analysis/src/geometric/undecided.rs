//! What was begun and may still come about.

use amoskys_core::Timestamp;
use serde::{Deserialize, Serialize};

use crate::measure::{Leaky, seconds_between};

/// Memory of what was begun and how it went, in seconds.
pub(super) const MEMORY: f64 = 10.0;
/// Seconds after which what a crowd began counts, half each, unless a tenth as many came about: until then answers, or the data of
/// a load test, may not have been reported.
const CROWD_SECONDS: f64 = 6.0;

/// Connections or conversations without a known outcome. A flood may begin more than can be remembered one by one until they are
/// given up; then it shows by their crowd alone, from `CROWD` on.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Undecided<const CROWD: u32> {
    sum: Leaky,
    /// Since when they are a crowd.
    crowded: Option<Timestamp>,
}

impl<const CROWD: u32> Undecided<CROWD> {
    pub(super) fn begin(&mut self, now: Timestamp) {
        self.sum.add(now, 1.0, MEMORY);
        self.watch(now);
    }

    pub(super) fn decide(&mut self, now: Timestamp) {
        let sum = self.read(now);
        self.sum.add(now, -sum.min(1.0), MEMORY);
        self.watch(now);
    }

    /// How many there are, recent ones counting most.
    pub(super) fn read(&self, now: Timestamp) -> f64 {
        self.sum.read(now, MEMORY)
    }

    /// How many of them are to be counted with what is known to have failed, where so many came about.
    pub(super) fn counted(&self, now: Timestamp, useful: f64) -> f64 {
        let sum = self.read(now);
        let stale = self
            .crowded
            .is_some_and(|since| seconds_between(since, now) >= CROWD_SECONDS);
        if stale && useful < 0.1 * sum {
            sum * 0.5
        } else {
            0.0
        }
    }

    fn watch(&mut self, now: Timestamp) {
        self.crowded = match self.crowded {
            _ if self.read(now) < f64::from(CROWD) => None,
            Some(since) if since <= now => Some(since),
            _ => Some(now),
        };
    }
}
