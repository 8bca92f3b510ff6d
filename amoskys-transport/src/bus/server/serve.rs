use std::collections::BTreeMap;
use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use amoskys_core::event::AuditOutcome;
use amoskys_core::ledger::LedgerSnapshot;
use amoskys_core::{Ledger, Name, Offset, Shutdown, Wal as _};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::accept::connection;
use super::anchors::Heads;
use super::error::BusError;
use super::gauges::{Gauges, Room};
use super::intake::Intake;
use super::journal::Journal;
use super::options::{BusOptions, Retention};
use super::replaced::Replaced;
use super::retention;
use super::shared::Shared;
use super::streams::Streams;
use crate::bus::admission::{self, Stack};
use crate::bus::limits::Limits;
use crate::bus::refuse::RefuseReason;
use crate::key::TrustMap;
use crate::log::{KeyRotation, Log, LogError};
use crate::wal::segment::lock;

/// How often the clock, the health of the log and the room in it are looked after.
const TICK: Duration = Duration::from_millis(250);
/// The clock is written down this often while records come.
const CLOCK: Duration = Duration::from_secs(1);
/// … and this long after the last.
const ACTIVE: Duration = Duration::from_secs(60);
/// How long the audit log may take to write the last entries.
const LAST_ENTRIES: Duration = Duration::from_secs(10);
/// How long connections may take to end.
const GOODBYE: Duration = Duration::from_secs(3);
/// Subscribers see offsets of later logs of a bus above all of the earlier.
const EPOCH_SHIFT: u32 = 40;

/// A bus: takes sealed records of agents over mutual TLS, keeps them in a log of its own, and gives them to
/// subscribers.
///
/// A record is acknowledged once it would survive a power cut here. What is repeated is acknowledged and not stored
/// again, what does not belong is [refused](crate::bus::RefuseReason). Everything else that is decided stands in the bus's own
/// stream in the log, as audit entries.
pub struct Bus {
    shared: Arc<Shared>,
    way_in: Stack,
    listener: Mutex<Option<TcpListener>>,
    address: SocketAddr,
}

/// What each connection gets.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) shared: Arc<Shared>,
    pub(crate) way_in: Stack,
}

/// What a bus has done.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BusReport {
    /// The accounts of all agents, as `bus/AGENT`.
    pub ledger: LedgerSnapshot,
}

