//! What all connections of a bus share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use amoskys_core::event::AuditOutcome;
use amoskys_core::{Class, DropReason, Name, Offset, Timestamp, Wal as _, WalError};
use bytes::Bytes;
use tokio::sync::{Notify, watch};

use super::check::Checked;
use super::journal::{Journal, stage};
use super::limiter::Limiter;
use super::options::BusOptions;
use super::positions::Positions;
use super::streams::{NotTaken, Streams, Taken};
use super::succession;
use crate::bus::refuse::RefuseReason;
use crate::seal::hand_over::HandOver;
use crate::wal::SledWal;
use crate::wal::segment::lock;

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
    agents: Mutex<BTreeMap<Name, Arc<Agent>>>,
    refusals: Limiter,
    forks: Limiter,
    /// When an agent's record came last, in milliseconds since `begun`; negative if none has.
    fed: AtomicI64,
    begun: Instant,
}

/// One agent, at the bus.
pub(crate) struct Agent {
    pub(crate) name: Name,
    pub(crate) stage: String,
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
            agents: Mutex::new(agents.collect()),
            refusals: Limiter::new(Duration::from_secs(1)),
            forks: Limiter::new(Duration::from_secs(60)),
            fed: AtomicI64::new(-1),
            begun: Instant::now(),
            options,
            wal,
            journal,
        }
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
                let now = i64::try_from(self.begun.elapsed().as_millis()).unwrap_or(i64::MAX);
                self.fed.store(now, Ordering::Relaxed);
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
        if checked.is_resume {
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
