//! What the bus itself puts into its log: decisions that must be accountable, its clock, and its ledger.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard};
use std::time::Duration;

use amoskys_core::event::{AuditEntry, AuditOutcome, Punctuation};
use amoskys_core::record::CLOCK_SOURCE;
use amoskys_core::{
    BoxError, Class, Digest, Event, EventId, Ledger, Name, Offset, Open as _, Payload, Seal as _, Sealed,
    Timestamp, Unsealed, Wal as _, WalError,
};

use crate::audit::queue::AuditQueue;
use crate::audit::{AuditLog, Entry};
use crate::log::keeper::SharedKeeper;
use crate::log::{KeyRotation, Log};
use crate::seal::header::{RawHeader, RecordKind};
use crate::seal::{Head, Keyring, Opener, Sealer};
use crate::wal::SledWal;
use crate::wal::segment::lock;

/// Where the last record with a ledger lies.
const LEDGER_AT: &str = "bus/ledger";
/// Entries kept while the log is full.
const WAITING: usize = 1024;

/// The bus's own streams.
pub(crate) struct Journal {
    name: Name,
    wal: Arc<SledWal>,
    keeper: SharedKeeper,
    rotation: KeyRotation,
    /// A second place for decisions, if one was given.
    audit: Option<AuditQueue>,
    pub(crate) ledger: Ledger,
    state: Mutex<State>,
    /// Where the last record with a ledger lies.
    last: AtomicU64,
    /// Records are counted in the ledger under the same read lock they are put into the log under, so that a ledger
    /// in the log is always that of the records before it.
    order: RwLock<()>,
}

struct State {
    sealer: Sealer,
    waiting: VecDeque<Event>,
    origin: u64,
    ordinal: u64,
}

impl Journal {
    /// Goes on from the last ledger in the log, and counts what came behind it.
    pub(crate) fn open(log: Log, audit: Option<Arc<AuditLog>>) -> Result<Self, BoxError> {
        let name = log.sealer.agent().clone();
        let (keeper, rotation) = (log.keeper.clone(), log.key_rotation());
        let (ledger, last) = resume_ledger(&log.wal, &name)?;
        let mut origin = [0; 8];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut origin)?;
        Ok(Self {
            name,
            wal: log.wal,
            keeper,
            rotation,
            audit: audit.map(AuditQueue::new).transpose()?,
            ledger,
            last: AtomicU64::new(last.0),
            state: Mutex::new(State {
                sealer: log.sealer,
                waiting: VecDeque::new(),
                origin: u64::from_le_bytes(origin),
                ordinal: 0,
            }),
            order: RwLock::default(),
        })
    }

    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    /// Knows where the streams of the log are, as far as they are durable.
    pub(crate) fn keeper(&self) -> &SharedKeeper {
        &self.keeper
    }

    /// The hand-overs of signing keys in the log.
    pub(crate) fn keyring(&self) -> Arc<Keyring> {
        lock(&self.keeper.0).keyring.clone()
    }

    /// Replaces the bus's own signing key.
    pub(crate) fn key_rotation(&self) -> KeyRotation {
        self.rotation.clone()
    }

    /// Waits until decisions are also in the second place, if one was given.
    pub(crate) fn flush_audit(&self, patience: Duration) {
        if let Some(audit) = &self.audit
            && !audit.flush(patience)
        {
            tracing::error!(bus = %self.name, "the audit log is behind; what it does not have is in the log of the bus");
        }
    }

    /// Puts several entries into the audit stream at once. `false` if there was no room, and nothing was done.
    pub(crate) fn batch(&self, source: &str, payloads: Vec<Payload>) -> bool {
        let mut state = lock(&self.state);
        let state = &mut *state;
        let source = Name::from(source);
        let time = Timestamp::now();
        let mut events = Vec::with_capacity(payloads.len());
        for payload in payloads {
            let id = EventId {
                origin: state.origin,
                ordinal: state.ordinal,
            };
            state.ordinal += 1;
            events.push(Event {
                id,
                time,
                device: self.name.clone(),
                source: source.clone(),
                class: Class::Audit,
                payload,
                ..Event::default()
            });
        }
        let batch = Unsealed {
            class: Class::Audit,
            source: &source,
            events: &events,
            position: None,
            ledger: None,
        };
        let sealed = match state.sealer.seal(batch) {
            Ok(sealed) => sealed,
            Err(error) => {
                tracing::error!(bus = %self.name, %error, "entries of the bus itself could not be sealed");
                return false;
            }
        };
        let head = before(&sealed);
        let appended = self.wal.append_beyond_budget(sealed.record);
        if appended.is_err() {
            state.sealer.set_head(Class::Audit, head);
        }
        appended.is_ok()
    }

    /// Held while a record is put into the log and counted.
    pub(crate) fn counting(&self) -> RwLockReadGuard<'_, ()> {
        self.order
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Writes down a decision.
    pub(crate) fn audit(
        &self,
        actor: &str,
        action: &str,
        object: &str,
        outcome: AuditOutcome,
        reason: String,
    ) {
        tracing::info!(bus = %self.name, actor, action, object, ?outcome, reason, "audit");
        if let Some(audit) = &self.audit {
            let what = match outcome {
                AuditOutcome::Success => "success",
                AuditOutcome::Denied => "denied",
                _ => "failure",
            };
            let entry = Entry::new(actor, action, object, what).reason(&reason);
            audit.put(entry.attribute("bus", self.name.as_str()));
        }
        let entry = AuditEntry {
            actor: actor.to_owned(),
            action: action.to_owned(),
            object: object.to_owned(),
            outcome,
            reason,
        };
        self.write(Class::Audit, Payload::Audit(Box::new(entry)));
    }

    /// Writes down what time it is here.
    pub(crate) fn clock(&self) {
        self.write(Class::Telemetry, Payload::Punctuation(Punctuation::default()));
    }

    /// The offset of the last record with a ledger; what is before it may be deleted.
    pub(crate) fn last_record(&self) -> Offset {
        Offset(self.last.load(Ordering::Acquire))
    }

    /// Writes what could not be written before.
    pub(crate) fn catch_up(&self) {
        let mut state = lock(&self.state);
        if !state.waiting.is_empty() {
            self.append(&mut state);
        }
    }

    fn write(&self, class: Class, payload: Payload) {
        let mut state = lock(&self.state);
        let id = EventId {
            origin: state.origin,
            ordinal: state.ordinal,
        };
        state.ordinal += 1;
        let event = Event {
            id,
            time: Timestamp::now(),
            device: self.name.clone(),
            source: match class {
                Class::Telemetry => CLOCK_SOURCE.into(),
                _ => "bus".into(),
            },
            class,
            payload,
            ..Event::default()
        };
        if state.waiting.len() >= WAITING {
            tracing::error!(bus = %self.name, "the log has been full for too long; an entry of the bus itself is lost");
            self.ledger.received("bus/journal", 1);
            self.ledger
                .dropped("bus/journal", amoskys_core::DropReason::FULL, 1);
            return;
        }
        state.waiting.push_back(event);
        self.append(&mut state);
    }

    fn append(&self, state: &mut State) {
        while let Some(event) = state.waiting.front() {
            let _order = self
                .order
                .write()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            let snapshot = self.ledger.snapshot();
            let batch = Unsealed {
                class: event.class,
                source: &event.source,
                events: std::slice::from_ref(event),
                position: None,
                ledger: Some(&snapshot),
            };
            let class = event.class;
            let (record, head) = match state.sealer.seal(batch) {
                Ok(sealed) => {
                    let head = before(&sealed);
                    (sealed.record, head)
                }
                Err(error) => {
                    tracing::error!(bus = %self.name, %error, "an entry of the bus itself could not be sealed");
                    state.waiting.pop_front();
                    continue;
                }
            };
            // Also in a full log: before anything is deleted, this must say so, and hold the ledger.
            match self.wal.append_beyond_budget(record) {
                Ok(offset) => {
                    state.waiting.pop_front();
                    self.last.store(offset.0, Ordering::Release);
                    if let Err(error) = self.wal.store(LEDGER_AT, &offset.0.to_le_bytes()) {
                        tracing::debug!(%error, "where the ledger lies could not be kept");
                    }
                }
                Err(error) => {
                    // As if it had not been sealed.
                    state.sealer.set_head(class, head);
                    if !matches!(error, WalError::Full { .. }) {
                        tracing::error!(bus = %self.name, %error, "an entry of the bus itself could not be kept");
                    }
                    return;
                }
            }
        }
    }
}

