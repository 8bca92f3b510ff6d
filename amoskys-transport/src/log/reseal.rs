//! Begins a new epoch in a log that turned out to be a copy: the events that the bus never got are sealed again, under
//! numbers nobody else has used.
//!
//! It goes on where it was interrupted. The same records, in the same order, always give the same new ones, so the ends
//! of the new streams tell how far it had come.

use std::collections::BTreeMap;

use amoskys_core::event::{AuditEntry, AuditOutcome};
use amoskys_core::ledger::LedgerSnapshot;
use amoskys_core::{
    BoxError, Class, Epoch, Event, EventId, Name, Offset, Open as _, Payload, Position, Seal as _, StreamId,
    Timestamp, Unsealed, Wal as _, WalError,
};
use bytes::Bytes;

use super::fork::ForkRequest;
use super::heads::Heads;
use crate::seal::header::{RawHeader, RecordKind};
use crate::seal::{Head, Opener, Sealer};
use crate::wal::SledWal;

/// Seals again what the bus does not have.
pub(crate) struct Reseal<'a> {
    pub(crate) wal: &'a SledWal,
    pub(crate) agent: &'a Name,
    pub(crate) request: &'a ForkRequest,
    pub(crate) new: Epoch,
    /// Of the new epoch, where it has come to.
    pub(crate) sealer: Sealer,
    /// Where the log's streams are.
    pub(crate) heads: Heads,
}

/// What the old records say about their sources.
#[derive(Default)]
struct Sources {
    ledger: Option<LedgerSnapshot>,
    /// The last record of each source that has a position.
    positions: BTreeMap<String, Offset>,
}

