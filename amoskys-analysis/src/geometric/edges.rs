//! How usual it is that a host uses a server: what the geometric layer adds to another's suspicion.
//!
//! A server used by one host only, while others are at work, is where a single infected machine calls home; one that
//! several use is a service. Whether it lies outside matters as well: control servers do, as a rule.
//!
//! **Priors.** Three users or more: -3; an outbreak that reached three machines before anybody looked is missed by this. The only
//! user where at least four local hosts call outside: +1. Outside: +0.7. A baseline adds -2 for an edge it knows, and up to +1 for one
//! it does not.
//!
//! **Cost.** One look-up for each flow that begins; about 180 bytes for each server.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::baseline::Normal;
use crate::config::DetectionConfig;
use crate::finding::{Card, Family, Feature, Finding};
use crate::measure::{BoundedMap, Distinct, hash_address};
use crate::sighting::{Sighting, is_host, is_local};

/// Who uses which server.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Edges {
    clients_of: BoundedMap<IpAddr, Distinct>,
    /// All local hosts that began a conversation with one outside.
    callers: Distinct,
}

impl Edges {
    pub(crate) fn new(config: &DetectionConfig) -> Self {
        Self {
            clients_of: BoundedMap::new(config.capacity.hosts),
            callers: Distinct::default(),
        }
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.clients_of.evicted()
    }

    pub(crate) fn observe(&mut self, sighting: &Sighting<'_>) {
        if let Sighting::Opened { contact, .. } = sighting
            && is_host(contact.server)
        {
            let client = hash_address(contact.client);
            self.clients_of
                .entry(&contact.server, Distinct::default)
                .insert(client);
            if is_local(contact.client) && !is_local(contact.server) {
                self.callers.insert(client);
            }
        }
    }

    pub(crate) fn opinion(&self, finding: &Finding, normal: Option<&Normal>) -> Option<Card> {
        let server = finding.target.host?;
        if finding.detector.family() != Family::Channel {
            return None;
        }
        let clients = self
            .clients_of
            .peek(&server)
            .map_or(0.0, Distinct::estimate)
            .round();
        let by_clients = match (clients, self.callers.estimate().round()) {
            (n, _) if n >= 3.0 => -3.0,
            // Others had the occasion and did not use it.
            (n, callers) if n <= 1.0 && callers >= 4.0 => 1.0,
            _ => 0.0,
        };
        let outside = is_local(finding.accused) && !is_local(server);
        let (known, by_edge) = normal.and_then(|normal| normal.edge(finding)).unwrap_or_default();
        let card = Card::opinion()
            .with(Feature::EdgeKnown, known, by_edge)
            .with(Feature::PeerClients, clients, by_clients)
            .with(
                Feature::PeerOutside,
                f64::from(u8::from(outside)),
                if outside && clients < 3.0 { 0.7 } else { 0.0 },
            );
        (card.log_odds() != 0.0).then_some(card)
    }
}
