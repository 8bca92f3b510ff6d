//! The behavioral layer: in what order.

mod attempt;
mod communities;
mod guessing;
mod handshake;
mod names;
mod outcomes;
mod shell;
mod spraying;
mod transfers;

use amoskys_core::event::Layer;
use serde::{Deserialize, Serialize};

use self::communities::Communities;
use self::guessing::Guesses;
use self::handshake::Handshakes;
use self::names::Names;
pub(crate) use self::outcomes::{Chain, Outcomes};
use self::shell::Shells;
use crate::baseline::Normal;
use crate::config::DetectionConfig;
use crate::finding::{Card, Finding, Mark};
use crate::layer::LayerModel;
use crate::sighting::Sighting;

/// Password guessing, repeated calls, DNS tunnels, broken handshakes, and how surprising a host's outcomes are.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Behavioral {
    guesses: Guesses,
    communities: Communities,
    shells: Shells,
    names: Names,
    handshakes: Handshakes,
    pub(crate) outcomes: Outcomes,
}

impl Behavioral {
    pub(crate) fn new(config: &DetectionConfig) -> Self {
        Self {
            guesses: Guesses::new(config),
            communities: Communities::new(config),
            shells: Shells::new(config),
            names: Names::new(config),
            handshakes: Handshakes::new(config),
            outcomes: Outcomes::new(config),
        }
    }
}

impl LayerModel for Behavioral {
    const LAYER: Layer = Layer::Behavioral;

    fn observe(&mut self, sighting: &Sighting<'_>, mark: Mark, findings: &mut Vec<Finding>) {
        self.guesses.observe(sighting, mark, findings);
        self.communities.observe(sighting, mark, findings);
        self.shells.observe(sighting, mark, findings);
        self.names.observe(sighting, mark, findings);
        self.handshakes.observe(sighting, mark, findings);
        self.outcomes.observe(sighting);
    }

    fn opinion(&self, finding: &Finding, _normal: Option<&Normal>) -> Option<Card> {
        self.outcomes.opinion(finding)
    }

    fn evicted(&self) -> u64 {
        self.guesses.evicted() + self.communities.evicted() + self.names.evicted() + self.outcomes.evicted()
    }
}
