use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use amoskys_core::{BoxError, Class, Event, EventId, Name, Seal, Seq, StreamId, Unsealed};
use bytes::Bytes;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until};

use super::Random;
use crate::bus::ConnectionError;
use crate::bus::client::backoff::about;
use crate::bus::client::dial::{ClientLink, LONGEST_PAUSE, dial, refused};
use crate::bus::client::options::ConnectOptions;
use crate::bus::client::standing::Standing;
use crate::bus::frame::{FrameError, FrameType};
use crate::bus::link::Turn;
use crate::bus::message::{self, Nothing, Part};
use crate::key::Signer;
use crate::log::epoch;
use crate::seal::Sealer;

/// More records are handed to the connection while fewer bytes than this wait there.
const IN_LINE: usize = 64 << 10;
/// Batches that may wait for the bus; an agent with so many seals no more.
const WAITING: usize = 1024;
/// How long the last word may take.
const LAST_WORD: Duration = Duration::from_secs(2);
/// How often the bus is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Pause before it connects again.
const PAUSE: Duration = Duration::from_millis(200);

/// An agent without a log: it seals and signs random events as an agent does, sends them to a bus over a connection of
/// its own, and keeps in memory what is not acknowledged. Thousands of them fit into one process.
///
/// It begins a new epoch each time it is made. What it has sealed is gone with it, so it is good for load, and not for
/// events that anyone needs.
pub struct SimulatedAgent {
    name: Name,
    stream: StreamId,
    sealer: Sealer,
    connect: ConnectOptions,
    random: Random,
    link: Option<Connection>,
    waiting: VecDeque<Batch>,
    outcome: Outcome,
}

struct Connection {
    link: ClientLink,
    _standing: Standing,
    credit_bytes: u64,
    sent_bytes: u64,
    /// How many of the batches that wait were sent on this connection.
    sent: usize,
    /// The bus asked to send nothing before.
    not_before: Instant,
}

struct Batch {
    /// Number behind its last event.
    next: Seq,
    events: u64,
    due: Instant,
    record: Bytes,
}

/// What a [`SimulatedAgent`] offers.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Events in a batch.
    pub batch: u64,
    /// Bytes of text in an event.
    pub event_bytes: usize,
    /// Time from one batch to the next.
    pub interval: Duration,
    /// How long to go on sealing.
    pub duration: Duration,
    /// How long to wait for acknowledgements after that.
    pub patience: Duration,
    /// What goes wrong meanwhile.
    pub faults: Faults,
}

/// What goes wrong while a [`SimulatedAgent`] puts its load on. Default nothing. None of it may lose or double anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// The connection breaks off about this often, between half of it and one and a half times.
    pub disconnect_every: Option<Duration>,
    /// The share of batches that are sent once more, right behind themselves; from 0 to 1.
    pub repeated: f64,
    /// Bytes a second that the line carries, if it is a slow one.
    pub line_bytes: Option<u64>,
}

/// What became of the load. Everything sealed and not acknowledged is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// Events sealed.
    pub sealed: u64,
    /// Events that the bus said are durable there.
    pub acknowledged: u64,
    /// Connections that were lost.
    pub reconnects: u64,
    /// How often the bus asked to wait.
    pub retries: u64,
    /// Connections that were broken off on purpose.
    pub disconnects: u64,
    /// Events that were sent once more on purpose.
    pub repeated: u64,
}

impl SimulatedAgent {
    /// An agent of this name, which the certificate in `connect` must carry, with a signing key the bus knows.
    ///
    /// # Errors
    ///
    /// If the system gives no random numbers.
    pub fn new(
        name: impl Into<Name>,
        signer: Arc<dyn Signer>,
        connect: ConnectOptions,
        seed: u64,
    ) -> Result<Self, BoxError> {
        let (name, epoch) = (name.into(), epoch::draw(None)?);
        let stream = StreamId {
            agent: name.clone(),
            epoch,
            class: Class::Telemetry,
        };
        Ok(Self {
            sealer: Sealer::new(name.clone(), epoch, signer),
            name,
            stream,
            connect,
            random: Random::new(seed),
            link: None,
            waiting: VecDeque::new(),
            outcome: Outcome::default(),
        })
    }

