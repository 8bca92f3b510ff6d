//! Events on their way: what a collector hands over, and what a log gives back.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::event::Event;
use crate::id::{Seq, StreamId};
use crate::ledger::DropReason;

/// A place in a source, in the source's own encoding; opaque to everyone else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Position(pub Bytes);

/// What a [`Collector`](crate::Collector) hands over at once: events, and how far it has come.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The events, in the order they happened as far as the source knows.
    pub events: Vec<Event>,
    /// The place in the source after the last of the events; `None` if it cannot be read again.
    pub position: Option<Position>,
    /// What the collector did with its input since the last batch, in the input's own unit (packets,
    /// datagrams, lines).
    pub tally: Tally,
}

impl Batch {
    /// A batch of events without a position.
    #[must_use]
    pub fn of(events: Vec<Event>) -> Self {
        Self {
            events,
            ..Self::default()
        }
    }
}

impl From<Event> for Batch {
    fn from(event: Event) -> Self {
        Self::of(vec![event])
    }
}

/// Input of a collector since its last batch: seen = used + dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Items that went into events, or into state that events will come from.
    pub used: u64,
    /// Items that did not, by reason.
    pub dropped: BTreeMap<DropReason, u64>,
}

impl Tally {
    /// Counts `count` items that did not go into events.
    pub fn drop_items(&mut self, reason: DropReason, count: u64) {
        if count > 0 {
            *self.dropped.entry(reason).or_default() += count;
        }
    }

    /// All items: used and dropped.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.used + self.dropped.values().sum::<u64>()
    }

    /// Whether nothing was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.used == 0 && self.dropped.is_empty()
    }

    /// Adds another tally to this one.
    pub fn add(&mut self, other: &Self) {
        self.used += other.used;
        for (reason, count) in &other.dropped {
            self.drop_items(reason.clone(), *count);
        }
    }
}

/// An event with its place in its stream: what analyzers and sinks receive.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// The stream.
    pub stream: Arc<StreamId>,
    /// The event's number in it.
    pub seq: Seq,
    /// Whose clock its time is by. Events of one timeline come in the order of their times, whatever their streams;
    /// a stream whose clock disagrees with the others' has a timeline of its own. 0 unless several agents' streams
    /// were merged.
    pub timeline: u32,
    /// The event.
    pub event: Event,
}
