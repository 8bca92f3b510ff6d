use std::fmt;

/// Why a packet is in no flow. The order is that of `enum skip`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum KernelSkip {
    /// It carries neither IP nor ARP.
    NonIp,
    /// It is an ARP message.
    Arp,
    /// It carries something behind a header that is not looked through in the kernel.
    Encapsulated,
    /// It ends before the end of the IP header.
    Truncated,
    /// The IP header contradicts itself.
    BadIpHeader,
    /// The table had no room for one more flow. A loss.
    NoRoom,
    /// Its flow was being removed by another processor. A loss.
    Busy,
}

impl KernelSkip {
    /// All reasons, in the order of the program's counters.
    pub const ALL: [Self; 7] = [
        Self::NonIp,
        Self::Arp,
        Self::Encapsulated,
        Self::Truncated,
        Self::BadIpHeader,
        Self::NoRoom,
        Self::Busy,
    ];

    /// The name used in ledgers and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NonIp => "non_ip",
            Self::Arp => "arp",
            Self::Encapsulated => "encapsulated",
            Self::Truncated => "malformed_truncated",
            Self::BadIpHeader => "malformed_ip",
            Self::NoRoom => "flow_table_full",
            Self::Busy => "kernel_busy",
        }
    }

    /// Whether it would have been metered if things had gone better.
    #[must_use]
    pub const fn is_loss(self) -> bool {
        matches!(self, Self::NoRoom | Self::Busy)
    }
}

/// What the program of one processor counted: `seen` = `metered` + all that was skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KernelFlowCounts {
    /// Packets that passed.
    pub seen: u64,
    /// Those counted in flows.
    pub metered: u64,
    /// Flows begun.
    pub flows: u64,
    /// Last records of flows that found no room in the ring.
    pub lost_records: u64,
    /// Packets of these flows. They are among the metered.
    pub lost_packets: u64,
    /// Other records that found no room. Later records of their flows make up for them.
    pub unsent: u64,
    skipped: [u64; KernelSkip::ALL.len()],
}

/// Eight-byte words of `struct flow_counts`.
pub(super) const WORDS: usize = 14;

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
            s6,
            _,
            flows,
            lost_records,
            lost_packets,
            unsent,
        ] = *words;
        Self {
            seen,
            metered,
            flows,
            lost_records,
            lost_packets,
            unsent,
            skipped: [s0, s1, s2, s3, s4, s5, s6],
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
        self.flows += other.flows;
        self.lost_records += other.lost_records;
        self.lost_packets += other.lost_packets;
        self.unsent += other.unsent;
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
        write!(f, "{} packets = {} metered", total.seen, total.metered)?;
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
        assert_eq!(counts.skipped(KernelSkip::Busy), 9);
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
        assert!(stats.to_string().starts_with("2 packets = 4 metered + 6 non_ip"));
    }
}
