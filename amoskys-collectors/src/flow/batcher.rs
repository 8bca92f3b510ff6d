//! Gathers what the meter finds into batches of events.

use std::collections::BTreeMap;

use amoskys_core::event::{ArpRecord, DnsRecord, FlowRecord, LossReport, Payload, Punctuation, Value};
use amoskys_core::{Batch, DropReason, Event, EventId, Name, Tally, Timestamp};
use tokio::sync::mpsc;

use super::meter::FlowHandler;
use super::position::Place;
use super::stats::MeterStats;
use crate::packet::SkipReason;

/// A batch of so many events is sent after the packet that completed it.
const BATCH_EVENTS: usize = 512;
/// A batch of so many is sent at once: a leap in time may end all flows with one packet.
const MAX_BATCH_EVENTS: usize = 1024;
/// Packets that cause no events are reported after so many.
const BATCH_PACKETS: u64 = 65_536;
/// The clock is stated whenever it has moved on by this much.
const PUNCTUATION_NS: i64 = 1_000_000_000;
/// Packets of a capture may be this much in disorder. Events are given a time no earlier than this before the
/// clock stated last, so that none of them is late; the records keep the packets' own times.
const LATENESS_NS: i64 = 1_000_000_000;

/// What the collector receives.
pub(crate) type Message<E> = Result<Batch, E>;

/// Running counts of what becomes of a source's input.
pub(crate) trait Counts: Copy + Default {
    /// Adds what was counted between two readings.
    fn add_difference(tally: &mut Tally, before: &Self, after: &Self);
}

/// Makes events of records, and batches of events, and sends them; waits while the collector's queue is full.
///
/// "Packets" are whatever the source reads one by one.
pub(crate) struct Batcher<S, E> {
    output: mpsc::Sender<Message<E>>,
    device: Name,
    source: Name,
    /// Where what is reported as lost was lost.
    stage: &'static str,
    events: Vec<Event>,
    /// Events and packets so far, those left out included.
    place: Place,
    /// Where the batches of an earlier run ended: what comes before is left out.
    resume: Place,
    /// Whether places can be returned to.
    positions: bool,
    /// What of the meter's counts has been reported, and up to which packet.
    told: S,
    told_packets: u64,
    /// Packets that did not reach the meter, not reported yet.
    extra: Tally,
    /// The clock as stated last.
    stated: Option<i64>,
    unwanted: bool,
}

impl<S: Counts, E> Batcher<S, E> {
    pub(crate) fn new(
        output: mpsc::Sender<Message<E>>,
        device: Name,
        source: Name,
        stage: &'static str,
        resume: Place,
        positions: bool,
    ) -> Self {
        Self {
            output,
            device,
            source,
            stage,
            events: Vec::new(),
            place: Place {
                origin: resume.origin,
                ..Place::default()
            },
            resume,
            positions,
            told: S::default(),
            told_packets: 0,
            extra: Tally::default(),
            stated: None,
            unwanted: false,
        }
    }

    /// A packet was metered.
    pub(crate) fn step(&mut self, now: Option<Timestamp>, stats: &S) {
        self.pass(stats);
        self.tick(now);
        if self.events.len() >= BATCH_EVENTS || self.place.packets - self.told_packets >= BATCH_PACKETS {
            self.flush(stats);
        }
    }

    /// Packets were lost before the meter: they are counted, and the stream says so.
    pub(crate) fn lose(
        &mut self,
        reason: &'static str,
        count: u64,
        unit: &'static str,
        now: Option<Timestamp>,
        stats: &S,
    ) {
        if count == 0 {
            return;
        }
        self.extra.drop_items(DropReason::known(reason), count);
        self.pass(stats);
        // Without a single packet there is no time to put it at.
        if let Some(now) = now {
            self.report(now, None, reason, count, unit);
        }
    }

    /// The stream says that something was lost.
    pub(crate) fn report(
        &mut self,
        now: Timestamp,
        device: Option<&Name>,
        reason: &str,
        count: u64,
        unit: &str,
    ) {
        let report = LossReport {
            count,
            unit: unit.to_owned(),
            reason: reason.to_owned(),
            stage: self.stage.to_owned(),
        };
        self.add(now, device, || Payload::Loss(Box::new(report)));
    }

    /// The source has ended.
    pub(crate) fn end(&mut self, now: Option<Timestamp>, stats: &S) {
        if let Some(now) = now {
            self.punctuate(now, true);
        }
        self.flush(stats);
    }

