//! What is sent: the same bytes for us and for the peer.

use amoskys_core::{Class, Event, EventId, Payload, Timestamp};
use bytes::Bytes;

use crate::lab;

/// Events of a batch.
pub(crate) const EVENTS: usize = 512;
/// Bytes of an event.
pub(crate) const EVENT_BYTES: usize = 300;
/// Different batches that are sent in turn.
const DIFFERENT: usize = 8;

/// Batches of incompressible events, each as its events one behind the other.
pub(crate) fn noise() -> Vec<Bytes> {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    (0..DIFFERENT)
        .map(|_| random.bytes(EVENTS * EVENT_BYTES))
        .collect()
}

/// The events in such a batch, as our model has them.
pub(crate) fn events(batch: &Bytes) -> Vec<Event> {
    let payloads = (0..EVENTS).map(|index| batch.slice(index * EVENT_BYTES..(index + 1) * EVENT_BYTES));
    let event = |(ordinal, bytes)| event(ordinal as u64, bytes);
    payloads.enumerate().map(event).collect()
}

/// An event of these bytes.
pub(crate) fn event(ordinal: u64, bytes: Bytes) -> Event {
    Event {
        id: EventId { origin: 1, ordinal },
        time: Timestamp::from_secs(1_700_000_000),
        payload: Payload::Unknown { tag: 99, bytes },
        ..Event::default()
    }
}

/// Full batches of the flow records that a sensor makes of the laboratory's capture.
pub(crate) fn flows() -> Vec<Vec<Event>> {
    let events = lab::flow_events().into_iter().map(|recorded| recorded.event);
    let events: Vec<Event> = events.filter(|event| event.class == Class::Telemetry).collect();
    events.chunks_exact(EVENTS).map(<[Event]>::to_vec).collect()
}

/// Bytes that no compressor makes smaller, the same in each run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn bytes(&mut self, len: usize) -> Bytes {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            bytes.extend_from_slice(&self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        }
        bytes.truncate(len);
        bytes.into()
    }
}