    /// Connects, if it is not connected.
    ///
    /// # Errors
    ///
    /// If that fails.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing but the connection.
    pub async fn connect(&mut self) -> Result<(), ConnectionError> {
        if self.link.is_some() {
            return Ok(());
        }
        let (link, welcome, standing) = dial(&self.connect, Part::Publisher, self.name.as_str()).await?;
        for mark in &welcome.marks {
            let stream = mark.stream.as_ref().and_then(|stream| stream.id(&self.name));
            if let (Some(stream), Some(head)) = (stream, &mark.head)
                && stream == self.stream
            {
                self.acknowledge(Seq(head.next), |_, _| {});
            }
        }
        self.link = Some(Connection {
            link,
            _standing: standing,
            credit_bytes: welcome.credit_bytes,
            sent_bytes: 0,
            sent: 0,
            not_before: Instant::now(),
        });
        Ok(())
    }

    /// Seals and sends, and connects again when the connection is lost. For each batch that is acknowledged, `acknowledged`
    /// gets the time since it was due, and its events.
    ///
    /// # Errors
    ///
    /// If a batch cannot be sealed, or the bus refuses the agent or its records. A bus that is away is no error: what
    /// it did not acknowledge shows in the outcome.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the load; it cannot be taken up again where it was.
    pub async fn run(
        &mut self,
        load: Load,
        mut acknowledged: impl FnMut(Duration, u64) + Send,
    ) -> Result<Outcome, BoxError> {
        // Not all at the same moment.
        let first = Instant::now() + self.random.shorter(load.interval);
        let end = Instant::now() + load.duration;
        let deadline = end + load.patience;
        let mut due = interval_at(first, load.interval.max(Duration::from_micros(1)));
        // What the bus held up is offered later: the time since it was due tells.
        due.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut keepalive = interval_at(Instant::now() + KEEPALIVE, KEEPALIVE);
        let mut break_off = self.next_break(load.faults);
        loop {
            let sealing = Instant::now() < end;
            if !sealing && (self.waiting.is_empty() || Instant::now() >= deadline) {
                break;
            }
            let turned = async {
                self.connect().await?;
                let waiting = self.waiting.len();
                let Some(connection) = &mut self.link else {
                    return Ok(Happened::Time);
                };
                let repeated = connection.hand_over(&self.waiting, load.faults, &mut self.random);
                self.outcome.repeated += repeated;
                let room = connection.may_send(waiting).then_some(IN_LINE);
                let (not_before, held) = (connection.not_before, connection.sent < waiting);
                tokio::select! {
                    turn = connection.link.turn(room) => Ok(Happened::Turn(turn?)),
                    () = sleep_until(break_off.unwrap_or(end)), if break_off.is_some() && sealing => Ok(Happened::Break),
                    at = due.tick(), if sealing && waiting < WAITING => Ok(Happened::Due(at)),
                    () = sleep_until(not_before), if held && Instant::now() < not_before => Ok(Happened::Time),
                    () = sleep_until(if sealing { end } else { deadline }) => Ok(Happened::Time),
                    _ = keepalive.tick() => {
                        connection.link.push(FrameType::Ping, &Nothing {});
                        Ok(Happened::Time)
                    }
                }
            };
            let turned: Result<Happened, ConnectionError> = turned.await;
            let result = match turned {
                Ok(Happened::Due(at)) => {
                    self.seal(load, at)?;
                    Ok(())
                }
                Ok(Happened::Turn(Turn::Frame(frame))) => self.take(&frame, &mut acknowledged),
                Ok(Happened::Turn(Turn::Room) | Happened::Time) => Ok(()),
                Ok(Happened::Break) => {
                    self.link = None;
                    self.outcome.disconnects += 1;
                    break_off = self.next_break(load.faults);
                    Ok(())
                }
                Err(error) => Err(error),
            };
            match result {
                Ok(()) => {}
                Err(error @ (ConnectionError::Refused { .. } | ConnectionError::Untrusted { .. })) => {
                    return Err(error.into());
                }
                Err(error) => {
                    tracing::info!(agent = %self.name, error = %amoskys_core::error::Chain(&error), "connection lost");
                    self.link = None;
                    self.outcome.reconnects += 1;
                    sleep(PAUSE + self.random.shorter(PAUSE)).await;
                }
            }
        }
        if let Some(mut connection) = self.link.take() {
            connection.link.push(FrameType::Bye, &Nothing {});
            connection.link.close(LAST_WORD).await;
        }
        Ok(self.outcome)
    }

