//! The records of the meter's ring, as bytes: `bpf/flow_records.h` in Rust. Bytes that are no record are an error, not a
//! panic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use amoskys_core::Timestamp;
use amoskys_core::event::{
    BulkStats, FlowDirection, FlowEnd, FlowKey, FlowPhase, FlowRecord, MacAddr, PacketSample, Summary,
    TcpDirection, TcpFlagCounts, TcpState, TcpStats,
};

use super::packet::{HandedPacket, Purpose, read_packet};
use crate::capture::{LinkType, Packet};
use crate::clock::BootClock;
use crate::ebpf::record::{BadRecord, Reader};
use crate::flow::FlowConfig;
use crate::flow::excerpts::{Excerpt, Excerpts};
use crate::packet::TcpHeader;

/// Size of `struct flow_report`.
pub(super) const REPORT_BYTES: usize = 992;

const SAMPLES: usize = 20;
const OPTION_BYTES: usize = 40;
const FIRST_BYTES: usize = 16;
const NO_VLAN: u16 = 0xffff;
const TCP: u8 = 6;

/// A flow as it was at some time.
#[derive(Debug)]
pub(super) struct Report {
    /// When it was written, nanoseconds since boot.
    pub(super) time: u64,
    pub(super) record: FlowRecord,
}

/// Reads a record of the ring.
pub(super) fn read(bytes: &[u8], clock: BootClock) -> Result<Report, BadRecord> {
    if bytes.len() != REPORT_BYTES {
        return Err(BadRecord);
    }
    let mut reader = Reader(bytes);
    let (phase, end) = (reader.u32()?, reader.u32()?);
    let phase = match (phase, end) {
        (0, 0) => FlowPhase::Start,
        (1, 0) => FlowPhase::Update,
        (2, end) => FlowPhase::End(flow_end(end)?),
        _ => return Err(BadRecord),
    };
    let time = reader.u64()?;
    let ends = [reader.array()?, reader.array()?];
    let ports = [reader.array()?, reader.array()?].map(u16::from_be_bytes);
    let [protocol, version] = reader.array()?;
    reader.u16()?;
    let [low, high] = match version {
        4 => ends.map(|[a, b, c, d, ..]: [u8; 16]| IpAddr::V4(Ipv4Addr::new(a, b, c, d))),
        6 => ends.map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes))),
        _ => return Err(BadRecord),
    };
    let key = FlowKey {
        source: low,
        source_port: ports[0],
        destination: high,
        destination_port: ports[1],
        protocol,
    };
    let mut record = read_flow(&mut reader, key, clock)?;
    record.phase = phase;
    Ok(Report { time, record })
}

/// For the fuzzer: whether bytes are a record of the meter, and if so, that the record is sound. Of a packet, what it says
/// is read.
pub(in crate::ebpf) fn check_report(bytes: &[u8]) -> bool {
    match read_packet(bytes) {
        Ok(None) => {}
        Ok(Some(packet)) => {
            check_excerpt(&packet);
            return true;
        }
        Err(BadRecord) => return false,
    }
    let Ok(report) = read(bytes, BootClock::default()) else {
        return false;
    };
    let record = report.record;
    assert!(record.sequence.len() <= SAMPLES);
    for direction in [&record.forward, &record.backward] {
        assert!(direction.first_bytes.len() <= FIRST_BYTES);
        assert!(direction.lengths.std_dev.is_finite() && direction.gaps.std_dev.is_finite());
    }
    true
}

fn check_excerpt(handed: &HandedPacket<'_>) {
    let mut excerpts = Excerpts::new(&FlowConfig::default());
    let Purpose::Read { flow, from, syn_seq } = handed.purpose else {
        return;
    };
    let packet = Packet {
        link: LinkType::ETHERNET,
        wire_len: handed.frame_bytes,
        data: handed.bytes,
        ..Packet::default()
    };
    excerpts.look(&Excerpt {
        flow,
        from,
        syn_seq,
        packet,
    });
    let mut record = FlowRecord {
        flow,
        ..FlowRecord::default()
    };
    excerpts.join(&mut record, true);
}

fn flow_end(number: u32) -> Result<FlowEnd, BadRecord> {
    Ok(match number {
        1 => FlowEnd::Idle,
        2 => FlowEnd::Active,
        3 => FlowEnd::Finished,
        4 => FlowEnd::Reset,
        5 => FlowEnd::Evicted,
        6 => FlowEnd::SourceEnd,
        7 => FlowEnd::Replaced,
        _ => return Err(BadRecord),
    })
}

