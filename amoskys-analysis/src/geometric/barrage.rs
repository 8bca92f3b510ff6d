//! Floods of packets that open nothing: UDP, ICMP echoes, and TCP out of the blue.
//!
//! **Idea.** What one host gets within ten seconds and nobody asked for or answered is counted: UDP conversations that stay without an
//! answer, TCP packets that belong to no connection, and ICMP echo requests whether answered or not, because their answers cost
//! as much. UDP and TCP are held against the conversations with the same host that came about. A stream in one UDP
//! conversation, as of voice or of a VPN, is one conversation, and so nothing.
//!
//! **Priors.** 100 within ten seconds are nothing: peer-to-peer software and monitors come to that. Each doubling adds 2.5; nine tenths of
//! all conversations add 2.5, as for half-open connections; echoes have no such share, and start from the same place. Many senders
//! look like an outage as well: 2 less up to a thousand. From about 550 on the layer is sure.
//!
//! Services that often do not answer (time, exports, discovery) do not count on hosts that have not been seen to answer: the sensor
//! may see one direction only.
//!
//! Where more than a fifth of the conversations are aimed at different ports, it is a scan, and left to those who look for scans.
//!
//! **Fails** against one large UDP stream, floods of answered requests, and what is below 50 a second. If senders are forged, one of the
//! most frequent is named though it may be innocent; the title says so.
//!
//! **Cost.** One look-up for each UDP flow that begins or is decided, each TCP flow that ends, and each record of an echo; about 500
//! bytes for each host and protocol.

use std::net::IpAddr;

use amoskys_core::Timestamp;
use amoskys_core::event::FlowRecord;
use serde::{Deserialize, Serialize};

use super::senders::Senders;
use super::undecided::{MEMORY, Undecided};
use crate::config::DetectionConfig;
use crate::finding::{Card, Detector, Feature, Finding, Gate, Mark, Span, Target};
use crate::layer::Backlog;
use crate::measure::{BoundedMap, Distinct, Leaky, float, mix, seconds_between};
use crate::odds::logit;
use crate::sighting::service::{ICMP, TCP, UDP, is_often_unanswered};
use crate::sighting::{Contact, Growth, Outcome, Sighting, is_host};

/// What is still nothing.
const USUAL: f64 = 100.0;
/// What is left of a flood when it is over.
const QUIET: f64 = 10.0;
/// Conversations without a known outcome that make a crowd.
const CROWD: u32 = 2_000;
/// Share of different ports among the conversations begun beyond which it is a scan.
const PORTS: f64 = 0.2;

/// What each host gets.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Barrages {
    hosts: BoundedMap<Stream, Barrage>,
    late: Backlog<Stream>,
    prior: f64,
    floor: f64,
}

/// Host and protocol.
type Stream = (IpAddr, u8);

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Barrage {
    idle: Leaky,
    useful: Leaky,
    undecided: Undecided<CROWD>,
    /// Whether the host ever answered.
    answers: bool,
    senders: Senders,
    /// Conversations begun, and the ports they are aimed at.
    begun: f64,
    ports: Distinct,
    span: Option<Span>,
    gate: Gate,
}

impl Barrages {
    pub(crate) fn new(config: &DetectionConfig) -> Self {
        Self {
            hosts: BoundedMap::new(config.capacity.hosts),
            late: Backlog::default(),
            prior: logit(config.priors.flood),
            floor: config.speaks_from(),
        }
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.hosts.evicted()
    }

    pub(crate) fn observe(&mut self, sighting: &Sighting<'_>, mark: Mark, findings: &mut Vec<Finding>) {
        match sighting {
            Sighting::Opened { contact, .. } if is_question(contact) => {
                let barrage = self.of(contact, UDP);
                if barrage.answers || !is_often_unanswered(UDP, contact.port) {
                    barrage.begin(contact.client, contact.port, mark);
                    self.report((contact.server, UDP), mark, false, findings);
                }
            }
            Sighting::Judged { contact, outcome, .. } if is_question(contact) => {
                let barrage = self.of(contact, UDP);
                let answered = *outcome == Outcome::Answered;
                barrage.answers |= answered;
                if barrage.answers || !is_often_unanswered(UDP, contact.port) {
                    barrage.decide(!answered, mark);
                    self.report((contact.server, UDP), mark, false, findings);
                }
            }
            Sighting::Closed {
                contact,
                flow,
                outcome,
                ..
            } if contact.protocol == TCP => {
                if is_stray(flow) {
                    // Whoever sent the first packet: that it began no connection is all that is known of it.
                    let (client, server) = (flow.key.source, flow.key.destination);
                    let barrage = self.hosts.entry(&(server, TCP), Barrage::default);
                    barrage.begin(client, flow.key.destination_port, mark);
                    barrage.decide(true, mark);
                    self.report((server, TCP), mark, false, findings);
                } else if *outcome == Some(Outcome::Answered)
                    && let Some(barrage) = self.hosts.peek_mut(&(contact.server, TCP))
                {
                    barrage.useful.add(mark.time, 1.0, MEMORY);
                }
            }
            Sighting::Grew {
                contact,
                flow,
                growth,
            } if contact.is_icmp() => {
                self.echoes(contact, flow, growth, mark, findings);
            }
            Sighting::Tick { end } => {
                for stream in self.late.take() {
                    self.report(stream, mark, *end, findings);
                }
            }
            _ => {}
        }
    }

