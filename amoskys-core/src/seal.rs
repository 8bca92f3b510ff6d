//! From events to the opaque records a log keeps, and back.
//!
//! A record is one sealed batch: consecutive events of one stream. Who seals, and how (signed and chained, or
//! plain for tests), is the implementation's matter; the pipeline and the log see bytes.

use bytes::Bytes;

use crate::batch::{Position, Recorded};
use crate::error::{BoxError, Remedy};
use crate::event::{Class, Event, Gap, GapReason};
use crate::id::{Name, Seq, StreamId};
use crate::ledger::{DropReason, LedgerSnapshot};

/// Events about to be sealed.
#[derive(Clone, Copy, Debug)]
pub struct Unsealed<'a> {
    /// The class of all of them.
    pub class: Class,
    /// The collector they came from; its position is stored under this name.
    pub source: &'a Name,
    /// The events, at least one. Those of another class are refused.
    pub events: &'a [Event],
    /// The source's position after the last of them, if this is where it has come to.
    pub position: Option<&'a Position>,
    /// The ledger, to be kept with the events.
    pub ledger: Option<&'a LedgerSnapshot>,
}

/// A sealed batch: a record for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The stream it belongs to.
    pub stream: StreamId,
    /// Number of its first event.
    pub first: Seq,
    /// Number of its last event.
    pub last: Seq,
    /// The record.
    pub record: Bytes,
}

/// Seals batches. Each sealed batch is chained to the one before it in its stream, so records must go into
/// the log in the order they were sealed, each exactly once.
pub trait Seal: Send {
    /// Seals events.
    ///
    /// # Errors
    ///
    /// If they are of several classes, too large, or cannot be signed. Nothing has changed then.
    fn seal(&mut self, batch: Unsealed<'_>) -> Result<Sealed, SealError>;
}

/// Opens records.
pub trait Open: Send + Sync {
    /// Checks and decodes a record.
    ///
    /// # Errors
    ///
    /// If it is damaged, or of a version that cannot be read.
    fn open(&self, record: &Bytes) -> Result<Opened, SealError>;

    /// The class of a record, if it can be told without opening it. A reader uses it to pass over records of
    /// classes it does not want. Default: `None`, not known.
    fn class(&self, record: &Bytes) -> Option<Class> {
        let _ = record;
        None
    }

    /// How many events a record holds, none for a gap; `None` if that cannot be told. Default: opens it.
    fn events(&self, record: &Bytes) -> Option<u64> {
        self.open(record).ok().map(|opened| opened.events.len() as u64)
    }

    /// The stream of a record, the number of its first event, or of the first missing one, and how many it is about, if that
    /// can be told without opening it. A reader uses it to count no event twice that it was given before the log gave it
    /// up. Default: `None`, not known.
    fn place(&self, record: &Bytes) -> Option<(StreamId, Seq, u64)> {
        let _ = record;
        None
    }
}

/// Reads a log from its first record to what is durable now, a record at a time.
///
/// A record that is damaged or cannot be opened is given as an error, and reading goes on behind it; an error of
/// the storage ends it.
pub fn read_log<'a>(
    wal: &'a dyn crate::Wal,
    open: &'a dyn Open,
) -> impl Iterator<Item = Result<(crate::Offset, Opened), ReadLogError>> + 'a {
    read_log_from(wal, open, wal.first())
}

/// As [`read_log`], from a record on.
pub(crate) fn read_log_from<'a>(
    wal: &'a dyn crate::Wal,
    open: &'a dyn Open,
    mut from: crate::Offset,
) -> impl Iterator<Item = Result<(crate::Offset, Opened), ReadLogError>> + 'a {
    let end = wal.durable();
    let mut records: std::vec::IntoIter<(crate::Offset, Bytes)> = Vec::new().into_iter();
    std::iter::from_fn(move || {
        loop {
            if let Some((offset, record)) = records.next() {
                let opened = open.open(&record).map(|opened| (offset, opened));
                return Some(opened.map_err(|error| ReadLogError::Record(error.into())));
            }
            if from >= end {
                return None;
            }
            match wal.read(from, 1 << 20) {
                Ok(read) => {
                    from = read.last().map_or(end, |(last, _)| last.next());
                    records = read.into_iter();
                }
                Err(error @ crate::WalError::Damaged { offset, .. }) => {
                    from = offset.next().max(from.next());
                    return Some(Err(ReadLogError::Record(error.into())));
                }
                Err(error) => {
                    from = end;
                    return Some(Err(ReadLogError::Storage(error)));
                }
            }
        }
    })
}