fn tcp_state(number: u8) -> Result<TcpState, BadRecord> {
    Ok(match number {
        0 => TcpState::Midstream,
        1 => TcpState::SynSent,
        2 => TcpState::SynReceived,
        3 => TcpState::Established,
        4 => TcpState::Closing,
        5 => TcpState::Closed,
        6 => TcpState::Reset,
        7 => TcpState::Refused,
        _ => return Err(BadRecord),
    })
}

/// `struct flow`. `key` goes from the low end to the high one.
fn read_flow(reader: &mut Reader<'_>, key: FlowKey, clock: BootClock) -> Result<FlowRecord, BadRecord> {
    let number = reader.u64()?;
    let descending = reader.u32()? != 0;
    let _ending = reader.u32()?;
    let (first, last) = (reader.u64()?, reader.u64()?);
    let (_reported, _end_at) = (reader.u64()?, reader.u64()?);
    let active_since = reader.u64()?;
    let (gaps, mut active, idle) = (
        Periods::read(reader)?,
        Periods::read(reader)?,
        Periods::read(reader)?,
    );
    let [syn, syn_ack, ack] = [reader.u64()?, reader.u64()?, reader.u64()?];
    // The row of data packets that goes on is counted in the sides.
    reader.take(3 * 8 + 2 * 4)?;
    let (pauses, breaks) = (reader.u32()?, reader.u32()?);
    let _syn_seq = reader.u32()?;
    let interface = reader.u32()?;
    let [state, _opener, _finished, _dirty] = reader.array()?;
    let [vlan, inner_vlan] = [reader.u16()?, reader.u16()?].map(|id| (id != NO_VLAN).then_some(id));
    let [_collected, _read, _shown @ ..] = reader.array::<4>()?;
    let sampled = reader.u32()? as usize;
    let directions = reader.u32()?;
    let sequence = read_sequence(reader, sampled, directions)?;
    let macs = [MacAddr(reader.array()?), MacAddr(reader.array()?)];
    let has_macs = reader.u32()? != 0;
    let _shown_bytes = reader.u32()?;
    let (forward, backward) = (Side::read(reader)?, Side::read(reader)?);
    let packets = u64::from(forward.packets) + u64::from(backward.packets);
    active.add(last.saturating_sub(active_since));
    let time = |nanos: u64| (nanos != 0).then(|| clock.time(nanos));
    let tcp = TcpStats {
        state: tcp_state(state)?,
        syn: time(syn),
        syn_ack: time(syn_ack),
        ack: time(ack),
        forward: forward.tcp(),
        backward: backward.tcp(),
    };
    Ok(FlowRecord {
        flow: number,
        key: if descending { key.reversed() } else { key },
        first: clock.time(first),
        last: clock.time(last),
        interface,
        vlan,
        inner_vlan,
        source_mac: has_macs.then_some(macs[0]),
        destination_mac: has_macs.then_some(macs[1]),
        forward: forward.public(clock),
        backward: backward.public(clock),
        gaps: gaps.summary(packets.saturating_sub(1)),
        active: active.summary(u64::from(pauses) + 1),
        idle: idle.summary(pauses.into()),
        tcp: (key.protocol == TCP).then_some(tcp),
        sequence,
        subflows: u64::from(breaks) + 1,
        sampling_rate: 1,
        ..FlowRecord::default()
    })
}

fn read_sequence(
    reader: &mut Reader<'_>,
    sampled: usize,
    directions: u32,
) -> Result<Vec<PacketSample>, BadRecord> {
    let gaps: [u8; 4 * SAMPLES] = reader.array()?;
    let lengths: [u8; 2 * SAMPLES] = reader.array()?;
    let (gaps, _) = gaps.as_chunks();
    let (lengths, _) = lengths.as_chunks();
    if sampled > SAMPLES {
        return Err(BadRecord);
    }
    let samples = gaps.iter().zip(lengths).take(sampled).enumerate();
    Ok(samples
        .map(|(n, (gap, length))| PacketSample {
            backward: directions >> n & 1 != 0,
            length: u16::from_ne_bytes(*length),
            gap_us: u32::from_ne_bytes(*gap),
        })
        .collect())
}

/// `struct lengths`.
struct Lengths {
    sum: u64,
    squares: u64,
    min: u32,
    max: u32,
}

impl Lengths {
    fn read(reader: &mut Reader<'_>) -> Result<Self, BadRecord> {
        Ok(Self {
            sum: reader.u64()?,
            squares: reader.u64()?,
            min: reader.u32()?,
            max: reader.u32()?,
        })
    }

    fn summary(&self, count: u32) -> Summary {
        let (min, max) = (self.min.into(), self.max.into());
        summary(count.into(), self.sum, min, max, self.squares.into())
    }
}

/// `struct periods`.
struct Periods {
    sum: u64,
    min: u64,
    max: u64,
    squares: u128,
    any: bool,
}

