use std::convert::Infallible;

use bytes::Bytes;

use crate::batch::{Batch, Position, Tally};
use crate::collector::Collector;
use crate::event::Event;
use crate::id::{EventId, Name};

/// A collector of events that are already there. It can be resumed.
///
/// Events get ids from the collector's name and their place, so that a second run gives the same ids.
#[derive(Clone, Debug)]
pub struct MemoryCollector {
    name: Name,
    origin: u64,
    events: Vec<Event>,
    batch_events: usize,
    at: usize,
}

impl MemoryCollector {
    /// A collector named `name`, which hands out `events` in batches of 64.
    #[must_use]
    pub fn new(name: &str, events: Vec<Event>) -> Self {
        let digest = crate::Digest::of(name.as_bytes());
        let mut origin = [0; 8];
        origin.copy_from_slice(&digest.0[..8]);
        Self {
            name: name.into(),
            origin: u64::from_be_bytes(origin),
            events,
            batch_events: 64,
            at: 0,
        }
    }

    /// Hands out at most this many events at once. Default 64; 0 counts as 1.
    #[must_use]
    pub fn batch_events(mut self, events: usize) -> Self {
        self.batch_events = events.max(1);
        self
    }
}

impl Collector for MemoryCollector {
    type Error = Infallible;

    fn source(&self) -> &str {
        self.name.as_str()
    }

    fn is_replayable(&self) -> bool {
        true
    }

    async fn resume(&mut self, position: &Position) -> Result<(), Infallible> {
        let mut at = [0; 8];
        let known = position.0.len().min(8);
        at[..known].copy_from_slice(&position.0[..known]);
        self.at = usize::try_from(u64::from_le_bytes(at))
            .unwrap_or(usize::MAX)
            .min(self.events.len());
        Ok(())
    }

    async fn next_batch(&mut self) -> Result<Option<Batch>, Infallible> {
        if self.at == self.events.len() {
            return Ok(None);
        }
        let end = self.events.len().min(self.at + self.batch_events);
        let events = (self.at..end)
            .map(|at| Event {
                id: EventId {
                    origin: self.origin,
                    ordinal: at as u64,
                },
                source: self.name.clone(),
                ..self.events[at].clone()
            })
            .collect();
        let used = (end - self.at) as u64;
        self.at = end;
        let position = Position(Bytes::copy_from_slice(&(end as u64).to_le_bytes()));
        Ok(Some(Batch {
            events,
            position: Some(position),
            tally: Tally {
                used,
                ..Tally::default()
            },
        }))
    }
}