    fn next_break(&mut self, faults: Faults) -> Option<Instant> {
        let every = faults.disconnect_every?;
        Some(Instant::now() + every / 2 + self.random.shorter(every))
    }

    fn seal(&mut self, load: Load, due: Instant) -> Result<(), BoxError> {
        let first = self.sealer.head(Class::Telemetry).next.0;
        let origin = self.stream.epoch.random as u64;
        let events: Vec<Event> = (first..first + load.batch)
            .map(|ordinal| {
                let id = EventId { origin, ordinal };
                self.random.event(id, Class::Telemetry, load.event_bytes)
            })
            .collect();
        let sealed = self.sealer.seal(Unsealed {
            class: Class::Telemetry,
            source: &self.name,
            events: &events,
            position: None,
            ledger: None,
        })?;
        self.outcome.sealed += load.batch;
        self.waiting.push_back(Batch {
            next: Seq(sealed.last.0 + 1),
            events: load.batch,
            due,
            record: sealed.record,
        });
        Ok(())
    }

    fn take(
        &mut self,
        frame: &crate::bus::frame::Frame,
        acknowledged: impl FnMut(Duration, u64),
    ) -> Result<(), ConnectionError> {
        let Some(connection) = &mut self.link else {
            return Ok(());
        };
        match frame.kind {
            FrameType::Ack => {
                let ack: message::Ack = frame.message()?;
                connection.credit_bytes = connection.credit_bytes.max(ack.credit_bytes);
                let own = ack.streams.iter().find(|acked| {
                    let stream = acked.stream.as_ref().and_then(|stream| stream.id(&self.name));
                    stream.as_ref() == Some(&self.stream)
                });
                if let Some(next) = own.map(|acked| acked.next) {
                    self.acknowledge(Seq(next), acknowledged);
                }
            }
            FrameType::Ping => connection.link.push(FrameType::Pong, &Nothing {}),
            FrameType::Pong => {}
            FrameType::Retry => {
                let retry: message::Retry = frame.message()?;
                let pause = Duration::from_millis(retry.after_ms.into()).min(LONGEST_PAUSE);
                connection.not_before = Instant::now() + about(pause);
                self.outcome.retries += 1;
            }
            FrameType::Refuse => return Err(refused(frame).0),
            FrameType::Bye => return Err(ConnectionError::Lost { source: None }),
            kind => return Err(FrameError::OutOfPlace(kind).into()),
        }
        Ok(())
    }

    /// The bus has everything below `next`.
    fn acknowledge(&mut self, next: Seq, mut acknowledged: impl FnMut(Duration, u64)) {
        while let Some(batch) = self.waiting.front()
            && batch.next <= next
        {
            acknowledged(batch.due.elapsed(), batch.events);
            self.outcome.acknowledged += batch.events;
            self.waiting.pop_front();
            if let Some(connection) = &mut self.link {
                connection.sent = connection.sent.saturating_sub(1);
            }
        }
    }
}

enum Happened {
    Turn(Turn),
    /// A batch is due, since this moment.
    Due(Instant),
    /// The connection is to break off.
    Break,
    Time,
}

impl Connection {
    fn may_send(&self, waiting: usize) -> bool {
        self.sent < waiting && self.sent_bytes < self.credit_bytes && Instant::now() >= self.not_before
    }

    /// Hands over what may be sent; how many events of it twice.
    fn hand_over(&mut self, waiting: &VecDeque<Batch>, faults: Faults, random: &mut Random) -> u64 {
        let mut repeated = 0;
        while self.may_send(waiting.len()) && self.link.outgoing_bytes() < IN_LINE {
            let Batch { record, events, .. } = &waiting[self.sent];
            self.sent += 1;
            self.send(record.clone(), faults);
            let chance = (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
            if chance < faults.repeated && self.sent_bytes < self.credit_bytes {
                repeated += events;
                self.send(record.clone(), faults);
            }
        }
        repeated
    }

    fn send(&mut self, record: Bytes, faults: Faults) {
        self.sent_bytes += record.len() as u64;
        if let Some(line) = faults.line_bytes {
            let takes = Duration::from_secs_f64(record.len() as f64 / line.max(1) as f64);
            self.not_before = self.not_before.max(Instant::now()) + takes;
        }
        self.link.push_record(FrameType::Batch, &[], record);
    }
}

impl std::fmt::Debug for SimulatedAgent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimulatedAgent")
            .field("name", &self.name)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}