/// Where the stream was before a record, for the case that it does not get into the log.
fn before(sealed: &Sealed) -> Head {
    let digest =
        RawHeader::parse(&sealed.record).map_or_else(|_| Digest::default(), |header| header.previous());
    Head {
        next: sealed.first,
        digest,
    }
}

/// The stage of an agent in the bus's ledger.
pub(crate) fn stage(agent: &str) -> String {
    format!("bus/{agent}")
}

fn resume_ledger(wal: &SledWal, name: &Name) -> Result<(Ledger, Offset), BoxError> {
    let kept = wal.load(LEDGER_AT)?;
    let kept = kept.and_then(|at| at[..].try_into().ok().map(u64::from_le_bytes));
    let opener = Opener::unchecked();
    let mut from = kept
        .map_or(wal.first(), Offset)
        .clamp(wal.first(), wal.durable().max(wal.first()));
    let (mut ledger, mut at) = (Ledger::new(), wal.first());
    loop {
        let records = match wal.read(from, 1 << 20) {
            Ok(records) => records,
            Err(WalError::Damaged { offset, .. }) => {
                from = offset.next();
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let Some((last, _)) = records.last() else {
            return Ok((ledger, at));
        };
        from = last.next();
        for (offset, record) in &records {
            let Ok(header) = RawHeader::parse(record) else {
                continue;
            };
            if header.agent == name.as_str() {
                let opened = opener.open(record).ok().and_then(|opened| opened.ledger);
                if let Some(snapshot) = opened {
                    (ledger, at) = (Ledger::resume(snapshot), *offset);
                }
            } else if header.kind() != RecordKind::Gap {
                let stage = stage(header.agent);
                ledger.received(&stage, header.count());
                ledger.delivered(&stage, header.count());
            }
        }
    }
}
