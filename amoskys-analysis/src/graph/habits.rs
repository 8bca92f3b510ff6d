//! What follows from what, and how often something new does.

use amoskys_core::event::ScoreInterval;
use serde::{Deserialize, Serialize};

use crate::calibrate::share_interval;
use crate::measure::{BoundedMap, mix};

/// For each subject the things it was seen with.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Habits {
    subjects: BoundedMap<u64, Subject>,
    pairs: BoundedMap<u64, ()>,
}

/// How surprising something is, in nats: minus the logarithm of how often something new comes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Surprise {
    /// By the share of new things so far; 0 if it is nothing new.
    pub(super) nats: f64,
    /// Between which bounds that is, by how often it was looked.
    pub(super) bounds: [f64; 2],
}

impl Surprise {
    /// The same, nowhere above a limit.
    pub(super) fn at_most(self, limit: f64) -> Self {
        Self {
            nats: self.nats.min(limit),
            bounds: self.bounds.map(|bound| bound.min(limit)),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Subject {
    times: f64,
    things: f64,
}

impl Habits {
    /// At most so many subjects, and so many pairs.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            subjects: BoundedMap::new(capacity),
            pairs: BoundedMap::new(capacity),
        }
    }

    /// How surprising it is that the subject has to do with this, in nats: 0 if it had before, and otherwise minus the logarithm
    /// of how often something new came of it. One that does something new all the time surprises nobody.
    pub(super) fn surprise(&mut self, subject: u64, thing: u64) -> Surprise {
        let pair = mix(subject ^ mix(thing));
        let is_new = self.pairs.peek(&pair).is_none();
        self.pairs.entry(&pair, || ());
        let of = self.subjects.entry(&subject, Subject::default);
        let chance = ((of.things + 0.5) / (of.times + 1.0)).min(1.0);
        let before = *of;
        of.times += 1.0;
        if !is_new {
            return Surprise::default();
        }
        of.things += 1.0;
        let nats = -chance.ln();
        let (low, high) = share_interval(before.things, before.times, ScoreInterval::CONFIDENCE);
        Surprise {
            nats,
            bounds: [(-high.ln()).min(nats), (-low.ln()).max(nats)],
        }
    }

    pub(super) fn evicted(&self) -> u64 {
        self.subjects.evicted() + self.pairs.evicted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_from_one_who_never_has_any_is_surprising() {
        let mut habits = Habits::new(100);
        for n in 0..1000 {
            habits.surprise(1, 5);
            habits.surprise(2, n);
        }
        assert!(habits.surprise(1, 6).nats > 6.0);
        assert!(habits.surprise(2, 5_000).nats < 0.1);
        assert_eq!(habits.surprise(1, 5), Surprise::default());
    }

    #[test]
    fn the_longer_it_was_looked_the_nearer_the_bounds() {
        let [short, long] = [30, 3_000].map(|times| {
            let mut habits = Habits::new(1_000);
            // One in ten is new.
            (0..times).for_each(|n| _ = habits.surprise(1, if n % 10 == 0 { n } else { 0 }));
            let surprise = habits.surprise(1, u64::MAX);
            assert!((surprise.nats - 10.0_f64.ln()).abs() < 0.2, "{surprise:?}");
            assert!(surprise.bounds[0] < surprise.nats && surprise.nats < surprise.bounds[1]);
            surprise.bounds[1] - surprise.bounds[0]
        });
        assert!(long < short / 5.0, "{long} {short}");
        let first = Habits::new(10).surprise(1, 1);
        assert!(first.bounds[0] == 0.0 && first.bounds[1] == f64::INFINITY);
        assert_eq!(first.at_most(9.0).bounds[1], 9.0);
    }
}