    /// Sends what there is, with the packets counted since the last time. Call between packets.
    pub(crate) fn flush(&mut self, stats: &S) {
        let mut tally = std::mem::take(&mut self.extra);
        if self.place.packets < self.resume.packets {
            return;
        }
        S::add_difference(&mut tally, &self.told, stats);
        (self.told, self.told_packets) = (*stats, self.place.packets);
        if !self.events.is_empty() || !tally.is_empty() {
            self.send(tally);
        }
    }

    /// Something that packets are counted for has passed.
    fn pass(&mut self, stats: &S) {
        self.place.packets += 1;
        if self.place.packets == self.resume.packets {
            // What was reported up to here in an earlier run is not reported again.
            (self.told, self.told_packets) = (*stats, self.place.packets);
            self.extra = Tally::default();
        }
    }

    /// Time passed without a packet.
    pub(crate) fn tick(&mut self, now: Option<Timestamp>) {
        if let Some(now) = now
            && self
                .stated
                .is_none_or(|stated| now.nanos().saturating_sub(stated) >= PUNCTUATION_NS)
        {
            self.punctuate(now, false);
        }
    }

    /// Whether anybody wants more.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.unwanted && !self.output.is_closed()
    }

    /// Sends an error instead of a batch.
    pub(crate) fn fail(&mut self, error: E) {
        // If nobody listens, nobody wants to know.
        let _ = self.output.blocking_send(Err(error));
    }

    fn punctuate(&mut self, now: Timestamp, end: bool) {
        let punctuation = Punctuation {
            lateness_ns: LATENESS_NS.unsigned_abs(),
            end,
        };
        self.add(now, None, || Payload::Punctuation(punctuation));
        self.stated = Some(now.nanos());
    }

    fn add(&mut self, time: Timestamp, device: Option<&Name>, payload: impl FnOnce() -> Payload) {
        self.add_with(time, device, |_| payload());
    }

    /// An event at this time, about this device or that of the whole source. What is left out because it was
    /// handed over before is not made.
    pub(crate) fn add_with(
        &mut self,
        time: Timestamp,
        device: Option<&Name>,
        payload: impl FnOnce(&mut BTreeMap<String, Value>) -> Payload,
    ) {
        let ordinal = self.place.events;
        self.place.events += 1;
        if ordinal < self.resume.events || self.unwanted {
            return;
        }
        let earliest = self
            .stated
            .map_or(i64::MIN, |stated| stated.saturating_sub(LATENESS_NS));
        let mut attributes = BTreeMap::new();
        let payload = payload(&mut attributes);
        self.events.push(Event {
            id: EventId {
                origin: self.place.origin,
                ordinal,
            },
            time: Timestamp::from_nanos(time.nanos().max(earliest)),
            device: device.unwrap_or(&self.device).clone(),
            source: self.source.clone(),
            payload,
            attributes,
            ..Event::default()
        });
        if self.events.len() >= MAX_BATCH_EVENTS {
            // In the middle of a packet, whose count follows with the next flush.
            self.send(Tally::default());
        }
    }

    fn send(&mut self, tally: Tally) {
        let place = Place {
            packets: self.told_packets,
            ..self.place
        };
        let batch = Batch {
            events: std::mem::take(&mut self.events),
            position: self.positions.then(|| place.encode()),
            tally,
        };
        self.unwanted |= self.output.blocking_send(Ok(batch)).is_err();
    }
}

impl<E> FlowHandler for Batcher<MeterStats, E> {
    fn flow(&mut self, time: Timestamp, record: &FlowRecord) {
        self.add(time, None, || Payload::Flow(Box::new(record.clone())));
    }

    fn dns(&mut self, time: Timestamp, record: &DnsRecord) {
        self.add(time, None, || Payload::Dns(Box::new(record.clone())));
    }

    fn arp(&mut self, time: Timestamp, record: &ArpRecord) {
        self.add(time, None, || Payload::Arp(Box::new(*record)));
    }
}

impl Counts for MeterStats {
    fn add_difference(tally: &mut Tally, before: &Self, after: &Self) {
        tally.used += (after.metered - before.metered) + (after.arp - before.arp);
        for reason in SkipReason::ALL {
            let count = after.skipped(reason) - before.skipped(reason);
            tally.drop_items(DropReason::known(reason.as_str()), count);
        }
    }
}
