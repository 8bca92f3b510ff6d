//! Forged ARP: a station that claims addresses of others; and ARP sweeps.
//!
//! **Idea.** ARP has no proof, but a forger cannot avoid contradictions. Each is a term: it asks for an address that it
//! has claimed; two stations claim one address; it answers what nobody asked; after its claim, the packets of the one
//! it spoke to go through it. A message whose sender is not who sent the frame is damaged or passed on, and proves
//! nothing.
//!
//! **Priors.** A station that asks for an address it claimed within the last ten minutes: +5; honest ones do so behind a
//! repeater that lends its hardware address to many. A claim to an address that another station has used at least
//! twice: +2 for the first, more for each doubling, for both, because who came first is not known; honest after
//! a change of machine or a failover (hardware addresses of VRRP, HSRP and GLBP are exempt). Unasked replies: +1.5 for each
//! doubling, at most 5; honest now and then, and where the question was lost. A second address beside these: +1. At least two
//! conversations that moved to the claimant: +2.5. No single one of these reaches certainty.
//!
//! A sweep is many addresses asked for within five minutes that nobody is known to have, and nobody answers for within a
//! second: eight are nothing, each doubling adds 2.5. If most of them lie side by side, as addresses do that are tried and not
//! known, +4.5. From a station that routes, 4 are taken away instead, because strangers who scan make it ask.
//!
//! **Accused** is the address the station uses as its own; if it is not known, the address it claims.
//!
//! **Fails** when the forger only ever answers real questions, faster than the owner, and never needs the address
//! itself, or when ARP of the segment is not captured.
//!
//! **Cost.** ARP is rare. For flows, one look-up when a local host calls outside.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use amoskys_core::Timestamp;
use amoskys_core::event::{ArpOperation, ArpRecord, MacAddr};
use serde::{Deserialize, Serialize};

use crate::config::DetectionConfig;
use crate::finding::{Card, Detector, Feature, Finding, Gate, Mark, PEERS, Span, Target};
use crate::layer::Backlog;
use crate::measure::{BoundedMap, float, seconds_between};
use crate::odds::logit;
use crate::sighting::{Contact, Sighting, is_local};

/// A hardware address.
type Mac = [u8; 6];

/// Seconds for which a claim or a binding counts.
const MEMORY: f64 = 600.0;
/// Seconds within which a reply answers a request.
const ANSWER: f64 = 10.0;
/// Claims remembered of one station.
const CLAIMS: usize = 8;
/// Length of the window of a sweep, in seconds.
const SWEEP: f64 = 300.0;
/// Addresses of a sweep that are remembered one by one.
const BLOCK: usize = 1_024;
/// Seconds that an answer is waited for.
const PATIENCE: f64 = 1.0;

/// What is known about stations and addresses of the segment.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Stations {
    stations: BoundedMap<Mac, Station>,
    holders: BoundedMap<Ipv4Addr, Holder>,
    /// Who asked for whom, and when.
    asked: BoundedMap<(Ipv4Addr, Ipv4Addr), Timestamp>,
    /// Through which station a host's packets leave.
    routes: BoundedMap<IpAddr, Route>,
    routers: BoundedMap<Mac, ()>,
    /// Stations that ask for addresses nobody is known to have.
    sweeping: Backlog<Mac>,
    prior: f64,
    sweep_prior: f64,
    floor: f64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Station {
    claims: Vec<Claim>,
    contradictions: u32,
    conflicts: u32,
    unasked: u32,
    redirected: u32,
    /// To whom it spoke.
    told: Vec<Ipv4Addr>,
    span: Option<Span>,
    gate: Gate,
    sweep: Sweep,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Claim {
    address: Ipv4Addr,
    latest: Timestamp,
    /// Requests it sent under this address.
    requests: u32,
    /// Whether something about it is wrong.
    disputed: bool,
}

/// Who uses an address.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Holder {
    mac: Mac,
    latest: Timestamp,
    claims: u32,
}

/// Through which station a host's packets leave, and the one that the latest of them left through.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Route {
    mac: Mac,
    other: Mac,
    others: u32,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Sweep {
    began: Timestamp,
    /// Addresses that nobody is known to have, and when they were asked for first.
    asked: BTreeMap<u32, Timestamp>,
    asker: Option<Ipv4Addr>,
    span: Option<Span>,
    gate: Gate,
}

