//! What follows from what, and how often something new does.

use serde::{Deserialize, Serialize};

use crate::measure::{BoundedMap, mix};

/// For each subject the things it was seen with.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Habits {
    subjects: BoundedMap<u64, Subject>,
    pairs: BoundedMap<u64, ()>,
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
    pub(super) fn surprise(&mut self, subject: u64, thing: u64) -> f64 {
        let pair = mix(subject ^ mix(thing));
        let is_new = self.pairs.peek(&pair).is_none();
        self.pairs.entry(&pair, || ());
        let of = self.subjects.entry(&subject, Subject::default);
        let chance = ((of.things + 0.5) / (of.times + 1.0)).min(1.0);
        of.times += 1.0;
        if is_new {
            of.things += 1.0;
            -chance.ln()
        } else {
            0.0
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
        assert!(habits.surprise(1, 6) > 6.0);
        assert!(habits.surprise(2, 5_000) < 0.1);
        assert_eq!(habits.surprise(1, 5), 0.0);
    }
}
