use std::fmt;

use crate::id::{Digest, Seq, StreamId};

/// Events lost before they had a place in a stream: by the kernel, a socket buffer, a crash.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LossReport {
    /// How many.
    pub count: u64,
    /// The unit of `count`, for example `packets` or `events`.
    pub unit: String,
    /// Why, by the ledger's name for the reason.
    pub reason: String,
    /// Where they were lost.
    pub stage: String,
}

/// A range of a stream that is not there, and why. It takes the place of the missing batches in the hash
/// chain, so that what follows can still be verified.
#[derive(Clone, Debug, PartialEq)]
pub struct Gap {
    /// The stream with the gap.
    pub stream: StreamId,
    /// First missing event.
    pub first: Seq,
    /// Last missing event.
    pub last: Seq,
    /// Digest of the batch before the gap; zeros at the start of a stream.
    pub before: Digest,
    /// Digest of the last missing batch: the one the batch after the gap names as its predecessor.
    pub end: Digest,
    /// Why it is missing.
    pub reason: GapReason,
}

/// Why a range of a stream is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum GapReason {
    /// Shed to make room.
    #[default]
    Shed,
    /// Unreadable, set aside.
    Quarantined,
    /// Older than retention allows.
    Expired,
    /// Erased on request.
    Erased,
    /// The log that held it is gone.
    LogLost,
}

impl GapReason {
    /// The name used in reports and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shed => "shed",
            Self::Quarantined => "quarantined",
            Self::Expired => "expired",
            Self::Erased => "erased",
            Self::LogLost => "log_lost",
        }
    }
}

impl fmt::Display for GapReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
