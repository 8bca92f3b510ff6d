//! How far out a host's windows lie, of all windows of the baseline: what an isolation forest adds to another's suspicion.
//!
//! **Idea.** The forest was fitted on windows of honest hosts, and the scores of other honest windows give a p-value to each
//! new one. The rarest window of the latest five minutes counts.
//!
//! **Priors.** Up to p = 0.02 nothing; each factor of ten below adds 1.2, at most 3. Without a baseline the layer does not speak
//! of windows.
//!
//! **Cost.** About 30 µs for each window.

use std::net::IpAddr;

use amoskys_core::{FeatureVector, Timestamp};
use serde::{Deserialize, Serialize};

use crate::baseline::Normal;
use crate::config::DetectionConfig;
use crate::finding::{Card, Feature, Finding};
use crate::measure::{BoundedMap, seconds_between};

/// Seconds for which a window counts.
const MEMORY: f64 = 300.0;
/// A p-value above this is nothing.
const USUAL: f64 = 0.02;

/// The rarest recent window of each host.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rarities {
    hosts: BoundedMap<IpAddr, Rarity>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Rarity {
    p: f64,
    end: Timestamp,
}

impl Rarities {
    pub(crate) fn new(config: &DetectionConfig) -> Self {
        Self {
            hosts: BoundedMap::new(config.capacity.hosts),
        }
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.hosts.evicted()
    }

    pub(crate) fn observe(&mut self, vector: &FeatureVector, normal: &Normal) {
        let Some(host) = vector.entity.host() else { return };
        let Some(p) = normal.rarity(vector) else { return };
        let new = Rarity { p, end: vector.end };
        let known = self.hosts.entry(&host, || new);
        if p <= known.p || !(0.0..MEMORY).contains(&seconds_between(known.end, vector.end)) {
            *known = new;
        }
    }

    pub(crate) fn opinion(&self, finding: &Finding) -> Option<(f64, f64)> {
        let rarity = self.hosts.peek(&finding.accused)?;
        if seconds_between(rarity.end, finding.span.latest).abs() > MEMORY || rarity.p >= USUAL {
            return None;
        }
        Some((rarity.p, (1.2 * (USUAL / rarity.p).log10()).min(3.0)))
    }

    /// The rarest recent window of the finding's host, as a term.
    pub(crate) fn judge(&self, finding: &Finding, card: Card) -> Card {
        match self.opinion(finding) {
            Some((p, by)) => card.with(Feature::HostRarity, p, by),
            None => card,
        }
    }
}
