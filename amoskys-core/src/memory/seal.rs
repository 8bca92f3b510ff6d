use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::batch::Position;
use crate::event::Class;
use crate::id::{Epoch, Name, Offset, Seq, StreamId};
use crate::seal::{LogParts, Open, Opened, Seal, SealError, Sealed, Unsealed};
use crate::wal::{Wal, WalError};
use crate::{memory::MemoryWal, wire};

/// Seals without signature or chain: for tests, and for pipelines that keep nothing.
///
/// A record is a JSON header preceded by its length (32 bits, little endian), then the encoded events.
#[derive(Debug)]
pub struct PlainSeal {
    agent: Name,
    epoch: Epoch,
    next: BTreeMap<Class, u64>,
}

/// Opens what [`PlainSeal`] sealed.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainOpen;

#[derive(Serialize, Deserialize)]
struct Header {
    stream: StreamId,
    first: Seq,
    last: Seq,
    source: Name,
    position: Option<Vec<u8>>,
    ledger: Option<Vec<u8>>,
}

impl PlainSeal {
    /// Seals as `agent`, from sequence number 0 on, in an epoch of zeros.
    #[must_use]
    pub fn new(agent: &str) -> Self {
        Self {
            agent: agent.into(),
            epoch: Epoch::default(),
            next: BTreeMap::new(),
        }
    }

    /// A log in memory of at most `budget_bytes`, with a plain seal: what a pipeline without a log uses.
    #[must_use]
    pub fn memory_log(agent: &str, budget_bytes: u64) -> LogParts {
        LogParts {
            wal: Arc::new(MemoryWal::new(budget_bytes)),
            seal: Box::new(Self::new(agent)),
            open: Arc::new(PlainOpen),
        }
    }

    /// Goes on after what is in `wal`.
    ///
    /// # Errors
    ///
    /// If the log cannot be read.
    pub fn resume(agent: &str, wal: &dyn Wal) -> Result<Self, WalError> {
        let mut seal = Self::new(agent);
        let mut from = Offset(0);
        loop {
            let records = wal.read(from, 1 << 20)?;
            let Some((last, _)) = records.last() else {
                return Ok(seal);
            };
            from = last.next();
            for (_, record) in &records {
                if let Ok(opened) = PlainOpen.open(record) {
                    seal.next.insert(opened.stream.class, opened.last.0 + 1);
                }
            }
        }
    }
}

impl Seal for PlainSeal {
    fn seal(&mut self, batch: Unsealed<'_>) -> Result<Sealed, SealError> {
        let refuse = |reason: &str| {
            Err(SealError::Batch {
                reason: reason.to_owned(),
            })
        };
        if batch.events.is_empty() {
            return refuse("it has no events");
        }
        if batch.events.iter().any(|event| event.class != batch.class) {
            return refuse("it has events of several classes");
        }
        let next = self.next.entry(batch.class).or_default();
        let stream = StreamId {
            agent: self.agent.clone(),
            epoch: self.epoch,
            class: batch.class,
        };
        let (first, last) = (Seq(*next), Seq(*next + batch.events.len() as u64 - 1));
        let header = Header {
            stream: stream.clone(),
            first,
            last,
            source: batch.source.clone(),
            position: batch.position.map(|position| position.0.to_vec()),
            ledger: batch.ledger.map(wire::encode_ledger),
        };
        let header = serde_json::to_vec(&header).map_err(|error| SealError::Batch {
            reason: error.to_string(),
        })?;
        let mut events = Vec::new();
        wire::encode_events(batch.events, &mut events);
        let mut record = BytesMut::with_capacity(4 + header.len() + events.len());
        record.put_u32_le(u32::try_from(header.len()).unwrap_or(u32::MAX));
        record.put_slice(&header);
        record.put_slice(&events);
        *next = last.0 + 1;
        Ok(Sealed {
            stream,
            first,
            last,
            record: record.freeze(),
        })
    }
}

impl Open for PlainOpen {
    fn open(&self, record: &Bytes) -> Result<Opened, SealError> {
        let damaged = |reason: &str| SealError::Damaged {
            reason: reason.to_owned(),
        };
        let Some((length, rest)) = record.split_first_chunk::<4>() else {
            return Err(damaged("it is shorter than its header"));
        };
        let length = u32::from_le_bytes(*length) as usize;
        let Some((header, events)) = rest.split_at_checked(length) else {
            return Err(damaged("its header is cut off"));
        };
        let header: Header =
            serde_json::from_slice(header).map_err(|_| damaged("its header is not readable"))?;
        let mut opened = Opened::new(Arc::new(header.stream), header.first, header.last, header.source);
        opened.events = wire::decode_events(events).map_err(|error| SealError::Damaged {
            reason: error.to_string(),
        })?;
        if header.last.0.checked_sub(header.first.0).map(|more| more + 1) != Some(opened.events.len() as u64)
        {
            return Err(damaged("it does not hold the events its header names"));
        }
        opened.position = header.position.map(|position| Position(position.into()));
        if let Some(ledger) = header.ledger {
            opened.ledger = Some(wire::decode_ledger(&ledger).map_err(|error| SealError::Damaged {
                reason: error.to_string(),
            })?);
        }
        Ok(opened)
    }
}
