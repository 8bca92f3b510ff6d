//! A flow from the fields of a record.

use std::net::IpAddr;

use amoskys_core::Timestamp;
use amoskys_core::event::{
    FlowDirection, FlowEnd, FlowKey, FlowPhase, FlowRecord, IcmpStats, MacAddr, Summary, TcpDirection,
    TcpFlagCounts, TcpState, TcpStats,
};

use super::element::{REVERSE, address, unsigned};
use super::record::{Export, Field};
use crate::packet::tcp_flags::{ACK, FIN, RST, SYN};

const PSH: u8 = 8;
const URG: u8 = 32;
const ECE: u8 = 64;
const CWR: u8 = 128;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const ICMPV6: u8 = 58;
/// Times since boot that lie further ahead of their export than this are not believed.
const AHEAD_NS: i64 = 60 * 1_000_000_000;
/// Seconds from 1900, where NTP begins, to 1970.
const NTP_TO_UNIX: i64 = 2_208_988_800;

/// Gathers fields, in any order.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    source: Addresses,
    destination: Addresses,
    ports: [Option<u16>; 2],
    protocol: u8,
    interface: u32,
    vlan: Option<u16>,
    inner_vlan: Option<u16>,
    macs: [Option<MacAddr>; 2],
    directions: [Counts; 2],
    times: Times,
    end_reason: Option<u8>,
    icmp: Option<(u8, u8)>,
}

/// Some records have fields for both kinds of addresses, and leave one of them zero.
#[derive(Debug, Default)]
struct Addresses {
    v4: Option<IpAddr>,
    v6: Option<IpAddr>,
}

impl Addresses {
    fn chosen(&self) -> Option<IpAddr> {
        let real = |address: Option<IpAddr>| address.filter(|address| !address.is_unspecified());
        real(self.v4).or(real(self.v6)).or(self.v4).or(self.v6)
    }
}

/// Counts of one direction, by how they were counted. A record should have one kind; the first is the best.
#[derive(Debug, Default)]
struct Counts {
    delta: (Option<u64>, Option<u64>),
    /// Of a connection's initiator or responder.
    side: (Option<u64>, Option<u64>),
    total: (Option<u64>, Option<u64>),
    /// After the exporter changed the packets.
    post: (Option<u64>, Option<u64>),
    frame_octets: Option<u64>,
    shortest: Option<u64>,
    longest: Option<u64>,
    ttl: Option<(u8, u8)>,
    flags: Option<u8>,
}

impl Counts {
    fn packets(&self) -> u64 {
        let Self {
            delta,
            side,
            total,
            post,
            ..
        } = self;
        delta.0.or(side.0).or(total.0).or(post.0).unwrap_or(0)
    }

    fn octets(&self) -> u64 {
        let Self {
            delta,
            side,
            total,
            post,
            ..
        } = self;
        delta.1.or(side.1).or(total.1).or(post.1).unwrap_or(0)
    }
}

/// When the flow was, in the ways exporters say it.
#[derive(Debug, Default)]
struct Times {
    /// Nanoseconds since 1970; the first and the last packet.
    absolute: [Option<i64>; 2],
    /// Milliseconds since the exporter booted.
    uptime: [Option<u32>; 2],
    /// Nanoseconds before the datagram was sent.
    before: [Option<i64>; 2],
    /// When it was seen, where that is all that is said.
    observed: Option<i64>,
    duration: Option<i64>,
    booted: Option<i64>,
}

impl Assembler {
    /// Takes a field; whether it has a place in the flow.
    #[inline]
    pub(super) fn take(&mut self, field: &Field<'_>) -> bool {
        let bytes = field.bytes;
        match field.enterprise {
            0 => self.take_forward(field.id, bytes) || self.directions[0].take(field.id, bytes),
            REVERSE => self.directions[1].take(field.id, bytes),
            _ => false,
        }
    }