impl Periods {
    fn read(reader: &mut Reader<'_>) -> Result<Self, BadRecord> {
        let (sum, min, max) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let (low, high) = (reader.u64()?, reader.u64()?);
        let squares = u128::from(high) << 64 | u128::from(low);
        Ok(Self {
            sum,
            min,
            max,
            squares,
            any: sum != 0 || max != 0,
        })
    }

    fn add(&mut self, period: u64) {
        self.sum = self.sum.saturating_add(period);
        self.min = if self.any { self.min.min(period) } else { period };
        self.max = self.max.max(period);
        let square = u128::from(period) * u128::from(period);
        self.squares = self.squares.saturating_add(square);
        self.any = true;
    }

    fn summary(&self, count: u64) -> Summary {
        summary(count, self.sum, self.min, self.max, self.squares)
    }
}

/// The distribution behind sums.
#[expect(
    clippy::cast_precision_loss,
    reason = "a deviation needs no more than 53 bits"
)]
fn summary(count: u64, sum: u64, min: u64, max: u64, squares: u128) -> Summary {
    if count == 0 {
        return Summary::default();
    }
    let total = u128::from(sum) * u128::from(sum);
    let (mean_square, rest) = (total / u128::from(count), total % u128::from(count));
    // The difference of two large terms that are nearly equal, in whole numbers.
    let deviations = squares.saturating_sub(mean_square) as f64 - rest as f64 / count as f64;
    let std_dev = if count < 2 {
        0.0
    } else {
        (deviations.max(0.0) / (count - 1) as f64).sqrt()
    };
    Summary {
        count,
        sum,
        min,
        max,
        std_dev,
    }
}

/// `struct flow_side`.
struct Side {
    first: u64,
    last: u64,
    frame_bytes: u64,
    lengths: Lengths,
    payload: Lengths,
    gaps: Periods,
    bulk: BulkStats,
    packets: u32,
    data_packets: u32,
    fragments: u32,
    retransmitted: u32,
    out_of_order: u32,
    zero_windows: u32,
    flags: [u32; 8],
    window: u16,
    header_min: u16,
    ttl_min: u8,
    ttl_max: u8,
    first_bytes: Vec<u8>,
    mss: u16,
    window_scale: u8,
    seen: bool,
}

impl Side {
    fn read(reader: &mut Reader<'_>) -> Result<Self, BadRecord> {
        let (first, last, frame_bytes) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let (lengths, payload) = (Lengths::read(reader)?, Lengths::read(reader)?);
        let gaps = Periods::read(reader)?;
        let (bytes, duration_ns) = (reader.u64()?, reader.u64()?);
        let bulk = BulkStats {
            bytes,
            duration_ns,
            packets: reader.u32()?.into(),
            count: reader.u32()?.into(),
        };
        let (packets, data_packets, fragments) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let (retransmitted, out_of_order, zero_windows) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let _next_seq = reader.u32()?;
        let mut flags = [0; 8];
        for count in &mut flags {
            *count = reader.u32()?;
        }
        let (window, header_min) = (reader.u16()?, reader.u16()?);
        let [ttl_min, ttl_max, first_length, options_length] = reader.array()?;
        let first_bytes: [u8; FIRST_BYTES] = reader.array()?;
        let first_bytes = first_bytes.get(..first_length.into()).ok_or(BadRecord)?.to_vec();
        let options: [u8; OPTION_BYTES] = reader.array()?;
        let options = options.get(..options_length.into()).ok_or(BadRecord)?;
        let (mss, window_scale) = TcpHeader::announced(options);
        Ok(Self {
            first,
            last,
            frame_bytes,
            lengths,
            payload,
            gaps,
            bulk,
            packets,
            data_packets,
            fragments,
            retransmitted,
            out_of_order,
            zero_windows,
            flags,
            window,
            header_min,
            ttl_min,
            ttl_max,
            first_bytes,
            mss,
            window_scale,
            seen: reader.u32()? != 0,
        })
    }

    fn public(&self, clock: BootClock) -> FlowDirection {
        let any = self.packets > 0;
        let time = |nanos: u64| -> Option<Timestamp> { any.then(|| clock.time(nanos)) };
        FlowDirection {
            packets: self.packets.into(),
            data_packets: self.data_packets.into(),
            fragments: self.fragments.into(),
            frame_bytes: self.frame_bytes,
            header_bytes: self.lengths.sum.saturating_sub(self.payload.sum),
            lengths: self.lengths.summary(self.packets),
            payload: self.payload.summary(self.packets),
            gaps: self.gaps.summary(u64::from(self.packets).saturating_sub(1)),
            ttl_min: self.ttl_min,
            ttl_max: self.ttl_max,
            first_bytes: self.first_bytes.clone(),
            first: time(self.first),
            last: time(self.last),
            header_min: self.header_min.into(),
            bulk: self.bulk,
            entropy: None,
        }
    }

