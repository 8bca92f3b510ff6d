//! The geometric layer: who talks to whom.

mod arp;
mod barrage;
mod edges;
mod flood;
mod pings;
mod requests;
mod scan;
mod senders;
mod slow;
mod undecided;

use amoskys_core::event::Layer;
use serde::{Deserialize, Serialize};

use self::arp::Stations;
use self::barrage::Barrages;
use self::edges::Edges;
use self::flood::Floods;
use self::pings::Pings;
use self::scan::Scans;
use self::slow::SlowRequests;
use crate::baseline::Normal;
use crate::config::DetectionConfig;
use crate::finding::{Card, Finding, Mark};
use crate::layer::LayerModel;
use crate::sighting::Sighting;

/// Scans, floods, forged addresses, and how usual an edge is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Geometric {
    scans: Scans,
    pings: Pings,
    floods: Floods,
    slow: SlowRequests,
    barrages: Barrages,
    stations: Stations,
    edges: Edges,
}

impl Geometric {
    pub(crate) fn new(config: &DetectionConfig) -> Self {
        Self {
            scans: Scans::new(config),
            pings: Pings::new(config),
            floods: Floods::new(config),
            slow: SlowRequests::new(config),
            barrages: Barrages::new(config),
            stations: Stations::new(config),
            edges: Edges::new(config),
        }
    }
}

impl LayerModel for Geometric {
    const LAYER: Layer = Layer::Geometric;

    fn observe(&mut self, sighting: &Sighting<'_>, mark: Mark, findings: &mut Vec<Finding>) {
        self.scans.observe(sighting, mark, findings);
        self.pings.observe(sighting, mark, findings);
        self.floods.observe(sighting, mark, findings);
        self.slow.observe(sighting, mark, findings);
        self.barrages.observe(sighting, mark, findings);
        self.stations.observe(sighting, mark, findings);
        self.edges.observe(sighting);
    }

    fn opinion(&self, finding: &Finding, normal: Option<&Normal>) -> Option<Card> {
        self.edges.opinion(finding, normal)
    }

    fn evicted(&self) -> u64 {
        self.scans.evicted()
            + self.pings.evicted()
            + self.floods.evicted()
            + self.slow.evicted()
            + self.barrages.evicted()
            + self.stations.evicted()
            + self.edges.evicted()
    }
}
