use std::fmt;

/// Why a packet is in no flow. The order is that of `enum skip`. Packets handed over to user space are not among these:
/// the meter there may still find reasons, which are [`SkipReason`](crate::packet::SkipReason)s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum KernelSkip {
    /// It carries neither IP nor ARP.
    NonIp,
    /// It ends before the end of the IP header.
    Truncated,
    /// The IP header contradicts itself.
    BadIpHeader,
    /// The table had no room for one more flow. A loss.
    NoRoom,
    /// Its flow was being removed by another processor. A loss.
    Busy,
    /// It was to be metered in user space, and the ring had no room for it. A loss.
    NoRing,
}

impl KernelSkip {
    /// All reasons, in the order of the program's counters.
    pub const ALL: [Self; 6] = [
        Self::NonIp,
        Self::Truncated,
        Self::BadIpHeader,
        Self::NoRoom,
        Self::Busy,
        Self::NoRing,
    ];

    /// The name used in ledgers and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NonIp => "non_ip",
            Self::Truncated => "malformed_truncated",
            Self::BadIpHeader => "malformed_ip",
            Self::NoRoom => "flow_table_full",
            Self::Busy => "kernel_busy",
            Self::NoRing => "kernel_ring_full",
        }
    }

    /// Whether it would have been metered if things had gone better.
    #[must_use]
    pub const fn is_loss(self) -> bool {
        matches!(self, Self::NoRoom | Self::Busy | Self::NoRing)
    }
}

/// What the program of one processor counted: `seen` = `metered` + `handed` + all that was skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KernelFlowCounts {
    /// Packets that passed.
    pub seen: u64,
    /// Those counted in flows in the kernel.
    pub metered: u64,
    /// Those handed over, to be metered in user space.
    pub handed: u64,
    /// Flows begun.
    pub flows: u64,
    /// Last records of flows that found no room in the ring.
    pub lost_records: u64,
    /// Packets of these flows. They are among the metered.
    pub lost_packets: u64,
    /// Other records that found no room. Later records of their flows make up for them.
    pub unsent: u64,
    /// Payloads of metered packets that were to be read in user space, and found no room in the ring: what the flow's
    /// client says at the beginning may be missing in its records.
    pub unread: u64,
    skipped: [u64; KernelSkip::ALL.len()],
}

/// Eight-byte words of `struct flow_counts`.
pub(super) const WORDS: usize = 16;

impl KernelFlowCounts {
    pub(super) fn of_words(words: &[u64; WORDS]) -> Self {
        let [
            seen,
            metered,
            s0,
            s1,
            s2,
            s3,
            s4,
            s5,
            _,
            _,
            flows,
            lost_records,
            lost_packets,
            unsent,
            handed,
            unread,
        ] = *words;
        Self {
            seen,
            metered,
            handed,
            flows,
            lost_records,
            lost_packets,
            unsent,
            unread,
            skipped: [s0, s1, s2, s3, s4, s5],
        }
    }

    /// Packets skipped for a reason.
    #[must_use]
    pub const fn skipped(&self, reason: KernelSkip) -> u64 {
        self.skipped[reason as usize]
    }

    /// Packets skipped for any reason.
    #[must_use]
    pub fn skipped_total(&self) -> u64 {
        self.skipped.iter().sum()
    }

    fn add(&mut self, other: &Self) {
        self.seen += other.seen;
        self.metered += other.metered;
        self.handed += other.handed;
        self.flows += other.flows;
        self.lost_records += other.lost_records;
        self.lost_packets += other.lost_packets;
        self.unsent += other.unsent;
        self.unread += other.unread;
        for (sum, other) in self.skipped.iter_mut().zip(other.skipped) {
            *sum += other;
        }
    }
}

/// The counts of all processors, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KernelFlowStats {
    /// By processor.
    pub processors: Vec<KernelFlowCounts>,
}

impl KernelFlowStats {
    /// All processors together.
    #[must_use]
    pub fn total(&self) -> KernelFlowCounts {
        let mut total = KernelFlowCounts::default();
        for counts in &self.processors {
            total.add(counts);
        }
        total
    }
}

impl fmt::Display for KernelFlowStats {
    /// One line: the balance of the packets, and the flows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.total();
        write!(
            f,
            "{} packets = {} metered + {} handed over",
            total.seen, total.metered, total.handed
        )?;
        for reason in KernelSkip::ALL {
            if total.skipped(reason) > 0 {
                write!(f, " + {} {}", total.skipped(reason), reason.as_str())?;
            }
        }
        write!(f, "; {} flows, {} records lost", total.flows, total.lost_records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_in_their_order() {
        let words = std::array::from_fn(|n| n as u64 + 1);
        let counts = KernelFlowCounts::of_words(&words);
        assert_eq!((counts.seen, counts.metered), (1, 2));
        assert_eq!(counts.skipped(KernelSkip::NonIp), 3);
        assert_eq!(counts.skipped(KernelSkip::NoRing), 8);
        assert_eq!((counts.handed, counts.unread), (15, 16));
        assert_eq!(
            (
                counts.flows,
                counts.lost_records,
                counts.lost_packets,
                counts.unsent
            ),
            (11, 12, 13, 14)
        );
        let stats = KernelFlowStats {
            processors: vec![counts, counts],
        };
        assert_eq!(stats.total().skipped_total(), 2 * counts.skipped_total());
        assert!(
            stats
                .to_string()
                .starts_with("2 packets = 4 metered + 30 handed over + 6 non_ip")
        );
    }
}