    fn of(&mut self, contact: &Contact, protocol: u8) -> &mut Barrage {
        self.hosts.entry(&(contact.server, protocol), Barrage::default)
    }

    fn echoes(
        &mut self,
        contact: &Contact,
        flow: &FlowRecord,
        growth: &Growth,
        mark: Mark,
        findings: &mut Vec<Finding>,
    ) {
        // Where answers are not those of the request, a tunnel is looked for instead.
        if growth.echoes == 0 || growth.altered > 0 {
            return;
        }
        // A record that tells of a longer time tells of that many echoes in ten seconds.
        let whole = flow
            .icmp
            .as_ref()
            .map_or(0, |icmp| icmp.echo_requests.saturating_add(icmp.echo_replies));
        let seconds = match growth.echoes.saturating_add(2) >= whole {
            true => seconds_between(contact.start, mark.time).max(MEMORY),
            false => MEMORY,
        };
        let requests = float(growth.echoes) / 2.0 * MEMORY / seconds;
        if requests < 20.0 && self.hosts.peek(&(contact.server, ICMP)).is_none() {
            return;
        }
        let barrage = self.of(contact, ICMP);
        barrage.begin(contact.client, 0, mark);
        barrage.undecided = Undecided::default();
        barrage.idle.add(mark.time, requests, MEMORY);
        self.report((contact.server, ICMP), mark, false, findings);
    }

    fn report(&mut self, stream: Stream, mark: Mark, end: bool, findings: &mut Vec<Finding>) {
        let Some(barrage) = self.hosts.peek_mut(&stream) else {
            return;
        };
        // Who tries many ports scans.
        if barrage.amount(mark.time) < USUAL || barrage.ports.estimate() > PORTS * barrage.begun + 1.0 {
            return;
        }
        let card = barrage.card(self.prior, mark.time);
        let Some(span) = barrage.span else { return };
        if card.log_odds() < self.floor {
            return;
        }
        if !barrage.gate.pass(mark.time, card.log_odds()) && !end {
            self.late.add(stream);
            return;
        }
        findings.extend(barrage.finding(stream, card, span));
    }
}

impl Barrage {
    fn begin(&mut self, client: IpAddr, port: u16, mark: Mark) {
        let left = self.idle.read(mark.time, MEMORY) + self.undecided.read(mark.time);
        if left < QUIET {
            // What was before is over, and says nothing of who begins another.
            *self = Self {
                idle: self.idle,
                useful: self.useful,
                undecided: self.undecided,
                answers: self.answers,
                gate: self.gate,
                ..Self::default()
            };
        }
        self.undecided.begin(mark.time);
        self.senders.add(client);
        self.begun += 1.0;
        self.ports.insert(mix(u64::from(port)));
        match &mut self.span {
            Some(span) => span.extend(mark),
            none => *none = Some(Span::of(mark)),
        }
    }

    fn decide(&mut self, idle: bool, mark: Mark) {
        self.undecided.decide(mark.time);
        let sum = if idle { &mut self.idle } else { &mut self.useful };
        sum.add(mark.time, 1.0, MEMORY);
    }

    fn amount(&self, now: Timestamp) -> f64 {
        let useful = self.useful.read(now, MEMORY);
        self.idle.read(now, MEMORY) + self.undecided.counted(now, useful)
    }

    fn card(&self, prior: f64, now: Timestamp) -> Card {
        let amount = self.amount(now);
        let seen = amount + self.useful.read(now, MEMORY);
        let by_share = |share: f64| (10.8 * (share - 0.9) + 2.5).clamp(-4.0, 2.5);
        let by_amount = |amount: f64| (2.5 * (amount / USUAL).log2()).min(12.0);
        let sources = self.senders.count();
        Card::new(prior)
            .with(Feature::FloodPackets, amount.round(), by_amount(amount))
            .open_by_count(amount, by_amount)
            .with(Feature::FloodShare, amount / seen, by_share(amount / seen))
            .open_by_share(amount, seen, by_share)
            .with(Feature::Sources, sources.round(), self.senders.outage(amount))
    }

    fn finding(&mut self, (server, protocol): Stream, card: Card, span: Span) -> Option<Finding> {
        let (accused, from) = self.senders.accuse()?;
        let what = match protocol {
            TCP => "TCP packets of no connection",
            UDP => "UDP packets that nobody answers",
            _ => "echo requests",
        };
        Some(Finding {
            detector: Detector::PacketFlood,
            accused,
            target: Target::host(server),
            peers: vec![server],
            card,
            title: format!("Flood: {server} gets {what}, from {from}"),
            span,
        })
    }
}

/// Whether it is a UDP packet to one host that can be answered.
fn is_question(contact: &Contact) -> bool {
    contact.protocol == UDP
        && contact.port != 0
        && contact.forward
        && is_host(contact.client)
        && is_host(contact.server)
}

/// A TCP packet or two that belong to no connection and carry nothing.
fn is_stray(flow: &FlowRecord) -> bool {
    flow.forward.packets <= 2
        && flow.forward.data_packets == 0
        && flow.backward.data_packets == 0
        && flow.tcp.as_ref().is_some_and(|tcp| {
            let reset = tcp.backward.flags.rst > 0;
            tcp.syn.is_none() && (tcp.syn_ack.is_none() || reset)
        })
}
