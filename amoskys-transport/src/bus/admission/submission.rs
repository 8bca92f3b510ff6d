use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amoskys_core::{Class, Name, Offset, Seq};
use bytes::Bytes;
use tokio::sync::Notify;

use crate::bus::refuse::RefuseReason;
use crate::bus::server::{Sender, StreamKey};
use crate::seal::Head;
use crate::seal::header::RawHeader;
use crate::wal::segment::lock;

/// A record that an agent sent. Nobody has looked yet whether it is genuine.
pub struct Submission {
    pub(crate) sender: Arc<Sender>,
    pub(crate) record: Bytes,
    events: u64,
    class: Option<Class>,
}

impl Submission {
    pub(crate) fn new(sender: Arc<Sender>, record: Bytes) -> Self {
        let header = RawHeader::parse(&record).ok();
        let events = header.as_ref().map_or(0, RawHeader::count);
        let class = header.and_then(|header| header.class().ok());
        Self {
            sender,
            record,
            events,
            class,
        }
    }

    /// The agent that sent it, as its certificate says.
    #[must_use]
    pub fn agent(&self) -> &Name {
        &self.sender.agent.name
    }

    /// The record as it came.
    #[must_use]
    pub fn record(&self) -> &Bytes {
        &self.record
    }

    /// How many events it says that it holds; of a gap, how many it says are missing.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The class it says that it is of. `None` if it cannot be read.
    #[must_use]
    pub fn class(&self) -> Option<Class> {
        self.class
    }

    /// Has the bus tell the agent to send nothing for about so long, because this record has to wait for this reason, a
    /// word that becomes the value of a label. It does not end the wait when the time is over.
    pub fn ask_to_wait(&self, time: Duration, reason: &'static str) {
        self.sender.pace.ask(Wait { time, reason });
    }
}

impl fmt::Debug for Submission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submission")
            .field("agent", self.agent())
            .field("bytes", &self.record.len())
            .finish_non_exhaustive()
    }
}

/// A record that is in the log, or was there already. It may not be durable yet.
pub struct Admitted {
    /// `None` if it is durable.
    pub(crate) offset: Option<Offset>,
    pub(crate) stream: StreamKey,
    pub(crate) next: Seq,
    pub(crate) stored: bool,
    pub(crate) held: Vec<Box<dyn Any + Send + Sync>>,
}

impl Admitted {
    /// Whether it was stored now; `false` if the bus had it before.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        self.stored
    }

    /// Keeps something until the record is durable, or its connection ends, and drops it then.
    pub fn keep_until_durable(&mut self, what: impl Any + Send + Sync) {
        self.held.push(Box::new(what));
    }
}

impl fmt::Debug for Admitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admitted")
            .field("stored", &self.stored)
            .finish_non_exhaustive()
    }
}

/// Why a record is not taken, and its connection has to end.
#[derive(Debug, thiserror::Error)]
#[error("refused ({reason}): {text}")]
pub struct Rejection {
    pub(crate) reason: RefuseReason,
    pub(crate) text: String,
    /// The record's stream, and how far the bus has it.
    pub(crate) at: Option<Box<(StreamKey, Head)>>,
    pub(crate) retry_after: Option<Duration>,
}

impl Rejection {
    /// For this reason, which is counted; `text` is told to the agent and logged.
    #[must_use]
    pub fn new(reason: RefuseReason, text: impl Into<String>) -> Self {
        Self {
            reason,
            text: text.into(),
            at: None,
            retry_after: None,
        }
    }

    /// The agent should not come again before this time has passed.
    #[must_use]
    pub fn retry_after(mut self, time: Duration) -> Self {
        self.retry_after = Some(time);
        self
    }
}

/// How long an agent is asked to wait, and why.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    pub(crate) time: Duration,
    pub(crate) reason: &'static str,
}

/// Carries what layers ask of an agent to its connection.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    asked: Mutex<Option<Wait>>,
    told: Notify,
}

impl Pace {
    fn ask(&self, wait: Wait) {
        *lock(&self.asked) = Some(wait);
        self.told.notify_one();
    }

    /// Waits for the next.
    pub(crate) async fn asked(&self) -> Wait {
        loop {
            if let Some(wait) = lock(&self.asked).take() {
                return wait;
            }
            self.told.notified().await;
        }
    }
}
