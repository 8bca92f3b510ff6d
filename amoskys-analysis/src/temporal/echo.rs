//! Tunnels in ICMP echoes.
//!
//! **Idea.** A host returns the data of an echo request unchanged (RFC 792, RFC 4443). A reply with other data breaks
//! the protocol: somebody answers with a message of its own. Pings are of one size; messages are not.
//!
//! **Priors.** Altered replies: 1.2 for each doubling, at most 7; damaged or cut packets give a few. A share above 30 % of all
//! replies: +1.5. Replies without a request, which a sensor sees when it misses one direction: 0.4 for each
//! doubling, at most 2. Payload sizes with a standard deviation of 16 bytes or more over ten echoes: +1.5. More than
//! 10 kB carried: +0.5. About fifteen altered replies of different sizes make the layer sure.
//!
//! **Fails** when data travel in requests only and the kernel returns them unchanged.
//!
//! **Cost.** One look-up for each record of an ICMP flow; 150 bytes for each pair of hosts.

use std::net::IpAddr;

use amoskys_core::event::FlowRecord;
use serde::{Deserialize, Serialize};

use crate::config::DetectionConfig;
use crate::finding::{Card, Detector, Feature, Finding, Gate, Mark, Span, Target};
use crate::measure::{BoundedMap, float, seconds_between};
use crate::odds::logit;
use crate::sighting::{Contact, Growth, Sighting, is_host};

/// Seconds without an echo after which counting starts over.
const FORGET: f64 = 3_600.0;

/// Echoes between each two hosts.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Echoes {
    pairs: BoundedMap<(IpAddr, IpAddr), Pair>,
    prior: f64,
    floor: f64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Pair {
    echoes: u64,
    altered: u64,
    unmatched: u64,
    bytes: u64,
    size_spread: f64,
    span: Option<Span>,
    gate: Gate,
}

impl Echoes {
    pub(crate) fn new(config: &DetectionConfig) -> Self {
        Self {
            pairs: BoundedMap::new(config.capacity.pairs),
            prior: logit(config.priors.echo_tunnel),
            floor: config.speaks_from(),
        }
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.pairs.evicted()
    }

    pub(crate) fn observe(&mut self, sighting: &Sighting<'_>, mark: Mark, findings: &mut Vec<Finding>) {
        if let Sighting::Grew {
            contact,
            flow,
            growth,
        } = sighting
            && contact.is_icmp()
            && growth.echoes > 0
            && is_host(contact.client)
            && is_host(contact.server)
        {
            self.grew(contact, flow, growth, mark, findings);
        }
    }

    fn grew(
        &mut self,
        contact: &Contact,
        flow: &FlowRecord,
        growth: &Growth,
        mark: Mark,
        findings: &mut Vec<Finding>,
    ) {
        // One tunnel may appear as flows begun by either side; the one that began the first is the client.
        let (key, reversed) = ((contact.client, contact.server), (contact.server, contact.client));
        let key = if self.pairs.peek(&reversed).is_some() {
            reversed
        } else {
            key
        };
        let pair = self.pairs.entry(&key, Pair::default);
        if pair
            .span
            .is_some_and(|span| !(-60.0..FORGET).contains(&seconds_between(span.latest, mark.time)))
        {
            *pair = Pair::default();
        }
        pair.echoes = pair.echoes.saturating_add(growth.echoes);
        // Of a reply in fragments only the first is compared, and it may be cut elsewhere than the request was.
        let fragments = flow.forward.fragments.saturating_add(flow.backward.fragments);
        if fragments == 0 {
            pair.altered = pair.altered.saturating_add(growth.altered);
        }
        pair.unmatched = pair.unmatched.saturating_add(growth.unmatched);
        pair.bytes = pair
            .bytes
            .saturating_add(growth.sent)
            .saturating_add(growth.received);
        let payload = flow.forward.payload.with(&flow.backward.payload);
        if payload.count >= 10 {
            pair.size_spread = payload.std_dev;
        }
        match &mut pair.span {
            Some(span) => span.extend(mark),
            none => *none = Some(Span::of(mark)),
        }
        let card = pair.card(self.prior);
        let Some(span) = pair.span else { return };
        if card.log_odds() >= self.floor && pair.gate.pass(mark.time, card.log_odds()) {
            let (client, server) = key;
            findings.push(Finding {
                detector: Detector::EchoTunnel,
                accused: client,
                target: Target {
                    host: Some(server),
                    service: Some((contact.protocol, 0)),
                    name: None,
                },
                peers: vec![server],
                card,
                title: format!("ICMP tunnel: echoes between {client} and {server} carry messages both ways"),
                span,
            });
        }
    }
}

impl Pair {
    fn card(&self, prior: f64) -> Card {
        let doublings = |count: f64| (count + 1.0).log2();
        let requests = (float(self.echoes) / 2.0).max(1.0);
        let by_altered = |altered: f64| {
            (1.2 * doublings(altered)).min(7.0) + if altered / requests > 0.3 { 1.5 } else { 0.0 }
        };
        Card::new(prior)
            .with_count(Feature::AlteredReplies, float(self.altered), by_altered)
            .with_count(Feature::UnmatchedReplies, float(self.unmatched), |unmatched| {
                (0.4 * doublings(unmatched)).min(2.0)
            })
            .with(
                Feature::EchoSizeSpread,
                self.size_spread,
                if self.size_spread >= 16.0 { 1.5 } else { 0.0 },
            )
            .with(
                Feature::EchoBytes,
                float(self.bytes),
                if self.bytes > 10_000 { 0.5 } else { 0.0 },
            )
    }
}
