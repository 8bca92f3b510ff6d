use std::collections::BTreeSet;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use amoskys_core::{Class, Offset, RecordSource, Remedy};
use bytes::Bytes;

use super::backoff::{Backoff, about};
use super::dial::{ClientLink, dial, refused};
use super::error::{ConnectionError, SubscribeError};
use super::options::ConnectOptions;
use super::standing::Standing;
use crate::bus::frame::{Frame, FrameError, FrameType};
use crate::bus::link::LinkError;
use crate::bus::message::{self, At, Nothing, Part, StartAt};
use crate::seal::header::class_code;

/// Bytes of records given at once; one more record may come on top.
const AT_ONCE: usize = 1 << 20;

/// Where a [`Subscription`] begins, unless it is resumed or its position is known to the bus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// With the oldest record the bus has.
    #[default]
    Earliest,
    /// With the next record that comes.
    Latest,
    /// With the record at this offset, or the first behind it.
    At(Offset),
}

/// Settings of a [`Subscription`].
#[derive(Clone, Debug)]
pub struct SubscribeOptions {
    connect: ConnectOptions,
    name: String,
    position: Option<String>,
    start: Start,
    classes: BTreeSet<Class>,
    agents: BTreeSet<String>,
    window_bytes: u64,
}

impl SubscribeOptions {
    /// Reads all records of this bus, from the oldest on.
    #[must_use]
    pub fn new(connect: ConnectOptions) -> Self {
        Self {
            connect,
            name: "bus".to_owned(),
            position: None,
            start: Start::default(),
            classes: BTreeSet::new(),
            agents: BTreeSet::new(),
            window_bytes: 4 << 20,
        }
    }

    /// Name of the source: part of the name its position is stored under by a pipeline. Default `bus`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Lets the bus keep the position under this name, of at most 255 bytes; each identity has names of its own. What
    /// was not [released](RecordSource::release) is kept as long as there is room. Default: it does not, and deletes
    /// records when it likes.
    #[must_use]
    pub fn position(mut self, name: impl Into<String>) -> Self {
        self.position = Some(name.into());
        self
    }

    /// Where to begin. Default [`Start::Earliest`]. A position that the bus knows goes before `Earliest` and `Latest`.
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Only records of these classes. Default: all.
    #[must_use]
    pub fn classes(mut self, classes: impl IntoIterator<Item = Class>) -> Self {
        self.classes = classes.into_iter().collect();
        self
    }

    /// Only records of these agents. Default: all, and those of the bus itself.
    #[must_use]
    pub fn agents(mut self, agents: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.agents = agents.into_iter().map(Into::into).collect();
        self
    }

    /// Bytes of records that may be on the way. Default 4 MiB, at least 64 KiB.
    #[must_use]
    pub fn window_bytes(mut self, bytes: u64) -> Self {
        self.window_bytes = bytes.max(64 << 10);
        self
    }
}

/// Reads the records in a bus's log, over mutual TLS, in the order of that log.
///
/// Its certificate must be that of an analyzer; with an agent's, it may ask for class alert only. After a connection was lost it goes on behind the last record it gave.
/// A record is given once per position; a subscriber that goes back to an older position after a crash gets the same
/// records again, with the same offsets.
///
/// Records are given as the bus has them. The bus has checked their signatures; to check them again, open them with
/// [`Opener::verifying`](crate::Opener::verifying).
pub struct Subscription {
    options: SubscribeOptions,
    link: Option<ClientLink>,
    /// Of the bus that the link is to.
    standing: Option<Standing>,
    /// Where to go on.
    next: Option<Offset>,
    /// Received, and not given yet.
    buffer: Vec<(Offset, Bytes)>,
    buffer_bytes: usize,
    received_bytes: u64,
    granted_bytes: u64,
    /// How far the bus was told, or is to be told, that nothing is asked for again.
    released: Option<Offset>,
    /// When the bus was asked whether it is there, if it did not say anything since.
    asked: Option<Instant>,
    lost: u64,
    backoff: Backoff,
    pause: Duration,
}

