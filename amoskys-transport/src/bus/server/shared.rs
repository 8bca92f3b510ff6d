//! What all connections of a bus share.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use amoskys_core::event::AuditOutcome;
use amoskys_core::{Class, DropReason, Name, Offset, Timestamp, Wal as _, WalError};
use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, watch};

use super::check::Checked;
use super::door::Door;
use super::journal::{Journal, stage};
use super::limiter::Limiter;
use super::offenders::{Offenders, Who};
use super::options::{BusOptions, Retention};
use super::positions::Positions;
use super::streams::{NotTaken, Streams, Taken};
use super::succession;
use super::waiting::Waiting;
use crate::bus::admission::{FlowLimit, RateLimit};
use crate::bus::frame::MAX_FRAME;
use crate::bus::limits::SharedLimits;
use crate::bus::refuse::RefuseReason;
use crate::seal::hand_over::HandOver;
use crate::swap::Swap;
use crate::wal::SledWal;
use crate::wal::segment::lock;

/// Memory for large frames that are coming in on all connections together, in KiB.
const LARGE_KIB: usize = (4 * MAX_FRAME) >> 10;

pub(crate) struct Shared {
    pub(crate) name: Name,
    pub(crate) options: BusOptions,
    pub(crate) wal: Arc<SledWal>,
    pub(crate) journal: Journal,
    pub(crate) positions: Positions,
    /// How far the log is durable.
    pub(crate) durable: watch::Receiver<Offset>,
    /// Somebody waits for room in the log.
    pub(crate) room: Notify,
    /// What subscribers see of an offset is this much more: an offset of a log that was lost is below all of the
    /// next.
    pub(crate) base: u64,
    pub(crate) limits: SharedLimits,
    pub(crate) retention: Swap<Retention>,
    pub(crate) rate: RateLimit,
    pub(crate) flow: FlowLimit,
    pub(crate) door: Door,
    pub(crate) offenders: Offenders,
    pub(crate) waiting: Waiting,
    /// Memory for large frames that are coming in, in KiB.
    pub(crate) large: Arc<Semaphore>,
    /// Records from here on are still needed by the bus itself.
    pub(crate) keep_from: AtomicU64,
    /// Serves agents of the predecessor.
    #[cfg(feature = "legacy")]
    pub(crate) gateway: Option<Arc<crate::legacy::Gateway>>,
    agents: Mutex<BTreeMap<Name, Arc<Agent>>>,
    refusals: Limiter,
    forks: Limiter,
    /// Of clients that are limited; strangers choose some of the kinds.
    limited: Limiter,
    /// When an agent's record came last, in milliseconds since `begun`; negative if none has.
    fed: AtomicI64,
    begun: Instant,
}

/// One agent, at the bus.
pub(crate) struct Agent {
    pub(crate) name: Name,
    pub(crate) stage: String,
    /// What one agent may have of the memory for large frames, in KiB.
    pub(crate) large: Arc<Semaphore>,
    streams: Mutex<Streams>,
    connections: AtomicUsize,
    received: metrics::Counter,
    repeated: metrics::Counter,
}