impl Stations {
    pub(crate) fn new(config: &DetectionConfig) -> Self {
        let hosts = config.capacity.hosts;
        Self {
            stations: BoundedMap::new(hosts.min(2_048)),
            holders: BoundedMap::new(hosts),
            asked: BoundedMap::new(hosts),
            routes: BoundedMap::new(hosts),
            routers: BoundedMap::new(64),
            sweeping: Backlog::default(),
            prior: logit(config.priors.spoofing),
            sweep_prior: logit(config.priors.scan),
            floor: config.speaks_from(),
        }
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.stations.evicted() + self.holders.evicted()
    }

    pub(crate) fn observe(&mut self, sighting: &Sighting<'_>, mark: Mark, findings: &mut Vec<Finding>) {
        match sighting {
            Sighting::Arp(record) => self.arp(record, mark, findings),
            Sighting::Opened { contact, flow } => {
                let next_hop = if contact.forward {
                    flow.destination_mac
                } else {
                    flow.source_mac
                };
                if let Some(MacAddr(next_hop)) = next_hop {
                    self.route(contact, next_hop, mark, findings);
                }
            }
            Sighting::Tick { .. } => {
                for mac in self.sweeping.take() {
                    self.swept(mac, mark, findings);
                }
            }
            _ => {}
        }
    }

    fn arp(&mut self, record: &ArpRecord, mark: Mark, findings: &mut Vec<Finding>) {
        let now = mark.time;
        let (MacAddr(mac), address) = (record.sender_mac, record.sender_ip);
        if record.frame_source != record.sender_mac || record.sender_mac.is_multicast() || mac == [0; 6] {
            return;
        }
        if record.operation == ArpOperation::Request && !record.is_gratuitous() {
            self.contradiction(mac, record.target_ip, address, mark);
            if !address.is_unspecified() {
                self.asked.entry(&(address, record.target_ip), || now);
                if let Some(at) = self.asked.get(&(address, record.target_ip)) {
                    *at = now;
                }
                self.asks(mac, record, mark);
            }
        }
        if address.is_unspecified() {
            return; // An address probe (RFC 5227) claims nothing.
        }
        let rival = self.rival(mac, address, now);
        if let Some(station) = rival.and_then(|rival| self.stations.get(&rival)) {
            station.dispute(address, now);
        }
        let unasked = record.operation == ArpOperation::Reply
            && !record.is_gratuitous()
            && !self
                .asked
                .peek(&(record.target_ip, address))
                .is_some_and(|at| seconds_between(*at, now) < ANSWER);
        if record.operation == ArpOperation::Reply && !unasked {
            self.answered(record);
        }
        let station = self.stations.entry(&mac, Station::default);
        station.claim(address, record.operation == ArpOperation::Request, unasked, now);
        station.unasked = station.unasked.saturating_add(u32::from(unasked));
        if rival.is_some() {
            station.dispute(address, now);
        }
        station.tell(record.target_ip);
        station.touch(mark);
        self.report(mac, mark, findings);
    }

    /// A station asks, under one address, for another that it had claimed itself.
    fn contradiction(&mut self, mac: Mac, wanted: Ipv4Addr, own: Ipv4Addr, mark: Mark) {
        if let Some(station) = self.stations.get(&mac)
            && own != wanted
            && let Some(claim) = station.claims.iter_mut().find(|claim| claim.address == wanted)
            && seconds_between(claim.latest, mark.time) < MEMORY
        {
            claim.disputed = true;
            station.contradictions = station.contradictions.saturating_add(1);
            station.touch(mark);
        }
    }

    /// The other station that uses the address, if there is one and it has done so at least twice.
    fn rival(&mut self, mac: Mac, address: Ipv4Addr, now: Timestamp) -> Option<Mac> {
        let holder = self.holders.entry(&address, || Holder {
            mac,
            latest: now,
            claims: 0,
        });
        let silent = seconds_between(holder.latest, now);
        if holder.mac == mac {
            *holder = Holder {
                mac,
                latest: now,
                claims: holder.claims.saturating_add(1),
            };
            return None;
        }
        if holder.claims < 2 || !(-60.0..MEMORY).contains(&silent) {
            *holder = Holder {
                mac,
                latest: now,
                claims: 1,
            };
            return None;
        }
        (!is_virtual(mac) && !is_virtual(holder.mac)).then_some(holder.mac)
    }

    fn answered(&mut self, record: &ArpRecord) {
        let MacAddr(named) = record.target_mac;
        let holder = self.holders.peek(&record.target_ip).map(|holder| holder.mac);
        for asker in [Some(named), holder].into_iter().flatten() {
            if let Some(station) = self.stations.peek_mut(&asker) {
                station.sweep.asked.remove(&record.sender_ip.to_bits());
            }
        }
    }

