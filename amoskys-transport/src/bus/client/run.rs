//! One connection of a publisher.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use amoskys_core::event::Gap;
use amoskys_core::record::Ready;
use amoskys_core::{BoxError, Class, Offset, RecordFeed, Seq, Timestamp, WalError};
use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::backlog;
use super::backoff::about;
use super::dial::{ClientLink, LONGEST_PAUSE, refused};
use super::error::{ConnectionError, PublishError};
use super::publisher::Publisher;
use super::resume::{Mark, Resume, Step, StreamKey};
use crate::bus::frame::{Frame, FrameError, FrameType};
use crate::bus::link::Turn;
use crate::bus::message::{self, Nothing};
use crate::bus::refuse::RefuseReason;
use crate::log::fork::ForkRequest;
use crate::seal::header::{RawHeader, RecordKind, sha256, signed_message, time_of};
use crate::seal::{Head, seal_gap};

/// Bytes of log read at once; as much is read ahead.
const READ: usize = 1 << 20;
/// More records are handed to the connection while fewer bytes than this wait there.
const IN_LINE: usize = 512 << 10;
/// How long the last word may take.
const LAST_WORD: Duration = Duration::from_secs(2);
/// A clock that is ahead by less is not taken for one that was wrong, in nanoseconds.
const CLOCK_NOISE: i64 = 60_000_000_000;

type Reading = JoinHandle<Result<Vec<(Offset, Bytes)>, WalError>>;

/// A connection, from the welcome on.
pub(crate) struct Run<'a> {
    publisher: &'a mut Publisher,
    feed: &'a RecordFeed,
    link: ClientLink,
    resume: Resume,
    marks: BTreeMap<StreamKey, Mark>,
    /// The next record to be read.
    at: Offset,
    /// The log's streams as they were at the start are all below this.
    own_end: Offset,
    trailing_done: bool,
    reading: Option<Reading>,
    ended: bool,
    /// Read, and to be sent.
    line: VecDeque<Outgoing>,
    line_bytes: usize,
    /// Read, and not acknowledged: where, and what must be acknowledged first.
    unsettled: VecDeque<(Offset, Option<(StreamKey, Seq)>)>,
    /// The last number sent of each stream, and the last acknowledged.
    owed: BTreeMap<StreamKey, Seq>,
    acknowledged: BTreeMap<StreamKey, Seq>,
    sent_bytes: u64,
    credit_bytes: u64,
    /// When the next may be sent: with a limit on events, or if the bus asked to wait.
    next_send: Instant,
    events: metrics::Counter,
    /// The latest time at which a record that was read was sealed.
    latest: Timestamp,
}

struct Outgoing {
    record: Bytes,
    events: u64,
    stream: StreamKey,
    next: Seq,
}

impl<'a> Run<'a> {
    /// Sends records until the feed has ended and all is acknowledged, or the connection ends.
    pub(crate) async fn carry(
        publisher: &'a mut Publisher,
        feed: &'a RecordFeed,
        link: ClientLink,
        welcome: message::Welcome,
    ) -> Result<(), PublishError> {
        let (own, own_end) = publisher.own.heads();
        let marks = marks(&publisher.own.agent, &welcome)?;
        let (agent, epoch) = (publisher.own.agent.clone(), publisher.own.epoch);
        let mut resume = Resume::new(agent, epoch, &marks, own, publisher.own.retired.clone());
        resume.unfit.clone_from(&publisher.unfit);
        let label = publisher.options.name.clone();
        let mut run = Self {
            at: feed.acknowledged(),
            own_end,
            trailing_done: false,
            reading: None,
            ended: false,
            line: VecDeque::new(),
            line_bytes: 0,
            unsettled: VecDeque::new(),
            owed: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            sent_bytes: 0,
            credit_bytes: welcome.credit_bytes,
            next_send: Instant::now(),
            events: metrics::counter!("amoskys_publisher_events_total", "publisher" => label),
            latest: Timestamp::MIN,
            publisher,
            feed,
            link,
            resume,
            marks,
        };
        if run.resume.is_ahead_of_log() || run.publisher.sealed_ahead {
            return Err(run.fork().await);
        }
        for (stream, next) in run.resume.level_with_log() {
            run.note_has(stream, next);
        }
        run.at = run.beginning().await?;
        tracing::info!(
            publisher = run.publisher.options.name,
            bus = welcome.bus,
            offset = %run.at,
            "connected to the bus"
        );
        run.run().await
    }

