//! The temporal layer: how much, and when.

mod beacon;
mod echo;
mod rates;
mod volume;
mod windows;

use amoskys_core::FeatureVector;
use amoskys_core::event::Layer;
use serde::{Deserialize, Serialize};

use self::beacon::Channels;
use self::echo::Echoes;
use self::rates::Rates;
pub(crate) use self::rates::Usual;
use self::volume::Volumes;
use self::windows::Rarities;
use crate::baseline::Normal;
use crate::config::DetectionConfig;
use crate::finding::{Card, Finding, Mark};
use crate::layer::LayerModel;
use crate::sighting::Sighting;

/// Beacons, regular uploads, ICMP tunnels, large uploads, and how busy and how unusual a host is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Temporal {
    channels: Channels,
    echoes: Echoes,
    pub(crate) rates: Rates,
    volumes: Volumes,
    rarities: Rarities,
}

impl Temporal {
    pub(crate) fn new(config: &DetectionConfig) -> Self {
        Self {
            channels: Channels::new(config),
            echoes: Echoes::new(config),
            rates: Rates::new(config),
            volumes: Volumes::new(config),
            rarities: Rarities::new(config),
        }
    }

    /// Takes a window of features.
    pub(crate) fn features(&mut self, vector: &FeatureVector, normal: &Normal) {
        self.rarities.observe(vector, normal);
    }
}

impl LayerModel for Temporal {
    const LAYER: Layer = Layer::Temporal;

    fn observe(&mut self, sighting: &Sighting<'_>, mark: Mark, findings: &mut Vec<Finding>) {
        self.channels.observe(sighting, mark, findings);
        self.echoes.observe(sighting, mark, findings);
        self.rates.observe(sighting, mark);
        self.volumes.observe(sighting, mark, findings);
    }

    fn opinion(&self, finding: &Finding, normal: Option<&Normal>) -> Option<Card> {
        let card = self.rates.judge(finding, normal, Card::opinion());
        let card = self.rarities.judge(finding, card);
        (card.log_odds() != 0.0).then_some(card)
    }

    fn evicted(&self) -> u64 {
        self.channels.evicted()
            + self.echoes.evicted()
            + self.rates.evicted()
            + self.volumes.evicted()
            + self.rarities.evicted()
    }
}
