use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use crate::batch::Position;
use crate::error::Chain;
use crate::event::{Payload, VerdictId};
use crate::id::{EventId, Name, Offset};
use crate::ledger::{Account, DropReason, Ledger, LedgerSnapshot};
use crate::seal::{Opened, ReadLogError, read_log_from};
use crate::wal::WalError;

use super::run::{LogReader, Shared};

/// What an earlier run left in the log.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// How far each source had come.
    pub(super) sources: BTreeMap<Name, SourceRecovery>,
    /// The ledger at the last record.
    pub(super) ledger: LedgerSnapshot,
    /// Verdicts in the log, with their highest revision.
    pub(super) verdicts: BTreeMap<VerdictId, u32>,
    /// Records that could not be opened. The offline verifier says more about them.
    pub(super) damaged: u64,
    /// Whether a record with a ledger was among them.
    informed: bool,
}

/// How far one source had come.
#[derive(Debug, Default)]
pub(super) struct SourceRecovery {
    pub(super) position: Option<Position>,
    /// Events behind the position that are in the log already: what the source handed over is sealed in parts,
    /// of which only the last carries the position, and not all became durable.
    pub(super) ahead: HashSet<EventId>,
    /// The first record that holds some of them.
    pub(super) unpositioned: Option<Offset>,
}

/// Name of the value beside the log that says from which record on recovery has to read.
const FROM: &str = "recovery";

/// Notes that records below `offset` are of no use to a recovery.
pub(super) fn note_from(log: &LogReader, offset: Offset) -> Result<(), WalError> {
    log.wal.store(FROM, &offset.0.to_le_bytes())
}

impl Recovery {
    /// Reads what it needs of the log, record by record: all of it, if `all` or nothing says what can be left out.
    pub(super) fn read(log: &LogReader, all: bool) -> Result<Self, WalError> {
        let noted = log.wal.load(FROM)?.filter(|_| !all);
        let noted = noted.and_then(|noted| noted[..].try_into().ok().map(u64::from_le_bytes));
        if let Some(from) = noted {
            let recovery = Self::read_from(log, Offset(from))?;
            // A log whose end is not of this pipeline's making says nothing.
            if recovery.informed {
                return Ok(recovery);
            }
        }
        Self::read_from(log, log.wal.first())
    }

    fn read_from(log: &LogReader, from: Offset) -> Result<Self, WalError> {
        let mut recovery = Self::default();
        for opened in read_log_from(&*log.wal, &*log.open, from) {
            match opened {
                Ok((offset, opened)) => recovery.take(offset, opened),
                Err(ReadLogError::Storage(error)) => return Err(error),
                Err(ReadLogError::Record(error)) => {
                    tracing::warn!(error = %Chain(&*error), "a record of the log cannot be read and is passed over");
                    recovery.damaged += 1;
                }
            }
        }
        Ok(recovery)
    }

    fn take(&mut self, offset: Offset, opened: Opened) {
        if let Some(ledger) = opened.ledger {
            for (source, position) in &ledger.positions {
                self.sources.entry(source.as_str().into()).or_default().position = Some(position.clone());
            }
            self.ledger = ledger;
            self.informed = true;
        }
        for event in &opened.events {
            if let Payload::Verdict(verdict) = &event.payload {
                let revision = self.verdicts.entry(verdict.id).or_default();
                *revision = verdict.revision.max(*revision);
            }
        }
        let source = self.sources.entry(opened.source).or_default();
        if opened.position.is_some() {
            source.position = opened.position;
            source.ahead.clear();
            source.unpositioned = None;
        } else {
            source.unpositioned.get_or_insert(offset);
            source.ahead.extend(opened.events.iter().map(|event| event.id));
        }
    }

    /// Brings `ledger` to where the log is. What was pending in memory is gone: a source that is read again
    /// has not received it yet; one that is not has lost it.
    pub(super) fn settle(&self, ledger: &Ledger, read_again: &BTreeSet<String>) {
        for (stage, account) in &self.ledger.accounts {
            // The readers of the log keep accounts of their own, beside their places.
            let Some((kind, source)) = stage.split_once('/') else {
                continue;
            };
            if kind == "collect" || kind == "log" {
                let mut account = account.clone();
                settle(
                    &mut account,
                    read_again.contains(source) || source == super::analysis::SOURCE,
                );
                ledger.set(stage, account);
            }
        }
    }
}

fn settle(account: &mut Account, read_again: bool) {
    let pending = std::mem::take(&mut account.pending);
    if pending == 0 {
        return;
    }
    if read_again {
        account.received -= pending.min(account.received);
    } else {
        *account.dropped.entry(DropReason::CRASH).or_default() += pending;
    }
}

/// How often the last note is tried, after which none follows, and the pause in between.
pub(super) const LAST_TRIES: u32 = 3;
pub(super) const LAST_PAUSE: Duration = Duration::from_millis(100);

/// Where a reader of the log had come to, and its account, as kept beside the log.
pub(super) struct Bookmark {
    pub(super) offset: Offset,
    pub(super) account: Account,
}

impl Bookmark {
    pub(super) fn load(log: &LogReader, name: &str) -> Result<Option<Self>, WalError> {
        Ok(log.wal.load(name)?.and_then(|value| Self::decode(&value, name)))
    }

    /// Keeps it for the reader of this number, and lets the log forget what lies before.
    ///
    /// A disk that takes no note is no reason to end: that is told and counted, false comes back, and the next note is another
    /// try. A restart would give again what was given since the last one.
    pub(super) fn note(&self, shared: &Shared, name: &str, reader: usize) -> Result<bool, WalError> {
        let noted = shared.log.wal.store(name, &self.encode(name));
        if let Err(error) = &noted {
            metrics::counter!("amoskys_bookmark_failures_total",
                "pipeline" => shared.name.clone(), "stage" => name.to_owned())
            .increment(1);
            if shared.delivery.begins_to_fail(name) {
                tracing::warn!(
                    stage = name,
                    error = %Chain(error),
                    "how far the log was read cannot be noted; a restart would read again from the note before"
                );
            }
        } else {
            shared.delivery.succeeds(name);
        }
        shared.delivery.advance(&shared.log, reader, self.offset)?;
        Ok(noted.is_ok())
    }

    pub(super) fn encode(&self, name: &str) -> Vec<u8> {
        let accounts = BTreeMap::from([(name.to_owned(), self.account.clone())]);
        let mut value = self.offset.0.to_le_bytes().to_vec();
        value.extend(crate::wire::encode_ledger(&LedgerSnapshot {
            accounts,
            ..LedgerSnapshot::default()
        }));
        value
    }

    pub(super) fn decode(value: &[u8], name: &str) -> Option<Self> {
        let (offset, ledger) = value.split_first_chunk::<8>()?;
        let account = crate::wire::decode_ledger(ledger)
            .ok()?
            .accounts
            .remove(name)
            .unwrap_or_default();
        Some(Self {
            offset: Offset(u64::from_le_bytes(*offset)),
            account,
        })
    }
}
