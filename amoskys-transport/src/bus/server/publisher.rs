//! The bus's side of a connection over which an agent sends its records.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use amoskys_core::{Offset, Seq, Shutdown, StreamId};
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;
use tower::ServiceExt as _;

use super::accept::{COME_AGAIN, Client, End, Refusal, ServerLink, stopping};
use super::check::Checker;
use super::intake::Sender;
use super::offenders::GOOD_STANDING;
use super::serve::Served;
use super::shared::{Connected, Shared};
use super::standing::Standing;
use super::streams::StreamKey;
use crate::bus::admission::{Admitted, Pace, Stack, Submission, Wait};
use crate::bus::frame::{FrameError, FrameType};
use crate::bus::link::Turn;
use crate::bus::message::{self, Nothing, PROTOCOL};
use crate::bus::refuse::RefuseReason;

/// How long a stalled log may keep a new connection waiting.
const SETTLE: Duration = Duration::from_secs(30);
/// Streams whose recent records the welcome tells.
const TOLD: usize = 64;
/// Bytes of acknowledgements that may wait for a client that does not read them.
const UNREAD: usize = 1 << 20;

/// A connection whose record has to wait says so again after this time, so that the agent does not take it for dead.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);
/// After so many bytes others have their turn, who are ready too.
const IN_ONE_GO: u64 = 256 << 10;

pub(crate) async fn serve(
    served: &Served,
    link: &mut ServerLink,
    client: &Client,
    takes_retry: bool,
    standing: &mut Standing,
    shutdown: &Shutdown,
) -> Result<(), End> {
    let shared = &served.shared;
    let connected = shared.connect(&client.identity.name);
    let sender = Arc::new(Sender {
        agent: connected.0.clone(),
        checker: Mutex::new(
            Checker::new(
                client.identity.name.clone(),
                shared.options.trust.clone(),
                standing.key(),
            )
            .following(shared.journal.keyring()),
        ),
        pace: Pace::default(),
    });
    link.set_stores([connected.0.large.clone(), shared.large.clone()]);
    let mut session = Session {
        way_in: served.way_in.clone(),
        sender,
        durable: shared.durable.clone(),
        _connected: connected,
        shared: shared.clone(),
        client,
        takes_retry,
        pending: VecDeque::new(),
        received_bytes: 0,
        settled_bytes: 0,
        in_one_go: 0,
        since: Instant::now(),
        forgiven: false,
        link,
    };
    let work = async {
        session.welcome().await?;
        session.run(shutdown).await
    };
    tokio::select! {
        ended = work => ended,
        refusal = standing.lost(shared, true) => Err(refusal.into()),
    }
}

struct Session<'a> {
    shared: Arc<Shared>,
    client: &'a Client,
    link: &'a mut ServerLink,
    _connected: Connected,
    way_in: Stack,
    sender: Arc<Sender>,
    /// The agent knows what it means to be asked to wait.
    takes_retry: bool,
    durable: watch::Receiver<Offset>,
    /// Records that are to be acknowledged once the log is durable behind them.
    pending: VecDeque<Pending>,
    received_bytes: u64,
    /// Of those, the bytes that are acknowledged.
    settled_bytes: u64,
    in_one_go: u64,
    since: Instant,
    /// What the agent did before is not held against it any more.
    forgiven: bool,
}

struct Pending {
    /// `None` if it is durable.
    offset: Option<Offset>,
    stream: StreamKey,
    next: Seq,
    bytes: u64,
    _held: Vec<Box<dyn Any + Send + Sync>>,
}