    /// A local host calls outside: through whom?
    fn route(&mut self, contact: &Contact, next_hop: Mac, mark: Mark, findings: &mut Vec<Finding>) {
        let IpAddr::V4(host) = contact.client else { return };
        if !is_local(contact.client) || is_local(contact.server) || next_hop[0] & 1 == 1 {
            return;
        }
        let first = Route {
            mac: next_hop,
            other: next_hop,
            others: 0,
        };
        let route = self.routes.entry(&contact.client, || first);
        if route.mac == next_hop {
            route.others = 0;
            self.routers.entry(&next_hop, || ());
            return;
        }
        // One conversation by another way may be a damaged frame; two are another route.
        if route.other != next_hop {
            (route.other, route.others) = (next_hop, 0);
        }
        route.others += 1;
        if route.others < 2 {
            return;
        }
        *route = first;
        self.routers.entry(&next_hop, || ());
        if let Some(station) = self.stations.get(&next_hop)
            && station.told.contains(&host)
        {
            station.redirected = station.redirected.saturating_add(1);
            station.touch(mark);
            self.report(next_hop, mark, findings);
        }
    }

    fn report(&mut self, mac: Mac, mark: Mark, findings: &mut Vec<Finding>) {
        let Some(station) = self.stations.peek_mut(&mac) else {
            return;
        };
        let card = station.card(self.prior);
        let Some(span) = station.span else { return };
        if card.log_odds() < self.floor || !station.gate.pass(mark.time, card.log_odds()) {
            return;
        }
        findings.extend(station.finding(mac, card, span));
    }

    /// A station asks for an address. Where somebody is known to have it, that is no search, even if the sensor sees no answers.
    fn asks(&mut self, mac: Mac, record: &ArpRecord, mark: Mark) {
        if self.holders.peek(&record.target_ip).is_some() {
            return;
        }
        let station = self.stations.entry(&mac, Station::default);
        let sweep = &mut station.sweep;
        if !(0.0..SWEEP).contains(&seconds_between(sweep.began, mark.time)) {
            *sweep = Sweep {
                began: mark.time,
                gate: sweep.gate,
                ..Sweep::default()
            };
        }
        match &mut sweep.span {
            Some(span) => span.extend(mark),
            none => *none = Some(Span::of(mark)),
        }
        if sweep.asked.len() < BLOCK {
            sweep.asked.entry(record.target_ip.to_bits()).or_insert(mark.time);
        }
        sweep.asker = Some(record.sender_ip);
        self.sweeping.add(mac);
    }

    fn swept(&mut self, mac: Mac, mark: Mark, findings: &mut Vec<Finding>) {
        let routes = self.routers.peek(&mac).is_some();
        let Some(station) = self.stations.peek_mut(&mac) else {
            return;
        };
        let sweep = &mut station.sweep;
        let (silent, block) = sweep.silent(mark.time);
        if silent < sweep.asked.len() {
            self.sweeping.add(mac); // Answers may still come.
        }
        let silent = float(silent as u64);
        if silent < 8.0 {
            return;
        }
        let by = |silent: f64| 2.5 * (silent / 8.0).log2() - if routes { 4.0 } else { 0.0 };
        let card = Card::new(self.sweep_prior)
            .with(Feature::ArpSwept, silent, by(silent))
            .open_by_count(silent, by)
            .with(
                Feature::ArpBlock,
                block,
                if block > 0.6 && !routes { 4.5 } else { 0.0 },
            );
        if card.log_odds() >= self.floor
            && let (Some(span), Some(asker)) = (sweep.span, sweep.asker)
            && sweep.gate.pass(mark.time, card.log_odds())
        {
            let accused = IpAddr::V4(asker);
            findings.push(Finding {
                detector: Detector::ArpSweep,
                accused,
                target: Target::default(),
                peers: Vec::new(),
                card,
                title: format!("ARP sweep: {accused} asked for {silent} addresses that nobody has"),
                span,
            });
        }
    }
}

impl Sweep {
    /// Addresses that nobody answered for in time, and the share of them whose neighbour is one too.
    fn silent(&self, now: Timestamp) -> (usize, f64) {
        let late = |asked: &Timestamp| !(0.0..PATIENCE).contains(&seconds_between(*asked, now));
        let silent = || {
            self.asked
                .iter()
                .filter(|(_, at)| late(at))
                .map(|(address, _)| *address)
        };
        let is_beside = |address: &u32| {
            let neighbours = [address.wrapping_sub(1), address.wrapping_add(1)];
            neighbours.iter().any(|other| self.asked.contains_key(other))
        };
        let (count, beside) = (silent().count(), silent().filter(is_beside).count());
        (count, float(beside as u64) / float(count as u64).max(1.0))
    }
}