/// Why [`read_log`] could not give a record.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadLogError {
    /// One record is damaged or cannot be opened. Those behind it follow.
    #[error("a record of the log cannot be read")]
    Record(#[source] BoxError),
    /// The storage failed. Nothing follows, though there may be more in the log.
    #[error("the log cannot be read on")]
    Storage(#[source] crate::WalError),
}

/// A log and what writes and reads its records: what a pipeline takes.
pub struct LogParts {
    /// The log.
    pub wal: std::sync::Arc<dyn crate::Wal>,
    /// Seals what goes into it.
    pub seal: Box<dyn Seal>,
    /// Opens what comes out of it.
    pub open: std::sync::Arc<dyn Open>,
}

impl std::fmt::Debug for LogParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogParts")
            .field("used_bytes", &self.wal.used_bytes())
            .finish_non_exhaustive()
    }
}

/// An opened record.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Opened {
    /// The stream it belongs to.
    pub stream: std::sync::Arc<StreamId>,
    /// Number of its first event, or of the first missing one if it is a gap.
    pub first: Seq,
    /// Number of its last event, or of the last missing one if it is a gap.
    pub last: Seq,
    /// The events; none if it is a gap.
    pub events: Vec<Event>,
    /// The gap, if that is what it is.
    pub gap: Option<Gap>,
    /// The collector the events came from.
    pub source: Name,
    /// The source's position after the last of them.
    pub position: Option<Position>,
    /// The ledger when it was sealed.
    pub ledger: Option<LedgerSnapshot>,
}

impl Opened {
    /// An opened record without events; fill in the rest.
    #[must_use]
    pub fn new(stream: std::sync::Arc<StreamId>, first: Seq, last: Seq, source: Name) -> Self {
        Self {
            stream,
            first,
            last,
            events: Vec::new(),
            gap: None,
            source,
            position: None,
            ledger: None,
        }
    }

    /// Of a gap that the log itself put in the place of records it gave up: how many events that were, and why. They were
    /// in the log, and its readers must account for them.
    #[must_use]
    pub fn given_up(&self) -> Option<(u64, DropReason)> {
        let reason = match self.gap.as_ref()?.reason {
            GapReason::Shed => DropReason::SHED,
            GapReason::Expired => DropReason::EXPIRED,
            _ => return None,
        };
        Some((self.last.0.saturating_sub(self.first.0).saturating_add(1), reason))
    }

    /// The events with their places in the stream.
    pub fn into_recorded(self) -> impl Iterator<Item = Recorded> {
        let (stream, first) = (self.stream, self.first.0);
        self.events
            .into_iter()
            .enumerate()
            .map(move |(at, event)| Recorded {
                timeline: 0,
                stream: stream.clone(),
                seq: Seq(first.saturating_add(at as u64)),
                event,
            })
    }
}

/// Why sealing or opening failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The batch cannot be sealed as it is. Leave it out.
    #[error("the batch cannot be sealed: {reason}")]
    Batch {
        /// What is wrong with it.
        reason: String,
    },
    /// The signer refused or failed.
    #[error("the batch could not be signed")]
    Sign {
        /// The signer's error.
        source: BoxError,
    },
    /// The record is damaged. Its content cannot be used.
    #[error("the record is damaged: {reason}")]
    Damaged {
        /// What is wrong with it.
        reason: String,
    },
    /// The record was written by a newer version, in a way this one cannot read.
    #[error("the record has format version {found}, this version reads up to {supported}")]
    Version {
        /// Its version.
        found: u32,
        /// The newest this one reads.
        supported: u32,
    },
}

impl SealError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Batch { .. } | Self::Damaged { .. } | Self::Version { .. } => Remedy::Reject,
            Self::Sign { .. } => Remedy::Fatal,
        }
    }
}
