//! A flow in the table.

use super::bulk::{BulkRun, BulkTotals};
use super::key::Key;
use super::moments::{Lengths, Periods};
use super::slab::NONE;
use super::tcp_track::{TcpSide, TcpTrack};
use crate::packet::{IpPacket, Link, Vlans};
use amoskys_core::event::{FlowEnd, MacAddr};

/// First payload bytes kept of each direction.
pub(super) const FIRST_BYTES: usize = 16;
/// A gap longer than this parts two bursts of packets.
pub(super) const SUBFLOW_GAP_NS: u64 = 1_000_000_000;
pub(super) const SEQUENCE: usize = super::config::MAX_SEQUENCE_LENGTH as usize;

/// Everything known of a flow. What every packet touches comes first and lies together.
#[repr(C)]
pub(super) struct Entry {
    pub(super) key: Key,
    /// Whether forward is from the key's high end to the low one.
    pub(super) descending: bool,
    /// Packets came since the last record.
    pub(super) dirty: bool,
    /// Its payloads are read as DNS messages.
    pub(super) dns: bool,
    /// A bit for each direction whose beginning has been read, or cannot be.
    pub(super) read: u8,
    /// A bit for each direction of whose payload enough was counted.
    pub(super) counted: u8,
    /// How many packets are in `samples`.
    pub(super) sampled: u8,
    /// Why the flow will end when its timer fires, if that is known.
    pub(super) ending: Option<FlowEnd>,
    /// Time of the first packet.
    pub(super) first: i64,
    /// Time of the latest packet.
    pub(super) last: i64,
    /// The meter's clock at the latest packet: not before `last`, and later if packets come in disorder.
    pub(super) touched: i64,
    /// The meter's clock at the last record.
    pub(super) reported: i64,
    /// Start of the current period of activity.
    pub(super) active_since: i64,
    pub(super) gaps: Periods,
    pub(super) bulk: BulkRun,
    /// Gaps longer than [`SUBFLOW_GAP_NS`].
    pub(super) breaks: u32,
    pub(super) sides: [Side; 2],
    pub(super) tcp: TcpTrack,
    /// What few flows need, elsewhere; [`NONE`] if not needed.
    pub(super) extra: u32,
    /// What was learned from payloads, and the tunnel it came in; how often byte values came; the beginning of a
    /// stream that is put together. Each is elsewhere; [`NONE`] if there is none.
    pub(super) learned: u32,
    pub(super) tunnel: u32,
    pub(super) histogram: u32,
    pub(super) gather: u32,
    pub(super) interface: u32,
    pub(super) number: u64,
    /// Bit n: sample n went backward.
    pub(super) sample_directions: u32,
    pub(super) sample_gaps: [u32; SEQUENCE],
    pub(super) sample_lengths: [u16; SEQUENCE],
    /// Hardware addresses of the flow's source and destination.
    pub(super) macs: [Option<MacAddr>; 2],
    pub(super) vlans: Vlans,
    /// The flow has ended, but the place is kept to know the direction of its connection.
    pub(super) dormant: bool,
}

/// One direction of a flow.
#[repr(C)]
pub(super) struct Side {
    pub(super) packets: u32,
    pub(super) data_packets: u32,
    pub(super) lengths: Lengths,
    pub(super) payload: Lengths,
    pub(super) frame_bytes: u64,
    pub(super) last: i64,
    pub(super) gaps: Periods,
    pub(super) tcp: TcpSide,
    pub(super) bulk: BulkTotals,
    pub(super) first: i64,
    pub(super) fragments: u32,
    pub(super) header_min: u16,
    pub(super) ttl_min: u8,
    pub(super) ttl_max: u8,
    pub(super) first_len: u8,
    pub(super) first_bytes: [u8; FIRST_BYTES],
}

// Memory is bounded by the number of flows, so a flow must not grow unnoticed.
const _: () = assert!(size_of::<Entry>() <= 848);

impl Side {
    const NEW: Self = Self {
        packets: 0,
        data_packets: 0,
        lengths: Lengths::NONE,
        payload: Lengths::NONE,
        frame_bytes: 0,
        last: 0,
        gaps: Periods::NONE,
        tcp: TcpSide::NEW,
        bulk: BulkTotals::NONE,
        first: 0,
        fragments: 0,
        header_min: u16::MAX,
        ttl_min: u8::MAX,
        ttl_max: 0,
        first_len: 0,
        first_bytes: [0; FIRST_BYTES],
    };

