use std::fmt;

use crate::packet::SkipReason;

/// What a meter did with its packets: `packets` = `metered` + `arp` + all that was skipped, once the meter was
/// finished. (Until then one packet may be waiting for the next, if its time was far ahead.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MeterStats {
    /// Packets that came in.
    pub packets: u64,
    /// IP packets, counted in flows.
    pub metered: u64,
    /// ARP messages.
    pub arp: u64,
    /// DNS messages, in packets that were metered.
    pub dns: u64,
    /// Flows begun.
    pub flows: u64,
    /// Flows ended because the table was full.
    pub evicted: u64,
    /// Packets whose time was too far from the others' to be true, and was corrected.
    pub times_corrected: u64,
    /// How often the capture's clock was set back by more than an hour.
    pub clock_set_back: u64,
    pub(super) skipped: [u64; SkipReason::ALL.len()],
}

impl MeterStats {
    /// Packets skipped for a reason.
    #[must_use]
    pub fn skipped(&self, reason: SkipReason) -> u64 {
        self.skipped[reason as usize]
    }

    /// Packets skipped for any reason.
    #[must_use]
    pub fn skipped_total(&self) -> u64 {
        self.skipped.iter().sum()
    }

    /// Adds the counts of another meter, which metered other packets of the same capture.
    pub(super) fn add(&mut self, other: &Self) {
        self.packets += other.packets;
        self.metered += other.metered;
        self.arp += other.arp;
        self.dns += other.dns;
        self.flows += other.flows;
        self.evicted += other.evicted;
        // Each of them sees all times.
        self.times_corrected = self.times_corrected.max(other.times_corrected);
        self.clock_set_back = self.clock_set_back.max(other.clock_set_back);
        for (count, other) in self.skipped.iter_mut().zip(other.skipped) {
            *count += other;
        }
    }

    #[inline]
    pub(super) fn skip(&mut self, reason: SkipReason) {
        self.skipped[reason as usize] += 1;
    }
}

impl fmt::Display for MeterStats {
    /// One line: the balance of the packets, and the flows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} packets = {} metered + {} arp",
            self.packets, self.metered, self.arp
        )?;
        for reason in SkipReason::ALL
            .into_iter()
            .filter(|reason| self.skipped(*reason) > 0)
        {
            write!(f, " + {} {reason}", self.skipped(reason))?;
        }
        write!(f, "; {} flows, {} evicted", self.flows, self.evicted)
    }
}
