//! Volume: how much a host sends outside, against what it used to send.
//!
//! **Idea.** Data that are taken away leave upward: a host that mostly receives sends megabytes to one outside server. The
//! bytes sent to each outside server are counted with a memory of ten minutes, and compared with those received from it, and
//! with the host's own history of bytes sent outside per minute (mean and spread of their logarithm).
//!
//! **Priors.** 2 MB are nothing, each doubling adds 0.8, at most 3.5. Ten times as much sent as received: +1. Beyond the host's own
//! history: 0.7 for each standard deviation from the second on, at most 2. Cold this does not reach an alert, because backups and
//! video calls look alike; with a baseline that knows no such thing, it may.
//!
//! **Fails** for slow leaks below 200 kB a minute, and where all uploads are usual.
//!
//! **Cost.** Two look-ups for each record of a flow that leaves the site; 150 bytes for each host and outside server.

use std::net::IpAddr;

use amoskys_core::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::DetectionConfig;
use crate::finding::{Card, Detector, Feature, Finding, Gate, Mark, Span, Target};
use crate::measure::{BoundedMap, Leaky, float, seconds_between};
use crate::odds::logit;
use crate::sighting::{Contact, Growth, Sighting, is_host, is_local};

/// Memory of the bytes, in seconds.
const MEMORY: f64 = 600.0;
/// Bytes that are nothing.
const USUAL: f64 = 2e6;
/// Share of the latest minute in a host's history.
const LATEST: f64 = 0.05;

/// Bytes of each host to each outside server.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Volumes {
    pairs: BoundedMap<(IpAddr, IpAddr), Pair>,
    hosts: BoundedMap<IpAddr, History>,
    prior: f64,
    floor: f64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Pair {
    sent: Leaky,
    received: Leaky,
    span: Option<Span>,
    gate: Gate,
}

/// Bytes a host sends outside in a minute: mean and variance of their logarithm over the minutes in which it sent any.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct History {
    minute: i64,
    bytes: f64,
    minutes: u32,
    mean: f64,
    variance: f64,
}

impl Volumes {
    pub(crate) fn new(config: &DetectionConfig) -> Self {
        Self {
            pairs: BoundedMap::new(config.capacity.pairs),
            hosts: BoundedMap::new(config.capacity.hosts),
            prior: logit(config.priors.volume),
            floor: config.speaks_from(),
        }
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.pairs.evicted() + self.hosts.evicted()
    }

    pub(crate) fn observe(&mut self, sighting: &Sighting<'_>, mark: Mark, findings: &mut Vec<Finding>) {
        let Sighting::Grew { contact, growth, .. } = sighting else {
            return;
        };
        let (host, outside, sent, received) = match (is_local(contact.client), is_local(contact.server)) {
            (true, false) => (contact.client, contact.server, growth.sent, growth.received),
            (false, true) => (contact.server, contact.client, growth.received, growth.sent),
            _ => return,
        };
        if !is_host(outside) || !is_host(host) || *growth == Growth::default() {
            return;
        }
        let surprise = self
            .hosts
            .entry(&host, History::default)
            .add(mark.time, float(sent));
        let pair = self.pairs.entry(&(host, outside), Pair::default);
        if pair
            .span
            .is_some_and(|span| !(-60.0..MEMORY).contains(&seconds_between(span.latest, mark.time)))
        {
            *pair = Pair {
                gate: pair.gate,
                ..Pair::default()
            };
        }
        let total = pair.sent.add(mark.time, float(sent), MEMORY);
        let back = pair.received.add(mark.time, float(received), MEMORY);
        match &mut pair.span {
            Some(span) => span.extend(mark),
            none => *none = Some(Span::of(mark)),
        }
        // A host that is called from outside and answers is a server at its work.
        if total <= USUAL || host == contact.server {
            return;
        }
        let card = Card::new(self.prior)
            .with(
                Feature::VolumeSent,
                total.round(),
                (0.8 * (total / USUAL).log2()).min(3.5),
            )
            .with(
                Feature::UploadRatio,
                total / back.max(1.0),
                if total >= 10.0 * back { 1.0 } else { -1.0 },
            )
            .with(
                Feature::VolumeSurprise,
                surprise,
                (0.7 * (surprise - 1.0)).clamp(0.0, 2.0),
            );
        if let Some(span) = pair.span
            && card.log_odds() >= self.floor
            && pair.gate.pass(mark.time, card.log_odds())
        {
            findings.push(finding(contact, card, span, total));
        }
    }
}

impl History {
    /// Adds bytes to the current minute, and says by how many standard deviations it lies above the minutes before it. Nothing
    /// until there are five of them.
    fn add(&mut self, now: Timestamp, bytes: f64) -> f64 {
        let minute = now.nanos().div_euclid(60_000_000_000);
        if minute != self.minute {
            if self.bytes > 0.0 {
                let value = self.bytes.ln();
                let share = LATEST.max(1.0 / f64::from(self.minutes.saturating_add(1)));
                let apart = value - self.mean;
                self.mean += share * apart;
                self.variance = (1.0 - share) * (self.variance + share * apart * apart);
                self.minutes = self.minutes.saturating_add(1);
            }
            (self.minute, self.bytes) = (minute, 0.0);
        }
        self.bytes += bytes;
        if self.minutes < 5 || self.bytes <= 0.0 {
            return 0.0;
        }
        // A spread below a factor of two is not believed.
        (self.bytes.ln() - self.mean) / self.variance.sqrt().max(2.0_f64.ln())
    }
}

fn finding(contact: &Contact, card: Card, span: Span, total: f64) -> Finding {
    let Contact {
        client,
        server,
        port,
        protocol,
        ..
    } = *contact;
    Finding {
        detector: Detector::VolumeOut,
        accused: client,
        target: Target::service(server, protocol, port),
        peers: vec![server],
        card,
        title: format!(
            "Large upload: {client} sent {:.1} MB to {server} in ten minutes",
            total / 1e6
        ),
        span,
    }
}
