use amoskys_core::{DropReason, Tally};

use crate::flow::batcher::Counts;

/// What a decoder has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetflowStats {
    /// Datagrams given to it.
    pub datagrams: u64,
    /// Flow records handed over.
    pub flows: u64,
    /// Records that describe the exporter, handed over.
    pub options: u64,
    /// Records that are neither: of traffic they say nothing.
    pub other_records: u64,
    /// Templates learnt or confirmed.
    pub templates: u64,
    /// Templates refused because of a limit, or because their records would have no length.
    pub refused_templates: u64,
    /// Templates not sent again in time, and forgotten.
    pub expired_templates: u64,
    /// Withdrawals of templates. Over UDP they are ignored, as RFC 7011 asks.
    pub withdrawals: u64,
    /// Sets that came before their template, and waited for it.
    pub waited_sets: u64,
    /// Sets given up, because their template did not come before the room for waiting was full or the end was there.
    pub sets_without_template: u64,
    /// Datagrams of a version that is not known here.
    pub unknown_version: u64,
    /// Datagrams or sets that contradict themselves. What came before in the same datagram is good.
    pub malformed: u64,
    /// Datagrams of exporters that are not listened to.
    pub not_allowed: u64,
    /// Datagrams of exporters that there was no room for.
    pub no_room: u64,
    /// What sequence numbers say never arrived: flows of v5, datagrams of v9, records of IPFIX.
    pub missing: u64,
    /// Datagrams that were overtaken, or came twice. What they hold was counted as missing, and is used.
    pub late: u64,
    /// Times that an exporter began anew.
    pub restarts: u64,
}

impl Counts for NetflowStats {
    fn add_difference(tally: &mut Tally, before: &Self, after: &Self) {
        tally.used += (after.flows - before.flows) + (after.options - before.options);
        for (reason, before, after) in [
            (DropReason::MALFORMED, before.malformed, after.malformed),
            (DropReason::MISSING, before.missing, after.missing),
            (
                DropReason::known("no_template"),
                before.sets_without_template,
                after.sets_without_template,
            ),
            (
                DropReason::known("not_a_flow"),
                before.other_records,
                after.other_records,
            ),
            (
                DropReason::known("unknown_version"),
                before.unknown_version,
                after.unknown_version,
            ),
            (
                DropReason::known("not_allowed"),
                before.not_allowed,
                after.not_allowed,
            ),
            (DropReason::known("no_room"), before.no_room, after.no_room),
        ] {
            tally.drop_items(reason, after - before);
        }
    }
}
