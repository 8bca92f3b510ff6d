use serde::{Deserialize, Serialize};

/// By how much each alarm of late lowers a score.
const FATIGUE: f64 = 0.2;
/// Horizons in which fatigue falls to 1/e.
const RECOVERY: f64 = 20.0;
/// The share of a horizon after an alarm in which no other comes.
const REST: f64 = 0.3;
/// Unless it is this many times as strong.
const STRONGER: f64 = 3.0;

/// Makes one alarm of what belongs together, and fewer of a series that always alarms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Alarms {
    rest: f64,
    decay: f64,
    /// Alarms of late.
    recent: f64,
    since: f64,
    /// Strength of the last alarm.
    last: f64,
}

impl Alarms {
    pub(crate) fn new(horizon: f64) -> Self {
        Self {
            rest: REST * horizon,
            decay: (-1.0 / (RECOVERY * horizon)).exp(),
            recent: 0.0,
            since: f64::INFINITY,
            last: 0.0,
        }
    }

    /// Time goes on by a point.
    pub(crate) fn tick(&mut self) {
        self.recent *= self.decay;
        self.since += 1.0;
    }

    /// The score of a surprise, given the alarms of late.
    pub(crate) fn score(&self, surprise: f64) -> f64 {
        surprise / (1.0 + FATIGUE * self.recent)
    }

    /// Whether something this strong may be an alarm now.
    pub(crate) fn may(&self, surprise: f64) -> bool {
        self.since > self.rest || surprise > STRONGER * self.last
    }

    /// It is one.
    pub(crate) fn raise(&mut self, surprise: f64) {
        (self.recent, self.since, self.last) = (self.recent + 1.0, 0.0, surprise);
    }
}