    fn take_forward(&mut self, id: u16, bytes: &[u8]) -> bool {
        match id {
            4 => self.protocol = unsigned(bytes) as u8,
            7 => self.ports[0] = Some(unsigned(bytes) as u16),
            11 => self.ports[1] = Some(unsigned(bytes) as u16),
            180 | 182 => _ = self.ports[0].get_or_insert(unsigned(bytes) as u16),
            181 | 183 => _ = self.ports[1].get_or_insert(unsigned(bytes) as u16),
            8 => self.source.v4 = address(bytes),
            12 => self.destination.v4 = address(bytes),
            27 => self.source.v6 = address(bytes),
            28 => self.destination.v6 = address(bytes),
            10 => self.interface = unsigned(bytes) as u32,
            58 | 243 => self.vlan = vlan(bytes),
            245 => self.inner_vlan = vlan(bytes),
            56 => self.macs[0] = mac(bytes),
            80 => self.macs[1] = mac(bytes),
            136 => self.end_reason = Some(unsigned(bytes) as u8),
            32 | 139 => self.take_icmp(unsigned(bytes) as u16),
            176 | 178 => self.icmp.get_or_insert_default().0 = unsigned(bytes) as u8,
            177 | 179 => self.icmp.get_or_insert_default().1 = unsigned(bytes) as u8,
            231 => self.directions[0].side.1 = Some(unsigned(bytes)),
            232 => self.directions[1].side.1 = Some(unsigned(bytes)),
            298 => self.directions[0].side.0 = Some(unsigned(bytes)),
            299 => self.directions[1].side.0 = Some(unsigned(bytes)),
            _ => return self.times.take(id, bytes),
        }
        true
    }

    fn take_icmp(&mut self, type_and_code: u16) {
        let [kind, code] = type_and_code.to_be_bytes();
        self.icmp.get_or_insert((kind, code));
    }

    /// Packets and bytes of both directions.
    pub(super) fn counts(&self) -> [(u64, u64); 2] {
        [0, 1].map(|at| {
            let counts: &Counts = &self.directions[at];
            (counts.packets(), counts.octets())
        })
    }

    pub(super) fn finish(mut self, export: &Export) -> FlowRecord {
        let none = IpAddr::from([0, 0, 0, 0]);
        let mut key = FlowKey {
            source: self.source.chosen().unwrap_or(none),
            destination: self.destination.chosen().unwrap_or(none),
            source_port: self.ports[0].unwrap_or(0),
            destination_port: self.ports[1].unwrap_or(0),
            protocol: self.protocol,
        };
        let is_icmp = matches!(self.protocol, ICMP | ICMPV6);
        if is_icmp {
            // Where there is no field for it, exporters put type and code where the destination port would be.
            if self.icmp.is_none() {
                self.take_icmp(key.destination_port);
            }
            (key.source_port, key.destination_port) = (0, 0);
        }
        let (first, last) = self.times.resolve(export);
        let flags = [0, 1].map(|at| self.directions[at].flags.unwrap_or(0));
        FlowRecord {
            phase: FlowPhase::End(self.end(flags[0] | flags[1])),
            key,
            first,
            last,
            interface: self.interface,
            vlan: self.vlan,
            inner_vlan: self.inner_vlan,
            source_mac: self.macs[0],
            destination_mac: self.macs[1],
            forward: self.directions[0].direction(),
            backward: self.directions[1].direction(),
            tcp: (self.protocol == TCP).then(|| tcp(flags)),
            icmp: self
                .icmp
                .filter(|_| is_icmp)
                .map(|(first_type, first_code)| IcmpStats {
                    first_type,
                    first_code,
                    ..IcmpStats::default()
                }),
            ..FlowRecord::default()
        }
    }

    fn end(&self, flags: u8) -> FlowEnd {
        let closed = || {
            if self.protocol != TCP {
                None
            } else if flags & RST != 0 {
                Some(FlowEnd::Reset)
            } else {
                (flags & FIN != 0).then_some(FlowEnd::Finished)
            }
        };
        match self.end_reason {
            Some(1) => FlowEnd::Idle,
            Some(2) => FlowEnd::Active,
            Some(3) => closed().unwrap_or(FlowEnd::Finished),
            Some(4) => FlowEnd::SourceEnd,
            Some(5) => FlowEnd::Evicted,
            _ => closed().unwrap_or(FlowEnd::Idle),
        }
    }
}

