use std::net::IpAddr;
use std::time::Duration;

use amoskys_core::Timestamp;
use amoskys_core::event::{
    FlowDirection, FlowEnd, FlowKey, FlowPhase, FlowRecord, IcmpStats, MacAddr, TcpDirection,
};

use crate::netflow::element::REVERSE;
use crate::packet::tcp_flags::{ACK, FIN, RST, SYN};

/// How flows are written as IPFIX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpfixConfig {
    /// Observation domain: tells several exporters at one address apart. Default 1.
    pub domain: u32,
    /// The longest message, in bytes. Over UDP it should fit the path, or routers cut it up. Default 1400; at least
    /// 256, at most 65 535.
    pub max_message_bytes: u16,
    /// Templates are sent again after this long, and at the beginning: a collector that was started later, or lost
    /// one, cannot read records without. `None`: only at the beginning, right for files and TCP. Default 60 s.
    pub template_interval: Option<Duration>,
    /// One record for both directions (RFC 5103) instead of one for each. Collectors that do not know it read the
    /// forward direction alone. Default false.
    pub bidirectional: bool,
}

impl Default for IpfixConfig {
    fn default() -> Self {
        Self {
            domain: 1,
            max_message_bytes: 1400,
            template_interval: Some(Duration::from_secs(60)),
            bidirectional: false,
        }
    }
}

/// Writes flows as IPFIX messages (RFC 7011).
///
/// Pure: no socket, no clock. A message is handed over when it is full, and with [`flush`](Self::flush). The messages
/// one after another are an IPFIX file (RFC 5655), and what is sent over TCP; over UDP each is a datagram.
///
/// Each record has addresses, ports, protocol, packets, octets, first and last time in milliseconds, TCP flags,
/// interface, VLAN, hardware addresses, time to live, ICMP type and code, why the flow ended, and the number of the flow
/// in its source (`flowId`), which both directions of a flow share. Times are those of the flow, for both directions.
///
/// ```
/// use amoskys_collectors::netflow::{IpfixConfig, IpfixEncoder};
/// use amoskys_core::Timestamp;
/// use amoskys_core::event::FlowRecord;
///
/// let mut file = Vec::new();
/// let mut encoder = IpfixEncoder::new(IpfixConfig { template_interval: None, ..IpfixConfig::default() });
/// let mut write = |message: &[u8]| file.extend_from_slice(message);
/// encoder.push(&FlowRecord::default(), Timestamp::now(), &mut write);
/// encoder.flush(Timestamp::now(), &mut write);
/// assert_eq!(file[..2], [0, 10]);
/// ```
#[derive(Debug)]
pub struct IpfixEncoder {
    config: IpfixConfig,
    /// The message being filled; empty if there is none.
    message: Vec<u8>,
    /// The set being filled: its template, and where it begins in the message.
    set: Option<(u16, usize)>,
    /// Data records in the message being filled, and in all messages before.
    records: u32,
    sequence: u32,
    templates_sent: Option<Timestamp>,
}

const HEADER_BYTES: usize = 16;
const SET_HEADER_BYTES: usize = 4;
/// Numbers of the templates: plus 1 for IPv6, plus 2 for both directions.
const TEMPLATE: u16 = 256;
/// Elements and lengths, after the addresses and before the reverse direction.
const FIELDS: [(u16, u16); 19] = [
    (7, 2),
    (11, 2),
    (4, 1),
    (6, 1),
    (1, 8),
    (2, 8),
    (152, 8),
    (153, 8),
    (10, 4),
    (136, 1),
    (58, 2),
    (56, 6),
    (80, 6),
    (52, 1),
    (53, 1),
    (176, 1),
    (177, 1),
    (148, 8),
    (239, 1),
];
const REVERSE_FIELDS: [(u16, u16); 3] = [(1, 8), (2, 8), (6, 1)];

impl IpfixEncoder {
    /// An encoder that has sent nothing yet. Settings out of range are taken as the nearest that is in range.
    #[must_use]
    pub fn new(mut config: IpfixConfig) -> Self {
        config.max_message_bytes = config.max_message_bytes.max(256);
        Self {
            config,
            message: Vec::new(),
            set: None,
            records: 0,
            sequence: 0,
            templates_sent: None,
        }
    }

