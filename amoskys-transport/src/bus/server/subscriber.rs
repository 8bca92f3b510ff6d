//! The bus's side of a connection over which somebody reads the log.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use amoskys_core::{Class, Offset, Shutdown, Wal as _, WalError};
use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::accept::{End, Refusal, ServerLink, stopping};
use super::shared::Shared;
use super::standing::Standing;
use crate::bus::frame::{Frame, FrameError, FrameType};
use crate::bus::link::Turn;
use crate::bus::message::{self, At, Nothing, PROTOCOL, StartAt, class_of};
use crate::bus::refuse::RefuseReason;
use crate::identity::{Identity, Role};
use crate::seal::header::{RawHeader, RecordKind};

/// Bytes of log read at once.
const READ: usize = 1 << 20;
/// More records are put in line while fewer bytes than this wait to be sent.
const IN_LINE: usize = 512 << 10;
/// How often a subscriber hears how far records it does not want were passed over.
const TELL: Duration = Duration::from_millis(200);

type Reading = JoinHandle<Result<Vec<(Offset, Bytes)>, WalError>>;

pub(crate) async fn serve(
    shared: &Arc<Shared>,
    link: &mut ServerLink,
    identity: &Identity,
    standing: &mut Standing,
    shutdown: &Shutdown,
) -> Result<(), End> {
    tokio::select! {
        ended = work(shared, link, identity, shutdown) => ended,
        refusal = standing.lost(shared, false) => Err(refusal.into()),
    }
}

async fn work(
    shared: &Arc<Shared>,
    link: &mut ServerLink,
    identity: &Identity,
    shutdown: &Shutdown,
) -> Result<(), End> {
    let welcome = message::Welcome {
        version: PROTOCOL,
        bus: shared.name.to_string(),
        marks: Vec::new(),
        credit_bytes: 0,
    };
    link.push(FrameType::Welcome, &welcome);
    let slow = || {
        Refusal::new(
            RefuseReason::Idle,
            "the client took too long to say what it wants",
        )
    };
    let frame = tokio::time::timeout(shared.options.handshake, link.next())
        .await
        .map_err(|_| slow())??;
    if frame.kind != FrameType::Subscribe {
        return Err(FrameError::OutOfPlace(frame.kind).into());
    }
    let wanted: message::Subscribe = frame.message()?;
    let mut session = Session::begin(shared, link, identity, &wanted)?;
    session.run(shutdown).await
}

struct Session<'a> {
    shared: Arc<Shared>,
    link: &'a mut ServerLink,
    durable: watch::Receiver<Offset>,
    /// Name of the durable position.
    name: Option<String>,
    classes: BTreeSet<Class>,
    agents: BTreeSet<String>,
    /// The next record to be looked at.
    at: Offset,
    /// Records that are to be sent.
    line: VecDeque<(Offset, Bytes)>,
    reading: Option<Reading>,
    sent_bytes: u64,
    credit_bytes: u64,
    /// How far the subscriber knows that the log was read.
    told: Offset,
}

