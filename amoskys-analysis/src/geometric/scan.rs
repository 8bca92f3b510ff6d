//! Port scans and host sweeps: many destinations that do not answer.
//!
//! **Idea.** Honest clients mostly reach what they try; scanners mostly do not, because they do not know what is there.
//! Each distinct port of a host (or host on a port) that a client tries for the first time is one observation of a
//! sequential test (threshold random walk, Jung et al. 2004): a failure adds to the log-odds, a success takes
//! away more. The sum starts over at zero when it falls below (CUSUM), so honest work before a scan, or beside it,
//! does not hide it. Time plays no part up to an hour between two probes, so slow scans are seen as well as fast
//! ones. Sweeps leave out UDP services that honest hosts ask, or tell, without an answer: names, time, exports, discovery.
//!
//! **Priors.** Of the distinct ports an honest client tries on one host, about a third fail (a service down, a
//! fallback); a scanner fails on 95 %: +1.0 for a failure, -2.5 for a success. Of the hosts that honest peer-to-peer
//! software tries, half are gone: +0.6 and -2.3. UDP failures count half: many UDP services never answer. From 9
//! failed ports, or 15 failed hosts, on, the layer is sure.
//!
//! Conversations with a host that is probed as well, on ports that are known to answer, take away 0.15 each, at most 3: where
//! much is honest, a few failures are no scan.
//!
//! Ports tried within the last seconds, whose outcome is not known yet, count 0.45 each from the 12th on: no honest
//! client opens a dozen different ports of one host at once and leaves them without data.
//!
//! Of peer-to-peer programs most peers are gone (`sighting::peers`): their failures on uncommon ports count a tenth, unless they go through
//! addresses in order. Sources that try the same ports of the same host from the same second on are one scan with decoys
//! (`sighting::decoys`), and one finding.
//!
//! **Fails** when the scanner finds most of what it tries (a scan of known services), spreads over many source
//! addresses, or waits for more than an hour between probes. Accuses wrongly a client whose server died with many
//! ports in use, or software that probes ports to get through a firewall.
//!
//! **Cost.** Two table look-ups for a flow record; about 350 bytes for each pair of hosts, and each host and port.

use std::net::IpAddr;

use amoskys_core::Timestamp;
use amoskys_core::event::FlowRecord;
use serde::{Deserialize, Serialize};

use crate::config::DetectionConfig;
use crate::finding::{Card, Detector, Feature, Finding, Gate, Mark, PEERS, Span, Target};
use crate::layer::Backlog;
use crate::measure::{BoundedMap, Distinct, Leaky, hash_address, mix, seconds_between};
use crate::odds::logit;
use crate::sighting::decoys::Decoys;
use crate::sighting::peers::{Peers, is_near};
use crate::sighting::service::{TCP, UDP, is_often_unanswered, is_traceroute};
use crate::sighting::{Contact, Outcome, Sighting, is_host};

/// Seconds without a new probe after which a series is over.
const FORGET: f64 = 3_600.0;
/// Probes younger than this many seconds may still be answered.
const FRESH: f64 = 8.0;
/// Probes without a known outcome from which on they count, and how much each counts.
const UNDECIDED: (f64, f64) = (12.0, 0.45);

/// What a failure of a peer-to-peer program's call is worth, of one of another's.
const PEER: f64 = 0.1;

/// What a failure adds and a success takes away, of ports of one host and of hosts on one port.
const PORTS: (f64, f64) = (1.0, 2.5);
const HOSTS: (f64, f64) = (0.6, 2.3);

/// Both kinds of scan.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Scans {
    ports: BoundedMap<(IpAddr, IpAddr), Series>,
    hosts: BoundedMap<(IpAddr, u8, u16), Series>,
    peers: Peers,
    decoys: Decoys,
    late: Backlog<Key>,
    prior: f64,
    floor: f64,
}

/// A series of probes: of a client against a host, or against a port anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Key {
    Ports(IpAddr, IpAddr),
    Hosts(IpAddr, u8, u16),
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Series {
    tried: Distinct,
    decided: Distinct,
    undecided: Leaky,
    gain: f64,
    loss: f64,
    failed: u32,
    answered: u32,
    /// Answered conversations on ports tried before.
    usual: u32,
    examples: Vec<IpAddr>,
    /// The host tried last, and how often the next one was near it.
    before: Option<IpAddr>,
    near: u32,
    span: Option<Span>,
    gate: Gate,
}

impl Scans {
    pub(crate) fn new(config: &DetectionConfig) -> Self {
        let pairs = config.capacity.pairs;
        Self {
            ports: BoundedMap::new(pairs),
            hosts: BoundedMap::new(pairs),
            peers: Peers::new(config.capacity.hosts),
            decoys: Decoys::new(config.capacity.hosts),
            late: Backlog::default(),
            prior: logit(config.priors.scan),
            floor: config.speaks_from(),
        }
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.ports.evicted() + self.hosts.evicted() + self.peers.evicted() + self.decoys.evicted()
    }