    /// Writes a flow, with all it has counted. A flow should be written once, when it has ended: collectors add up
    /// what they get.
    pub fn push(&mut self, flow: &FlowRecord, now: Timestamp, send: &mut impl FnMut(&[u8])) {
        self.refresh_templates(now, send);
        if self.config.bidirectional {
            self.record(flow, Way::Both, now, send);
            return;
        }
        self.record(flow, Way::Forward, now, send);
        if flow.backward.packets > 0 {
            self.record(flow, Way::Backward, now, send);
        }
    }

    /// Hands over the message that is not full yet, if there is one.
    pub fn flush(&mut self, now: Timestamp, send: &mut impl FnMut(&[u8])) {
        if self.message.is_empty() {
            return;
        }
        self.end_set();
        let length = self.message.len() as u16;
        let secs = u32::try_from(now.nanos().div_euclid(1_000_000_000)).unwrap_or(0);
        let header = [
            &10_u16.to_be_bytes()[..],
            &length.to_be_bytes(),
            &secs.to_be_bytes(),
            &self.sequence.to_be_bytes(),
            &self.config.domain.to_be_bytes(),
        ]
        .concat();
        self.message[..HEADER_BYTES].copy_from_slice(&header);
        send(&self.message);
        self.sequence = self.sequence.wrapping_add(std::mem::take(&mut self.records));
        self.message.clear();
    }

    fn refresh_templates(&mut self, now: Timestamp, send: &mut impl FnMut(&[u8])) {
        let due = match (self.templates_sent, self.config.template_interval) {
            (None, _) => true,
            (Some(sent), Some(interval)) => now.since(sent) >= interval || now < sent,
            (Some(_), None) => false,
        };
        if !due {
            return;
        }
        self.flush(now, send);
        self.templates_sent = Some(now);
        self.begin_message();
        let both = if self.config.bidirectional { 2 } else { 0 };
        let mut body = Vec::new();
        for version in [4, 6] {
            body.extend(template(
                TEMPLATE + both + u16::from(version == 6),
                version == 6,
                both > 0,
            ));
        }
        self.message.extend(2_u16.to_be_bytes());
        self.message
            .extend(((SET_HEADER_BYTES + body.len()) as u16).to_be_bytes());
        self.message.extend(body);
    }

    fn record(&mut self, flow: &FlowRecord, way: Way, now: Timestamp, send: &mut impl FnMut(&[u8])) {
        let is_v6 = flow.key.source.is_ipv6() || flow.key.destination.is_ipv6();
        let id = TEMPLATE + u16::from(is_v6) + if way == Way::Both { 2 } else { 0 };
        let length = record_length(is_v6, way == Way::Both);
        if self.message.len() + SET_HEADER_BYTES + length > usize::from(self.config.max_message_bytes) {
            self.flush(now, send);
        }
        if self.message.is_empty() {
            self.begin_message();
        }
        if self.set.is_none_or(|(current, _)| current != id) {
            self.end_set();
            self.set = Some((id, self.message.len()));
            self.message.extend(id.to_be_bytes());
            self.message.extend([0, 0]);
        }
        write_record(flow, way, is_v6, &mut self.message);
        self.records += 1;
    }

    fn begin_message(&mut self) {
        self.message.resize(HEADER_BYTES, 0);
    }

    /// Writes the length of the set being filled.
    fn end_set(&mut self) {
        if let Some((_, start)) = self.set.take() {
            let length = (self.message.len() - start) as u16;
            self.message[start + 2..start + 4].copy_from_slice(&length.to_be_bytes());
        }
    }
}

/// Which direction a record tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Forward,
    Backward,
    Both,
}

fn addresses(is_v6: bool) -> [(u16, u16); 2] {
    if is_v6 {
        [(27, 16), (28, 16)]
    } else {
        [(8, 4), (12, 4)]
    }
}

fn record_length(is_v6: bool, both: bool) -> usize {
    let reverse: &[_] = if both { &REVERSE_FIELDS } else { &[] };
    let fields = addresses(is_v6)
        .into_iter()
        .chain(FIELDS)
        .chain(reverse.iter().copied());
    fields.map(|(_, length)| usize::from(length)).sum()
}

/// A template record.
fn template(id: u16, is_v6: bool, both: bool) -> Vec<u8> {
    let reverse: &[_] = if both { &REVERSE_FIELDS } else { &[] };
    let count = 2 + FIELDS.len() + reverse.len();
    let mut record = [id.to_be_bytes(), (count as u16).to_be_bytes()].concat();
    for (id, length) in addresses(is_v6).into_iter().chain(FIELDS) {
        record.extend([id.to_be_bytes(), length.to_be_bytes()].concat());
    }
    for (id, length) in reverse {
        record.extend([(0x8000 | id).to_be_bytes(), length.to_be_bytes()].concat());
        record.extend(REVERSE.to_be_bytes());
    }
    record
}