impl Counts {
    #[inline]
    fn take(&mut self, id: u16, bytes: &[u8]) -> bool {
        let number = unsigned(bytes);
        match id {
            1 => self.delta.1 = Some(number),
            2 => self.delta.0 = Some(number),
            85 => self.total.1 = Some(number),
            86 => self.total.0 = Some(number),
            23 => self.post.1 = Some(number),
            24 => self.post.0 = Some(number),
            352 => self.frame_octets = Some(number),
            353 => _ = self.frame_octets.get_or_insert(number),
            25 => self.shortest = Some(number),
            26 => self.longest = Some(number),
            6 => self.flags = Some(number as u8),
            52 => self.ttl = Some((number as u8, self.ttl.map_or(number as u8, |ttl| ttl.1))),
            53 => self.ttl = Some((self.ttl.map_or(number as u8, |ttl| ttl.0), number as u8)),
            192 => _ = self.ttl.get_or_insert((number as u8, number as u8)),
            _ => return false,
        }
        // Kept beside, because a record may have them and what is better too.
        !matches!(id, 23 | 24 | 85 | 86)
    }

    fn direction(&self) -> FlowDirection {
        let (packets, octets) = (self.packets(), self.octets());
        let (ttl_min, ttl_max) = self.ttl.unwrap_or((0, 0));
        FlowDirection {
            packets,
            frame_bytes: self.frame_octets.unwrap_or(0),
            lengths: lengths(packets, octets, self.shortest, self.longest),
            ttl_min: ttl_min.min(ttl_max),
            ttl_max,
            ..FlowDirection::default()
        }
    }
}

/// The distribution of packet lengths as far as it is known: where the extremes are not, the mean takes their place.
fn lengths(packets: u64, octets: u64, shortest: Option<u64>, longest: Option<u64>) -> Summary {
    if packets == 0 && octets == 0 {
        return Summary::default();
    }
    let count = packets.max(1);
    let mean = octets / count;
    let min = shortest.filter(|shortest| (1..=mean).contains(shortest));
    let max = longest.filter(|longest| *longest >= octets.div_ceil(count));
    Summary {
        count,
        sum: octets,
        min: min.unwrap_or(mean),
        max: max.unwrap_or(octets.div_ceil(count)),
        std_dev: 0.0,
    }
}

/// Exporters say which flags were seen, not how often: each counts once.
fn tcp(flags: [u8; 2]) -> TcpStats {
    let direction = |flags: u8| {
        let seen = |flag: u8| u64::from(flags & flag != 0);
        TcpDirection {
            flags: TcpFlagCounts {
                fin: seen(FIN),
                syn: seen(SYN),
                rst: seen(RST),
                psh: seen(PSH),
                ack: seen(ACK),
                urg: seen(URG),
                ece: seen(ECE),
                cwr: seen(CWR),
            },
            ..TcpDirection::default()
        }
    };
    TcpStats {
        state: state(flags),
        forward: direction(flags[0]),
        backward: direction(flags[1]),
        ..TcpStats::default()
    }
}

/// How far the connection came, as far as the flags of all packets together tell.
pub(crate) fn state(flags: [u8; 2]) -> TcpState {
    let has = |flags: u8, wanted: u8| flags & wanted != 0;
    let both = flags[0] | flags[1];
    if has(both, RST) {
        let answered = has(flags[1], SYN) || has(flags[0], ACK);
        if has(flags[0], SYN) && !answered {
            TcpState::Refused
        } else {
            TcpState::Reset
        }
    } else if has(flags[0], FIN) && has(flags[1], FIN) {
        TcpState::Closed
    } else if has(both, FIN) {
        TcpState::Closing
    } else if !has(both, SYN) {
        TcpState::Midstream
    } else if has(flags[0], ACK) {
        TcpState::Established
    } else if has(flags[1], SYN) {
        TcpState::SynReceived
    } else {
        TcpState::SynSent
    }
}

