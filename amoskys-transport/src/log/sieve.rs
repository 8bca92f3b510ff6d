//! Which records of an agent's log may be given up, and the signed gaps that take their place.

use std::collections::BTreeMap;
use std::sync::Arc;

use amoskys_core::event::{Gap, GapReason};
use amoskys_core::{BoxError, Class, Epoch, Name, Offset, Seq, StreamId};
use bytes::Bytes;

use super::keeper::SharedKeeper;
use crate::key::Signer;
use crate::seal::header::{RawHeader, RecordKind, time_of};
use crate::seal::{Head, Keyring, seal_gap};
use crate::wal::compact::{GiveUp, Nature, Sieve, Sifting};
use crate::wal::segment::lock;

/// The classes that may be shed, the first to go first.
const SHEDDABLE: [Class; 2] = [Class::Bulk, Class::Telemetry];

/// Knows the records of the agent that seals into a log, and signs for it with the key it has now.
pub(crate) struct AgentSieve(pub(crate) SharedKeeper);

impl AgentSieve {
    fn own(&self) -> (Name, Arc<dyn Signer>, Arc<Keyring>) {
        let keeper = lock(&self.0.0);
        (keeper.agent.clone(), keeper.sealing.get(), keeper.keyring.clone())
    }
}

impl Sieve for AgentSieve {
    fn nature(&self, record: &[u8]) -> Nature {
        let (agent, ..) = self.own();
        match RawHeader::parse(record) {
            Ok(header) if header.agent == agent.as_str() && header.kind() == RecordKind::Batch => {
                let class = header.class().ok();
                Nature::Loose {
                    shed: SHEDDABLE.iter().position(|sheddable| Some(*sheddable) == class),
                    sealed: time_of(&header).nanos(),
                }
            }
            // What is not of this agent it cannot sign for, and what is no batch is evidence.
            _ => Nature::Kept,
        }
    }

    fn begin(&self, what: GiveUp, trimmed: Offset) -> Box<dyn Sifting + '_> {
        let (agent, signer, keyring) = self.own();
        Box::new(AgentSifting {
            agent,
            signer,
            keyring,
            what,
            trimmed: trimmed.0,
            runs: BTreeMap::new(),
            made: Vec::new(),
        })
    }
}

struct AgentSifting {
    agent: Name,
    signer: Arc<dyn Signer>,
    keyring: Arc<Keyring>,
    what: GiveUp,
    /// What is below has been dealt with by all readers.
    trimmed: u64,
    runs: BTreeMap<(Epoch, Class), Run>,
    made: Vec<(u64, Bytes)>,
}

/// Consecutive records of a stream that are given up, or were before.
struct Run {
    from: Head,
    to: Head,
    reason: GapReason,
    /// Offset of the last of them.
    last: u64,
    /// If it is one gap that was there before: the record itself.
    only: Option<Bytes>,
}

impl Sifting for AgentSifting {
    fn stays(&mut self, offset: u64, record: &[u8]) -> Result<bool, BoxError> {
        let Ok(header) = RawHeader::parse(record) else {
            return Ok(true);
        };
        let (Ok(class), Some(next)) = (header.class(), header.first().0.checked_add(header.count())) else {
            return Ok(true);
        };
        if header.agent != self.agent.as_str() {
            return Ok(true);
        }
        let key = (header.epoch(), class);
        let goes = header.kind() == RecordKind::Batch && header.count() > 0 && self.goes(class);
        let (digest, reason, only) = match header.gap() {
            _ if goes => (header.digest(), self.reason(), None),
            Some((end, reason)) if header.kind() == RecordKind::Gap && header.count() > 0 => {
                (end, reason, Some(Bytes::copy_from_slice(record)))
            }
            _ => {
                self.end_run(key)?;
                return Ok(true);
            }
        };
        let from = Head {
            next: header.first(),
            digest: header.previous(),
        };
        let to = Head {
            next: Seq(next),
            digest,
        };
        let trimmed = self.trimmed;
        // A run does not go beyond what was trimmed, so that readers can count what they have not seen.
        let goes_on = |run: &&mut Run| {
            run.to == from && run.reason == reason && (run.last < trimmed) == (offset < trimmed)
        };
        if let Some(run) = self.runs.get_mut(&key).filter(goes_on) {
            (run.to, run.last, run.only) = (to, offset, None);
            return Ok(false);
        }
        self.end_run(key)?;
        let run = Run {
            from,
            to,
            reason,
            last: offset,
            only,
        };
        self.runs.insert(key, run);
        Ok(false)
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<(u64, Bytes)>, BoxError> {
        while let Some(key) = self.runs.keys().next().copied() {
            self.end_run(key)?;
        }
        self.made.sort_by_key(|(offset, _)| *offset);
        Ok(self.made)
    }
}

impl AgentSifting {
    fn goes(&self, class: Class) -> bool {
        match self.what {
            GiveUp::Shed { classes } => SHEDDABLE.iter().take(classes).any(|goes| *goes == class),
            GiveUp::Expired => true,
        }
    }

    fn reason(&self) -> GapReason {
        match self.what {
            GiveUp::Shed { .. } => GapReason::Shed,
            GiveUp::Expired => GapReason::Expired,
        }
    }

    fn end_run(&mut self, (epoch, class): (Epoch, Class)) -> Result<(), BoxError> {
        let Some(run) = self.runs.remove(&(epoch, class)) else {
            return Ok(());
        };
        let record = match run.only {
            Some(record) => record,
            None => {
                let stream = StreamId {
                    agent: self.agent.clone(),
                    epoch,
                    class,
                };
                let gap = Gap {
                    stream,
                    first: run.from.next,
                    last: Seq(run.to.next.0.saturating_sub(1)),
                    before: run.from.digest,
                    end: run.to.digest,
                    reason: run.reason,
                };
                seal_gap(&gap, &*self.signer, &self.keyring)?.record
            }
        };
        self.made.push((run.last, record));
        Ok(())
    }
}