    fn tcp(&self) -> TcpDirection {
        let [fin, syn, rst, psh, ack, urg, ece, cwr] = self.flags.map(u64::from);
        TcpDirection {
            flags: TcpFlagCounts {
                fin,
                syn,
                rst,
                psh,
                ack,
                urg,
                ece,
                cwr,
            },
            initial_window: self.seen.then_some(self.window),
            mss: (self.mss != 0).then_some(self.mss),
            window_scale: (self.window_scale != TcpHeader::NO_SCALE).then_some(self.window_scale),
            retransmitted: self.retransmitted.into(),
            out_of_order: self.out_of_order.into(),
            zero_windows: self.zero_windows.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the bytes, reading them ends.
        #[test]
        fn any_bytes_are_a_report_or_an_error(mut bytes in prop::collection::vec(any::<u8>(), REPORT_BYTES), good in any::<bool>()) {
            if good {
                // Phase, version, state and lengths that mean something; the rest is anything.
                bytes[..8].copy_from_slice(&[2, 0, 0, 0, 1, 0, 0, 0]);
                bytes[16 + 37] = 4;
                bytes[56 + 248] = 3;
                bytes[56 + 260..56 + 264].copy_from_slice(&7u32.to_ne_bytes());
                for side in [56 + 408, 56 + 408 + 264] {
                    bytes[side + 202] = 9;
                    bytes[side + 203] = 12;
                }
            }
            prop_assert_eq!(check_report(&bytes), good || check_report(&bytes));
            bytes.pop();
            prop_assert!(!check_report(&bytes));
        }
    }

    #[test]
    fn a_report_is_read_field_by_field() {
        let mut bytes = vec![0u8; REPORT_BYTES];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &2u32.to_ne_bytes());
        put(4, &4u32.to_ne_bytes());
        put(8, &99u64.to_ne_bytes());
        put(16, &[10, 0, 0, 1]);
        put(32, &[10, 0, 0, 2]);
        put(48, &80u16.to_be_bytes());
        put(50, &40_000u16.to_be_bytes());
        put(52, &[6, 4]);
        let flow = 56;
        put(flow, &7u64.to_ne_bytes());
        put(flow + 8, &1u32.to_ne_bytes());
        put(flow + 16, &1000u64.to_ne_bytes());
        put(flow + 24, &5000u64.to_ne_bytes());
        put(flow + 48, &1000u64.to_ne_bytes());
        put(flow + 244, &3u32.to_ne_bytes());
        put(flow + 248, &[6, 0, 0, 0]);
        put(flow + 252, &5u16.to_ne_bytes());
        put(flow + 254, &NO_VLAN.to_ne_bytes());
        let side = flow + 408;
        put(side, &1000u64.to_ne_bytes());
        put(side + 24, &60u64.to_ne_bytes());
        put(side + 24 + 16, &60u32.to_ne_bytes());
        put(side + 24 + 20, &60u32.to_ne_bytes());
        put(side + 136, &1u32.to_ne_bytes());
        put(side + 164 + 4, &1u32.to_ne_bytes());
        put(side + 200, &[64, 64, 2, 4]);
        put(side + 204, b"ab");
        put(side + 220, &[2, 4, 5, 180]);
        put(side + 260, &1u32.to_ne_bytes());
        let report = read(&bytes, BootClock::default()).expect("a report");
        let record = report.record;
        assert_eq!((report.time, record.flow), (99, 7));
        assert_eq!(record.phase, FlowPhase::End(FlowEnd::Reset));
        assert_eq!(record.key.to_string(), "10.0.0.2:40000 > 10.0.0.1:80/6");
        assert_eq!((record.first.nanos(), record.last.nanos()), (1000, 5000));
        assert_eq!(
            (record.interface, record.vlan, record.inner_vlan),
            (3, Some(5), None)
        );
        let forward = &record.forward;
        assert_eq!((forward.packets, forward.bytes(), forward.ttl_min), (1, 60, 64));
        assert_eq!(forward.first_bytes, b"ab");
        let tcp = record.tcp.expect("it is TCP");
        assert_eq!((tcp.state, tcp.forward.mss), (TcpState::Reset, Some(1460)));
        assert_eq!((tcp.forward.flags.syn, tcp.forward.flags.fin), (1, 0));
        assert_eq!((record.active.count, record.active.sum), (1, 4000));
        assert_eq!(record.backward.packets, 0);
        assert_eq!(record.backward.first, None);
    }
}