/// Writes the fields in the order of the template.
fn write_record(flow: &FlowRecord, way: Way, is_v6: bool, out: &mut Vec<u8>) {
    let turned = way == Way::Backward;
    let key = if turned { flow.key.reversed() } else { flow.key };
    let (there, back) = sides(flow, turned);
    let (source_mac, destination_mac) = if turned {
        (flow.destination_mac, flow.source_mac)
    } else {
        (flow.source_mac, flow.destination_mac)
    };
    write_addresses(&key, is_v6, out);
    out.extend(key.source_port.to_be_bytes());
    out.extend(key.destination_port.to_be_bytes());
    out.push(key.protocol);
    out.push(flags(there.1));
    out.extend(there.0.bytes().to_be_bytes());
    out.extend(there.0.packets.to_be_bytes());
    out.extend(millis(flow.first).to_be_bytes());
    out.extend(millis(flow.last).to_be_bytes());
    out.extend(flow.interface.to_be_bytes());
    out.push(end_reason(flow.phase));
    out.extend(flow.vlan.unwrap_or(0).to_be_bytes());
    for mac in [source_mac, destination_mac] {
        out.extend(mac.unwrap_or(MacAddr([0; 6])).0);
    }
    out.extend([there.0.ttl_min, there.0.ttl_max]);
    let (kind, code) = icmp(flow.icmp.as_ref(), turned);
    out.extend([kind, code]);
    out.extend(flow.flow.to_be_bytes());
    // Who opened the conversation: the flow's source did, or its destination (RFC 5103).
    out.push(if turned { 2 } else { 1 });
    if way == Way::Both {
        out.extend(back.0.bytes().to_be_bytes());
        out.extend(back.0.packets.to_be_bytes());
        out.push(flags(back.1));
    }
}

type Side<'a> = (&'a FlowDirection, Option<&'a TcpDirection>);

/// The direction a record tells of, and the other.
fn sides(flow: &FlowRecord, turned: bool) -> (Side<'_>, Side<'_>) {
    let tcp = flow.tcp.as_ref();
    let forward = (&flow.forward, tcp.map(|tcp| &tcp.forward));
    let backward = (&flow.backward, tcp.map(|tcp| &tcp.backward));
    if turned {
        (backward, forward)
    } else {
        (forward, backward)
    }
}

fn write_addresses(key: &FlowKey, is_v6: bool, out: &mut Vec<u8>) {
    for address in [key.source, key.destination] {
        match address {
            IpAddr::V6(address) => out.extend(address.octets()),
            IpAddr::V4(address) if is_v6 => out.extend(address.to_ipv6_mapped().octets()),
            IpAddr::V4(address) => out.extend(address.octets()),
        }
    }
}

/// Flags that were seen at all.
fn flags(tcp: Option<&TcpDirection>) -> u8 {
    let Some(counts) = tcp.map(|tcp| tcp.flags) else {
        return 0;
    };
    let seen = |count: u64, flag: u8| if count > 0 { flag } else { 0 };
    seen(counts.fin, FIN)
        | seen(counts.syn, SYN)
        | seen(counts.rst, RST)
        | seen(counts.psh, 8)
        | seen(counts.ack, ACK)
        | seen(counts.urg, 32)
        | seen(counts.ece, 64)
        | seen(counts.cwr, 128)
}

/// Only the first message's type is known, and it went forward.
fn icmp(icmp: Option<&IcmpStats>, turned: bool) -> (u8, u8) {
    icmp.filter(|_| !turned)
        .map_or((0, 0), |icmp| (icmp.first_type, icmp.first_code))
}

fn millis(time: Timestamp) -> u64 {
    u64::try_from(time.nanos().div_euclid(1_000_000)).unwrap_or(0)
}

/// IANA's `flowEndReason`. A flow that goes on is one whose end has not come.
fn end_reason(phase: FlowPhase) -> u8 {
    match phase {
        FlowPhase::End(FlowEnd::Idle) => 1,
        FlowPhase::End(FlowEnd::Finished | FlowEnd::Reset | FlowEnd::Replaced) => 3,
        FlowPhase::End(FlowEnd::SourceEnd) => 4,
        FlowPhase::End(FlowEnd::Evicted) => 5,
        _ => 2,
    }
}
