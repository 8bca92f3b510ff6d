use amoskys_core::Timestamp;
use amoskys_core::event::{ArpRecord, DnsRecord, FlowEnd, FlowKey, FlowRecord};
use serde::{Deserialize, Serialize};

/// What an event adds to what is known: flow records with cumulative counters, taken apart so that nothing is
/// counted twice.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Fact<'a> {
    /// A flow was opened. Told once for each flow.
    Opened {
        /// The flow as its first record showed it.
        record: &'a FlowRecord,
        /// What is new about it.
        novelty: Novelty,
    },
    /// Packets of a flow since its record before.
    Traffic {
        /// The flow's key.
        key: &'a FlowKey,
        /// The packets.
        traffic: &'a Traffic,
    },
    /// What came of an attempt to reach a host. Told once for each flow to one host; never for multicast.
    Attempt {
        /// The flow's key.
        key: &'a FlowKey,
        /// What came of it.
        outcome: AttemptOutcome,
    },
    /// A flow has ended, with everything that is known about it.
    Closed {
        /// Its last record.
        record: &'a FlowRecord,
        /// Why it ended.
        end: FlowEnd,
    },
    /// A DNS message.
    Dns {
        /// The message.
        record: &'a DnsRecord,
        /// Its first question names a domain that this client had not asked about before.
        new_domain: bool,
    },
    /// An ARP message.
    Arp(&'a ArpRecord),
}

/// When something is counted, and which event it rests on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub(crate) time: Timestamp,
    pub(crate) seq: amoskys_core::Seq,
}

/// What had not been seen before, within the memory of the extractor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Novelty {
    /// The source had not opened a flow to this destination.
    pub destination: bool,
    /// The source had not used this protocol and destination port with any host.
    pub service: bool,
    /// The destination's service had not been used by this source.
    pub client: bool,
}

/// What came of an attempt to reach a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AttemptOutcome {
    /// The host answered; for TCP, the connection was established, or was going on already.
    Answered,
    /// A TCP SYN was answered by a reset.
    Refused,
    /// A TCP SYN was answered, and the answer never confirmed.
    HalfOpen,
    /// Nothing came back in time.
    Unanswered,
}

/// Packets of a flow between two of its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// From the flow's source to its destination.
    pub forward: Half,
    /// From the flow's destination to its source.
    pub backward: Half,
    /// ICMP echo replies that did not return the data they were sent, or that nobody asked for.
    pub odd_replies: u64,
    /// ICMP destination-unreachable messages.
    pub unreachable: u64,
}

/// One direction of [`Traffic`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Half {
    /// Packets.
    pub packets: u64,
    /// Packets with payload.
    pub data_packets: u64,
    /// Bytes by the IP headers' total length.
    pub bytes: u64,
    /// Bytes of payload after the transport header.
    pub payload_bytes: u64,
    /// TCP packets with SYN.
    pub syn: u64,
    /// TCP packets with RST.
    pub rst: u64,
    /// TCP data packets sent again.
    pub retransmitted: u64,
}

impl Traffic {
    /// The counters of a record, from the flow's beginning.
    #[must_use]
    pub fn of(record: &FlowRecord) -> Self {
        let half = |direction: &amoskys_core::event::FlowDirection| Half {
            packets: direction.packets,
            data_packets: direction.data_packets,
            bytes: direction.bytes(),
            payload_bytes: direction.payload.sum,
            ..Half::default()
        };
        let (mut forward, mut backward) = (half(&record.forward), half(&record.backward));
        if let Some(tcp) = &record.tcp {
            for (half, tcp) in [(&mut forward, &tcp.forward), (&mut backward, &tcp.backward)] {
                half.syn = tcp.flags.syn;
                half.rst = tcp.flags.rst;
                half.retransmitted = tcp.retransmitted;
            }
        }
        let icmp = record.icmp.as_ref();
        Self {
            forward,
            backward,
            odd_replies: icmp.map_or(0, |i| i.altered_replies.saturating_add(i.unsolicited_replies)),
            unreachable: icmp.map_or(0, |i| i.unreachable),
        }
    }

    /// What was added since an earlier record of the same flow. A counter that went back adds nothing.
    #[must_use]
    pub const fn since(&self, earlier: &Self) -> Self {
        Self {
            forward: self.forward.since(&earlier.forward),
            backward: self.backward.since(&earlier.backward),
            odd_replies: self.odd_replies.saturating_sub(earlier.odd_replies),
            unreachable: self.unreachable.saturating_sub(earlier.unreachable),
        }
    }

    /// The larger of each counter.
    #[must_use]
    pub(crate) fn or_later(&self, other: &Self) -> Self {
        Self {
            forward: self.forward.or_later(&other.forward),
            backward: self.backward.or_later(&other.backward),
            odd_replies: self.odd_replies.max(other.odd_replies),
            unreachable: self.unreachable.max(other.unreachable),
        }
    }
}

impl Half {
    const fn since(&self, earlier: &Self) -> Self {
        Self {
            packets: self.packets.saturating_sub(earlier.packets),
            data_packets: self.data_packets.saturating_sub(earlier.data_packets),
            bytes: self.bytes.saturating_sub(earlier.bytes),
            payload_bytes: self.payload_bytes.saturating_sub(earlier.payload_bytes),
            syn: self.syn.saturating_sub(earlier.syn),
            rst: self.rst.saturating_sub(earlier.rst),
            retransmitted: self.retransmitted.saturating_sub(earlier.retransmitted),
        }
    }

    fn or_later(&self, other: &Self) -> Self {
        Self {
            packets: self.packets.max(other.packets),
            data_packets: self.data_packets.max(other.data_packets),
            bytes: self.bytes.max(other.bytes),
            payload_bytes: self.payload_bytes.max(other.payload_bytes),
            syn: self.syn.max(other.syn),
            rst: self.rst.max(other.rst),
            retransmitted: self.retransmitted.max(other.retransmitted),
        }
    }
}
