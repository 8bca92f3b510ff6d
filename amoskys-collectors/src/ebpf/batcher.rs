//! Gathers events into batches, with what became of all that the kernel saw.

use std::collections::BTreeMap;

use amoskys_core::event::{Alarm, Class, LossReport, Payload, Punctuation};
use amoskys_core::{Batch, DropReason, Event, EventId, Name, Tally, Timestamp};
use tokio::sync::mpsc;

use super::counters::{DropCause, KernelStats};
use super::error::EbpfError;

/// Events of a batch.
const BATCH_EVENTS: usize = 512;
/// Records of two processors come in the order they were written, not in that of their times.
const LATENESS_NS: i64 = 1_000_000_000;
/// The clock is stated whenever it has moved on by this much.
const PUNCTUATION_NS: i64 = 1_000_000_000;

pub(super) type Message = Result<Batch, EbpfError>;

/// Makes batches and sends them; waits while the collector's queue is full.
pub(super) struct Batcher {
    output: mpsc::Sender<Message>,
    device: Name,
    source: Name,
    origin: u64,
    ordinal: u64,
    events: Vec<Event>,
    tally: Tally,
    stated: i64,
    /// What the kernel had dropped when it was last told, by cause.
    told: BTreeMap<DropCause, u64>,
    unwanted: bool,
}

impl Batcher {
    pub(super) fn new(output: mpsc::Sender<Message>, device: Name, source: Name) -> Self {
        use std::hash::{BuildHasher, RandomState};
        Self {
            output,
            device,
            source,
            // A live source is another one each time.
            origin: RandomState::new().hash_one(std::process::id()),
            ordinal: 0,
            events: Vec::new(),
            tally: Tally::default(),
            stated: i64::MIN,
            told: BTreeMap::new(),
            unwanted: false,
        }
    }

    /// An event, made of `items` of what the kernel saw.
    pub(super) fn add(&mut self, time: Timestamp, payload: Payload, items: u64) {
        self.tally.used += items;
        let class = match payload {
            Payload::Syscall(_) | Payload::SyscallHistogram(_) => Class::Bulk,
            Payload::Alarm(_) => Class::Alert,
            _ => Class::Telemetry,
        };
        let earliest = self.stated.saturating_sub(LATENESS_NS);
        let id = EventId {
            origin: self.origin,
            ordinal: self.ordinal,
        };
        self.ordinal += 1;
        self.events.push(Event {
            id,
            time: Timestamp::from_nanos(time.nanos().max(earliest)),
            device: self.device.clone(),
            source: self.source.clone(),
            class,
            payload,
            ..Event::default()
        });
        if self.events.len() >= BATCH_EVENTS {
            self.send();
        }
    }

    /// Items that were read and left out.
    pub(super) fn leave_out(&mut self, cause: &'static str, items: u64) {
        self.tally.drop_items(DropReason::known(cause), items);
    }

    /// Enters what the kernel dropped since the last time. Losses are also told in the stream. How many were lost.
    pub(super) fn dropped(&mut self, stats: &KernelStats, now: Timestamp) -> u64 {
        let total = stats.total();
        let mut lost = 0;
        for cause in DropCause::ALL {
            let count = total.dropped(cause);
            let told = self.told.insert(cause, count).unwrap_or_default();
            let new = count.saturating_sub(told);
            self.tally.drop_items(DropReason::known(cause.as_str()), new);
            if new > 0 && cause.is_loss() {
                lost += new;
                let report = LossReport {
                    count: new,
                    unit: "events".to_owned(),
                    reason: cause.as_str().to_owned(),
                    stage: "kernel".to_owned(),
                };
                self.add(now, Payload::Loss(Box::new(report)), 0);
            }
        }
        lost
    }

    pub(super) fn alarm(&mut self, now: Timestamp, alarm: Alarm) {
        self.add(now, Payload::Alarm(Box::new(alarm)), 0);
    }

    /// States the clock if it has moved on.
    pub(super) fn tick(&mut self, now: Timestamp) {
        if now.nanos().saturating_sub(self.stated) >= PUNCTUATION_NS {
            self.punctuate(now, false);
        }
    }

    pub(super) fn end(&mut self, now: Timestamp) {
        self.punctuate(now, true);
        self.flush();
    }

    pub(super) fn flush(&mut self) {
        if !self.events.is_empty() || !self.tally.is_empty() {
            self.send();
        }
    }

    /// Whether anybody wants more.
    pub(super) fn is_wanted(&self) -> bool {
        !self.unwanted && !self.output.is_closed()
    }

    pub(super) fn fail(&self, error: EbpfError) {
        // If nobody listens, nobody wants to know.
        let _ = self.output.blocking_send(Err(error));
    }

    fn punctuate(&mut self, now: Timestamp, end: bool) {
        let punctuation = Punctuation {
            lateness_ns: LATENESS_NS.unsigned_abs(),
            end,
        };
        self.add(now, Payload::Punctuation(punctuation), 0);
        self.stated = now.nanos();
    }

    fn send(&mut self) {
        let batch = Batch {
            events: std::mem::replace(&mut self.events, Vec::with_capacity(BATCH_EVENTS)),
            position: None,
            tally: std::mem::take(&mut self.tally),
        };
        self.unwanted |= self.output.blocking_send(Ok(batch)).is_err();
    }
}
