//! What all connections of the predecessor's agents share: who they are, what is checked, and the way to the log.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use amoskys_core::event::AuditOutcome;
use amoskys_core::{BoxError, DropReason, Event, Name, Timestamp};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::committer::Committer;
use super::convert;
use super::envelope::{EnvelopeError, MAX_ENVELOPE, Received};
use super::index::{Index, Key};
use super::options::LegacyOptions;
use super::reason::{LegacyReason, Refusal};
use crate::bus::admission::Charge;
use crate::bus::{BusError, BusOptions, Limiter, Shared};
use crate::log::keeper::CurrentSigner;
use crate::log::{Log, LogError};
use crate::seal::Sealer;
use crate::spelling;
use crate::wal::segment::lock;

/// Directory of the index, in that of the bus.
const DIR: &str = "gateway";
/// The certificate says who an agent is, so only an authority makes many of them.
const MAX_AGENTS: usize = 100_000;

pub(crate) struct Gateway {
    pub(crate) name: Name,
    pub(crate) options: LegacyOptions,
    /// Its account in the ledger.
    pub(crate) stage: String,
    queue: SyncSender<Item>,
    /// Taken when it is served.
    work: Mutex<Option<Work>>,
    agents: Mutex<BTreeMap<Name, Arc<Agent>>>,
    in_flight_bytes: AtomicUsize,
    /// Calls of clients whose certificate does not say who they are.
    pub(crate) strangers_offences: AtomicUsize,
    pub(crate) is_stopping: AtomicBool,
    logged: Limiter,
    audited: Limiter,
}

struct Work {
    items: Receiver<Item>,
    sealer: Sealer,
    /// With which key the bus signs at the moment.
    signing: Arc<CurrentSigner>,
    index: Index,
}

/// An agent of the predecessor.
pub(crate) struct Agent {
    pub(crate) name: Name,
    in_flight: AtomicUsize,
    in_flight_bytes: AtomicUsize,
    /// The signatures of its latest envelopes, as far as it takes to tell them apart.
    pub(crate) signatures: Mutex<VecDeque<u64>>,
    /// Its envelopes that should not have been sent.
    pub(crate) offences: AtomicUsize,
    pub(crate) stored: metrics::Counter,
    pub(crate) duplicates: metrics::Counter,
}

/// An envelope on its way into the log.
pub(crate) struct Item {
    pub(crate) event: Event,
    pub(crate) in_flight: InFlight,
    /// Its signature, and the one of the envelope before it, as far as it takes to tell them apart.
    pub(crate) signature: Option<u64>,
    pub(crate) previous: Option<u64>,
    pub(crate) reply: oneshot::Sender<Result<Taken, Refusal>>,
}

impl Item {
    pub(crate) fn key(&self) -> Key {
        key(&self.event)
    }

    /// Envelopes with a time before 1970 are not taken.
    pub(crate) fn time(&self) -> u64 {
        self.event.time.nanos().cast_unsigned()
    }
}

/// What the index knows an event by.
pub(crate) fn key(event: &Event) -> Key {
    u128::from(event.id.origin) << 64 | u128::from(event.id.ordinal)
}

/// What became of an envelope that is in the log now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Stored,
    /// It had been before.
    Duplicate,
}

/// An envelope counts as in flight until this is dropped; also if nobody waits for the answer any more.
pub(crate) struct InFlight {
    gateway: Arc<Gateway>,
    pub(crate) agent: Arc<Agent>,
    pub(crate) bytes: usize,
    /// Its part of what may be on the way of all agents of the bus together.
    charge: Option<Charge>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.agent.in_flight.fetch_sub(1, Ordering::AcqRel);
        self.agent.in_flight_bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        self.gateway
            .in_flight_bytes
            .fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

impl Gateway {
    /// The gateway of a bus, if it is to have one: opens the index, and reads what is in the log and not in it.
    pub(crate) fn of(options: &BusOptions, log: &Log) -> Result<Option<Arc<Self>>, BusError> {
        let Some(legacy) = &options.legacy else {
            return Ok(None);
        };
        let dir = options.dir.join(DIR);
        let gateway = Self::open(&dir, options, legacy.clone(), log);
        gateway.map(|gateway| Some(Arc::new(gateway))).map_err(|source| {
            BusError::Open(LogError::File {
                path: dir,
                action: "used",
                source,
            })
        })
    }