impl Times {
    fn take(&mut self, id: u16, bytes: &[u8]) -> bool {
        let number = unsigned(bytes);
        match id {
            22 => self.uptime[0] = Some(number as u32),
            21 => self.uptime[1] = Some(number as u32),
            150 => self.set(0, nanos(number, 1_000_000_000)),
            151 => self.set(1, nanos(number, 1_000_000_000)),
            152 => self.set(0, nanos(number, 1_000_000)),
            153 => self.set(1, nanos(number, 1_000_000)),
            154 | 156 => self.set(0, ntp(number)),
            155 | 157 => self.set(1, ntp(number)),
            158 => self.before[0] = nanos(number, 1_000),
            159 => self.before[1] = nanos(number, 1_000),
            160 => self.booted = nanos(number, 1_000_000),
            161 => self.duration = nanos(number, 1_000_000),
            162 => self.duration = nanos(number, 1_000),
            322 => self.observed = nanos(number, 1_000_000_000),
            323 => self.observed = nanos(number, 1_000_000),
            324 | 325 => self.observed = ntp(number),
            _ => return false,
        }
        true
    }

    /// Zero is how exporters leave a time out.
    fn set(&mut self, at: usize, time: Option<i64>) {
        self.absolute[at] = time.or(self.absolute[at]);
    }

    fn is_since_boot(&self) -> bool {
        self.absolute == [None; 2] && self.before == [None; 2]
    }

    /// The times of the first and the last packet. What is not said is taken from the other, and at last from the
    /// time of export.
    fn resolve(&self, export: &Export) -> (Timestamp, Timestamp) {
        let exported = export.exported.nanos();
        let booted = self.booted.or(export.booted.map(Timestamp::nanos));
        let said = |at: usize| {
            let since_boot = || {
                let ms = self.uptime[at]?;
                if let Some(uptime) = export.uptime_ms {
                    // Both wrap, so their difference is right as long as the flow is younger than 24.8 days.
                    let before = uptime.wrapping_sub(ms).cast_signed();
                    return Some(exported.saturating_sub(i64::from(before) * 1_000_000));
                }
                booted.map(|booted| booted.saturating_add(i64::from(ms) * 1_000_000))
            };
            let before = || self.before[at].map(|before| exported.saturating_sub(before));
            self.absolute[at].or_else(before).or_else(since_boot)
        };
        let duration = self.duration.or_else(|| match self.uptime {
            [Some(first), Some(last)] => {
                Some(i64::from(last.wrapping_sub(first).cast_signed().max(0)) * 1_000_000)
            }
            _ => None,
        });
        let (first, last) = match (said(0), said(1)) {
            // No flow ends after it was exported. Some exporters state another uptime than they time flows by.
            (Some(first), Some(last)) if self.is_since_boot() && last > exported.saturating_add(AHEAD_NS) => {
                (exported.saturating_sub(last.saturating_sub(first)), exported)
            }
            (Some(first), Some(last)) => (first, last),
            (Some(first), None) => {
                let by_duration = duration.map(|duration| first.saturating_add(duration));
                (first, by_duration.or(self.observed).unwrap_or(first))
            }
            (None, last) => {
                let last = last.or(self.observed).unwrap_or(exported);
                (last.saturating_sub(duration.unwrap_or(0)), last)
            }
        };
        (Timestamp::from_nanos(first), Timestamp::from_nanos(last))
    }
}

/// `None` for zero.
fn nanos(number: u64, unit: i64) -> Option<i64> {
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    (number > 0).then(|| number.saturating_mul(unit))
}

/// A 64-bit NTP time: seconds since 1900, and a fraction. From 2036 the seconds begin again at zero.
fn ntp(number: u64) -> Option<i64> {
    if number == 0 {
        return None;
    }
    let (secs, fraction) = ((number >> 32) as i64, number & 0xffff_ffff);
    let era = if secs < NTP_TO_UNIX { 1 << 32 } else { 0 };
    let nanos = (fraction * 1_000_000_000) >> 32;
    Some((secs + era - NTP_TO_UNIX) * 1_000_000_000 + nanos as i64)
}

/// 0 is no VLAN.
fn vlan(bytes: &[u8]) -> Option<u16> {
    Some(unsigned(bytes) as u16 & 0x0fff).filter(|id| *id != 0)
}

/// All zeros is no address.
fn mac(bytes: &[u8]) -> Option<MacAddr> {
    let octets = <[u8; 6]>::try_from(bytes).ok()?;
    (octets != [0; 6]).then_some(MacAddr(octets))
}
