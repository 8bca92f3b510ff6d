//! Gathers what a live source finds into batches of events.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io;

#[cfg(any(feature = "ebpf", feature = "fim"))]
use amoskys_core::event::LossReport;
use amoskys_core::event::{Payload, Punctuation, Value};
use amoskys_core::{Batch, DropReason, Event, EventId, Name, Tally, Timestamp};
use tokio::sync::mpsc;

/// Batches that may wait for the reader of a collector.
pub(crate) const QUEUE_BATCHES: usize = 4;
/// Events of a batch.
const BATCH_EVENTS: usize = 512;

/// Makes batches and sends them; waits while the collector's queue is full. To be used on a thread of its own.
pub(crate) struct LiveBatcher<E> {
    output: mpsc::Sender<Result<Batch, E>>,
    device: Name,
    source: Name,
    origin: u64,
    ordinal: u64,
    events: Vec<Event>,
    tally: Tally,
    stated: Timestamp,
    unwanted: bool,
}

impl<E> LiveBatcher<E> {
    pub(crate) fn new(output: mpsc::Sender<Result<Batch, E>>, device: Name, source: Name) -> Self {
        Self {
            output,
            device,
            source,
            // A live source is another one each time.
            origin: RandomState::new().hash_one(std::process::id()),
            ordinal: 0,
            events: Vec::new(),
            tally: Tally::default(),
            stated: Timestamp::MIN,
            unwanted: false,
        }
    }

    /// Gives what fills batches a thread of its own; the batches.
    pub(crate) fn on_thread(
        name: &str,
        device: &Name,
        source: &Name,
        fill: impl FnOnce(Self) + Send + 'static,
    ) -> io::Result<mpsc::Receiver<Result<Batch, E>>>
    where
        E: Send + 'static,
    {
        let (output, batches) = mpsc::channel(QUEUE_BATCHES);
        let batcher = Self::new(output, device.clone(), source.clone());
        let thread = std::thread::Builder::new().name(name.to_owned());
        thread.spawn(move || fill(batcher))?;
        Ok(batches)
    }

    /// An event. One earlier than the clock stated last is put at that, so that none is late.
    pub(crate) fn add(&mut self, time: Timestamp, payload: Payload) {
        self.add_with(time, payload, BTreeMap::new());
    }

    pub(crate) fn add_with(
        &mut self,
        time: Timestamp,
        payload: Payload,
        attributes: BTreeMap<String, Value>,
    ) {
        let id = EventId {
            origin: self.origin,
            ordinal: self.ordinal,
        };
        self.ordinal += 1;
        self.events.push(Event {
            id,
            time: time.max(self.stated),
            device: self.device.clone(),
            source: self.source.clone(),
            payload,
            attributes,
            ..Event::default()
        });
        if self.events.len() >= BATCH_EVENTS {
            self.send();
        }
    }

    /// Items of the input that went into events or state.
    pub(crate) fn used(&mut self, items: u64) {
        self.tally.used += items;
    }

    /// Items of the input that did not.
    pub(crate) fn dropped(&mut self, reason: &'static str, items: u64) {
        self.tally.drop_items(DropReason::known(reason), items);
    }

    /// Items that are lost: they are counted, and the stream says so.
    #[cfg(any(feature = "ebpf", feature = "fim"))]
    pub(crate) fn lost(&mut self, now: Timestamp, reason: &'static str, items: u64, unit: &str, stage: &str) {
        self.dropped(reason, items);
        let report = LossReport {
            count: items,
            unit: unit.to_owned(),
            reason: reason.to_owned(),
            stage: stage.to_owned(),
        };
        self.add(now, Payload::Loss(Box::new(report)));
    }

    /// States the clock, and sends what there is.
    pub(crate) fn punctuate(&mut self, now: Timestamp, end: bool) {
        let now = now.max(self.stated);
        let punctuation = Punctuation { lateness_ns: 0, end };
        self.add(now, Payload::Punctuation(punctuation));
        self.stated = now;
        self.send();
    }

    /// Whether anybody wants more.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.unwanted && !self.output.is_closed()
    }

    pub(crate) fn fail(&self, error: E) {
        // If nobody listens, nobody wants to know.
        let _ = self.output.blocking_send(Err(error));
    }

    fn send(&mut self) {
        let batch = Batch {
            events: std::mem::take(&mut self.events),
            position: None,
            tally: std::mem::take(&mut self.tally),
        };
        self.unwanted |= self.output.blocking_send(Ok(batch)).is_err();
    }
}
