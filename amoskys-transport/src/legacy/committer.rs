//! Puts envelopes into the log: whatever came while the last were made durable, in one record.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use amoskys_core::event::{AuditOutcome, Value};
use amoskys_core::{
    BoxError, Class, DropReason, Event, Name, Seal as _, SealError, Timestamp, Unsealed, Wal as _, WalError,
};
use tokio::sync::oneshot;

use super::convert::{CHAIN, SOURCE};
use super::gateway::{Agent, Gateway, InFlight, Item, Taken, stopping};
use super::index::{Index, Key};
use super::reason::{LegacyReason, Refusal};
use super::trust::LegacyTrust;
use crate::bus::{Shared, WaitingForRoom};
use crate::key::PublicKey;
use crate::log::keeper::CurrentSigner;
use crate::seal::Sealer;
use crate::wal::segment::lock;

/// Envelopes of one record.
const MAX_EVENTS: usize = 4096;
/// Bytes of envelopes of one record, but for the last of them.
const MAX_BYTES: usize = 4 << 20;
/// How often the index is written.
const SAVE: Duration = Duration::from_secs(1);
/// How long it waits for work before it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);
/// How long it waits for a queue in memory that empties itself.
const PATIENCE: Duration = Duration::from_secs(2);
/// An agent that was told to come again, because there is no room, has done so after this time, or will not.
const COME_AGAIN: Duration = Duration::from_secs(10);
/// Agents named in an audit entry.
const NAMED: usize = 20;
/// Signatures kept in mind of each agent.
const SIGNATURES: usize = 256;

pub(crate) struct Committer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) items: Receiver<Item>,
    pub(crate) sealer: Sealer,
    /// With which key the bus signs at the moment, and with which this stream was signed last.
    pub(crate) signing: Arc<CurrentSigner>,
    pub(crate) key: PublicKey,
    pub(crate) index: Index,
    /// Since envelopes were sent back for want of room, and when that was last.
    pub(crate) full: Option<(WaitingForRoom, Instant)>,
}

/// Who is told when a record is durable.
struct Waiter {
    reply: oneshot::Sender<Result<Taken, Refusal>>,
    in_flight: InFlight,
    /// Which of the batch's events it is.
    at: usize,
    taken: Taken,
}

/// Envelopes that go into the log together.
#[derive(Default)]
struct Batch {
    events: Vec<Event>,
    waiters: Vec<Waiter>,
    /// Where the event of a key is.
    keys: HashMap<Key, usize>,
}

impl Committer {
    pub(crate) fn run(mut self) {
        let mut saved = Instant::now();
        let mut trust = self.trust();
        loop {
            let is_stopping = self.gateway.is_stopping.load(Ordering::Acquire);
            match self.items.recv_timeout(LOOK) {
                Ok(first) => {
                    let batch = self.collect(first);
                    self.commit(batch);
                }
                // Nobody comes in any more, so the queue stays empty.
                Err(RecvTimeoutError::Timeout) if !is_stopping => {}
                Err(_) => break,
            }
            // Nobody waits here, they come again; so who does not is not waited for.
            self.full.take_if(|(_, last)| last.elapsed() >= COME_AGAIN);
            if saved.elapsed() >= SAVE {
                saved = Instant::now();
                self.save();
                self.note_trust(&mut trust);
            }
        }
        self.save();
    }

    /// The first, and what has come since.
    fn collect(&mut self, first: Item) -> Batch {
        let mut batch = Batch::default();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(item) = next {
            bytes += item.in_flight.bytes;
            self.sort_in(item, &mut batch);
            if batch.events.len() >= MAX_EVENTS || bytes >= MAX_BYTES {
                break;
            }
            next = self.items.try_recv().ok();
        }
        batch
    }