impl Station {
    fn claim(&mut self, address: Ipv4Addr, request: bool, disputed: bool, now: Timestamp) {
        let at = self.claims.iter().position(|claim| claim.address == address);
        let at = at.unwrap_or_else(|| {
            if self.claims.len() >= CLAIMS {
                self.claims.remove(0);
            }
            self.claims.push(Claim {
                address,
                latest: now,
                requests: 0,
                disputed: false,
            });
            self.claims.len() - 1
        });
        let claim = &mut self.claims[at];
        claim.latest = now;
        claim.requests = claim.requests.saturating_add(u32::from(request));
        claim.disputed |= disputed;
    }

    /// Another station claims this address too.
    fn dispute(&mut self, address: Ipv4Addr, now: Timestamp) {
        self.conflicts = self.conflicts.saturating_add(1);
        if let Some(claim) = self.claims.iter_mut().find(|claim| claim.address == address)
            && seconds_between(claim.latest, now) < MEMORY
        {
            claim.disputed = true;
        }
    }

    fn tell(&mut self, listener: Ipv4Addr) {
        if !self.told.contains(&listener) {
            if self.told.len() >= PEERS {
                self.told.remove(0);
            }
            self.told.push(listener);
        }
    }

    fn touch(&mut self, mark: Mark) {
        match &mut self.span {
            // What was long ago has nothing to do with what is now.
            Some(span) if (-60.0..MEMORY).contains(&seconds_between(span.latest, mark.time)) => {
                span.extend(mark)
            }
            Some(_) => {
                let claims = std::mem::take(&mut self.claims);
                *self = Self {
                    claims,
                    gate: self.gate,
                    ..Self::default()
                };
                self.span = Some(Span::of(mark));
            }
            none => *none = Some(Span::of(mark)),
        }
    }

    fn card(&self, prior: f64) -> Card {
        let unasked = |count: f64| (1.5 * (count + 1.0).log2()).min(5.0);
        // One is a fact; how many more there are is a count.
        let some = |card: Card, feature: Feature, count: u32, first: f64| match count {
            0 => card,
            n => card.with_count(feature, f64::from(n), |n| first + n.log2().clamp(0.0, 4.0)),
        };
        let addresses = float(self.claims.len() as u64);
        let several = if self.claims.len() > 1 && self.unasked > 0 {
            1.0
        } else {
            0.0
        };
        let card = Card::new(prior);
        let card = some(card, Feature::ArpContradictions, self.contradictions, 5.0);
        let card = some(card, Feature::ArpConflicts, self.conflicts, 2.0)
            .with_count(Feature::ArpUnasked, f64::from(self.unasked), unasked)
            .with(Feature::ArpAddresses, addresses, several);
        some(card, Feature::ArpRedirected, self.redirected, 2.5)
    }

    fn finding(&self, mac: Mac, card: Card, span: Span) -> Option<Finding> {
        let disputed = self
            .claims
            .iter()
            .filter(|claim| claim.disputed)
            .max_by_key(|claim| claim.latest);
        let own = self
            .claims
            .iter()
            .filter(|claim| !claim.disputed && claim.requests > 0)
            .max_by_key(|claim| claim.requests);
        let accused = own.or(disputed)?.address;
        let victims: Vec<Ipv4Addr> = self
            .claims
            .iter()
            .filter(|c| c.disputed)
            .map(|c| c.address)
            .collect();
        let others = victims.iter().chain(&self.told).copied();
        let mut peers: Vec<IpAddr> = Vec::new();
        for peer in others
            .filter(|peer| *peer != accused && !peer.is_unspecified())
            .map(IpAddr::V4)
        {
            if !peers.contains(&peer) && peers.len() < PEERS {
                peers.push(peer);
            }
        }
        let claimed = disputed.map_or(accused, |claim| claim.address);
        Some(Finding {
            detector: Detector::ArpSpoofing,
            accused: IpAddr::V4(accused),
            target: Target::host(IpAddr::V4(claimed)),
            peers,
            card,
            title: format!(
                "ARP spoofing: the station {} ({accused}) claims to be {claimed}",
                MacAddr(mac)
            ),
            span,
        })
    }
}

/// Whether a hardware address is shared by design: VRRP (RFC 5798), HSRP and GLBP.
fn is_virtual(mac: Mac) -> bool {
    mac.starts_with(&[0x00, 0x00, 0x5e, 0x00])
        || mac.starts_with(&[0x00, 0x00, 0x0c, 0x07, 0xac])
        || mac.starts_with(&[0x00, 0x00, 0x0c, 0x9f, 0xf0])
        || mac.starts_with(&[0x00, 0x05, 0x73, 0xa0])
        || mac.starts_with(&[0x00, 0x07, 0xb4])
}
