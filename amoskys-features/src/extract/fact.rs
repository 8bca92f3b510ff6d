use amoskys_core::event::{
    ArpRecord, DnsRecord, FlowEnd, FlowKey, FlowRecord, Metric, ProcessEvent, SyscallEvent,
};
use amoskys_core::{Name, Timestamp};
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
    /// A process started, ended or changed.
    Process {
        /// The device it runs on.
        device: &'a Name,
        /// What happened.
        record: &'a ProcessEvent,
        /// Where it comes from.
        ancestry: &'a Ancestry,
    },
    /// System calls of a process.
    Syscalls {
        /// The device it runs on.
        device: &'a Name,
        /// The calls.
        record: &'a SyscallEvent,
        /// How usual they are.
        calls: &'a Calls,
    },
    /// A measured number.
    Metric {
        /// The series it belongs to: device, name and labels.
        series: &'a Name,
        /// The number.
        metric: &'a Metric,
        /// How it compares with those before.
        sample: &'a Sample,
    },
}

/// Where a process comes from, within the memory of the extractor.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts that do not depend on each other"
)]
pub struct Ancestry {
    /// The parent was seen.
    pub is_parent_known: bool,
    /// The parent is a command line.
    pub is_parent_shell: bool,
    /// Steps to the oldest ancestor that was seen.
    pub depth: u32,
    /// Children of the parent so far, this one included; 0 unless it was just created.
    pub siblings: u64,
    /// The device had not started this program before.
    pub is_new_executable: bool,
    /// The program it was started from had not started it before.
    pub is_new_pair: bool,
    /// Its user was another, and is 0 now.
    pub became_root: bool,
    /// How long it lived, in seconds, if it has ended and its start is known.
    pub lifetime: Option<f64>,
}

/// How usual system calls are for their program, within the memory of the extractor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calls {
    /// For each call that follows another of its thread: -log2 of its probability after that one, by what the program
    /// did before.
    pub surprises: Vec<f64>,
    /// Calls that end a sequence of three that the program had not made before.
    pub new_trigrams: u64,
}

/// How a measured number compares with those before it in its series.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// When it was measured.
    pub time: Timestamp,
    /// The value of a gauge; the increase a second of a counter, if there was a sample before.
    pub level: Option<f64>,
    /// The level before.
    pub before: Option<f64>,
    /// Seconds since the sample before.
    pub gap: Option<f64>,
    /// A counter began again.
    pub is_reset: bool,
    /// Distance of the level from the damped mean before it, in damped deviations, at λ = 0.01 a second. `None` if there
    /// was too little before it, or it never changed.
    pub fast: Option<f64>,
    /// The same at λ = 0.001 a second.
    pub slow: Option<f64>,
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