    /// Into the batch, if it is not in the log or the batch already, and new enough for that to be told.
    fn sort_in(&mut self, item: Item, batch: &mut Batch) {
        let key = item.key();
        if self.index.contains(key) {
            self.count_duplicate(&item.in_flight.agent);
            let _ = item.reply.send(Ok(Taken::Duplicate));
            return;
        }
        let refusal = match self.oldest(&item.in_flight.agent.name) {
            oldest if item.time() < oldest => {
                let text = format!(
                    "its time, {} ns, is before {oldest} ns: so old that it may be stored already",
                    item.time()
                );
                Some(Refusal::new(LegacyReason::TooOld, text))
            }
            _ if self.index.is_stuck() => Some(Refusal::new(
                LegacyReason::LogFull,
                "what is stored cannot be noted: the disk has no room",
            )),
            _ => None,
        };
        if let Some(refusal) = refusal {
            self.note_room(&refusal);
            let _ = item.reply.send(Err(refusal));
            return;
        }
        let Item {
            mut event,
            in_flight,
            signature,
            previous,
            reply,
        } = item;
        let (at, taken) = match batch.keys.entry(key) {
            Entry::Occupied(place) => (*place.get(), Taken::Duplicate),
            Entry::Vacant(place) => {
                let at = *place.insert(batch.events.len());
                let mut signatures = lock(&in_flight.agent.signatures);
                if let Some(previous) = previous {
                    let chain = if signatures.contains(&previous) {
                        "known"
                    } else {
                        "unknown"
                    };
                    event
                        .attributes
                        .insert(CHAIN.to_owned(), Value::Text(chain.to_owned()));
                }
                if let Some(signature) = signature {
                    if signatures.len() >= SIGNATURES {
                        signatures.pop_front();
                    }
                    signatures.push_back(signature);
                }
                drop(signatures);
                batch.events.push(event);
                (at, Taken::Stored)
            }
        };
        batch.waiters.push(Waiter {
            reply,
            in_flight,
            at,
            taken,
        });
    }

    /// What is older is not taken of this agent.
    fn oldest(&self, agent: &Name) -> u64 {
        self.window_begins().max(self.index.floor(agent))
    }

    fn window_begins(&self) -> u64 {
        let begins = Timestamp::now().minus(self.gateway.options.window);
        u64::try_from(begins.nanos()).unwrap_or(0)
    }

    fn commit(&mut self, batch: Batch) {
        if batch.events.is_empty() {
            return;
        }
        self.follow_key();
        let head = self.sealer.head(Class::Telemetry);
        let refusal = match self.store(&batch.events) {
            Ok(()) => {
                self.full = None;
                for event in &batch.events {
                    let time = event.time.nanos().cast_unsigned();
                    self.index.insert(super::gateway::key(event), &event.device, time);
                }
                for waiter in batch.waiters {
                    match waiter.taken {
                        Taken::Stored => waiter.in_flight.agent.stored.increment(1),
                        Taken::Duplicate => self.count_duplicate(&waiter.in_flight.agent),
                    }
                    let _ = waiter.reply.send(Ok(waiter.taken));
                }
                return;
            }
            Err(refusal) => refusal,
        };
        self.note_room(&refusal);
        self.sealer.set_head(Class::Telemetry, head);
        if refusal.reason == LegacyReason::TooLarge && batch.events.len() > 1 {
            // One of them may be at fault, or all together.
            let mut waiters = batch.waiters;
            for (of, event) in batch.events.into_iter().enumerate() {
                let (own, others) = waiters.into_iter().partition(|waiter| waiter.at == of);
                waiters = others;
                self.commit(Batch {
                    events: vec![event],
                    waiters: own,
                    keys: HashMap::new(),
                });
            }
            return;
        }
        for waiter in batch.waiters {
            let _ = waiter.reply.send(Err(refusal.clone()));
        }
    }

    /// Lets whoever watches over the bus know that there is no room.
    fn note_room(&mut self, refusal: &Refusal) {
        if refusal.reason == LegacyReason::LogFull {
            let waiting = self.full.take().map(|(waiting, _)| waiting);
            let waiting = waiting.unwrap_or_else(|| self.shared.waiting.enter(refusal.text.clone()));
            self.full = Some((waiting, Instant::now()));
        }
    }

    /// If the bus signs with another key than before, so does this stream: the old one hands over to it.
    fn follow_key(&mut self) {
        let signer = self.signing.get();
        let key = signer.public_key();
        if key == self.key {
            return;
        }
        let handed_over = self.sealer.hand_over(signer).map_err(BoxError::from);
        let appended = handed_over.and_then(|sealed| {
            let appended = self.shared.wal.append_beyond_budget(sealed.record);
            appended.map_err(BoxError::from)
        });
        if let Err(error) = appended {
            tracing::error!(bus = %self.shared.name, %error, "the gateway could not hand over to the new signing key");
        }
        self.key = key;
    }