impl<'a> Session<'a> {
    fn begin(
        shared: &Arc<Shared>,
        link: &'a mut ServerLink,
        identity: &Identity,
        wanted: &message::Subscribe,
    ) -> Result<Self, End> {
        if wanted.name.len() > 255 || wanted.name.chars().any(char::is_control) {
            let text = "the name of a position has at most 255 bytes, and no control characters";
            return Err(Refusal::new(RefuseReason::Protocol, text).into());
        }
        // Everyone has names of their own, so that nobody can move another's position.
        let name = (!wanted.name.is_empty()).then(|| format!("{identity}/{}", wanted.name));
        let classes = wanted.classes.iter().filter_map(|code| class_of(*code));
        let known = name.as_ref().and_then(|name| shared.positions.position(name));
        let (first, durable) = (shared.wal.first(), shared.wal.durable());
        let mut lost = None;
        let start = match (StartAt::try_from(wanted.start), known) {
            (Ok(StartAt::Offset), _) => match wanted.offset.checked_sub(shared.base) {
                Some(offset) => Offset(offset),
                None => {
                    let text = "the bus's log was lost; this is the beginning of the next";
                    lost = Some((wanted.offset, shared.base + first.0, text));
                    first
                }
            },
            (_, Some(known)) => known,
            (Ok(StartAt::Latest), None) => durable,
            _ => first,
        };
        let mut session = Self {
            durable: shared.durable.clone(),
            shared: shared.clone(),
            link,
            classes: classes.collect(),
            agents: wanted.agents.iter().cloned().collect(),
            at: start,
            line: VecDeque::new(),
            reading: None,
            sent_bytes: 0,
            credit_bytes: wanted.credit_bytes,
            told: start,
            name,
        };
        if start > durable {
            let text =
                "the bus's log ends before this position: it was restored from a backup, or begun anew";
            lost = Some((session.seen(start), session.seen(first), text));
            session.at = first;
        }
        if !wanted.classes.is_empty() && session.classes.is_empty() {
            let text = "none of the classes is known to the bus";
            return Err(Refusal::new(RefuseReason::Protocol, text).into());
        }
        // Agents may know of alerts, for example to act on them, but not what others collect.
        if identity.role == Role::Agent && session.classes != BTreeSet::from([Class::Alert]) {
            let text = format!("{identity} may subscribe to class alert only");
            return Err(Refusal::new(RefuseReason::Role, text).into());
        }
        if let Some(name) = &session.name {
            // From now on its position holds the log back.
            let noted = match lost {
                Some(_) => shared.positions.set(name, session.at),
                None => shared.positions.begin(name, session.at),
            };
            noted.map_err(|error| Refusal::new(RefuseReason::Other, error.to_string()))?;
        }
        if let Some((from, to, text)) = lost {
            let text = text.to_owned();
            session
                .link
                .push(FrameType::Lost, &message::Lost { from, to, text });
        }
        session.told = session.at;
        let offset = session.seen(session.at);
        session.link.push(FrameType::Progress, &At { offset });
        Ok(session)
    }

    async fn run(&mut self, shutdown: &Shutdown) -> Result<(), End> {
        let mut tick = tokio::time::interval(TELL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.fill_line();
            self.send_line();
            let waiting = !self.line.is_empty() && self.sent_bytes < self.credit_bytes;
            let caught_up = self.line.is_empty() && self.reading.is_none();
            tokio::select! {
                turn = self.link.turn(waiting.then_some(IN_LINE)) => {
                    if let Turn::Frame(frame) = turn? && !self.take(&frame)? {
                        return Ok(());
                    }
                }
                read = finished(&mut self.reading), if self.reading.is_some() => {
                    self.reading = None;
                    self.take_records(read)?;
                }
                changed = self.durable.changed(), if caught_up => {
                    if changed.is_err() {
                        return Err(stopping());
                    }
                }
                _ = tick.tick() => self.tell()?,
                () = shutdown.triggered() => return Err(stopping()),
            }
        }
    }

    /// Something the subscriber said. `false` if that was all.
    fn take(&mut self, frame: &Frame) -> Result<bool, End> {
        match frame.kind {
            FrameType::Credit => {
                let credit: message::Credit = frame.message()?;
                self.credit_bytes = self.credit_bytes.max(credit.credit_bytes);
            }
            FrameType::Commit => {
                let at: At = frame.message()?;
                if let (Some(name), Some(to)) = (&self.name, at.offset.checked_sub(self.shared.base)) {
                    let to = Offset(to).min(self.at);
                    let noted = self.shared.positions.commit(name, to);
                    noted.map_err(|error| Refusal::new(RefuseReason::LogFailed, error.to_string()))?;
                }
            }
            FrameType::Ping => self.link.push(FrameType::Pong, &Nothing {}),
            FrameType::Pong => {}
            FrameType::Bye => return Ok(false),
            kind => return Err(FrameError::OutOfPlace(kind).into()),
        }
        Ok(true)
    }