/// A connection of an agent. Counts until it is dropped.
pub(crate) struct Connected(pub(crate) Arc<Agent>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Shared {
    pub(crate) fn new(
        options: BusOptions,
        wal: Arc<SledWal>,
        journal: Journal,
        base: u64,
        agents: BTreeMap<Name, Streams>,
        durable: watch::Receiver<Offset>,
    ) -> Self {
        let agents = agents
            .into_iter()
            .map(|(name, streams)| (name.clone(), Arc::new(Agent::new(name, streams))));
        // From zero, or whoever watches how they grow would miss the first.
        for reason in RefuseReason::ALL {
            metrics::counter!("amoskys_bus_refused_total", "reason" => reason.as_str()).increment(0);
        }
        metrics::counter!("amoskys_bus_subscriber_lost_records_total").increment(0);
        Self {
            name: options.name.clone(),
            positions: Positions::load(&wal),
            durable,
            room: Notify::new(),
            base,
            limits: options.limits.clone(),
            retention: Swap::new(options.retention),
            rate: RateLimit::new(options.limits.clone()),
            flow: FlowLimit::new(options.limits.clone()),
            door: Door::default(),
            offenders: Offenders::default(),
            waiting: Waiting::default(),
            large: Arc::new(Semaphore::new(LARGE_KIB)),
            keep_from: AtomicU64::new(u64::MAX),
            #[cfg(feature = "legacy")]
            gateway: None,
            agents: Mutex::new(agents.collect()),
            refusals: Limiter::new(Duration::from_secs(1)),
            forks: Limiter::new(Duration::from_secs(60)),
            limited: Limiter::new(Duration::from_secs(60)),
            fed: AtomicI64::new(-1),
            begun: Instant::now(),
            options,
            wal,
            journal,
        }
    }

    #[cfg(feature = "legacy")]
    pub(crate) fn with_gateway(mut self, gateway: Option<Arc<crate::legacy::Gateway>>) -> Self {
        self.gateway = gateway;
        self
    }

    /// An agent comes in. If it is there already, that is written down: two processes act as one.
    pub(crate) fn connect(&self, name: &Name) -> Connected {
        let mut agents = lock(&self.agents);
        let agent = agents
            .entry(name.clone())
            .or_insert_with(|| Arc::new(Agent::new(name.clone(), Streams::default())))
            .clone();
        drop(agents);
        let before = agent.connections.fetch_add(1, Ordering::AcqRel);
        if before > 0
            && self
                .forks
                .pass(&format!("twice/{name}"), Instant::now())
                .is_some()
        {
            let reason = format!(
                "{before} other connections of this agent are open: its directory may have been copied"
            );
            self.journal.audit(
                name.as_str(),
                "agent.connected_twice",
                name.as_str(),
                AuditOutcome::Success,
                reason,
            );
        }
        Connected(agent)
    }

    /// Decides about a genuine record, and stores it if it is the next of its stream.
    pub(crate) fn store(&self, agent: &Agent, checked: &Checked, record: Bytes) -> Result<Taken, NotTaken> {
        let place = &checked.place;
        let (taken, before) = {
            let mut streams = lock(&agent.streams);
            // What is there already may come again, signed by whatever key it was.
            let handed_over = |(epoch, next)| streams.head(&(epoch, Class::Audit)).next >= next;
            let is_over = checked.is_retired || checked.handed_over.is_some_and(handed_over);
            let head = streams.head(&place.stream);
            if is_over && place.next > head.next {
                let reason = RefuseReason::KeyRetired;
                return Err(NotTaken::Misplaced { reason, head });
            }
            if place.next > head.next && self.is_ahead(checked.sealed) {
                let reason = RefuseReason::Clock;
                return Err(NotTaken::Misplaced { reason, head });
            }
            let _order = self.journal.counting();
            let taken = streams.take(place, self.options.max_streams, || self.wal.append(record))?;
            if let Taken::Stored { .. } = taken {
                self.journal.ledger.received(&agent.stage, checked.events);
                self.journal.ledger.delivered(&agent.stage, checked.events);
            }
            let begins = matches!(
                taken,
                Taken::Stored {
                    begins_epoch: true,
                    ..
                }
            );
            (taken, begins.then(|| streams.before(place.stream.0)).flatten())
        };
        match taken {
            Taken::Stored { .. } => {
                if let Some(hand_over) = &checked.hand_over {
                    succession::take(self, HandOver::clone(hand_over), "by");
                }
                agent.received.increment(checked.events);
                self.note_fed();
            }
            Taken::Repeated { .. } => {
                agent.repeated.increment(checked.events);
                self.journal.ledger.received(&agent.stage, checked.events);
                self.journal
                    .ledger
                    .dropped(&agent.stage, DropReason::DUPLICATE, checked.events);
                return Ok(taken);
            }
        }
        let (epoch, class) = place.stream;
        if let Some((old, heads)) = before {
            let heads = heads
                .iter()
                .map(|(class, head)| format!(" {class} before {} with digest {}", head.next, head.digest));
            let reason = format!(
                "the agent began epoch {epoch}; epoch {old} ended here at{}",
                heads.collect::<String>()
            );
            self.journal.audit(
                agent.name.as_str(),
                "agent.new_epoch",
                agent.name.as_str(),
                AuditOutcome::Success,
                reason,
            );
        }
        if let Some(why) = checked.gap {
            metrics::counter!(
                "amoskys_bus_missing_events_total", "agent" => agent.name.as_str().to_owned(), "reason" => why.as_str()
            )
            .increment(place.next.0.saturating_sub(place.first.0));
        }
        if checked.is_resume() {
            let reason = format!(
                "the agent says by a signed gap that events {} to {} are no longer in its log",
                place.first,
                place.next.0.saturating_sub(1)
            );
            let object = format!("{}/{class}@{epoch}", agent.name);
            self.journal.audit(
                agent.name.as_str(),
                "stream.resumed",
                &object,
                AuditOutcome::Success,
                reason,
            );
        }
        Ok(taken)
    }

    /// Whether something was sealed further ahead of this machine's clock than is allowed.
    fn is_ahead(&self, sealed: Timestamp) -> bool {
        let ahead = i64::try_from(self.options.clock_ahead.as_nanos()).unwrap_or(i64::MAX);
        sealed.nanos() > Timestamp::now().nanos().saturating_add(ahead)
    }

    /// Counts and reports a refusal.
    pub(crate) fn refused(&self, reason: RefuseReason, who: &str, text: &str) {
        metrics::counter!("amoskys_bus_refused_total", "reason" => reason.as_str()).increment(1);
        let Some(held_back) = self.refusals.pass(reason.as_str(), Instant::now()) else {
            return;
        };
        tracing::warn!(bus = %self.name, %reason, from = who, held_back, "refused: {text}");
    }

    /// Counts a refusal against a client and where it comes from. One that is refused again and again is kept out for a
    /// while, and named.
    pub(crate) fn strike(&self, reason: RefuseReason, client: Option<&Name>, from: IpAddr) {
        let longest = self.limits.snapshot().longest_penalty;
        let now = Instant::now();
        let mut named = None;
        for who in [client.cloned().map(Who::Known), Some(Who::from(from))]
            .into_iter()
            .flatten()
        {
            let limited = self.offenders.strike(who, longest, now);
            named = named.or(limited);
        }
        let Some((strikes, penalty)) = named else {
            return;
        };
        let client = client.map_or("unknown", Name::as_str);
        metrics::counter!("amoskys_bus_penalties_total", "agent" => client.to_owned()).increment(1);
        if self.limited.pass(&format!("{client}/{from}"), now).is_none() {
            return;
        }
        let text = format!(
            "refused {strikes} times, the last time for {reason}: kept out for {} ms, and longer each time",
            penalty.as_millis()
        );
        tracing::warn!(bus = %self.name, agent = client, %from, "limited: {text}");
        self.journal.audit(
            client,
            "client.limited",
            &from.to_string(),
            AuditOutcome::Denied,
            text,
        );
    }

    /// How much longer a client is kept out that was refused again and again.
    pub(crate) fn penalty(&self, client: &Name) -> Option<Duration> {
        self.offenders
            .penalty(&Who::Known(client.clone()), Instant::now())
    }

    /// A client has done something good.
    pub(crate) fn forgive(&self, client: &Name, from: IpAddr) {
        self.offenders.forgive(&Who::Known(client.clone()));
        self.offenders.forgive(&Who::from(from));
    }

    /// An agent was asked to wait. That is written down once a minute for each agent and reason.
    pub(crate) fn asked_to_wait(&self, agent: &Name, reason: &'static str, time: Duration) {
        metrics::counter!(
            "amoskys_bus_retries_total", "agent" => agent.as_str().to_owned(), "reason" => reason
        )
        .increment(1);
        let Some(more) = self.limited.pass(&format!("{agent}/{reason}"), Instant::now()) else {
            return;
        };
        let text = format!(
            "asked to wait {} ms for {reason} ({more} times more before)",
            time.as_millis()
        );
        tracing::warn!(bus = %self.name, %agent, "{text}");
        let name = agent.as_str();
        self.journal
            .audit(name, "agent.limited", name, AuditOutcome::Denied, text);
    }

    /// Writes a refusal down, once a minute for each cause.
    pub(crate) fn audit_refusal(&self, reason: RefuseReason, who: &str, object: &str, text: &str) {
        let kind = format!("{reason}/{who}/{object}");
        if let Some(held_back) = self.forks.pass(&kind, Instant::now()) {
            let action = match reason {
                RefuseReason::Fork => "stream.fork",
                _ => "connection.refused",
            };
            let more = match held_back {
                0 => String::new(),
                more => format!(" ({more} more before)"),
            };
            self.journal.audit(
                who,
                action,
                object,
                AuditOutcome::Denied,
                format!("{reason}: {text}{more}"),
            );
        }
    }

    /// An agent's record came.
    pub(crate) fn note_fed(&self) {
        let now = i64::try_from(self.begun.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.fed.store(now, Ordering::Relaxed);
    }

    /// Whether an agent's record came within this time.
    pub(crate) fn fed_within(&self, time: Duration) -> bool {
        let fed = self.fed.load(Ordering::Relaxed);
        let now = i64::try_from(self.begun.elapsed().as_millis()).unwrap_or(i64::MAX);
        fed >= 0 && u128::try_from(now - fed).is_ok_and(|age| age <= time.as_millis())
    }

    /// An error once the log has failed.
    pub(crate) fn log_health(&self) -> Result<(), WalError> {
        self.wal.trim(Offset(0))
    }
}

impl Agent {
    fn new(name: Name, streams: Streams) -> Self {
        let label = name.as_str().to_owned();
        Self {
            stage: stage(name.as_str()),
            large: Arc::new(Semaphore::new(MAX_FRAME >> 10)),
            streams: Mutex::new(streams),
            connections: AtomicUsize::new(0),
            received: metrics::counter!("amoskys_bus_events_total", "agent" => label.clone()),
            repeated: metrics::counter!("amoskys_bus_duplicates_total", "agent" => label),
            name,
        }
    }

    pub(crate) fn streams(&self) -> std::sync::MutexGuard<'_, Streams> {
        lock(&self.streams)
    }
}
