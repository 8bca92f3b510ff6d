//! Beacons and regular uploads: connections of one client to one service that keep to a period.
//!
//! **Idea.** A program that calls home does so on a timer: the intervals between the starts of its connections gather
//! around one value, the connections are short, and alike. People's intervals spread over orders of magnitude. The
//! median interval is the period; an interval within a third of it keeps to it, which under random (exponential)
//! intervals happens one time in four. Jitter of up to a third therefore does no harm, and neither does a missed
//! beat. The latest 32 connections count.
//!
//! Timers are mostly honest, so regularity alone never suffices (at most +6). What distinguishes: it goes outside, the
//! exchange is small and always of the same size, the connection is closed between the beats, the service is not a common one,
//! and the client does not poll several services alike, as monitors do. The geometric layer adds how many others use
//! the server.
//!
//! Services that honest hosts ask regularly by design over UDP (time, names, leases, SNMP, industrial polling) are left
//! out, and so are polls within one long connection: they are not connections. Other datagrams count less (-1.5): many programs
//! send them to keep a way through a firewall open.
//!
//! **Uploads.** Where each connection sends ten times what it receives and at least 10 kB, the series is one of uploads.
//! Uploads of nearly the same size, beside a nearly silent connection to the same service that is kept open, are how a
//! remote-access trojan ships screen shots or files.
//!
//! **Priors.** +0.5 for each interval that keeps to the period, +0.8 within 15 % of it, -0.8 for each that does not: about a third
//! of the logarithm of the ratio of chances, 0.95 : 0.23, 0.95 : 0.1 and 0.05 : 0.77, because honest programs have timers too.
//!
//! **Fails** with jitter far above a third, fewer than six connections, domain fronting through busy servers, and beacons
//! inside one connection. Accuses wrongly a lone program that polls an outside server every few seconds
//! to minutes with a new connection each time; a baseline teaches it.
//!
//! **Cost.** One look-up for each flow that ends; sorting 32 numbers for each from the sixth on; about 2 kB for each
//! client and service.

use std::net::IpAddr;

use amoskys_core::Timestamp;
use amoskys_core::event::FlowRecord;
use serde::{Deserialize, Serialize};

use crate::config::DetectionConfig;
use crate::finding::{Card, Detector, Feature, Finding, Gate, Mark, Span, Target};
use crate::measure::{BoundedMap, Ring, float, median, relative_spread, seconds_between};
use crate::odds::logit;
use crate::sighting::service::{TCP, UDP, is_common, is_periodic_by_design};
use crate::sighting::{Contact, Outcome, Sighting, is_host, is_local};

/// Intervals that make a series.
const INTERVALS: usize = 5;
/// Part of the period by which an interval may differ from it.
const TOLERANCE: f64 = 1.0 / 3.0;
/// The same of a timer that hardly jitters.
const TIGHT: f64 = 0.15;
/// What an interval adds that keeps to the period, and one that does so tightly.
const KEPT: [f64; 2] = [0.5, 0.8];
/// Seconds below which a period is a program's pace, not a timer.
const SHORTEST: f64 = 2.0;
/// Bytes a connection must send to be an upload.
const UPLOAD: f64 = 10_000.0;
/// Seconds a connection must last to be a control channel, and payload bytes a second it may carry.
const CONTROL: (f64, f64) = (30.0, 100.0);

/// The series of each client and service.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Channels {
    series: BoundedMap<Channel, Series>,
    /// Services that each client contacts regularly.
    regular: BoundedMap<IpAddr, Vec<(IpAddr, u16)>>,
    prior: f64,
    floor: f64,
}