    fn open(dir: &Path, bus: &BusOptions, options: LegacyOptions, log: &Log) -> Result<Self, BoxError> {
        let name = options
            .name
            .clone()
            .unwrap_or_else(|| spelling::gateway_of(&bus.name));
        let mut index = Index::open(dir, log.epoch(), options.index_bytes)?;
        super::resume::catch_up(&mut index, log, &name, &options)?;
        let (queue, items) = sync_channel(options.max_in_flight);
        let signing = lock(&log.keeper.0).sealing.clone();
        let mut sealer =
            Sealer::new(name.clone(), log.epoch(), signing.get()).compression(bus.log.compression);
        for (stream, head) in log.heads() {
            if stream.agent == name && stream.epoch == log.epoch() {
                sealer = sealer.resume(stream.class, head);
            }
        }
        let work = Work {
            items,
            sealer,
            signing,
            index,
        };
        Ok(Self {
            stage: crate::bus::stage(name.as_str()),
            name,
            queue,
            work: Mutex::new(Some(work)),
            agents: Mutex::default(),
            in_flight_bytes: AtomicUsize::new(0),
            strangers_offences: AtomicUsize::new(0),
            is_stopping: AtomicBool::new(false),
            logged: Limiter::new(Duration::from_secs(1)),
            audited: Limiter::new(Duration::from_secs(60)),
            options,
        })
    }

    /// The agent of a certificate.
    pub(crate) fn agent(&self, name: &Name) -> Result<Arc<Agent>, Refusal> {
        let mut agents = lock(&self.agents);
        if let Some(agent) = agents.get(name) {
            return Ok(agent.clone());
        }
        if agents.len() >= MAX_AGENTS {
            return Err(Refusal::new(LegacyReason::Busy, "there are too many agents"));
        }
        let agent = Arc::new(Agent::new(name.clone()));
        agents.insert(name.clone(), agent.clone());
        Ok(agent)
    }