    /// Begins to read what comes next, if there is something and nothing is in line.
    fn fill_line(&mut self) {
        if !self.line.is_empty() || self.reading.is_some() {
            return;
        }
        let first = self.shared.wal.first();
        if self.at < first {
            self.lost(first, "they were deleted to make room");
        }
        if self.at < *self.durable.borrow_and_update() {
            let (wal, from) = (self.shared.wal.clone(), self.at);
            self.reading = Some(tokio::task::spawn_blocking(move || wal.read(from, READ)));
        }
    }

    fn take_records(&mut self, read: Result<Vec<(Offset, Bytes)>, WalError>) -> Result<(), End> {
        let records = match read {
            Ok(records) => records,
            Err(WalError::Damaged { offset, reason }) => {
                let to = offset.next().max(self.at.next());
                self.lost(to, &format!("they are damaged: {reason}"));
                return Ok(());
            }
            Err(error) => return Err(Refusal::new(RefuseReason::LogFailed, error.to_string()).into()),
        };
        for (offset, record) in records {
            if offset > self.at {
                self.lost(offset, "they were deleted to make room");
            }
            self.at = offset.next();
            if self.wants(&record) {
                self.line.push_back((offset, record));
            }
        }
        Ok(())
    }

    fn wants(&self, record: &[u8]) -> bool {
        if self.classes.is_empty() && self.agents.is_empty() {
            return true;
        }
        // What cannot be read here may be for somebody newer.
        let Ok(header) = RawHeader::parse(record) else {
            return true;
        };
        // Whoever reads an agent's records has to follow when its key changes.
        if header.kind() == RecordKind::HandOver {
            return self.agents.is_empty() || self.agents.contains(header.agent);
        }
        let class = header.class().map_or(true, |class| {
            self.classes.is_empty() || self.classes.contains(&class)
        });
        class && (self.agents.is_empty() || self.agents.contains(header.agent))
    }

    fn send_line(&mut self) {
        while self.sent_bytes < self.credit_bytes && self.link.outgoing_bytes() < IN_LINE {
            let Some((offset, record)) = self.line.pop_front() else {
                return;
            };
            self.sent_bytes += record.len() as u64;
            self.told = offset.next();
            let seen = self.seen(offset).to_le_bytes();
            self.link.push_record(FrameType::Record, &seen, record);
        }
    }

    fn lost(&mut self, to: Offset, text: &str) {
        let lost = message::Lost {
            from: self.seen(self.at),
            to: self.seen(to),
            text: text.to_owned(),
        };
        tracing::warn!(
            bus = %self.shared.name,
            subscriber = self.name.as_deref().unwrap_or("without a name"),
            from = lost.from,
            to = lost.to,
            "records are lost to a subscriber: {text}"
        );
        metrics::counter!("amoskys_bus_subscriber_lost_records_total").increment(to.0 - self.at.0);
        self.link.push(FrameType::Lost, &lost);
        self.at = to;
        self.told = to;
    }

    /// Says how far the log was read, if nothing else does, and sees whether the subscriber is alive.
    fn tell(&mut self) -> Result<(), End> {
        if self.line.is_empty() && self.told < self.at && self.link.outgoing_bytes() == 0 {
            self.told = self.at;
            let offset = self.seen(self.at);
            self.link.push(FrameType::Progress, &At { offset });
        }
        if self.link.silence() >= self.shared.options.idle {
            return Err(Refusal::new(RefuseReason::Idle, "nothing came for too long").into());
        }
        Ok(())
    }

    /// An offset as subscribers see it.
    fn seen(&self, offset: Offset) -> u64 {
        self.shared.base + offset.0
    }
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