/// Client, server, protocol, server port.
type Channel = (IpAddr, IpAddr, u8, u16);

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Series {
    beats: Ring<Beat, 32>,
    count: u32,
    control: bool,
    heartbeat: bool,
    span: Option<Span>,
    gate: Gate,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Beat {
    start: Timestamp,
    /// Seconds it lasted.
    lasted: f64,
    sent: f64,
    received: f64,
}

/// What the beats of a series amount to.
struct Rhythm {
    period: f64,
    kept: u32,
    /// Of those kept, the ones that hardly differ.
    tight: u32,
    missed: u32,
    busy: f64,
    size_spread: f64,
    sent: f64,
    received: f64,
}

impl Channels {
    pub(crate) fn new(config: &DetectionConfig) -> Self {
        Self {
            series: BoundedMap::new(config.capacity.pairs),
            regular: BoundedMap::new(config.capacity.hosts),
            prior: logit(config.priors.channel),
            floor: config.speaks_from(),
        }
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.series.evicted() + self.regular.evicted()
    }

    pub(crate) fn observe(&mut self, sighting: &Sighting<'_>, mark: Mark, findings: &mut Vec<Finding>) {
        match sighting {
            Sighting::Closed {
                contact,
                flow,
                outcome: Some(Outcome::Answered),
                began,
            } if counts(contact) => {
                self.closed(contact, flow, *began, mark, findings);
            }
            Sighting::Grew { contact, flow, .. } if counts(contact) && is_control(flow) => {
                let series = self.series.entry(&channel(contact), Series::default);
                series.control = true;
                series.heartbeat |= has_heartbeat(contact, flow);
            }
            _ => {}
        }
    }

    fn closed(
        &mut self,
        contact: &Contact,
        flow: &FlowRecord,
        began: Mark,
        mark: Mark,
        findings: &mut Vec<Finding>,
    ) {
        if is_control(flow) {
            return;
        }
        let channel = channel(contact);
        let (sent, received) = contact.payload(flow);
        let series = self.series.entry(&channel, Series::default);
        series.beats.push(Beat {
            start: contact.start,
            lasted: flow.duration().as_secs_f64(),
            sent: float(sent),
            received: float(received),
        });
        series.count = series.count.saturating_add(1);
        match &mut series.span {
            Some(span) => span.extend(mark),
            none => *none = Some(Span::of(began)),
        }
        let Some(rhythm) = series.rhythm() else { return };
        let regular = self.regular.entry(&contact.client, Vec::new);
        let known = regular
            .iter()
            .position(|service| *service == (contact.server, contact.port));
        match (rhythm.kept > 2 * rhythm.missed && rhythm.busy < 0.5, known) {
            (true, None) if regular.len() < 8 => regular.push((contact.server, contact.port)),
            (false, Some(at)) => _ = regular.remove(at),
            _ => {}
        }
        let card = series.card(&rhythm, contact, regular.len(), self.prior);
        let Some(span) = series.span else { return };
        if card.log_odds() >= self.floor && series.gate.pass(mark.time, card.log_odds()) {
            findings.push(series.finding(&rhythm, contact, card, span));
        }
    }
}

impl Series {
    fn rhythm(&self) -> Option<Rhythm> {
        if self.beats.len() <= INTERVALS {
            return None;
        }
        let mut starts: Vec<Timestamp> = self.beats.iter().map(|beat| beat.start).collect();
        starts.sort_unstable();
        let intervals: Vec<f64> = starts
            .windows(2)
            .map(|pair| seconds_between(pair[0], pair[1]))
            .collect();
        let period = median(&mut intervals.clone());
        if period < SHORTEST {
            return None;
        }
        let off = |interval: f64, whole: f64| (interval / period - whole).abs();
        let near = |interval: f64, whole: f64| off(interval, whole) <= TOLERANCE;
        let kept = intervals.iter().filter(|interval| near(**interval, 1.0)).count();
        let tight = intervals.iter().filter(|interval| off(**interval, 1.0) <= TIGHT);
        // A beat that was missed leaves an interval of two periods, which speaks for neither side.
        let skipped = intervals.iter().filter(|interval| near(**interval, 2.0)).count();
        let column = |pick: fn(&Beat) -> f64| self.beats.iter().map(pick).collect::<Vec<f64>>();
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Some(Rhythm {
            period,
            kept: number(kept),
            tight: number(tight.count()),
            missed: number(intervals.len() - kept - skipped),
            busy: median(&mut column(|beat| beat.lasted)) / period,
            size_spread: relative_spread(&mut column(|beat| beat.sent + beat.received)),
            sent: median(&mut column(|beat| beat.sent)),
            received: median(&mut column(|beat| beat.received)),
        })
    }

    fn card(&self, rhythm: &Rhythm, contact: &Contact, regular_peers: usize, prior: f64) -> Card {
        let upload = rhythm.is_upload();
        let exchange = rhythm.sent + rhythm.received;
        let alike = match rhythm.size_spread {
            s if s < 0.1 && upload => 2.0,
            s if s < 0.1 => 1.0,
            s if s < 0.3 => 0.5,
            s if s > 1.0 => -1.0,
            _ => 0.0,
        };
        let small = if exchange < 10_000.0 { 0.5 } else { 0.0 };
        let large = if exchange > 200_000.0 { -1.0 } else { 0.0 };
        let outside = is_local(contact.client) && !is_local(contact.server);
        let uncommon = !is_common(contact.port);
        let flag = |set: bool| f64::from(u8::from(set));
        let score = |set: bool, by: f64| if set { by } else { 0.0 };
        let (kept, missed) = (f64::from(rhythm.kept), f64::from(rhythm.missed));
        let tight = f64::from(rhythm.tight) / kept.max(1.0);
        let by_kept = |kept: f64| ((KEPT[0] + (KEPT[1] - KEPT[0]) * tight) * kept).min(6.0);
        // Of as many intervals, another share might have kept to the period.
        let intervals = kept + missed;
        let by_share = |share: f64| by_kept(share * intervals) - 0.8 * (1.0 - share) * intervals;
        let mut card = Card::new(prior)
            .with(Feature::Regular, kept, by_kept(kept))
            .with(Feature::Irregular, missed, -0.8 * missed)
            .open_by_share(kept, intervals, by_share)
            .with(Feature::SizeSpread, rhythm.size_spread, alike)
            .with(Feature::Busy, rhythm.busy, score(rhythm.busy > 0.5, -3.0))
            .with(Feature::PeerOutside, flag(outside), score(outside, 1.5))
            .with(Feature::UncommonPort, flag(uncommon), score(uncommon, 1.0))
            .with(
                Feature::Datagrams,
                flag(contact.protocol == UDP),
                score(contact.protocol == UDP, -1.5),
            )
            .with(
                Feature::Repetitions,
                f64::from(self.count),
                match self.count {
                    24.. => 1.0,
                    12.. => 0.5,
                    _ => 0.0,
                },
            )
            .with(
                Feature::RegularPeers,
                float(regular_peers as u64),
                match regular_peers {
                    0 | 1 => 0.0,
                    2 => -1.0,
                    _ => -3.0,
                },
            );
        if upload {
            let ratio = rhythm.sent / rhythm.received.max(1.0);
            let control = score(self.control, 2.0) + score(self.heartbeat, 1.5);
            card = card
                .with(Feature::UploadRatio, ratio, 1.0)
                .with(Feature::UploadBytes, rhythm.sent, 0.5)
                .with(Feature::ControlChannel, flag(self.control), control);
        } else {
            card = card.with(Feature::ExchangeBytes, exchange, small + large);
        }
        card
    }

    fn finding(&self, rhythm: &Rhythm, contact: &Contact, card: Card, span: Span) -> Finding {
        let Contact {
            client,
            server,
            port,
            protocol,
            ..
        } = *contact;
        let (detector, what) = if rhythm.is_upload() {
            (Detector::RepeatedUpload, "Regular uploads")
        } else {
            (Detector::Beacon, "Beacon")
        };
        Finding {
            detector,
            accused: client,
            target: Target::service(server, protocol, port),
            peers: vec![server],
            card,
            title: format!(
                "{what}: {client} calls {server} port {port} every {:.1} s",
                rhythm.period
            ),
            span,
        }
    }
}

impl Rhythm {
    fn is_upload(&self) -> bool {
        self.sent >= UPLOAD && self.sent >= 10.0 * self.received
    }
}

fn channel(contact: &Contact) -> Channel {
    (contact.client, contact.server, contact.protocol, contact.port)
}

/// Whether connections like this one can be a series: TCP seen from its beginning, or UDP to a service that is not
/// asked regularly by design.
fn counts(contact: &Contact) -> bool {
    is_host(contact.server)
        && match contact.protocol {
            TCP => contact.certain,
            UDP => contact.forward && contact.port != 0 && !is_periodic_by_design(UDP, contact.port),
            _ => false,
        }
}

/// Whether a connection is kept open and hardly used.
fn is_control(flow: &FlowRecord) -> bool {
    let seconds = flow.duration().as_secs_f64();
    let payload = flow.forward.payload.sum.saturating_add(flow.backward.payload.sum);
    seconds >= CONTROL.0 && float(payload) < CONTROL.1 * seconds
}

/// Whether the client sends messages of one size at one interval within the connection, as far as the first packets
/// show.
fn has_heartbeat(contact: &Contact, flow: &FlowRecord) -> bool {
    let mut at = 0.0;
    let mut sent: Vec<(u16, f64)> = Vec::new();
    for packet in &flow.sequence {
        at += f64::from(packet.gap_us) / 1e6;
        if packet.backward != contact.forward {
            sent.push((packet.length, at));
        }
    }
    // Bare acknowledgements are the shortest packets.
    let Some(shortest) = sent.iter().map(|(length, _)| *length).min() else {
        return false;
    };
    sent.iter()
        .map(|(length, _)| *length)
        .filter(|length| *length > shortest)
        .any(|size| {
            let times: Vec<f64> = sent
                .iter()
                .filter(|(length, _)| *length == size)
                .map(|(_, at)| *at)
                .collect();
            let mut gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
            gaps.len() >= 4 && median(&mut gaps.clone()) >= 1.0 && relative_spread(&mut gaps) < 0.1
        })
}