impl Reseal<'_> {
    /// Does all of it. It is durable when this returns.
    pub(crate) fn run(mut self) -> Result<(), BoxError> {
        let end = self.wal.durable();
        let sources = self.sources(end)?;
        let mut written = BTreeMap::new();
        self.note(&mut written, "agent.new_epoch", self.reason(), &sources)?;
        let mut from = self.wal.oldest();
        while from < end {
            let records = match self.wal.read_kept(from, 1 << 20) {
                Ok(records) => records,
                Err(WalError::Damaged { offset, .. }) => {
                    // A gap in the log says which events they were.
                    from = offset.next();
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let Some((last, _)) = records.last() else { break };
            from = last.next();
            for (offset, record) in records.into_iter().filter(|(offset, _)| *offset < end) {
                self.record(&mut written, offset, &record, &sources)?;
            }
        }
        match self.wal.next().0.checked_sub(1) {
            Some(last) => Ok(self.wal.wait_durable(Offset(last))?),
            None => Ok(()),
        }
    }

    /// Reads what is kept of each source: only the newest position and ledger may stand behind the others.
    fn sources(&self, end: Offset) -> Result<Sources, BoxError> {
        let mut sources = Sources::default();
        let mut last_ledger: Option<Bytes> = None;
        let mut from = self.wal.oldest();
        while from < end {
            let records = match self.wal.read_kept(from, 1 << 20) {
                Ok(records) => records,
                Err(WalError::Damaged { offset, .. }) => {
                    from = offset.next();
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let Some((last, _)) = records.last() else { break };
            from = last.next();
            for (offset, record) in records {
                let Ok(header) = RawHeader::parse(&record) else {
                    continue;
                };
                if header.agent != self.agent.as_str() || header.epoch() == self.new {
                    continue;
                }
                if let Some(ledger) = header.ledger {
                    last_ledger = Some(Bytes::copy_from_slice(ledger));
                }
                if header.position.is_some() {
                    sources.positions.insert(header.source.to_owned(), offset);
                }
            }
        }
        sources.ledger = last_ledger.and_then(|ledger| amoskys_core::wire::decode_ledger(&ledger).ok());
        Ok(sources)
    }

    fn record(
        &mut self,
        written: &mut BTreeMap<Class, u64>,
        offset: Offset,
        record: &Bytes,
        sources: &Sources,
    ) -> Result<(), BoxError> {
        let Ok(header) = RawHeader::parse(record) else {
            return Ok(());
        };
        let Ok(class) = header.class() else { return Ok(()) };
        let is_old = header.agent == self.agent.as_str() && header.epoch() == self.request.old;
        let shared = self.request.shared.get(&class).copied().unwrap_or_default();
        if !is_old || header.first() < shared.next || header.count() == 0 {
            return Ok(());
        }
        let (first, last) = (
            header.first().0,
            header.first().0.saturating_add(header.count() - 1),
        );
        if header.kind() == RecordKind::Gap {
            let reason = header.gap().map(|(_, reason)| reason).unwrap_or_default();
            let text = format!("events {first} to {last} were missing there already: {reason}");
            return self.note(written, "stream.gap", text, sources);
        }
        match Opener::unchecked().open(record) {
            Ok(opened) => {
                let position = opened
                    .position
                    .filter(|_| sources.positions.get(opened.source.as_str()) == Some(&offset));
                self.put(
                    written,
                    class,
                    &opened.source,
                    &opened.events,
                    position.as_ref(),
                    sources,
                )
            }
            Err(error) => {
                let text =
                    format!("events {first} to {last} of class {class} cannot be sealed again: {error}");
                tracing::error!(%offset, "{text}");
                self.note(written, "stream.gap", text, sources)
            }
        }
    }

    fn note(
        &mut self,
        written: &mut BTreeMap<Class, u64>,
        action: &str,
        reason: String,
        sources: &Sources,
    ) -> Result<(), BoxError> {
        let ordinal = written.get(&Class::Audit).copied().unwrap_or(0);
        let entry = AuditEntry {
            actor: self.agent.to_string(),
            action: action.to_owned(),
            object: format!("{}@{}", self.agent, self.request.old),
            outcome: AuditOutcome::Success,
            reason,
        };
        let event = Event {
            id: EventId {
                // The same each time it is tried.
                origin: u64::from_le_bytes(self.new.random.to_le_bytes()[..8].try_into()?),
                ordinal,
            },
            time: Timestamp::now(),
            device: self.agent.clone(),
            source: "log".into(),
            class: Class::Audit,
            payload: Payload::Audit(Box::new(entry)),
            ..Event::default()
        };
        self.put(written, Class::Audit, &"log".into(), &[event], None, sources)
    }

    /// Puts events into a new stream, unless they are there.
    fn put(
        &mut self,
        written: &mut BTreeMap<Class, u64>,
        class: Class,
        source: &Name,
        events: &[Event],
        position: Option<&Position>,
        sources: &Sources,
    ) -> Result<(), BoxError> {
        let written = written.entry(class).or_default();
        *written += events.len() as u64;
        let stream = StreamId {
            agent: self.agent.clone(),
            epoch: self.new,
            class,
        };
        let there = self.heads.0.get(&stream).copied().unwrap_or_default();
        if *written <= there.next.0 {
            return Ok(());
        }
        let ledger = sources.ledger.as_ref();
        let batch = Unsealed {
            class,
            source,
            events,
            position,
            ledger,
        };
        let record = self.sealer.seal(batch)?.record;
        loop {
            match self.wal.append_beyond_budget(record.clone()) {
                Err(WalError::Full { .. }) if self.wal.next() > self.wal.durable() => {
                    let last = Offset(self.wal.next().0.saturating_sub(1));
                    self.wal.wait_durable(last)?;
                }
                result => return Ok(result.map(drop)?),
            }
        }
    }

    fn reason(&self) -> String {
        let heads = |heads: &BTreeMap<Class, Head>| {
            let heads = heads
                .iter()
                .map(|(class, head)| format!(" {class} before {} with digest {};", head.next, head.digest));
            heads.collect::<String>()
        };
        if self
            .request
            .bus
            .iter()
            .all(|(class, head)| self.request.shared.get(class) == Some(head))
        {
            return format!(
                "the bus took nothing behind{} of epoch {}, because it was sealed while the clock was far ahead; it is \
                 sealed again in epoch {}",
                heads(&self.request.shared),
                self.request.old,
                self.new
            );
        }
        format!(
            "the bus has other records of epoch {}, at{} this log was copied, or restored from a backup; both have the \
             same up to{} what came behind is sealed again in epoch {}",
            self.request.old,
            heads(&self.request.bus),
            heads(&self.request.shared),
            self.new
        )
    }
}