    pub(crate) fn observe(&mut self, sighting: &Sighting<'_>, mark: Mark, findings: &mut Vec<Finding>) {
        match sighting {
            Sighting::Opened { contact, flow } if is_probe(contact) && !is_answer(flow) => {
                self.opened(contact, mark, findings);
            }
            Sighting::Judged {
                contact,
                outcome,
                began,
            } if is_probe(contact) => {
                self.judged(contact, *outcome, *began, mark, findings);
            }
            Sighting::Arp(record) => self.decoys.spoke(record.sender_ip.into()),
            Sighting::Tick { end } => {
                for key in self.late.take() {
                    self.report(key, mark, *end, findings);
                }
            }
            _ => {}
        }
    }

    fn opened(&mut self, contact: &Contact, mark: Mark, findings: &mut Vec<Finding>) {
        if contact.is_icmp() {
            return;
        }
        let series = self
            .ports
            .entry(&(contact.client, contact.server), Series::default);
        series.refresh(mark);
        if series.tried.insert(port_hash(contact)) {
            series.undecided.add(mark.time, 1.0, FRESH);
            series.touch(mark);
            self.decoys.tried(contact, &series.tried);
            self.report(Key::Ports(contact.client, contact.server), mark, false, findings);
        }
    }

    fn judged(
        &mut self,
        contact: &Contact,
        outcome: Outcome,
        began: Mark,
        mark: Mark,
        findings: &mut Vec<Finding>,
    ) {
        let scale = if contact.protocol == UDP { 0.5 } else { 1.0 };
        let of_peers = if self.peers.called(contact) { PEER } else { 1.0 };
        if !contact.is_icmp() {
            let series = self
                .ports
                .entry(&(contact.client, contact.server), Series::default);
            series.refresh(mark);
            if series.decided.insert(port_hash(contact)) {
                let undecided = series.undecided.read(mark.time, FRESH);
                series.undecided.add(mark.time, -undecided.min(1.0), FRESH);
                series.judge(outcome, PORTS.0 * scale * of_peers, PORTS.1, None);
                series.touch(began);
                series.touch(mark);
                self.report(Key::Ports(contact.client, contact.server), mark, false, findings);
            } else if !outcome.is_failure() {
                series.usual = series.usual.saturating_add(1);
            }
        }
        if is_often_unanswered(contact.protocol, contact.port) {
            return;
        }
        let key = (contact.client, contact.protocol, contact.port);
        // A series begins with a failure: successes alone need no memory.
        if outcome.is_failure() || self.hosts.peek(&key).is_some() {
            let series = self.hosts.entry(&key, Series::default);
            series.refresh(mark);
            if series.decided.insert(hash_address(contact.server)) {
                let of_peers = if series.is_orderly() { 1.0 } else { of_peers };
                series.judge(outcome, HOSTS.0 * scale * of_peers, HOSTS.1, Some(contact.server));
                let near = series.before.replace(contact.server);
                series.near += u32::from(near.is_some_and(|before| is_near(before, contact.server)));
                series.touch(began);
                series.touch(mark);
                self.report(Key::Hosts(key.0, key.1, key.2), mark, false, findings);
            }
        }
    }

    /// Speaks if the series is worth it and it is news; remembers to speak later if it is no news yet.
    fn report(&mut self, key: Key, mark: Mark, end: bool, findings: &mut Vec<Finding>) {
        let series = match key {
            Key::Ports(client, server) => self.ports.peek_mut(&(client, server)),
            Key::Hosts(client, protocol, port) => self.hosts.peek_mut(&(client, protocol, port)),
        };
        let Some(series) = series else { return };
        let card = series.card(key, self.prior, mark.time);
        if card.log_odds() < self.floor {
            return;
        }
        let Some(span) = series.span else { return };
        if !series.gate.pass(mark.time, card.log_odds()) && !end {
            self.late.add(key);
            return;
        }
        let together = match key {
            Key::Ports(client, server) => self.decoys.together(client, server),
            Key::Hosts(..) => Vec::new(),
        };
        findings.push(series.finding(key, &together, card, span));
    }
}

impl Series {
    /// Starts over if the last probe was long ago, or the clock was set anew.
    fn refresh(&mut self, mark: Mark) {
        if self
            .span
            .is_some_and(|span| !(-60.0..FORGET).contains(&seconds_between(span.latest, mark.time)))
        {
            *self = Self::default();
        }
    }