impl Bus {
    /// Opens the log of a bus, or begins one, and listens. Clients are served from [`serve`](Self::serve) on.
    ///
    /// # Errors
    ///
    /// If the log cannot be opened, or the address cannot be listened on.
    pub fn open(options: BusOptions) -> Result<Self, BusError> {
        let mut trust = TrustMap::clone(&options.trust.snapshot());
        for (agent, keys) in options.log.trust.snapshot().iter() {
            keys.iter().for_each(|key| trust.insert(agent.clone(), *key));
        }
        let log_options = options.log.clone().agent(options.name.clone()).trust(trust);
        let log = Log::open(&options.dir, log_options)?;
        let heads = log.heads();
        let (wal, epoch) = (log.wal.clone(), log.epoch());
        #[cfg(feature = "legacy")]
        let gateway = crate::legacy::Gateway::of(&options, &log)?;
        let journal = Journal::open(log, options.audit.clone()).map_err(|source| {
            BusError::Open(LogError::File {
                path: options.dir.clone(),
                action: "read",
                source,
            })
        })?;
        let mut agents: BTreeMap<Name, Streams> = BTreeMap::new();
        for (stream, head) in heads {
            let streams = agents.entry(stream.agent).or_default();
            streams.insert((stream.epoch, stream.class), head);
        }
        let (tell, durable) = watch::channel(wal.durable());
        wal.on_durable(Box::new(move |durable| {
            tell.send_if_modified(|known| {
                let grown = durable > *known;
                *known = durable.max(*known);
                grown
            });
        }));
        let base = u64::from(epoch.counter) << EPOCH_SHIFT;
        let listen = |source| BusError::Listen {
            address: options.listen,
            source,
        };
        let listener = TcpListener::bind(options.listen).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let admission = options.admission.clone();
        let shared = Shared::new(options, wal, journal, base, agents, durable);
        #[cfg(feature = "legacy")]
        let shared = shared.with_gateway(gateway);
        let shared = Arc::new(shared);
        let intake = Intake::new(shared.clone());
        let way_in = match admission {
            Some(make) => make(intake),
            None => admission::standard(&shared.rate, &shared.flow, intake),
        };
        Ok(Self {
            shared,
            way_in,
            listener: Mutex::new(Some(listener)),
            address,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn name(&self) -> &Name {
        &self.shared.name
    }

    /// Whether its log could have this budget without being opened anew.
    pub(crate) fn allows_budget(&self, bytes: u64) -> bool {
        bytes == self.shared.wal.budget_bytes() || self.shared.wal.allows_budget(bytes)
    }

    pub(crate) fn set_budget(&self, bytes: u64) {
        self.shared.wal.set_budget(bytes);
    }

    /// Writes down something that was done to it.
    pub(crate) fn note(&self, action: &str, outcome: AuditOutcome, text: String) {
        let name = self.shared.name.as_str();
        self.shared.journal.audit(name, action, name, outcome, text);
    }

    /// Puts other limits in force, for connections that are open too. Those that are too many by them may stay.
    /// A [`Reconfigurer`](super::Reconfigurer) does this from a file.
    pub fn set_limits(&self, limits: Limits) {
        self.shared.limits.replace(limits);
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits::clone(&self.shared.limits.snapshot())
    }

    /// Keeps records shorter or longer from now on.
    pub fn set_retention(&self, retention: Retention) {
        self.shared.retention.replace(retention);
    }

    /// How long it keeps records.
    #[must_use]
    pub fn retention(&self) -> Retention {
        *self.shared.retention.snapshot()
    }

    /// Its ledger: the account of each agent is `bus/AGENT`. It survives restarts.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.shared.journal.ledger.clone()
    }

    /// Replaces the bus's own signing key while it runs: [`watch`](KeyRotation::watch) its file, for example.
    #[must_use]
    pub fn key_rotation(&self) -> KeyRotation {
        self.shared.journal.key_rotation()
    }

    /// First offset of its log that is not durable yet, as subscribers see it.
    #[must_use]
    pub fn durable(&self) -> Offset {
        Offset(self.shared.base + self.shared.wal.durable().0)
    }

    /// Serves clients until `shutdown` is triggered, then ends their connections and returns. Must be called within a
    /// tokio runtime with I/O and time.
    ///
    /// # Errors
    ///
    /// If the log failed. What was acknowledged is safe.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends all connections. A bus can be served once.
    pub async fn serve(&self, shutdown: Shutdown) -> Result<BusReport, BusError> {
        let listener = lock(&self.listener).take().ok_or(BusError::Served)?;
        let listen = |source| BusError::Listen {
            address: self.address,
            source,
        };
        let listener = tokio::net::TcpListener::from_std(listener).map_err(listen)?;
        let shared = &self.shared;
        let name = shared.name.as_str();
        let where_ = self.address.to_string();
        shared
            .journal
            .audit(name, "bus.start", &where_, AuditOutcome::Success, String::new());
        let stop = Shutdown::new();
        let served = Served {
            shared: shared.clone(),
            way_in: self.way_in.clone(),
        };
        let (mut gauges, mut room) = (Gauges::new(shared), Room::default());
        #[cfg(feature = "legacy")]
        let committing = crate::legacy::start(shared);
        let mut replaced = Replaced::new(shared);
        let mut heads = Heads::new(shared.options.heads_interval);
        let mut connections = JoinSet::new();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut clock = tokio::time::Instant::now();
        let ended = loop {
            tokio::select! {
                () = shutdown.triggered() => break Ok(()),
                accepted = listener.accept() => match accepted {
                    Ok((tcp, peer)) => {
                        match shared.door.come(peer.ip(), &shared.limits.snapshot(), Instant::now()) {
                            Some(ticket) => {
                                connections.spawn(connection(served.clone(), tcp, peer, ticket, stop.clone()));
                            }
                            None => {
                                let text = "there are too many connections";
                                shared.refused(RefuseReason::Busy, &peer.to_string(), text);
                            }
                        }
                    }
                    Err(error) => {
                        // Out of file descriptors, most likely.
                        tracing::warn!(bus = name, %error, "a connection could not be accepted");
                        tokio::time::sleep(TICK).await;
                    }
                },
                Some(ended) = connections.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(bus = name, %error, "a connection ended by a panic");
                    }
                }
                () = replaced.next() => {
                    // Who was not believed may be now.
                    shared.offenders.forgive_all();
                    replaced.note(shared);
                }
                () = shared.room.notified() => self.make_room(true).await?,
                _ = tick.tick() => {
                    if let Err(error) = shared.log_health() {
                        room.failed(shared, &error);
                        break Err(BusError::Log(error));
                    }
                    self.make_room(false).await?;
                    shared.journal.catch_up();
                    if heads.is_due() {
                        heads.write(&shared.journal);
                    }
                    gauges.publish(shared);
                    room.tell(shared);
                    if clock.elapsed() >= CLOCK && shared.fed_within(ACTIVE) {
                        clock = tokio::time::Instant::now();
                        shared.journal.clock();
                    }
                }
            }
        };
        drop(listener);
        stop.trigger();
        let goodbye = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
        connections.shutdown().await;
        #[cfg(feature = "legacy")]
        let _ = tokio::task::spawn_blocking(move || drop(committing)).await;
        shared
            .journal
            .audit(name, "bus.stop", &where_, AuditOutcome::Success, String::new());
        // The last word: how far everything is, this included.
        let this = shared.clone();
        let last_word = tokio::task::spawn_blocking(move || {
            let last = Offset(this.wal.next().0.saturating_sub(1));
            if this.wal.wait_durable(last).is_ok() {
                heads.write(&this.journal);
            }
            this.journal.flush_audit(LAST_ENTRIES);
        });
        let _ = last_word.await;
        ended.map(|()| BusReport {
            ledger: shared.journal.ledger.snapshot(),
        })
    }

    async fn make_room(&self, wanted: bool) -> Result<(), BusError> {
        let shared = self.shared.clone();
        match tokio::task::spawn_blocking(move || retention::run(&shared, wanted)).await {
            Ok(result) => Ok(result?),
            Err(error) => {
                tracing::error!(bus = %self.shared.name, %error, "retention ended by a panic");
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus")
            .field("name", &self.shared.name)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