    #[inline]
    pub(super) fn count(&mut self, packet: &IpPacket<'_>, frame_bytes: u32, time: i64) {
        if self.packets == 0 {
            (self.first, self.last) = (time, time);
        } else {
            self.gaps.add(elapsed(self.last, time));
            self.last = self.last.max(time);
        }
        self.packets += 1;
        self.frame_bytes = self.frame_bytes.saturating_add(u64::from(frame_bytes));
        self.lengths.add(packet.length);
        self.payload.add(packet.payload_length);
        self.data_packets += u32::from(packet.payload_length > 0);
        self.fragments += u32::from(packet.fragment);
        self.header_min = self
            .header_min
            .min(u16::try_from(packet.header_length).unwrap_or(u16::MAX));
        self.ttl_min = self.ttl_min.min(packet.ttl);
        self.ttl_max = self.ttl_max.max(packet.ttl);
        if usize::from(self.first_len) < FIRST_BYTES && !packet.payload.is_empty() {
            self.keep_first(packet.payload);
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "at most FIRST_BYTES")]
    fn keep_first(&mut self, payload: &[u8]) {
        // Nearly always the first payload is long enough: a copy of known length.
        if let (0, Some(first)) = (self.first_len, payload.first_chunk()) {
            (self.first_bytes, self.first_len) = (*first, FIRST_BYTES as u8);
            return;
        }
        let free = &mut self.first_bytes[usize::from(self.first_len)..];
        let count = free.len().min(payload.len());
        free[..count].copy_from_slice(&payload[..count]);
        self.first_len += count as u8;
    }
}

impl Entry {
    /// A place without a flow.
    pub(super) const VACANT: Self = Self {
        key: Key::NONE,
        descending: false,
        dormant: false,
        dirty: false,
        dns: false,
        read: super::payloads::NOTHING_READ,
        counted: 0,
        sampled: 0,
        ending: None,
        first: 0,
        last: 0,
        touched: 0,
        reported: 0,
        active_since: 0,
        gaps: Periods::NONE,
        bulk: BulkRun::NONE,
        breaks: 0,
        sides: [Side::NEW, Side::NEW],
        tcp: TcpTrack::NEW,
        extra: NONE,
        learned: NONE,
        tunnel: NONE,
        histogram: NONE,
        gather: NONE,
        number: 0,
        interface: 0,
        sample_directions: 0,
        sample_gaps: [0; SEQUENCE],
        sample_lengths: [0; SEQUENCE],
        macs: [None; 2],
        vlans: Vlans::UNTAGGED,
    };

    /// Begins a flow here.
    pub(super) fn begin(&mut self, number: u64, key: Key, descending: bool, time: i64) {
        // As a whole from where it lies, not put together elsewhere first.
        *self = Self::VACANT;
        self.key = key;
        self.descending = descending;
        self.number = number;
        (self.first, self.last, self.active_since) = (time, time, time);
    }

    /// Ends the flow here.
    pub(super) fn clear(&mut self) {
        self.dormant = false;
        (self.sides[0].packets, self.sides[1].packets) = (0, 0);
    }

    /// Whether there is no flow here.
    pub(super) fn is_vacant(&self) -> bool {
        self.packets() == 0 && !self.dormant
    }

    /// Ends the flow, and keeps what is needed to go on with its connection later.
    pub(super) fn suspend(&mut self) {
        *self = Self {
            key: self.key,
            descending: self.descending,
            dormant: true,
            touched: self.touched,
            number: self.number,
            tcp: self.tcp.suspended(),
            ..Self::VACANT
        };
    }

    /// Begins a flow that goes on with the connection.
    pub(super) fn wake(&mut self, number: u64, time: i64) {
        self.dormant = false;
        self.number = number;
        (self.first, self.last, self.active_since) = (time, time, time);
    }

    /// Takes note of the link of the first packet, which goes `backward` or not.
    pub(super) fn set_link(&mut self, link: &Link<'_>, backward: bool) {
        self.macs = [link.source(), link.destination()];
        if backward {
            self.macs.reverse();
        }
        self.vlans = link.vlans;
    }

    /// Keeps a packet of the sequence.
    #[inline]
    pub(super) fn sample(&mut self, from: usize, length: u32, gap: u64) {
        let n = usize::from(self.sampled);
        if n < SEQUENCE {
            self.sample_lengths[n] = u16::try_from(length).unwrap_or(u16::MAX);
            self.sample_gaps[n] = u32::try_from(gap / 1000).unwrap_or(u32::MAX);
            self.sample_directions |= u32::from(from == 1) << n;
            self.sampled += 1;
        }
    }

    /// Packets in both directions.
    #[inline]
    pub(super) fn packets(&self) -> u32 {
        self.sides[0].packets.saturating_add(self.sides[1].packets)
    }
}

/// Nanoseconds from `earlier` to `later`; 0 if they are in disorder.
#[inline]
pub(super) fn elapsed(earlier: i64, later: i64) -> u64 {
    if later > earlier {
        later.wrapping_sub(earlier).cast_unsigned()
    } else {
        0
    }
}