impl Session<'_> {
    /// Tells the agent how far its streams are. Marks are said only of what is durable, so that they can be relied
    /// on.
    async fn welcome(&mut self) -> Result<(), End> {
        let last = self.sender.agent.streams().last_offset();
        if let Some(last) = last {
            let durable = tokio::time::timeout(SETTLE, self.durable.wait_for(|durable| *durable > last));
            if !matches!(durable.await, Ok(Ok(_))) {
                return Err(Refusal::new(RefuseReason::LogFailed, "the bus's log does not go on").into());
            }
        }
        let mut marks = Vec::new();
        for (key, head, recent) in self.sender.agent.streams().marks() {
            marks.push(message::Mark {
                stream: Some(stream(key)),
                head: Some(head.into()),
                recent: recent.into_iter().map(Into::into).collect(),
            });
        }
        // The newest epochs are behind the others.
        let old = marks.len().saturating_sub(TOLD);
        for mark in &mut marks[..old] {
            mark.recent.clear();
        }
        let welcome = message::Welcome {
            version: PROTOCOL,
            bus: self.shared.name.to_string(),
            marks,
            credit_bytes: self.credit(),
        };
        self.link.push(FrameType::Welcome, &welcome);
        Ok(())
    }

    async fn run(&mut self, shutdown: &Shutdown) -> Result<(), End> {
        loop {
            let idle = self.shared.options.idle.saturating_sub(self.link.silence());
            tokio::select! {
                turn = self.link.turn(None) => {
                    if let Turn::Frame(frame) = turn? {
                        match frame.kind {
                            FrameType::Batch => {
                                self.record(frame.body, shutdown).await?;
                                self.link.give_back();
                            }
                            FrameType::Ping => self.link.push(FrameType::Pong, &Nothing {}),
                            FrameType::Pong => {}
                            FrameType::Bye => return Ok(()),
                            kind => return Err(FrameError::OutOfPlace(kind).into()),
                        }
                        if self.link.outgoing_bytes() > UNREAD {
                            self.link.flush().await?;
                        }
                    }
                }
                changed = self.durable.changed(), if !self.pending.is_empty() => {
                    if changed.is_err() {
                        return Err(stopping());
                    }
                    self.acknowledge();
                }
                () = shutdown.triggered() => return Err(stopping()),
                () = tokio::time::sleep(idle.min(self.shared.options.idle)) => {
                    if self.link.silence() >= self.shared.options.idle {
                        return Err(Refusal::new(RefuseReason::Idle, "nothing came for too long").into());
                    }
                    self.check_dawdling()?;
                }
            }
        }
    }

    async fn record(&mut self, record: Bytes, shutdown: &Shutdown) -> Result<(), End> {
        if self.received_bytes >= self.credit() {
            return Err(Refusal::new(RefuseReason::Credit, "more was sent than was allowed").into());
        }
        let bytes = record.len() as u64;
        self.received_bytes += bytes;
        let admitted = self.admit(record, shutdown).await?;
        if !self.forgiven && admitted.stored && self.since.elapsed() >= GOOD_STANDING {
            self.forgiven = true;
            let client = self.client;
            self.shared.forgive(&client.identity.name, client.peer.ip());
        }
        self.pending.push_back(Pending {
            offset: admitted.offset,
            stream: admitted.stream,
            next: admitted.next,
            bytes,
            _held: admitted.held,
        });
        // Of a repeated record there may be nothing to wait for.
        let durable = *self.durable.borrow();
        if admitted.offset.is_none_or(|offset| offset < durable) {
            self.acknowledge();
        }
        self.in_one_go += bytes;
        if self.in_one_go >= IN_ONE_GO {
            self.in_one_go = 0;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Sends a record on its way, and waits until it is in the log; however long that takes, what became durable meanwhile
    /// is acknowledged.
    async fn admit(&mut self, record: Bytes, shutdown: &Shutdown) -> Result<Admitted, End> {
        let submission = Submission::new(self.sender.clone(), record);
        let way_in = self.way_in.clone();
        let mut admitting = pin!(way_in.oneshot(submission));
        // Almost always there is nothing to wait for.
        if let Poll::Ready(admitted) = poll_fn(|cx| Poll::Ready(admitting.as_mut().poll(cx))).await {
            return Ok(admitted?);
        }
        let begun = Instant::now();
        let mut asked = None;
        let mut limits = self.shared.limits.changes();
        let mut sign_of_life = tokio::time::interval(SIGN_OF_LIFE);
        sign_of_life.reset();
        loop {
            let patience = self.shared.limits.snapshot().turn_away_after;
            let sender = &self.sender;
            tokio::select! {
                admitted = admitting.as_mut() => return Ok(admitted?),
                wait = sender.pace.asked() => {
                    self.shared.asked_to_wait(&sender.agent.name, wait.reason, wait.time);
                    asked = Some(wait);
                    self.ask_to_wait(wait);
                }
                changed = self.durable.changed() => {
                    if changed.is_err() {
                        return Err(stopping());
                    }
                    self.acknowledge();
                }
                _ = sign_of_life.tick() => match asked {
                    Some(wait) => self.ask_to_wait(wait),
                    None => self.link.push(FrameType::Pong, &Nothing {}),
                },
                flushed = self.link.flush(), if self.link.outgoing_bytes() > 0 => flushed?,
                () = turned_away(patience, begun) => {
                    let text = "the bus has had no room for this record for too long";
                    return Err(Refusal::new(RefuseReason::Busy, text).retry_after(COME_AGAIN).into());
                }
                _ = limits.changed() => {}
                () = shutdown.triggered() => return Err(stopping()),
            }
        }
    }

    fn ask_to_wait(&mut self, wait: Wait) {
        if !self.takes_retry {
            self.link.push(FrameType::Pong, &Nothing {});
            return;
        }
        let retry = message::Retry {
            after_ms: u32::try_from(wait.time.as_millis()).unwrap_or(u32::MAX),
            reason: wait.reason.to_owned(),
        };
        self.link.push(FrameType::Retry, &retry);
    }

    /// A frame has to come to an end.
    fn check_dawdling(&self) -> Result<(), End> {
        if self.link.is_dawdling(self.shared.options.idle) {
            let text = "a frame has been coming in for too long";
            return Err(Refusal::new(RefuseReason::Protocol, text).into());
        }
        Ok(())
    }

    /// Acknowledges what is durable by now.
    fn acknowledge(&mut self) {
        let durable = *self.durable.borrow_and_update();
        let mut streams: BTreeMap<StreamKey, Seq> = BTreeMap::new();
        while let Some(pending) = self.pending.front() {
            if pending.offset.is_some_and(|offset| offset >= durable) {
                break;
            }
            let next = streams.entry(pending.stream).or_default();
            *next = pending.next.max(*next);
            self.settled_bytes += pending.bytes;
            self.pending.pop_front();
        }
        if streams.is_empty() {
            return;
        }
        let streams = streams.into_iter().map(|(key, next)| message::Acked {
            stream: Some(stream(key)),
            next: next.0,
        });
        let ack = message::Ack {
            streams: streams.collect(),
            credit_bytes: self.credit(),
        };
        self.link.push(FrameType::Ack, &ack);
    }

    fn credit(&self) -> u64 {
        self.settled_bytes + self.shared.options.window_bytes
    }
}

async fn turned_away(after: Option<Duration>, begun: Instant) {
    match after {
        Some(after) => tokio::time::sleep_until(begun + after).await,
        None => std::future::pending().await,
    }
}

fn stream((epoch, class): StreamKey) -> message::Stream {
    let agent = amoskys_core::Name::default();
    message::Stream::from(&StreamId { agent, epoch, class })
}
