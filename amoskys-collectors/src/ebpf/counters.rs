//! What the programs counted, processor by processor.

use std::collections::BTreeMap;
use std::fmt;

use super::record::EventKind;

/// Why something the programs saw did not become a record. The order is that of `enum drop`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DropCause {
    /// It was the reader's own doing.
    OwnProcess,
    /// Its kind is not wanted.
    Kind,
    /// Its user is not wanted.
    Uid,
    /// Its control group is not wanted.
    Cgroup,
    /// Its path is not watched.
    Path,
    /// Its port is not wanted.
    Port,
    /// The process has spoken to this peer, or needed this capability, before.
    Repeated,
    /// Of no interest by its arguments: a mapping that is not both writable and executable, for example.
    Harmless,
    /// The system call is not in the wanted set.
    Call,
    /// The call failed for a reason that says nothing, as when a file is not there.
    Failed,
    /// The ring had no room: the reader was too slow. A loss.
    RingFull,
    /// Another record was under way on the same processor. A loss.
    Busy,
    /// There was no memory for the calls of one more thread or process. A loss.
    NoMemory,
}

impl DropCause {
    /// All causes, in the order of the programs' counters.
    pub const ALL: [Self; 13] = [
        Self::OwnProcess,
        Self::Kind,
        Self::Uid,
        Self::Cgroup,
        Self::Path,
        Self::Port,
        Self::Repeated,
        Self::Harmless,
        Self::Call,
        Self::Failed,
        Self::RingFull,
        Self::Busy,
        Self::NoMemory,
    ];

    /// The name used in ledgers and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OwnProcess => "filtered_self",
            Self::Kind => "filtered_kind",
            Self::Uid => "filtered_uid",
            Self::Cgroup => "filtered_cgroup",
            Self::Path => "filtered_path",
            Self::Port => "filtered_port",
            Self::Repeated => "filtered_repeated",
            Self::Harmless => "filtered_harmless",
            Self::Call => "filtered_call",
            Self::Failed => "filtered_failed",
            Self::RingFull => "kernel",
            Self::Busy => "kernel_busy",
            Self::NoMemory => "kernel_memory",
        }
    }

    /// Whether it was lost, and not left out on purpose.
    #[must_use]
    pub const fn is_loss(self) -> bool {
        matches!(self, Self::RingFull | Self::Busy | Self::NoMemory)
    }
}

impl fmt::Display for DropCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What became of what the programs saw. Events count one each, system calls in sequences and histograms one a call.
///
/// A system call is counted when it is decided what becomes of it: up to 63 of each thread may wait in its buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelCounts {
    /// All that was seen.
    pub seen: u64,
    /// Handed over in a record.
    pub delivered: u64,
    dropped: [u64; DropCause::ALL.len()],
}

/// The counters in 64-bit words: seen, delivered, and room for 16 reasons.
pub(super) const WORDS: usize = 2 + 16;

impl KernelCounts {
    pub(super) fn of_words(words: &[u64; WORDS]) -> Self {
        let mut dropped = [0; DropCause::ALL.len()];
        dropped.copy_from_slice(&words[2..2 + DropCause::ALL.len()]);
        Self {
            seen: words[0],
            delivered: words[1],
            dropped,
        }
    }

    /// How many were dropped for this cause.
    #[must_use]
    pub const fn dropped(&self, cause: DropCause) -> u64 {
        self.dropped[cause as usize]
    }

    /// All that was left out on purpose.
    #[must_use]
    pub fn filtered(&self) -> u64 {
        self.sum(|cause| !cause.is_loss())
    }

    /// All that was lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.sum(DropCause::is_loss)
    }

    /// Whether seen = delivered + filtered + lost. A record that is under way on another processor while the counters
    /// are read may be seen and not yet decided.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.seen == self.delivered + self.filtered() + self.lost()
    }

    /// Adds other counts to these.
    pub fn add(&mut self, other: &Self) {
        self.seen += other.seen;
        self.delivered += other.delivered;
        for (sum, count) in self.dropped.iter_mut().zip(other.dropped) {
            *sum += count;
        }
    }

    fn sum(&self, wanted: impl Fn(DropCause) -> bool) -> u64 {
        let causes = DropCause::ALL.into_iter().filter(|cause| wanted(*cause));
        causes.map(|cause| self.dropped(cause)).sum()
    }
}

/// The counters of all programs, by processor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelStats {
    /// By processor, the first being number 0, and kind.
    pub processors: Vec<BTreeMap<EventKind, KernelCounts>>,
}

impl KernelStats {
    /// Of all processors, by kind; only kinds of which something was seen.
    #[must_use]
    pub fn kinds(&self) -> BTreeMap<EventKind, KernelCounts> {
        let mut sums: BTreeMap<EventKind, KernelCounts> = BTreeMap::new();
        for (kind, counts) in self.processors.iter().flatten() {
            sums.entry(*kind).or_default().add(counts);
        }
        sums
    }

    /// Of all processors and kinds.
    #[must_use]
    pub fn total(&self) -> KernelCounts {
        let mut sum = KernelCounts::default();
        self.processors
            .iter()
            .flat_map(BTreeMap::values)
            .for_each(|counts| sum.add(counts));
        sum
    }
}
