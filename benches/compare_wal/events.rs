//! The same events for all stores.

use std::error::Error;
use std::sync::Arc;

use amoskys_core::{Class, Epoch, Event, EventId, Name, Payload, Seal, Timestamp, Unsealed};
use amoskys_transport::{FileSigner, Sealer};
use bytes::Bytes;

/// Bytes of an event.
pub(crate) const EVENT_BYTES: usize = 300;
/// Different commits that are used in turn.
const DIFFERENT: usize = 8;

/// The events of one commit, in the forms the stores take them.
pub(crate) struct Commit {
    /// Each event by itself.
    pub(crate) payloads: Vec<Bytes>,
    /// One behind the other.
    pub(crate) packed: Vec<u8>,
    /// As our model has them.
    pub(crate) events: Vec<Event>,
    /// Sealed: what the log takes.
    pub(crate) record: Bytes,
}

/// Some commits of this many events.
pub(crate) fn commits(events: usize) -> Result<Vec<Commit>, Box<dyn Error>> {
    let keys = tempfile::tempdir()?;
    let signer = Arc::new(FileSigner::create(keys.path().join("key"))?);
    let mut sealer = Sealer::new("bench", Epoch::default(), signer);
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let commits = (0..DIFFERENT).map(|_| commit(events, &mut random, &mut sealer));
    commits.collect()
}

fn commit(events: usize, random: &mut u64, sealer: &mut Sealer) -> Result<Commit, Box<dyn Error>> {
    let payloads: Vec<Bytes> = (0..events).map(|_| noise(random)).collect();
    let packed = payloads.concat();
    let event = |(ordinal, bytes): (usize, &Bytes)| Event {
        id: EventId {
            origin: 1,
            ordinal: ordinal as u64,
        },
        time: Timestamp::from_secs(1_700_000_000),
        payload: Payload::Unknown {
            tag: 99,
            bytes: bytes.clone(),
        },
        ..Event::default()
    };
    let events: Vec<Event> = payloads.iter().enumerate().map(event).collect();
    let source = Name::from("bench");
    let record = sealer.seal(unsealed(&source, &events))?.record;
    Ok(Commit {
        payloads,
        packed,
        events,
        record,
    })
}

pub(crate) fn unsealed<'a>(source: &'a Name, events: &'a [Event]) -> Unsealed<'a> {
    Unsealed {
        class: Class::Telemetry,
        source,
        events,
        position: None,
        ledger: None,
    }
}

fn noise(random: &mut u64) -> Bytes {
    let mut bytes = Vec::with_capacity(EVENT_BYTES + 8);
    while bytes.len() < EVENT_BYTES {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        bytes.extend_from_slice(&random.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    }
    bytes.truncate(EVENT_BYTES);
    bytes.into()
}
