//! The bus's side of a connection over which an agent sends its records.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use amoskys_core::{DropReason, Offset, Seq, Shutdown, StreamId, Wal as _, WalError};
use bytes::Bytes;
use tokio::sync::watch;

use super::accept::{End, Refusal, ServerLink, stopping};
use super::check::{Checked, Checker};
use super::shared::{Connected, Shared};
use super::standing::Standing;
use super::streams::{NotTaken, StreamKey, Taken};
use crate::bus::frame::{FrameError, FrameType};
use crate::bus::link::Turn;
use crate::bus::message::{self, Nothing, PROTOCOL};
use crate::bus::refuse::RefuseReason;
use crate::identity::Identity;

/// How often a full log is asked again, if nothing says that there is room.
const ASK_AGAIN: Duration = Duration::from_millis(25);
/// How long a stalled log may keep a new connection waiting.
const SETTLE: Duration = Duration::from_secs(30);
/// Streams whose recent records the welcome tells.
const TOLD: usize = 64;
/// Bytes of acknowledgements that may wait for a client that does not read them.
const UNREAD: usize = 1 << 20;

pub(crate) async fn serve(
    shared: &Arc<Shared>,
    link: &mut ServerLink,
    identity: &Identity,
    standing: &mut Standing,
    shutdown: &Shutdown,
) -> Result<(), End> {
    let connected = shared.connect(&identity.name);
    let mut session = Session {
        checker: Checker::new(
            identity.name.clone(),
            shared.options.trust.clone(),
            standing.key(),
        )
        .following(shared.journal.keyring()),
        durable: shared.durable.clone(),
        connected,
        shared: shared.clone(),
        pending: VecDeque::new(),
        received_bytes: 0,
        settled_bytes: 0,
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
    link: &'a mut ServerLink,
    connected: Connected,
    checker: Checker,
    durable: watch::Receiver<Offset>,
    /// Records that are to be acknowledged once the log is durable behind them.
    pending: VecDeque<Pending>,
    received_bytes: u64,
    /// Of those, the bytes that are acknowledged.
    settled_bytes: u64,
}

struct Pending {
    /// `None` if it is durable.
    offset: Option<Offset>,
    stream: StreamKey,
    next: Seq,
    bytes: u64,
}

impl Session<'_> {
    /// Tells the agent how far its streams are. Marks are said only of what is durable, so that they can be relied
    /// on.
    async fn welcome(&mut self) -> Result<(), End> {
        let last = self.connected.0.streams().last_offset();
        if let Some(last) = last {
            let durable = tokio::time::timeout(SETTLE, self.durable.wait_for(|durable| *durable > last));
            if !matches!(durable.await, Ok(Ok(_))) {
                return Err(Refusal::new(RefuseReason::LogFailed, "the bus's log does not go on").into());
            }
        }
        let mut marks = Vec::new();
        for (key, head, recent) in self.connected.0.streams().marks() {
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
                            FrameType::Batch => self.record(frame.body).await?,
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
                () = tokio::time::sleep(idle) => {
                    if self.link.silence() >= self.shared.options.idle {
                        return Err(Refusal::new(RefuseReason::Idle, "nothing came for too long").into());
                    }
                }
            }
        }
    }

    async fn record(&mut self, record: Bytes) -> Result<(), End> {
        if self.received_bytes >= self.credit() {
            return Err(Refusal::new(RefuseReason::Credit, "more was sent than was allowed").into());
        }
        let bytes = record.len() as u64;
        self.received_bytes += bytes;
        let checked = match self.checker.check(&record) {
            Ok(checked) => checked,
            Err((reason, text)) => {
                self.count_refused(0);
                return Err(Refusal::new(reason, text).into());
            }
        };
        let offset = self.store(&checked, record).await?;
        self.pending.push_back(Pending {
            offset,
            stream: checked.place.stream,
            next: checked.place.next,
            bytes,
        });
        // Of a repeated record there may be nothing to wait for.
        let durable = *self.durable.borrow();
        if offset.is_none_or(|offset| offset < durable) {
            self.acknowledge();
        }
        Ok(())
    }

    /// Stores a record, waiting for room in the log as long as it takes.
    async fn store(&mut self, checked: &Checked, record: Bytes) -> Result<Option<Offset>, End> {
        loop {
            let error = match self.shared.store(&self.connected.0, checked, record.clone()) {
                Ok(Taken::Stored { offset, .. }) => return Ok(Some(offset)),
                Ok(Taken::Repeated { offset }) => return Ok(offset),
                Err(NotTaken::Misplaced { reason, head }) => {
                    self.count_refused(checked.events);
                    return Err(misplaced(checked, reason, head).into());
                }
                Err(NotTaken::Log(error)) => error,
            };
            match error {
                WalError::Full {
                    used_bytes,
                    budget_bytes,
                } => {
                    // Of the log or of the disk, rather than of the queue in memory, which empties itself.
                    if budget_bytes == self.shared.wal.budget_bytes() || used_bytes == budget_bytes {
                        self.shared.room.notify_one();
                    }
                    tokio::select! {
                        _ = self.durable.changed() => {}
                        () = tokio::time::sleep(ASK_AGAIN) => {}
                    }
                    self.acknowledge();
                    self.link.flush().await?;
                }
                WalError::TooLarge { .. } => {
                    self.count_refused(checked.events);
                    return Err(Refusal::new(RefuseReason::TooLarge, error.to_string()).into());
                }
                error => return Err(Refusal::new(RefuseReason::LogFailed, error.to_string()).into()),
            }
        }
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

    fn count_refused(&self, events: u64) {
        let agent = &self.connected.0;
        self.shared.journal.ledger.received(&agent.stage, events);
        self.shared
            .journal
            .ledger
            .dropped(&agent.stage, DropReason::known("refused"), events);
    }
}

fn stream((epoch, class): StreamKey) -> message::Stream {
    let agent = amoskys_core::Name::default();
    message::Stream::from(&StreamId { agent, epoch, class })
}

fn misplaced(checked: &Checked, reason: RefuseReason, head: crate::seal::Head) -> Refusal {
    let place = &checked.place;
    let what = match reason {
        RefuseReason::Ahead => "records before it are missing",
        RefuseReason::Fork => "the bus has another record there: two logs of this agent went different ways",
        RefuseReason::KeyRetired => "the key that signed it was retired, or has handed over to another",
        RefuseReason::Clock => {
            "it was sealed too far ahead of the bus's clock; one of the two clocks is wrong"
        }
        RefuseReason::TooManyStreams => "the agent has too many streams",
        _ => "it is too old to be compared",
    };
    Refusal {
        reason,
        text: format!(
            "record {} to {}: {what}; the next is {}",
            place.first,
            place.next.0 - 1,
            head.next
        ),
        at: Some((place.stream, head)),
    }
}