    /// Takes an envelope: checks it, and waits until it is durable.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the envelope may or may not be stored; sent again, it is stored once.
    pub(crate) async fn publish(&self, in_flight: InFlight, bytes: Bytes) -> Result<Taken, Refusal> {
        let agent = &in_flight.agent;
        let received = Received::decode(bytes).map_err(|error| {
            let reason = match error {
                EnvelopeError::TooLarge(_) => LegacyReason::TooLarge,
                EnvelopeError::Malformed(_) => LegacyReason::Malformed,
            };
            Refusal::new(reason, error.to_string())
        })?;
        let is_signed = self.authorize(&agent.name, &received)?;
        let time = self.check(&received)?;
        let event = convert::event(&agent.name, &received, time, is_signed)?;
        let short = |signature: &[u8]| {
            signature
                .first_chunk::<8>()
                .map(|first| u64::from_le_bytes(*first))
        };
        let (reply, answer) = oneshot::channel();
        let item = Item {
            event,
            in_flight,
            signature: short(&received.message.sig).filter(|_| is_signed),
            previous: short(&received.message.prev_sig),
            reply,
        };
        drop(received);
        self.queue.try_send(item).map_err(|error| match error {
            TrySendError::Full(_) => busy(),
            TrySendError::Disconnected(_) => stopping(),
        })?;
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Whether the agent signed it. An error, if it must have and has not.
    fn authorize(&self, agent: &Name, received: &Received) -> Result<bool, Refusal> {
        let trust = self.options.trust.as_ref().map(|trust| trust.snapshot());
        let key = trust.as_ref().and_then(|trust| trust.key(agent));
        let refuse = |reason, text: String| Err(Refusal::new(reason, text));
        if trust.is_some() && key.is_none() {
            let text = format!("{agent}, as the certificate names it, is not in the trust map");
            return refuse(LegacyReason::UnknownAgent, text);
        }
        match key {
            _ if received.message.sig.is_empty() && self.options.allow_unsigned => Ok(false),
            _ if received.message.sig.is_empty() => {
                refuse(LegacyReason::Unsigned, "the envelope is not signed".to_owned())
            }
            None => refuse(
                LegacyReason::Signature,
                "the envelope is signed, and there is no key here to check that with".to_owned(),
            ),
            Some(key) if received.is_signed_by(key) => Ok(true),
            Some(_) => refuse(
                LegacyReason::Signature,
                format!("the signature is not one of {agent} over this envelope"),
            ),
        }
    }

    /// Whether it can be told from others, and is of this time.
    fn check(&self, received: &Received) -> Result<Timestamp, Refusal> {
        let message = &received.message;
        if message.idempotency_key.is_empty() {
            return Err(Refusal::new(
                LegacyReason::NoKey,
                "the envelope has no idempotency_key",
            ));
        }
        let time = i64::try_from(message.ts_ns).map(Timestamp::from_nanos).ok();
        let latest = Timestamp::now().plus(self.options.max_ahead);
        time.filter(|time| *time <= latest).ok_or_else(|| {
            let text = format!(
                "its time, {} ns, is more than {} s ahead of the bus's clock",
                message.ts_ns,
                self.options.max_ahead.as_secs()
            );
            Refusal::new(LegacyReason::Ahead, text)
        })
    }

    /// Lets an envelope in, before it is read, if there is room for it, and its agent may send it now.
    pub(crate) fn enter(
        self: &Arc<Self>,
        shared: &Shared,
        agent: &Arc<Agent>,
        bytes: usize,
    ) -> Result<InFlight, Refusal> {
        if let Some(left) = shared.penalty(&agent.name) {
            let text = "too many envelopes of this agent were refused";
            return Err(Refusal::new(LegacyReason::Limited, text).retry_after(left));
        }
        let of_agent = agent.in_flight.fetch_add(1, Ordering::AcqRel);
        let bytes_of_agent = agent.in_flight_bytes.fetch_add(bytes, Ordering::AcqRel);
        let of_all = self.in_flight_bytes.fetch_add(bytes, Ordering::AcqRel);
        let mut entered = InFlight {
            gateway: self.clone(),
            agent: agent.clone(),
            bytes,
            charge: None,
        };
        if self.is_stopping.load(Ordering::Acquire) {
            return Err(stopping());
        }
        let options = &self.options;
        // One agent alone cannot take the room of all others.
        if of_agent >= options.max_in_flight / 4
            || bytes_of_agent + bytes > (options.max_in_flight_bytes / 4).max(MAX_ENVELOPE)
            || of_all + bytes > options.max_in_flight_bytes
        {
            return Err(busy());
        }
        let size = bytes as u64;
        let charge = shared.flow.enter_now(&agent.name, size).map_err(|_| busy())?;
        entered.charge = Some(charge);
        shared.rate.take_now(&agent.name, 1, size).map_err(|wait| {
            let text = "this agent sends more in a second than it may";
            Refusal::new(LegacyReason::Rate, text).retry_after(wait)
        })?;
        Ok(entered)
    }

    /// Counts and reports what was not taken.
    pub(crate) fn refused(&self, shared: &Shared, who: &str, refusal: &Refusal) {
        let Refusal { reason, text, after } = refusal;
        metrics::counter!("amoskys_legacy_refused_total", "reason" => reason.as_str()).increment(1);
        if reason.status() == super::message::Status::Retry {
            // What may come again is not lost.
            return shared.asked_to_wait(&who.into(), reason.as_str(), *after);
        }
        let ledger = &shared.journal.ledger;
        ledger.received(&self.stage, 1);
        ledger.dropped(&self.stage, DropReason::known("refused"), 1);
        let now = Instant::now();
        if let Some(held_back) = self.logged.pass(reason.as_str(), now) {
            tracing::warn!(bus = %shared.name, %reason, from = who, held_back, "an envelope was refused: {text}");
        }
        if let Some(held_back) = self.audited.pass(&format!("{reason}/{who}"), now) {
            let more = match held_back {
                0 => String::new(),
                more => format!(" ({more} more before)"),
            };
            let action = "envelope.refused";
            let reason = format!("{reason}: {text}{more}");
            shared
                .journal
                .audit(who, action, self.name.as_str(), AuditOutcome::Denied, reason);
        }
    }

    /// Begins to put envelopes into the log.
    fn start(self: &Arc<Self>, shared: &Arc<Shared>) -> Option<Committing> {
        let Work {
            items,
            sealer,
            signing,
            index,
        } = lock(&self.work).take()?;
        // What is not noted yet must stay in the log.
        shared.keep_from.store(index.covered().0, Ordering::Release);
        let committer = Committer {
            shared: shared.clone(),
            gateway: self.clone(),
            items,
            key: signing.get().public_key(),
            signing,
            sealer,
            index,
            full: None,
        };
        let thread = std::thread::Builder::new()
            .name("amoskys-gateway".to_owned())
            .spawn(move || committer.run());
        match thread {
            Ok(thread) => Some(Committing {
                gateway: self.clone(),
                thread: Some(thread),
            }),
            Err(error) => {
                tracing::error!(bus = %shared.name, %error, "the thread of the gateway cannot be started; its agents are told to wait");
                None
            }
        }
    }
}

/// The thread that puts envelopes into the log. Dropping it ends it, after what has been begun.
pub(crate) struct Committing {
    gateway: Arc<Gateway>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Committing {
    fn drop(&mut self) {
        self.gateway.is_stopping.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the gateway ended by a panic");
        }
    }
}

impl Agent {
    fn new(name: Name) -> Self {
        let label = name.as_str().to_owned();
        Self {
            name,
            in_flight: AtomicUsize::new(0),
            in_flight_bytes: AtomicUsize::new(0),
            signatures: Mutex::default(),
            offences: AtomicUsize::new(0),
            stored: metrics::counter!("amoskys_legacy_envelopes_total", "agent" => label.clone()),
            duplicates: metrics::counter!("amoskys_legacy_duplicates_total", "agent" => label),
        }
    }
}

/// Begins to put envelopes into the log of a bus, if it has a gateway.
pub(crate) fn start(shared: &Arc<Shared>) -> Option<Committing> {
    shared.gateway.as_ref()?.start(shared)
}

fn busy() -> Refusal {
    Refusal::new(LegacyReason::Busy, "too much waits to become durable")
}

pub(crate) fn stopping() -> Refusal {
    Refusal::new(
        LegacyReason::Stopping,
        "the bus is being stopped, or its log has failed",
    )
}
