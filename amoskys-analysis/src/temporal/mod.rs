//! The temporal layer: how much, and when.

mod beacon;
mod echo;
mod rates;

use amoskys_core::event::Layer;
use serde::{Deserialize, Serialize};

use self::beacon::Channels;
use self::echo::Echoes;
pub(crate) use self::rates::Usual;
use self::rates::Rates;
use crate::baseline::Normal;
use crate::config::DetectionConfig;
use crate::finding::{Card, Finding, Mark};
use crate::layer::LayerModel;
use crate::sighting::Sighting;

/// Beacons, regular uploads, ICMP tunnels, and how busy a host is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Temporal {
    channels: Channels,
    echoes: Echoes,
    pub(crate) rates: Rates,
}

impl Temporal {
    pub(crate) fn new(config: &DetectionConfig) -> Self {
        Self { channels: Channels::new(config), echoes: Echoes::new(config), rates: Rates::new(config) }
    }
}

impl LayerModel for Temporal {
    const LAYER: Layer = Layer::Temporal;

    fn observe(&mut self, sighting: &Sighting<'_>, mark: Mark, findings: &mut Vec<Finding>) {
        self.channels.observe(sighting, mark, findings);
        self.echoes.observe(sighting, mark, findings);
        self.rates.observe(sighting, mark);
    }

    fn opinion(&self, finding: &Finding, normal: Option<&Normal>) -> Option<Card> {
        self.rates.opinion(finding, normal)
    }

    fn evicted(&self) -> u64 {
        self.channels.evicted() + self.echoes.evicted() + self.rates.evicted()
    }
}