    /// Where in the log to begin: at what was acknowledged last, or at the first record there is, if the bus has lost
    /// something since.
    async fn beginning(&self) -> Result<Offset, PublishError> {
        let acknowledged = self.feed.acknowledged();
        let mut behind = self.resume.behind_log();
        let mut at = acknowledged;
        while !behind.is_empty() && at < self.own_end {
            let records = match read(self.feed, at).await {
                Ok(records) => records,
                Err(WalError::Damaged { offset, .. }) => {
                    at = offset.next().max(at.next());
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let Some((last, _)) = records.last() else { break };
            at = last.next();
            for (_, record) in &records {
                let Ok(header) = RawHeader::parse(record) else {
                    continue;
                };
                let Ok(class) = header.class() else { continue };
                let key = (header.epoch(), class);
                // A gap may stand anywhere in the log.
                if header.kind() != RecordKind::Gap
                    && behind.remove(&key)
                    && self.resume.at(&key).next < header.first()
                {
                    return Ok(self.feed.first());
                }
            }
        }
        // Streams the bus does not have all of, though all of them was acknowledged.
        Ok(if behind.is_empty() {
            acknowledged
        } else {
            self.feed.first()
        })
    }

    async fn run(&mut self) -> Result<(), PublishError> {
        let keepalive = self.publisher.options.connect.keepalive;
        let mut tick = tokio::time::interval(keepalive);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut look = tokio::time::interval(backlog::EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if self.at >= self.own_end && !self.trailing_done {
                self.trailing_done = true;
                for gap in self.resume.trailing() {
                    self.put_gap(&gap)?;
                }
            }
            self.hand_over();
            self.settle();
            if self.ended && self.line.is_empty() && self.owed == self.acknowledged {
                self.publisher.backlog.show(self.feed).await;
                self.link.push(FrameType::Bye, &Nothing {});
                self.link.close(LAST_WORD).await;
                return Ok(());
            }
            let may_send = !self.line.is_empty() && self.sent_bytes < self.credit_bytes;
            let paced = may_send && Instant::now() < self.next_send;
            let wants_more = !self.ended && self.reading.is_none() && self.line_bytes < READ;
            let feed = self.feed;
            tokio::select! {
                turn = self.link.turn((may_send && !paced).then_some(IN_LINE)) => {
                    if let Turn::Frame(frame) = turn? {
                        self.take(&frame)?;
                    }
                }
                read = finished(&mut self.reading), if self.reading.is_some() => {
                    self.reading = None;
                    if self.take_records(read)? {
                        return Err(self.fork().await);
                    }
                }
                ready = feed.ready(self.at), if wants_more => match ready {
                    Ready::Records => {
                        let (feed, at) = (self.feed.clone(), self.at);
                        self.reading = Some(tokio::task::spawn_blocking(move || feed.read(at, READ)));
                    }
                    Ready::Ended => self.ended = true,
                    Ready::Failed => return Err(PublishError::Log("its storage has failed".into())),
                },
                () = tokio::time::sleep_until(self.next_send), if paced => {}
                _ = look.tick() => self.publisher.backlog.show(self.feed).await,
                _ = tick.tick() => {
                    let silence = self.link.silence();
                    if silence >= keepalive * 3 {
                        let address = self.publisher.options.connect.address.clone();
                        return Err(ConnectionError::Timeout { address, after: silence }.into());
                    }
                    if silence >= keepalive / 2 {
                        self.link.push(FrameType::Ping, &Nothing {});
                    }
                }
            }
        }
    }

    /// Something the bus said.
    fn take(&mut self, frame: &Frame) -> Result<(), PublishError> {
        match frame.kind {
            FrameType::Ack => {
                let ack: message::Ack = frame.message()?;
                self.credit_bytes = self.credit_bytes.max(ack.credit_bytes);
                for acked in ack.streams {
                    let stream = acked
                        .stream
                        .and_then(|stream| stream.id(&self.publisher.own.agent));
                    if let Some(stream) = stream {
                        let key = (stream.epoch, stream.class);
                        // Never more than was sent.
                        let next = Seq(acked.next).min(self.owed.get(&key).copied().unwrap_or_default());
                        let known = self.acknowledged.entry(key).or_default();
                        *known = next.max(*known);
                    }
                }
                self.publisher.backoff.reset();
            }
            FrameType::Retry => {
                let retry: message::Retry = frame.message()?;
                let pause = about(Duration::from_millis(retry.after_ms.into()).min(LONGEST_PAUSE));
                self.next_send = self.next_send.max(Instant::now() + pause);
                metrics::counter!(
                    "amoskys_publisher_retries_total", "publisher" => self.publisher.options.name.clone()
                )
                .increment(1);
                tracing::debug!(reason = retry.reason, ?pause, "the bus asks to wait");
            }
            FrameType::Ping => self.link.push(FrameType::Pong, &Nothing {}),
            FrameType::Pong => self.publisher.backoff.reset(),
            FrameType::Refuse => {
                let (error, refuse) = refused(frame);
                self.note_refusal(&refuse);
                return Err(error.into());
            }
            FrameType::Bye => return Err(ConnectionError::Lost { source: None }.into()),
            kind => return Err(FrameError::OutOfPlace(kind).into()),
        }
        Ok(())
    }

    /// Learns from a refusal what to do otherwise next time.
    fn note_refusal(&mut self, refuse: &message::Refuse) {
        match RefuseReason::of_code(refuse.reason) {
            RefuseReason::Signature | RefuseReason::Payload | RefuseReason::Malformed => {
                self.publisher.suspicious = true;
            }
            RefuseReason::Clock => {
                // If this clock is the wrong one, it has to be set first.
                let now = Timestamp::now().nanos().saturating_add(CLOCK_NOISE);
                self.publisher.sealed_ahead = self.latest.nanos() > now;
            }
            RefuseReason::TooLarge => {
                let stream = refuse.stream.as_ref();
                let stream = stream.and_then(|stream| stream.id(&self.publisher.own.agent));
                let head = refuse.head.as_ref().and_then(message::Point::head);
                if let (Some(stream), Some(head)) = (stream, head) {
                    self.publisher
                        .unfit
                        .insert(((stream.epoch, stream.class), head.next));
                }
            }
            _ => {}
        }
    }

    /// Decides about records that were read. `true` if they are not the bus's.
    fn take_records(&mut self, read: Result<Vec<(Offset, Bytes)>, WalError>) -> Result<bool, PublishError> {
        let records = match read {
            Ok(records) => records,
            Err(WalError::Damaged { offset, reason }) => {
                tracing::warn!(%offset, reason, "a damaged record cannot be sent");
                self.resume.note_damage();
                let last = offset.max(self.at);
                self.unsettled.push_back((last, None));
                self.at = last.next();
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        };
        for (offset, record) in records {
            self.at = offset.next();
            let step = match RawHeader::parse(&record) {
                Ok(header) if self.publisher.suspicious && !self.is_genuine(&header, &record) => {
                    tracing::warn!(%offset, "a record is not as it was sealed, and is replaced by a gap");
                    self.resume.note_damage();
                    Step::Skip
                }
                Ok(header) => self.resume.step(&header),
                Err(error) => {
                    tracing::warn!(%offset, %error, "a record that cannot be read is not sent");
                    self.resume.note_damage();
                    Step::Skip
                }
            };
            let sent = match step {
                Step::Skip => None,
                Step::Below(stream, next) => Some((stream, next)),
                Step::Reached(stream, next) => {
                    self.note_has(stream, next);
                    None
                }
                Step::Fork => return Ok(true),
                Step::Send => Some(self.put_record(record)),
                Step::Replace(gap) => Some(self.put_gap(&gap)?),
                Step::GapAndSend(gap) => {
                    self.put_gap(&gap)?;
                    Some(self.put_record(record))
                }
            };
            self.unsettled.push_back((offset, sent));
        }
        Ok(false)
    }

    /// The bus has a stream as far as this.
    fn note_has(&mut self, stream: StreamKey, next: Seq) {
        for known in [&mut self.owed, &mut self.acknowledged] {
            let known = known.entry(stream).or_default();
            *known = next.max(*known);
        }
    }

    /// Whether a record is what this agent sealed.
    fn is_genuine(&self, header: &RawHeader<'_>, record: &[u8]) -> bool {
        let key = self.publisher.own.signer.get().public_key();
        if header.key() != key.id() {
            // Of a key that was used before; it cannot be told here.
            return true;
        }
        let Ok(payload) = header.payload_range(record.len()) else {
            return false;
        };
        key.verify(&signed_message(&header.digest()), header.signature)
            && sha256(&record[payload]) == header.payload_digest()
    }

    fn put_record(&mut self, record: Bytes) -> (StreamKey, Seq) {
        let header = RawHeader::parse(&record).ok();
        if let Some(header) = &header {
            self.latest = self.latest.max(time_of(header));
        }
        let place = header.and_then(|header| {
            let key = (header.epoch(), header.class().ok()?);
            Some((
                key,
                Seq(header.first().0.saturating_add(header.count())),
                // What is missing takes no time to send.
                if header.kind() == RecordKind::Gap {
                    0
                } else {
                    header.count()
                },
            ))
        });
        // It was read just before, so there is always a place.
        let (stream, next, events) =
            place.unwrap_or(((self.publisher.own.epoch, amoskys_core::Class::Bulk), Seq(0), 0));
        self.put(Outgoing {
            record,
            events,
            stream,
            next,
        });
        (stream, next)
    }

    fn put_gap(&mut self, gap: &Gap) -> Result<(StreamKey, Seq), PublishError> {
        tracing::warn!(
            stream = %gap.stream,
            first = gap.first.0,
            last = gap.last.0,
            reason = %gap.reason,
            "events are no longer in the log; the bus gets a gap in their place"
        );
        let own = &self.publisher.own;
        let sealed = seal_gap(gap, &*own.signer.get(), &own.keyring())?;
        let (stream, next) = (
            (gap.stream.epoch, gap.stream.class),
            Seq(gap.last.0.saturating_add(1)),
        );
        self.put(Outgoing {
            record: sealed.record,
            events: 0,
            stream,
            next,
        });
        Ok((stream, next))
    }

    fn put(&mut self, outgoing: Outgoing) {
        self.line_bytes += outgoing.record.len();
        self.line.push_back(outgoing);
    }

    /// Hands records to the connection, as many as the bus and the limit allow.
    fn hand_over(&mut self) {
        let rate = self.publisher.options.send_rate;
        while self.sent_bytes < self.credit_bytes && self.link.outgoing_bytes() < IN_LINE {
            let now = Instant::now();
            if now < self.next_send {
                return;
            }
            let Some(outgoing) = self.line.pop_front() else {
                return;
            };
            if rate > 0 {
                let takes = Duration::from_secs_f64(outgoing.events as f64 / f64::from(rate));
                self.next_send = self.next_send.max(now) + takes;
            }
            self.line_bytes -= outgoing.record.len();
            self.sent_bytes += outgoing.record.len() as u64;
            self.events.increment(outgoing.events);
            self.owed.insert(outgoing.stream, outgoing.next);
            self.acknowledged.entry(outgoing.stream).or_default();
            self.link.push_record(FrameType::Batch, &[], outgoing.record);
        }
    }

    /// Acknowledges in the feed what the bus has.
    fn settle(&mut self) {
        let mut settled = None;
        while let Some((offset, needs)) = self.unsettled.front() {
            let is_settled = needs.is_none_or(|(stream, next)| {
                self.acknowledged
                    .get(&stream)
                    .is_some_and(|acknowledged| *acknowledged >= next)
            });
            if !is_settled {
                break;
            }
            settled = Some(offset.next());
            self.unsettled.pop_front();
        }
        if let Some(to) = settled {
            self.feed.acknowledge(to);
        }
    }

    /// The log and the bus went different ways: leaves a note of what is to be done in the log's directory.
    async fn fork(&mut self) -> PublishError {
        let agent = self.publisher.own.agent.clone();
        // What was sent already should not be sealed again.
        let _ = tokio::time::timeout(LAST_WORD, self.drain()).await;
        let shared = match self.shared().await {
            Ok(shared) => shared,
            Err(error) => return error,
        };
        let old = self.publisher.own.epoch;
        let of_epoch = self.marks.iter().filter(|((epoch, _), _)| *epoch == old);
        let request = ForkRequest {
            old,
            new: None,
            shared,
            bus: of_epoch.map(|((_, class), mark)| (*class, mark.head)).collect(),
        };
        tracing::error!(
            %agent,
            log = %self.publisher.own.dir.display(),
            epoch = %old,
            "the bus has other records of this agent than this log, which was copied or restored from a backup; opened \
             again, it begins a new epoch"
        );
        let dir = self.publisher.own.dir.clone();
        let written = tokio::task::spawn_blocking(move || request.write(&dir)).await;
        match written.map_err(BoxError::from).and_then(|written| Ok(written?)) {
            Ok(()) => {}
            Err(error) => return PublishError::Log(error),
        }
        if let Some(shutdown) = &self.publisher.options.on_fork {
            shutdown.trigger();
        }
        PublishError::Fork { agent }
    }

    /// Sends what is in line, and waits until it is acknowledged.
    async fn drain(&mut self) -> Result<(), PublishError> {
        while !self.line.is_empty() || self.owed != self.acknowledged {
            self.hand_over();
            let paced = Instant::now() < self.next_send;
            let room = !paced && !self.line.is_empty() && self.sent_bytes < self.credit_bytes;
            tokio::select! {
                turn = self.link.turn(room.then_some(IN_LINE)) => {
                    if let Turn::Frame(frame) = turn? {
                        self.take(&frame)?;
                    }
                }
                () = tokio::time::sleep_until(self.next_send), if paced => {}
            }
        }
        Ok(())
    }

    /// Up to where the bus has the same as the log, for each class: what was acknowledged once, and what it says that it
    /// has.
    async fn shared(&self) -> Result<BTreeMap<Class, Head>, PublishError> {
        let epoch = self.publisher.own.epoch;
        let (own, end) = self.publisher.own.heads();
        let mut shared = BTreeMap::new();
        let mut at = self.feed.acknowledged();
        while at < end {
            let records = match read(self.feed, at).await {
                Ok(records) => records,
                Err(WalError::Damaged { offset, .. }) => {
                    at = offset.next().max(at.next());
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let Some((last, _)) = records.last() else { break };
            at = last.next();
            for (_, record) in &records {
                let Ok(header) = RawHeader::parse(record) else {
                    continue;
                };
                let is_own = header.agent == self.publisher.own.agent.as_str() && header.epoch() == epoch;
                let Ok(class) = header.class() else { continue };
                if !is_own || header.kind() == RecordKind::Gap {
                    continue;
                }
                shared.entry(class).or_insert(Head {
                    next: header.first(),
                    digest: header.previous(),
                });
                let end = Head {
                    next: Seq(header.first().0.saturating_add(header.count())),
                    digest: header.digest(),
                };
                let mark = self.marks.get(&(epoch, class));
                let acknowledged = self.acknowledged.get(&(epoch, class));
                if acknowledged.is_some_and(|acknowledged| *acknowledged >= end.next)
                    || mark.is_some_and(|mark| mark.head == end || mark.recent.contains(&end))
                {
                    shared.insert(class, end);
                }
            }
        }
        for ((known, class), head) in own {
            if known == epoch {
                shared.entry(class).or_insert(head);
            }
        }
        Ok(shared)
    }
}

fn marks(
    agent: &amoskys_core::Name,
    welcome: &message::Welcome,
) -> Result<BTreeMap<StreamKey, Mark>, PublishError> {
    let mut marks = BTreeMap::new();
    for mark in &welcome.marks {
        // A class that is not known here is of a newer version of this agent, whose records are not in this log.
        let stream = mark.stream.as_ref().and_then(|stream| stream.id(agent));
        let Some(stream) = stream else { continue };
        let head = mark.head.as_ref().and_then(message::Point::head);
        let head = head.ok_or(FrameError::Malformed(FrameType::Welcome))?;
        let recent = mark.recent.iter().filter_map(message::Point::head).collect();
        marks.insert((stream.epoch, stream.class), Mark { head, recent });
    }
    Ok(marks)
}

async fn read(feed: &RecordFeed, at: Offset) -> Result<Vec<(Offset, Bytes)>, WalError> {
    let feed = feed.clone();
    finished(&mut Some(tokio::task::spawn_blocking(move || {
        feed.read(at, READ)
    })))
    .await
}

async fn finished(reading: &mut Option<Reading>) -> Result<Vec<(Offset, Bytes)>, WalError> {
    let Some(reading) = reading else {
        return std::future::pending().await;
    };
    reading.await.unwrap_or_else(|error| {
        Err(WalError::Failed {
            action: "was being read",
            source: error.into(),
        })
    })
}
