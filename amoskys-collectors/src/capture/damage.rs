use std::collections::BTreeMap;
use std::fmt;

/// What is wrong with a capture file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DamageKind {
    /// The file ends inside a record. What follows is lost.
    Truncated,
    /// A record claims to be larger than any packet. Nothing after it can be trusted; reading stops.
    RecordTooLarge,
    /// A pcapng block's length is impossible, or its two lengths differ. Reading stops.
    BadBlock,
    /// A pcapng packet names an interface that was not described. The packet is skipped.
    UnknownInterface,
    /// A pcapng packet claims more bytes than its block holds. The packet is cut.
    PacketBeyondBlock,
    /// A new pcapng section has no known byte order. Reading stops.
    BadSection,
}

impl DamageKind {
    /// The name used in ledgers and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Truncated => "capture_truncated",
            Self::RecordTooLarge => "capture_record_too_large",
            Self::BadBlock => "capture_bad_block",
            Self::UnknownInterface => "capture_unknown_interface",
            Self::PacketBeyondBlock => "capture_packet_beyond_block",
            Self::BadSection => "capture_bad_section",
        }
    }

    /// Whether packets are missing because of it, rather than cut.
    #[must_use]
    pub const fn loses_packet(self) -> bool {
        !matches!(self, Self::PacketBeyondBlock)
    }
}

impl fmt::Display for DamageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Damage found in a capture file so far, counted by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// How often each kind was found.
    pub counts: BTreeMap<DamageKind, u64>,
    /// Place in the file, in bytes from its start, of the first damage.
    pub first_offset: Option<u64>,
}

impl Damage {
    /// Whether none was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    pub(crate) fn count(&mut self, kind: DamageKind, offset: u64) {
        *self.counts.entry(kind).or_default() += 1;
        self.first_offset.get_or_insert(offset);
    }
}
