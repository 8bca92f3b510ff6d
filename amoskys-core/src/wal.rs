//! The write-ahead log.

use bytes::Bytes;

use crate::error::{BoxError, Remedy};
use crate::id::Offset;

/// A durable, ordered log of opaque records, shared by many writers and readers.
///
/// It is synchronous: [`append`](Self::append) only enqueues and returns at once; only
/// [`wait_durable`](Self::wait_durable) blocks. Async callers use [`on_durable`](Self::on_durable).
///
/// # Guarantees
///
/// - Records are kept in the order of their offsets, without holes, and read back byte for byte. Only a log that gives
///   up records by a policy of its own ([`shed`](Self::shed), retention) skips offsets, and what says so stands there.
/// - A record below [`durable`](Self::durable) survives a crash of the process, of the operating system and
///   of the power supply.
/// - After a crash the log is a prefix of what was appended, and that prefix holds every durable record.
/// - Offsets only grow, also when the log was trimmed empty and opened again.
pub trait Wal: Send + Sync {
    /// Enqueues a record and returns its offset. It is not yet durable.
    ///
    /// # Errors
    ///
    /// [`WalError::Full`] if the byte budget is used up; [`WalError::TooLarge`]; [`WalError::Failed`] once the
    /// storage has failed.
    fn append(&self, record: Bytes) -> Result<Offset, WalError>;

    /// The first offset that is not yet durable: every record below it is.
    fn durable(&self) -> Offset;

    /// Blocks until the record at `offset` is durable.
    ///
    /// # Errors
    ///
    /// [`WalError::Failed`] if the storage failed first.
    fn wait_durable(&self, offset: Offset) -> Result<(), WalError>;

    /// Calls `notify` with [`durable`](Self::durable) each time it has grown, and once when the storage fails.
    /// It is called from the log's own thread and must return quickly. It stays for the life of the log.
    fn on_durable(&self, notify: Box<dyn Fn(Offset) + Send + Sync>);

    /// The oldest offset that can be read; equal to [`durable`](Self::durable) if there is nothing to read.
    fn first(&self) -> Offset;

    /// Durable records from `from` on, in order, up to about `max_bytes` of them but at least one; empty at
    /// the end. Reading from below [`first`](Self::first) starts at `first`.
    ///
    /// # Errors
    ///
    /// [`WalError::Damaged`] if a record fails its check: reading may go on behind it.
    fn read(&self, from: Offset, max_bytes: usize) -> Result<Vec<(Offset, Bytes)>, WalError>;

    /// Allows records below `to` to be forgotten. They may stay readable for a while. `to` is cut to
    /// [`durable`](Self::durable).
    ///
    /// # Errors
    ///
    /// [`WalError::Failed`] if the storage failed.
    fn trim(&self, to: Offset) -> Result<(), WalError>;

    /// Makes room in a full log at the cost of old records, if its policy is to shed them; what says so takes their place.
    /// Called by who would otherwise wait, after [`trim`](Self::trim) could give no room. Blocks on the disk. `false` if
    /// there is nothing that may be shed, and one has to wait.
    ///
    /// Default: `false`; a full log waits.
    ///
    /// # Errors
    ///
    /// [`WalError::Failed`] if the storage failed.
    fn shed(&self) -> Result<bool, WalError> {
        Ok(false)
    }

    /// A small named value kept beside the log: a consumer's position, a checkpoint.
    ///
    /// # Errors
    ///
    /// [`WalError::Failed`] if the storage failed.
    fn load(&self, name: &str) -> Result<Option<Bytes>, WalError>;

    /// Keeps a small named value, replacing the one of that name.
    ///
    /// It may be lost with its store (the log is rebuilt without it), so it must be something that can be
    /// found again by reading the log from its beginning.
    ///
    /// # Errors
    ///
    /// [`WalError::Failed`] if the storage failed.
    fn store(&self, name: &str, value: &[u8]) -> Result<(), WalError>;

    /// Makes what was [stored](Self::store) durable, and returns when it is. Blocks on the disk. Who lets others
    /// forget something because of a value calls it in between.
    ///
    /// Default: does nothing, for logs whose values are durable at once, or die with the process.
    ///
    /// # Errors
    ///
    /// [`WalError::Failed`] if the storage failed.
    fn sync(&self) -> Result<(), WalError> {
        Ok(())
    }

    /// Bytes in use, of the byte budget.
    fn used_bytes(&self) -> u64;

    /// The byte budget: what [`append`](Self::append) may fill before it answers [`WalError::Full`]. Default:
    /// no limit.
    fn budget_bytes(&self) -> u64 {
        u64::MAX
    }
}

/// Why a write-ahead log call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// The byte budget is used up. Stored records are safe; retry after a trim.
    #[error("the log is full: {used_bytes} of {budget_bytes} bytes in use")]
    Full {
        /// Bytes in use.
        used_bytes: u64,
        /// Bytes allowed.
        budget_bytes: u64,
    },
    /// The record is larger than the log can ever take.
    #[error("a record of {bytes} bytes is over the limit of {limit_bytes}")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// A record fails its check. Those before and behind it may be good.
    #[error("record {offset} is damaged: {reason}")]
    Damaged {
        /// Where.
        offset: Offset,
        /// What is wrong with it.
        reason: String,
    },
    /// The storage failed. Open the log again before appending more; what was durable is safe.
    #[error("the log's storage failed while it {action}")]
    Failed {
        /// What was being done.
        action: &'static str,
        /// The cause.
        source: BoxError,
    },
    /// The directory is in use by another process, or not one of a log.
    #[error("the log cannot be opened: {reason}")]
    Open {
        /// What is in the way, and what to do.
        reason: String,
        /// The cause, if another error is behind it.
        source: Option<BoxError>,
    },
}

impl WalError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Full { .. } => Remedy::RetryAfter(std::time::Duration::from_millis(50)),
            Self::TooLarge { .. } | Self::Damaged { .. } => Remedy::Reject,
            Self::Failed { .. } | Self::Open { .. } => Remedy::Fatal,
        }
    }
}