    /// Seals events, and puts them into the log. They are durable when this returns.
    fn store(&mut self, events: &[Event]) -> Result<(), Refusal> {
        let shared = self.shared.clone();
        let too_large = |error: &dyn std::error::Error| {
            Refusal::new(
                LegacyReason::TooLarge,
                format!("it does not fit into the bus's log: {error}"),
            )
        };
        let sealed = self.sealer.seal(Unsealed {
            class: Class::Telemetry,
            source: &SOURCE.into(),
            events,
            position: None,
            ledger: None,
        });
        let record = match sealed {
            Ok(sealed) => sealed.record,
            Err(error @ SealError::Batch { .. }) => return Err(too_large(&error)),
            Err(error) => {
                tracing::error!(bus = %shared.name, %error, "envelopes could not be sealed");
                return Err(stopping());
            }
        };
        let began = Instant::now();
        let offset = loop {
            let appended = {
                let _order = shared.journal.counting();
                let appended = shared.wal.append(record.clone());
                if appended.is_ok() {
                    let (stage, count) = (&self.gateway.stage, events.len() as u64);
                    shared.journal.ledger.received(stage, count);
                    shared.journal.ledger.delivered(stage, count);
                }
                appended
            };
            match appended {
                Ok(offset) => break offset,
                Err(WalError::Full {
                    used_bytes,
                    budget_bytes,
                }) => {
                    let is_log = budget_bytes == shared.wal.budget_bytes() || used_bytes == budget_bytes;
                    if is_log {
                        shared.room.notify_one();
                    }
                    if is_log || began.elapsed() >= PATIENCE {
                        return Err(Refusal::new(LegacyReason::LogFull, "the bus's log is full"));
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(error @ WalError::TooLarge { .. }) => return Err(too_large(&error)),
                Err(error) => {
                    tracing::error!(bus = %shared.name, %error, "envelopes could not be stored");
                    return Err(stopping());
                }
            }
        };
        shared.note_fed();
        shared.wal.wait_durable(offset).map_err(|error| {
            tracing::error!(bus = %shared.name, %error, "envelopes could not be made durable");
            stopping()
        })
    }

    fn save(&mut self) {
        // Nobody else writes into this stream, and what is written here is durable when it is done.
        self.index.covers(self.shared.wal.durable());
        if let Err(error) = self.index.save(self.window_begins()) {
            tracing::warn!(bus = %self.shared.name, %error, "which envelopes are stored could not be noted; it is tried again");
        }
        // What is not noted yet must stay in the log.
        let covered = self.index.covered().0;
        self.shared.keep_from.store(covered, Ordering::Release);
        let bus = self.shared.name.to_string();
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        metrics::gauge!("amoskys_legacy_known_envelopes", "bus" => bus).set(self.index.len() as f64);
    }

    fn trust(&self) -> Option<Arc<LegacyTrust>> {
        let trust = self.gateway.options.trust.as_ref();
        trust.map(|trust| trust.snapshot())
    }

    /// Writes down that the trust map was replaced.
    fn note_trust(&self, known: &mut Option<Arc<LegacyTrust>>) {
        let now = self.trust();
        let (Some(before), Some(after)) = (known.as_ref(), now.as_ref()) else {
            return;
        };
        if Arc::ptr_eq(before, after) {
            return;
        }
        let missing = |of: &LegacyTrust, other: &LegacyTrust| {
            let keys = of.iter().filter(|(agent, key)| other.key(agent) != Some(*key));
            let mut names: Vec<_> = keys.map(|(agent, _)| agent.as_str()).collect();
            let more = names.len().saturating_sub(NAMED);
            names.truncate(NAMED);
            match (names.is_empty(), more) {
                (true, _) => "none".to_owned(),
                (_, 0) => names.join(", "),
                _ => format!("{} and {more} more", names.join(", ")),
            }
        };
        let reason = format!(
            "keys added, of: {}; keys removed, of: {}",
            missing(after, before),
            missing(before, after)
        );
        let name = self.shared.name.as_str();
        self.shared
            .journal
            .audit(name, "legacy_trust.replaced", name, AuditOutcome::Success, reason);
        // Who was not believed may be now.
        self.shared.offenders.forgive_all();
        *known = now;
    }

    fn count_duplicate(&self, agent: &Agent) {
        agent.duplicates.increment(1);
        let (ledger, stage) = (&self.shared.journal.ledger, &self.gateway.stage);
        ledger.received(stage, 1);
        ledger.dropped(stage, DropReason::DUPLICATE, 1);
    }
}