    /// Whether it goes through addresses in their order.
    fn is_orderly(&self) -> bool {
        self.near >= self.failed.saturating_add(self.answered).div_ceil(2).max(3)
    }

    fn touch(&mut self, mark: Mark) {
        match &mut self.span {
            Some(span) => span.extend(mark),
            none => *none = Some(Span::of(mark)),
        }
    }

    fn judge(&mut self, outcome: Outcome, gain: f64, loss: f64, example: Option<IpAddr>) {
        if outcome.is_failure() {
            self.gain += gain;
            self.failed = self.failed.saturating_add(1);
            if let Some(host) = example
                && self.examples.len() < PEERS
            {
                self.examples.push(host);
            }
        } else {
            self.loss += loss;
            self.answered = self.answered.saturating_add(1);
        }
        if self.gain <= self.loss {
            (self.gain, self.loss, self.failed, self.answered) = (0.0, 0.0, 0, 0);
            self.examples.clear();
            self.near = 0;
        }
    }

    fn card(&self, key: Key, prior: f64, now: Timestamp) -> Card {
        let (failed, answered, worth) = match key {
            Key::Ports(..) => (Feature::FailedPorts, Feature::AnsweredPorts, PORTS),
            Key::Hosts(..) => (Feature::FailedHosts, Feature::AnsweredHosts, HOSTS),
        };
        let undecided = self.undecided.read(now, FRESH);
        let counted = if undecided < UNDECIDED.0 {
            0.0
        } else {
            undecided * UNDECIDED.1
        };
        let usual = f64::from(self.usual);
        let (failures, answers) = (f64::from(self.failed), f64::from(self.answered));
        // Of as many probes of the same source, another share might have failed.
        let tried = failures + answers;
        let gain = self.gain / failures.max(1.0);
        let by_share = |share: f64| tried * (share * gain - (1.0 - share) * worth.1);
        let card = Card::new(prior)
            .with(failed, failures, self.gain)
            .with(answered, answers, -self.loss)
            .open_by_share(failures, tried, by_share)
            .with(Feature::UsualContacts, usual, -(0.15 * usual).min(3.0))
            .with(Feature::UndecidedPorts, undecided.round(), counted);
        match counted > 0.0 {
            true => card.open_by_count(undecided, |undecided| undecided * UNDECIDED.1),
            false => card,
        }
    }

    /// `together` are the sources of one scan, the one to accuse first.
    fn finding(&self, key: Key, together: &[IpAddr], card: Card, span: Span) -> Finding {
        match key {
            Key::Ports(client, server) => {
                let ports = self.tried.estimate().round().max(f64::from(self.failed));
                let (accused, others) = together.split_first().unwrap_or((&client, &[]));
                let mut title =
                    format!("Port scan: {accused} tried about {ports} ports of {server}, most in vain");
                if let Some(other) = others.first() {
                    let more = others.len() - 1;
                    let and = if more > 0 {
                        format!(" and {more} more")
                    } else {
                        String::new()
                    };
                    title += &format!("; so did {other}{and} with it: sources may be forged");
                }
                let peers = std::iter::once(server).chain(others.iter().copied());
                Finding {
                    detector: Detector::PortScan,
                    accused: *accused,
                    target: Target::host(server),
                    peers: peers.take(PEERS).collect(),
                    card,
                    title,
                    span,
                }
            }
            Key::Hosts(client, protocol, port) => {
                let what = match protocol {
                    TCP => format!("TCP port {port}"),
                    UDP => format!("UDP port {port}"),
                    _ => "ping".to_owned(),
                };
                Finding {
                    detector: Detector::HostSweep,
                    accused: client,
                    target: Target {
                        host: None,
                        service: Some((protocol, port)),
                        name: None,
                    },
                    peers: self.examples.clone(),
                    card,
                    title: format!(
                        "Host sweep: {client} tried {} hosts by {what}, most in vain",
                        self.failed
                    ),
                    span,
                }
            }
        }
    }
}

/// Whether a contact can be a probe at all: it is aimed at one host, and it is clear who began.
fn is_probe(contact: &Contact) -> bool {
    let clear = match contact.protocol {
        TCP => contact.certain,
        UDP => contact.port != 0 && contact.forward && !is_traceroute(contact.port),
        _ => true,
    };
    clear && is_host(contact.client) && is_host(contact.server)
}

/// Whether a flow begins with the server's answer. Then nobody has been seen to call, and who sends answers that nobody asked for
/// would make a prober of the one who gets them.
fn is_answer(flow: &FlowRecord) -> bool {
    flow.tcp
        .as_ref()
        .is_some_and(|tcp| tcp.syn.is_none() && tcp.syn_ack.is_some())
}

fn port_hash(contact: &Contact) -> u64 {
    mix(u64::from(contact.protocol) << 16 | u64::from(contact.port))
}
