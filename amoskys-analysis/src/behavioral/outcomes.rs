//! How surprising the outcomes of a host's connections are: what the behavioral layer adds to another's suspicion.
//!
//! **Idea.** A first-order Markov chain over the outcomes of a host's successive attempts to connect (answered, empty, half open,
//! refused, unanswered). The mean surprise (negative logarithm of the chance) of the latest outcomes is high for
//! a host that keeps failing.
//!
//! **Priors.** After an answer 92 % answers; after a failure 75 % answers, 17 % the same failure again, because a program
//! retries. Each baseline transition counts like one observation against twenty of the prior.
//!
//! **Cost.** One look-up for each attempt that is decided; 120 bytes for each host.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::config::DetectionConfig;
use crate::finding::{Card, Family, Feature, Finding};
use crate::measure::BoundedMap;
use crate::sighting::{Outcome, Sighting};

/// Outcomes that are told apart.
pub(crate) const OUTCOMES: usize = 5;
/// Share of the latest outcome in the mean surprise: about the latest sixteen count.
const LATEST: f64 = 1.0 / 16.0;
/// Observations the prior is worth.
const PRIOR_WEIGHT: f64 = 20.0;
/// Mean surprise, in nats, that is nothing.
const USUAL: f64 = 0.8;

/// Chances of each outcome after each outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Chain {
    counts: [[f64; OUTCOMES]; OUTCOMES],
}

impl Default for Chain {
    fn default() -> Self {
        Self {
            counts: [[0.0; OUTCOMES]; OUTCOMES],
        }
    }
}

impl Chain {
    pub(crate) fn add(&mut self, before: Outcome, now: Outcome) {
        self.counts[before as usize][now as usize] += 1.0;
    }

    fn surprise(&self, before: Outcome, now: Outcome) -> f64 {
        let row = &self.counts[before as usize];
        let chance = (row[now as usize] + PRIOR_WEIGHT * prior(before, now))
            / (row.iter().sum::<f64>() + PRIOR_WEIGHT);
        -chance.ln()
    }
}

fn prior(before: Outcome, now: Outcome) -> f64 {
    match (before, now) {
        (Outcome::Answered, Outcome::Answered) => 0.92,
        (Outcome::Answered, _) => 0.02,
        (_, Outcome::Answered) => 0.75,
        (before, now) if before == now => 0.17,
        _ => 0.08 / 3.0,
    }
}

/// The latest outcomes of each host.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outcomes {
    hosts: BoundedMap<IpAddr, State>,
    pub(crate) chain: Chain,
    pub(crate) learning: bool,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct State {
    latest: Outcome,
    surprise: f64,
}

impl Outcomes {
    pub(crate) fn new(config: &DetectionConfig) -> Self {
        Self {
            hosts: BoundedMap::new(config.capacity.hosts),
            chain: Chain::default(),
            learning: false,
        }
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.hosts.evicted()
    }

    pub(crate) fn observe(&mut self, sighting: &Sighting<'_>) {
        if let Sighting::Judged { contact, outcome, .. } = sighting {
            let fresh = || State {
                latest: Outcome::Answered,
                surprise: 0.0,
            };
            let state = self.hosts.entry(&contact.client, fresh);
            let surprise = self.chain.surprise(state.latest, *outcome);
            if self.learning {
                self.chain.add(state.latest, *outcome);
            }
            *state = State {
                latest: *outcome,
                surprise: state.surprise + LATEST * (surprise - state.surprise),
            };
        }
    }

    pub(crate) fn opinion(&self, finding: &Finding) -> Option<Card> {
        if !matches!(finding.detector.family(), Family::Scan | Family::Flood) {
            return None;
        }
        let surprise = self.hosts.peek(&finding.accused)?.surprise;
        let by = (2.0 * (surprise - USUAL)).clamp(0.0, 2.5);
        (by > 0.0).then(|| Card::opinion().with(Feature::SequenceSurprise, surprise, by))
    }
}
