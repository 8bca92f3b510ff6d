//! Events as bytes: protobuf, by `proto/amoskys/v1/event.proto`, which is published for other languages.
//!
//! - The encoding is deterministic: fields in order of their numbers, maps in order of their keys, defaults
//!   left out. The same event gives the same bytes, and all bits of a floating-point number survive.
//! - What a newer version wrote survives a hop through this one: see [below](#newer-versions).
//! - Decoding checks everything: lengths, ranges, UTF-8, addresses, required fields. It takes at most 64 bytes
//!   of memory for a byte of input (usually about two), and never panics. It is stricter than protobuf: a field that is not repeated may
//!   be there only once, and a number outside the range of its type, an integer in a longer form than needed
//!   and a group are refused.
//!
//! Whatever [`encode_event`] writes, [`decode_event`] reads, as long as it is within [`MAX_EVENT_BYTES`] and
//! the event's unknown fields are as a decoder gave them.
//!
//! # Newer versions
//!
//! A newer version may add fields, enumerators, kinds of values and payloads. This version then keeps
//!
//! - an unknown field of the event or of its payload, at any depth, in [`Event::unknown`];
//! - an enumerator it does not know as the type's default, and the number in [`Event::unknown`];
//! - an attribute whose value is of a new kind in [`Event::unknown`];
//! - a payload it does not know as [`Payload::Unknown`], and likewise a payload it knows, if the new part
//!   cannot be told from the rest: a new field in an element of a list, a new kind of
//!   [entity](crate::event::Entity) or of [flow phase](crate::event::FlowPhase), a stream of a new class. The
//!   next version to read it sees the payload as it was.
//!
//! Encoding writes all of it back in its place, so that the bytes of a newer version, if it writes fields in
//! order, come out as they came in. A field that was set after decoding replaces the unknown one.
//!
//! An event without a payload is read as [`Payload::Unknown`] with tag 0.

mod error;
mod event;
mod flow;
mod host;
mod ledger;
mod message;
mod parts;
mod payload;
mod primitive;
mod scalar;
mod unknown;

pub use self::error::WireError;

use self::error::{Fault, Flaw};
use self::message::{Message as _, read_fields};
use crate::event::Event;
#[cfg(doc)]
use crate::event::Payload;
use crate::ledger::LedgerSnapshot;

/// The largest event that is decoded, in bytes: 16 MiB.
pub const MAX_EVENT_BYTES: usize = 16 << 20;

/// The most events that are decoded at once.
pub const MAX_EVENTS: usize = 1 << 16;

/// Appends the encoding of an event to `out`.
pub fn encode_event(event: &Event, out: &mut Vec<u8>) {
    event::write_event(event, out);
}

/// Decodes one event, which takes up all of `bytes`.
///
/// # Errors
///
/// If the bytes are no event, or more than [`MAX_EVENT_BYTES`].
pub fn decode_event(bytes: &[u8]) -> Result<Event, WireError> {
    check_size("bytes of an event", bytes.len(), MAX_EVENT_BYTES)?;
    Ok(event::read_event(bytes, None)?)
}

/// Appends the encoding of several events to `out`, each preceded by its length as a varint.
///
/// Not more than [`MAX_EVENTS`] are decoded at once.
pub fn encode_events(events: &[Event], out: &mut Vec<u8>) {
    for event in events {
        primitive::put_delimited(out, |out| event::write_event(event, out));
    }
}

/// Decodes several events, each preceded by its length, which take up all of `bytes`.
///
/// # Errors
///
/// If one of them is no event or larger than [`MAX_EVENT_BYTES`], or if there are more than [`MAX_EVENTS`].
pub fn decode_events(bytes: &[u8]) -> Result<Vec<Event>, WireError> {
    let mut events: Vec<Event> = Vec::with_capacity(count_events(bytes)?);
    let mut rest = bytes;
    while !rest.is_empty() {
        let index = events.len();
        let at = |error: WireError| WireError::Event {
            index,
            source: Box::new(error),
        };
        let event = take_event(&mut rest).map_err(at)?;
        let event = event::read_event(event, events.last()).map_err(|fault| at(fault.into()))?;
        events.push(event);
    }
    Ok(events)
}

/// Counts events by their lengths, so that memory for them is taken once.
fn count_events(bytes: &[u8]) -> Result<usize, WireError> {
    let (mut rest, mut count) = (bytes, 0);
    while !rest.is_empty() {
        let at = |error| WireError::Event {
            index: count,
            source: Box::new(error),
        };
        take_event(&mut rest).map_err(at)?;
        count += 1;
    }
    check_size("events", count, MAX_EVENTS)?;
    Ok(count)
}

fn take_event<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], WireError> {
    let named = |flaw| WireError::from(Fault::in_field(flaw, "length of the event"));
    let len = primitive::take_varint(rest).map_err(named)?;
    check_size(
        "bytes of an event",
        usize::try_from(len).unwrap_or(usize::MAX),
        MAX_EVENT_BYTES,
    )?;
    primitive::take_bytes(rest, len).map_err(named)
}

/// The encoding of a ledger.
#[must_use]
pub fn encode_ledger(ledger: &LedgerSnapshot) -> Vec<u8> {
    let mut out = Vec::new();
    ledger.write_fields(&mut out);
    out
}

/// Decodes a ledger, which takes up all of `bytes`. Fields of newer versions are passed over.
///
/// # Errors
///
/// If the bytes are no ledger, or more than [`MAX_EVENT_BYTES`].
pub fn decode_ledger(bytes: &[u8]) -> Result<LedgerSnapshot, WireError> {
    check_size("bytes of a ledger", bytes.len(), MAX_EVENT_BYTES)?;
    let mut ledger = LedgerSnapshot::default();
    match read_fields(&mut ledger, bytes, &mut Vec::new()) {
        Err(fault) if fault.flaw != Flaw::Newer => Err(fault.into()),
        _ => Ok(ledger),
    }
}

fn check_size(what: &'static str, found: usize, limit: usize) -> Result<(), WireError> {
    if found <= limit {
        return Ok(());
    }
    Err(WireError::TooLarge {
        what,
        found: found as u64,
        limit: limit as u64,
    })
}
