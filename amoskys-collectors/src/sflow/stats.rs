use amoskys_core::{DropReason, Tally};

use crate::flow::batcher::Counts;
use crate::packet::SkipReason;

/// What a decoder has done so far. Each sample of a datagram that could be parsed is in exactly one of `packets`,
/// `arp`, `counter_samples`, `other_counters`, `discarded_packets`, `unknown_samples`, `not_a_flow` and
/// [`skipped`](Self::skipped).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SflowStats {
    /// Datagrams given to it.
    pub datagrams: u64,
    /// Flow records handed over.
    pub flows: u64,
    /// Sampled packets that these count.
    pub packets: u64,
    /// Sampled ARP messages handed over.
    pub arp: u64,
    /// Samples of an interface's counters, handed over as metrics.
    pub counter_samples: u64,
    /// Samples of other counters.
    pub other_counters: u64,
    /// Packets reported because the agent discarded them.
    pub discarded_packets: u64,
    /// Samples of vendors' own formats.
    pub unknown_samples: u64,
    /// Flow samples with neither the beginning of a packet nor its IP fields.
    pub not_a_flow: u64,
    /// Datagrams of a version that is not known here.
    pub unknown_version: u64,
    /// Datagrams that contradict themselves. One with something behind its last sample is counted, and used.
    pub malformed: u64,
    /// Datagrams of senders that are not listened to.
    pub not_allowed: u64,
    /// Datagrams of agents that there was no room for.
    pub no_room: u64,
    /// Datagrams that never arrived, as sequence numbers say.
    pub missing: u64,
    /// Datagrams that were overtaken, or came twice. What they hold was counted as missing, and is used.
    pub late: u64,
    /// Times that an agent began anew.
    pub restarts: u64,
    skipped: [u64; SkipReason::ALL.len()],
}

impl SflowStats {
    /// Sampled packets that carry nothing to meter, or that are damaged, by reason.
    #[must_use]
    pub fn skipped(&self, reason: SkipReason) -> u64 {
        self.skipped[reason as usize]
    }

    pub(super) fn skip(&mut self, reason: SkipReason) {
        self.skipped[reason as usize] += 1;
    }

    fn used(&self) -> u64 {
        self.packets + self.arp + self.counter_samples
    }
}

impl Counts for SflowStats {
    fn add_difference(tally: &mut Tally, before: &Self, after: &Self) {
        tally.used += after.used() - before.used();
        let known = DropReason::known;
        for (reason, before, after) in [
            (DropReason::MALFORMED, before.malformed, after.malformed),
            (DropReason::MISSING, before.missing, after.missing),
            (
                known("other_counters"),
                before.other_counters,
                after.other_counters,
            ),
            (
                known("discarded_packet"),
                before.discarded_packets,
                after.discarded_packets,
            ),
            (
                known("unknown_sample"),
                before.unknown_samples,
                after.unknown_samples,
            ),
            (known("not_a_flow"), before.not_a_flow, after.not_a_flow),
            (
                known("unknown_version"),
                before.unknown_version,
                after.unknown_version,
            ),
            (known("not_allowed"), before.not_allowed, after.not_allowed),
            (known("no_room"), before.no_room, after.no_room),
        ] {
            tally.drop_items(reason, after - before);
        }
        for reason in SkipReason::ALL {
            let count = after.skipped(reason) - before.skipped(reason);
            tally.drop_items(known(reason.as_str()), count);
        }
    }
}
