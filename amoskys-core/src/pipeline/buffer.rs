use std::collections::{HashSet, VecDeque};
use std::time::Instant;

use crate::batch::{Position, Tally};
use crate::event::{Class, Event};
use crate::id::{EventId, Name, Offset};
use crate::ledger::Ledger;

use super::BatchLimits;
use super::delivery::Delivery;

/// Events of one source that are not sealed yet.
pub(super) struct Buffer {
    pub(super) source: Name,
    collect_stage: String,
    pub(super) log_stage: String,
    events: VecDeque<Event>,
    /// The collector's batches the events belong to, in order.
    batches: VecDeque<Pending>,
    /// When the oldest event came.
    pub(super) oldest: Option<Instant>,
    /// Events that are in the log already, though the position before them is the last one there.
    pub(super) ahead: HashSet<EventId>,
    /// Whether the source will be read again from its position after a crash.
    replayable: bool,
    /// The first record behind the last that carried a position: needed to know what is ahead of it.
    unpositioned: Option<Offset>,
}

/// What is left of a collector's batch.
#[derive(Default)]
struct Pending {
    events: usize,
    end: End,
}

/// What becomes true once a collector's batch is in the log, and not before.
#[derive(Default)]
pub(super) struct End {
    pub(super) position: Option<Position>,
    tally: Tally,
}

/// Events for one record.
pub(super) struct Chunk {
    pub(super) class: Class,
    pub(super) events: Vec<Event>,
    /// The end of the last batch that is complete with these events, if one is.
    pub(super) end: Option<End>,
}

impl Buffer {
    pub(super) fn new(
        source: &str,
        replayable: bool,
        ahead: HashSet<EventId>,
        unpositioned: Option<Offset>,
    ) -> Self {
        Self {
            source: source.into(),
            collect_stage: format!("collect/{source}"),
            log_stage: format!("log/{source}"),
            events: VecDeque::new(),
            batches: VecDeque::new(),
            oldest: None,
            ahead,
            replayable,
            unpositioned,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Takes what is left of a batch after transforms.
    pub(super) fn push(
        &mut self,
        events: impl IntoIterator<Item = Event>,
        position: Option<Position>,
        tally: &Tally,
    ) {
        let before = self.events.len();
        self.events.extend(events);
        let added = self.events.len() - before;
        if added > 0 || self.batches.is_empty() {
            self.batches.push_back(Pending {
                events: added,
                end: End::default(),
            });
        }
        // A batch without events belongs to the end of the one before, so that any number of them takes no room.
        if let Some(last) = self.batches.back_mut() {
            last.end.tally.add(tally);
            if position.is_some() {
                last.end.position = position;
            }
        }
        self.oldest.get_or_insert_with(Instant::now);
    }

    /// Takes events for one record off the front: of one class, within the limits, and whole batches of the
    /// collector if one fits. So the log keeps the order of the source across classes, wherever records end, and
    /// most records say how far the source has come.
    pub(super) fn next_chunk(&mut self, limits: &BatchLimits) -> Option<Chunk> {
        let class = self.events.front()?.class;
        let (mut most, mut bytes) = (0, 0);
        for event in self.events.iter().take(limits.max_events) {
            bytes += size_hint(event);
            if event.class != class || (bytes > limits.max_bytes && most > 0) {
                break;
            }
            most += 1;
        }
        let (mut count, mut end) = (0, None::<End>);
        while self
            .batches
            .front()
            .is_some_and(|batch| count + batch.events <= most)
        {
            let Some(batch) = self.batches.pop_front() else {
                break;
            };
            count += batch.events;
            match &mut end {
                None => end = Some(batch.end),
                Some(end) => end.absorb(batch.end),
            }
        }
        if count == 0 {
            count = most;
            if let Some(batch) = self.batches.front_mut() {
                batch.events -= most;
                // A position states what lies before it, so it must not go with the events behind it.
                if let Some(end) = end.take() {
                    batch.end.precede(end);
                }
            }
        }
        let events = self.events.drain(..count).collect();
        self.oldest = self.events.front().map(|_| Instant::now());
        Some(Chunk { class, events, end })
    }

    /// Gives back the end of a batch whose last events could not be sealed.
    pub(super) fn give_back(&mut self, end: End) {
        self.batches.push_front(Pending { events: 0, end });
    }

    /// Enters what the collector did with its input into the ledger.
    pub(super) fn enter(&self, end: &mut End, ledger: &Ledger) {
        let tally = std::mem::take(&mut end.tally);
        if tally.is_empty() {
            return;
        }
        ledger.received(&self.collect_stage, tally.seen());
        ledger.delivered(&self.collect_stage, tally.used);
        for (reason, count) in tally.dropped {
            ledger.dropped(&self.collect_stage, reason, count);
        }
    }

    /// Enters tallies that no event follows, into the ledger of this process only.
    pub(super) fn enter_rest(&mut self, ledger: &Ledger) {
        if self.events.is_empty()
            && let Some(mut batch) = self.batches.pop_front()
        {
            self.enter(&mut batch.end, ledger);
            self.batches.push_front(batch);
        }
        self.oldest = None;
    }

    /// Notes a record of this source, and tells what a restart will need of the log.
    pub(super) fn sealed(&mut self, offset: Offset, positioned: bool, delivery: &Delivery) {
        if positioned {
            self.unpositioned = None;
        } else if self.replayable {
            self.unpositioned.get_or_insert(offset);
        }
        delivery.needed(self.source.as_str(), self.unpositioned, offset);
    }

    /// Tells what a restart would need of the log now, before any reader lets it forget something.
    pub(super) fn hold(&self, delivery: &Delivery) {
        if let Some(from) = self.unpositioned {
            delivery.needed(self.source.as_str(), Some(from), from);
        }
    }
}

impl End {
    /// Goes on to a later end.
    fn absorb(&mut self, later: Self) {
        self.tally.add(&later.tally);
        if later.position.is_some() {
            self.position = later.position;
        }
    }

    /// Takes up an earlier end.
    fn precede(&mut self, earlier: Self) {
        self.tally.add(&earlier.tally);
        if self.position.is_none() {
            self.position = earlier.position;
        }
    }
}

/// A rough size of an event when encoded, to end a batch before it grows too large.
fn size_hint(event: &Event) -> usize {
    use crate::event::Payload;
    let payload = match &event.payload {
        Payload::Flow(flow) => 400 + 8 * flow.sequence.len(),
        Payload::Log(log) => log.message.len(),
        Payload::Unknown { bytes, .. } => bytes.len(),
        Payload::Syscall(calls) => 2 * calls.numbers.len(),
        Payload::Process(process) => process.arguments.iter().map(String::len).sum(),
        _ => 128,
    };
    let attributes = event.attributes.keys().map(|key| key.len() + 16).sum::<usize>();
    64 + payload + attributes + event.unknown.event.len() + event.unknown.payload.len()
}