impl Subscription {
    /// A subscription. It connects when it is asked for records.
    #[must_use]
    pub fn new(options: SubscribeOptions) -> Self {
        let (first, longest) = (options.connect.first_pause, options.connect.longest_pause);
        Self {
            next: match options.start {
                Start::At(offset) => Some(offset),
                _ => None,
            },
            options,
            link: None,
            standing: None,
            buffer: Vec::new(),
            buffer_bytes: 0,
            received_bytes: 0,
            granted_bytes: 0,
            released: None,
            asked: None,
            lost: 0,
            backoff: Backoff::new(first, longest),
            pause: Duration::ZERO,
        }
    }

    /// How many offsets of the bus's log were passed over because the records there had been deleted, or could not be
    /// read. The bus's own audit stream says which they were.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    async fn connect(&mut self) -> Result<(), SubscribeError> {
        let (mut link, _, standing) = dial(&self.options.connect, Part::Subscriber, "").await?;
        self.options.connect.tell(None);
        let options = &self.options;
        let (start, offset) = match (self.next, options.start) {
            (Some(offset), _) => (StartAt::Offset, offset.0),
            (None, Start::Latest) => (StartAt::Latest, 0),
            (None, _) => (StartAt::Earliest, 0),
        };
        (self.received_bytes, self.granted_bytes) = (0, options.window_bytes);
        let subscribe = message::Subscribe {
            start: start as i32,
            offset,
            name: options.position.clone().unwrap_or_default(),
            classes: options
                .classes
                .iter()
                .map(|class| class_code(*class).into())
                .collect(),
            agents: options.agents.iter().cloned().collect(),
            credit_bytes: options.window_bytes,
        };
        link.push(FrameType::Subscribe, &subscribe);
        if let Some(Offset(offset)) = self.released {
            link.push(FrameType::Commit, &At { offset });
        }
        self.asked = None;
        self.link = Some(link);
        self.standing = Some(standing);
        Ok(())
    }

    async fn receive(&mut self) -> Result<(), SubscribeError> {
        if self.link.is_none() {
            self.connect().await?;
        }
        while self.buffer.is_empty() {
            let (Some(link), Some(standing)) = (&mut self.link, &mut self.standing) else {
                return Ok(());
            };
            let keepalive = self.options.connect.keepalive;
            let frame = tokio::select! {
                frame = tokio::time::timeout(keepalive, link.next()) => frame,
                error = standing.lost() => return Err(error.into()),
            };
            match frame {
                Ok(frame) => {
                    let frame = frame?;
                    self.asked = None;
                    self.take(&frame)?;
                }
                Err(_) => match self.asked {
                    Some(asked) if asked.elapsed() >= keepalive * 2 => {
                        let address = self.options.connect.address.clone();
                        let after = asked.elapsed();
                        return Err(ConnectionError::Timeout { address, after }.into());
                    }
                    Some(_) => {}
                    None => {
                        link.push(FrameType::Ping, &Nothing {});
                        self.asked = Some(Instant::now());
                    }
                },
            }
        }
        // What is there already comes along.
        while self.buffer_bytes < AT_ONCE {
            let Some(frame) = self.ready().await else { break };
            let frame = frame?;
            self.take(&frame)?;
        }
        Ok(())
    }

    /// The next frame, if it is there.
    async fn ready(&mut self) -> Option<Result<Frame, LinkError>> {
        let link = self.link.as_mut()?;
        poll_fn(|cx| match pin!(link.next()).poll(cx) {
            Poll::Ready(frame) => Poll::Ready(Some(frame)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    fn take(&mut self, frame: &Frame) -> Result<(), SubscribeError> {
        match frame.kind {
            FrameType::Record => {
                let offset = frame.body.first_chunk::<8>();
                let offset = offset.ok_or(FrameError::Malformed(FrameType::Record))?;
                let offset = Offset(u64::from_le_bytes(*offset));
                if self.next.is_some_and(|next| offset < next) {
                    return Err(FrameError::OutOfPlace(FrameType::Record).into());
                }
                let record = frame.body.slice(8..);
                self.next = Some(offset.next());
                self.received_bytes += record.len() as u64;
                self.buffer_bytes += record.len();
                self.buffer.push((offset, record));
                self.grant();
            }
            FrameType::Progress => {
                let at: At = frame.message()?;
                self.next = Some(
                    self.next
                        .map_or(Offset(at.offset), |next| next.max(Offset(at.offset))),
                );
                self.backoff.reset();
            }
            FrameType::Lost => {
                let lost: message::Lost = frame.message()?;
                // Of a bus whose log was begun anew it may not be known how many there were.
                let count = lost.to.saturating_sub(lost.from);
                self.lost += count;
                metrics::counter!("amoskys_subscription_lost_records_total", "source" => self.options.name.clone())
                    .increment(count);
                tracing::warn!(
                    source = self.options.name,
                    from = lost.from,
                    to = lost.to,
                    "records of the bus were lost before they were read: {}",
                    lost.text
                );
                self.next = Some(Offset(lost.to));
            }
            FrameType::Ping => {
                if let Some(link) = &mut self.link {
                    link.push(FrameType::Pong, &Nothing {});
                }
            }
            FrameType::Pong => {}
            FrameType::Refuse => return Err(refused(frame).0.into()),
            FrameType::Bye => return Err(ConnectionError::Lost { source: None }.into()),
            kind => return Err(FrameError::OutOfPlace(kind).into()),
        }
        Ok(())
    }

    /// Lets the bus send more, once half of what it may send has come.
    fn grant(&mut self) {
        let window = self.options.window_bytes;
        if self.granted_bytes.saturating_sub(self.received_bytes) > window / 2 {
            return;
        }
        self.granted_bytes = self.received_bytes + window;
        let credit_bytes = self.granted_bytes;
        if let Some(link) = &mut self.link {
            link.push(FrameType::Credit, &message::Credit { credit_bytes });
        }
    }

    fn failed(&mut self, error: SubscribeError) -> SubscribeError {
        self.link = None;
        self.options.connect.tell(Some(&error));
        self.pause = self.backoff.pause();
        let SubscribeError::Connection(connection) = &error;
        if let Some(told) = connection.retry_after() {
            self.pause = self.pause.max(about(told));
        }
        tracing::info!(
            source = self.options.name,
            error = %amoskys_core::error::Chain(&error),
            "no records come from the bus"
        );
        error
    }
}

impl RecordSource for Subscription {
    type Error = SubscribeError;

    fn name(&self) -> &str {
        &self.options.name
    }

    async fn resume(&mut self, offset: Offset) -> Result<(), SubscribeError> {
        self.next = Some(offset);
        Ok(())
    }

    async fn next_records(&mut self) -> Result<Option<Vec<(Offset, Bytes)>>, SubscribeError> {
        if self.buffer_bytes < AT_ONCE
            && let Err(error) = self.receive().await
        {
            let error = self.failed(error);
            // What came before is good; if the error lasts, the next call tells.
            if self.buffer.is_empty() {
                return Err(error);
            }
        }
        self.buffer_bytes = 0;
        Ok(Some(std::mem::take(&mut self.buffer)))
    }

    async fn release(&mut self, to: Offset) -> Result<(), SubscribeError> {
        if self.released.is_some_and(|released| released >= to) {
            return Ok(());
        }
        self.released = Some(to);
        if let Some(link) = &mut self.link {
            link.push(FrameType::Commit, &At { offset: to.0 });
            if let Err(error) = link.flush().await {
                return Err(self.failed(error.into()));
            }
        }
        Ok(())
    }

    fn remedy(&self, error: &SubscribeError) -> Remedy {
        match error {
            SubscribeError::Connection(ConnectionError::Address { .. }) => Remedy::Fatal,
            SubscribeError::Connection(_) => Remedy::RetryAfter(self.pause),
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("options", &self.options)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
