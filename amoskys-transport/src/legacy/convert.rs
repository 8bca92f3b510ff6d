//! What an envelope becomes: an event of this system.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use amoskys_core::event::{
    FlowDirection, FlowEnd, FlowKey, FlowPhase, FlowRecord, Summary, TcpDirection, TcpStats, Value,
};
use amoskys_core::{Class, Event, EventId, Name, Payload, Timestamp};
use prost::Message as _;
use ring::digest::{Context, SHA256};

use super::envelope::{Received, collect_unknown};
use super::message::FlowEvent;
use super::reason::{LegacyReason, Refusal};

/// Name of the source, in events and batches.
pub(crate) const SOURCE: &str = "legacy";
/// What the names of attributes begin with.
const PREFIX: &str = "legacy.";
/// Whether the signature of the envelope before is one that was seen.
pub(crate) const CHAIN: &str = "legacy.chain";

/// The event's id: the same each time the envelope comes, and not that of any other.
pub(crate) fn event_id(agent: &Name, idempotency_key: &str) -> EventId {
    let mut hash = Context::new(&SHA256);
    hash.update(b"amoskys legacy event\n");
    hash.update(&(agent.as_str().len() as u64).to_le_bytes());
    hash.update(agent.as_str().as_bytes());
    hash.update(idempotency_key.as_bytes());
    let digest = hash.finish();
    let half = |at: usize| {
        let mut half = [0; 8];
        half.copy_from_slice(&digest.as_ref()[at..at + 8]);
        u64::from_le_bytes(half)
    };
    EventId {
        origin: half(0),
        ordinal: half(8),
    }
}

/// The event. `time` is that of the envelope.
pub(crate) fn event(
    agent: &Name,
    received: &Received,
    time: Timestamp,
    signed: bool,
) -> Result<Event, Refusal> {
    let message = &received.message;
    let mut attributes = Attributes::default();
    let (flow, unknown) = match &message.flow {
        Some(flow) => {
            let unknown = received.unknown_in_flow();
            (flow.clone(), unknown)
        }
        None if message.payload.is_empty() => {
            return Err(Refusal::new(
                LegacyReason::Empty,
                "the envelope has neither a flow nor a payload",
            ));
        }
        None => {
            let flow = FlowEvent::decode(&message.payload[..]).map_err(|error| {
                let text = format!("the payload is no FlowEvent: {error}");
                Refusal::new(LegacyReason::Malformed, text)
            })?;
            let mut unknown = Vec::new();
            collect_unknown(&message.payload, &mut unknown);
            (flow, unknown)
        }
    };
    let id = event_id(agent, &message.idempotency_key);
    let record = record(&flow, id, time, &mut attributes);
    attributes.text("idempotency_key", &message.idempotency_key);
    attributes.put("signed", Value::Bool(signed));
    attributes.text("version", &message.version);
    if message.schema_version != 0 {
        attributes.put("schema_version", Value::Uint(message.schema_version.into()));
    }
    if !message.prev_sig.is_empty() {
        attributes.put("prev_sig", Value::Bytes(message.prev_sig.clone()));
    }
    if !unknown.is_empty() {
        attributes.put("unknown", Value::Bytes(unknown));
    }
    // All of it: what the signature was made over, and whatever has no place above.
    attributes.put("envelope", Value::Bytes(received.bytes.to_vec()));
    Ok(Event {
        id,
        time,
        device: agent.clone(),
        source: SOURCE.into(),
        class: Class::Telemetry,
        payload: Payload::Flow(Box::new(record)),
        attributes: attributes.0,
        ..Event::default()
    })
}

/// Attributes, by name without prefix.
#[derive(Default)]
struct Attributes(BTreeMap<String, Value>);

impl Attributes {
    fn put(&mut self, name: &str, value: Value) {
        self.0.insert(format!("{PREFIX}{name}"), value);
    }

    /// Text that is not empty.
    fn text(&mut self, name: &str, text: &str) {
        if !text.is_empty() {
            self.put(name, Value::Text(text.to_owned()));
        }
    }
}

/// The flow. What it says otherwise than it came, or not at all, becomes an attribute.
fn record(flow: &FlowEvent, id: EventId, time: Timestamp, attributes: &mut Attributes) -> FlowRecord {
    let mut address = |name, text: &str| match text.trim().parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) => {
            attributes.text(name, text);
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        }
    };
    let (source, destination) = (address("src_ip", &flow.src_ip), address("dst_ip", &flow.dst_ip));
    let mut port = |name, port: u32| {
        u16::try_from(port).unwrap_or_else(|_| {
            attributes.put(name, Value::Uint(port.into()));
            0
        })
    };
    let (source_port, destination_port) = (port("src_port", flow.src_port), port("dst_port", flow.dst_port));
    let mut either = |names: [&'static str; 2], [late, early]: [u64; 2]| {
        if late != 0 && early != 0 && late != early {
            attributes.put(names[1], Value::Uint(early));
        }
        if late != 0 { late } else { early }
    };
    let sent = either(["bytes_tx", "bytes_sent"], [flow.bytes_tx, flow.bytes_sent]);
    let received = either(["bytes_rx", "bytes_recv"], [flow.bytes_rx, flow.bytes_recv]);

    let mut number = None;
    for (name, text) in [("proto", &flow.proto), ("protocol", &flow.protocol)] {
        let found = protocol_number(text);
        number = number.or(found);
        // What the number does not say: an unknown name, or another protocol than the other field has.
        if found.is_none() || found != number {
            attributes.text(name, text);
        }
    }
    let protocol = number.unwrap_or(0);
    let (first, last) = times(flow, time, attributes);
    let is_tcp = protocol == 6;
    if flow.flags != 0 {
        attributes.put("flags", Value::Uint(flow.flags.into()));
    }
    FlowRecord {
        // With the id's first half as the source, each envelope is a flow of its own.
        flow: id.ordinal,
        phase: FlowPhase::End(if is_tcp {
            tcp_end(flow.flags)
        } else {
            FlowEnd::Idle
        }),
        key: FlowKey {
            source,
            source_port,
            destination,
            destination_port,
            protocol,
        },
        first,
        last,
        forward: direction(sent),
        backward: direction(received),
        tcp: is_tcp.then(|| tcp_stats(flow.flags)),
        ..FlowRecord::default()
    }
}

/// The predecessor counts no packets: bytes are taken for those of one, so that a direction with bytes is not one in
/// which nothing was sent.
fn direction(bytes: u64) -> FlowDirection {
    if bytes == 0 {
        return FlowDirection::default();
    }
    FlowDirection {
        packets: 1,
        data_packets: 1,
        lengths: Summary {
            count: 1,
            sum: bytes,
            min: bytes,
            max: bytes,
            std_dev: 0.0,
        },
        ..FlowDirection::default()
    }
}

const FIN: u32 = 0x01;
const SYN: u32 = 0x02;
const RST: u32 = 0x04;
const ACK: u32 = 0x10;

/// How a TCP flow ended, by all its flags together.
fn tcp_end(flags: u32) -> FlowEnd {
    match flags {
        flags if flags & RST != 0 => FlowEnd::Reset,
        flags if flags & FIN != 0 => FlowEnd::Finished,
        _ => FlowEnd::Idle,
    }
}

/// The flags are those of all packets together: each was seen at least once, and in which direction is not known.
fn tcp_stats(flags: u32) -> TcpStats {
    use amoskys_core::event::{TcpFlagCounts, TcpState};
    let seen = |bit: u32| u64::from(flags & bit != 0);
    let state = match flags {
        flags if flags & RST != 0 => TcpState::Reset,
        flags if flags & (FIN | ACK) == FIN | ACK => TcpState::Closing,
        flags if flags & (SYN | ACK) == SYN | ACK => TcpState::Established,
        flags if flags & SYN != 0 => TcpState::SynSent,
        _ => TcpState::Midstream,
    };
    TcpStats {
        state,
        forward: TcpDirection {
            flags: TcpFlagCounts {
                fin: seen(FIN),
                syn: seen(SYN),
                rst: seen(RST),
                psh: seen(0x08),
                ack: seen(ACK),
                urg: seen(0x20),
                ece: seen(0x40),
                cwr: seen(0x80),
            },
            ..TcpDirection::default()
        },
        ..TcpStats::default()
    }
}

/// First and last moment of a flow.
fn times(flow: &FlowEvent, time: Timestamp, attributes: &mut Attributes) -> (Timestamp, Timestamp) {
    let duration = i64::from(flow.duration_ms) * 1_000_000;
    let (start, end) = (nanos(flow.start_time), nanos(flow.end_time));
    for (name, value, read) in [
        ("start_time", flow.start_time, start),
        ("end_time", flow.end_time, end),
    ] {
        // Also where the unit was guessed.
        if value != 0 && read.and_then(|nanos| u64::try_from(nanos).ok()) != Some(value) {
            attributes.put(name, Value::Uint(value));
        }
    }
    let (first, last) = match (start, end) {
        (Some(start), Some(end)) => (start, end),
        (Some(start), None) => (start, start.saturating_add(duration)),
        (None, Some(end)) => (end.saturating_sub(duration), end),
        (None, None) => (time.nanos().saturating_sub(duration), time.nanos()),
    };
    if last < first {
        // Clocks of two machines, or nonsense: what came stays to be seen.
        attributes.put("end_before_start_ns", Value::Int(last));
    }
    let last = last.max(first);
    if flow.duration_ms != 0 && last.saturating_sub(first) / 1_000_000 != i64::from(flow.duration_ms) {
        attributes.put("duration_ms", Value::Uint(flow.duration_ms.into()));
    }
    (Timestamp::from_nanos(first), Timestamp::from_nanos(last))
}

/// Nanoseconds since 1970. In which unit a time came is told by its size: each is good from 1973 to 5138, and none can be
/// taken for another. `None` for 0, and for what is beyond the range of times.
fn nanos(value: u64) -> Option<i64> {
    let factor = match value {
        0 => return None,
        1..100_000_000_000 => 1_000_000_000,
        100_000_000_000..100_000_000_000_000 => 1_000_000,
        100_000_000_000_000..100_000_000_000_000_000 => 1_000,
        _ => 1,
    };
    i64::try_from(value).ok()?.checked_mul(factor)
}

/// The number of a protocol, by name or number.
fn protocol_number(text: &str) -> Option<u8> {
    let text = text.trim();
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    const NAMES: [(&str, u8); 13] = [
        ("TCP", 6),
        ("UDP", 17),
        ("ICMP", 1),
        ("ICMP6", 58),
        ("ICMPV6", 58),
        ("IPV6-ICMP", 58),
        ("IGMP", 2),
        ("GRE", 47),
        ("ESP", 50),
        ("AH", 51),
        ("OSPF", 89),
        ("SCTP", 132),
        ("UDPLITE", 136),
    ];
    let known = NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    known.map(|(_, number)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp::from_nanos(1_700_000_000_123_456_789);

    fn converted(flow: FlowEvent) -> (FlowRecord, BTreeMap<String, Value>) {
        let mut attributes = Attributes::default();
        let record = record(&flow, EventId::default(), AT, &mut attributes);
        (record, attributes.0)
    }

    #[test]
    fn both_generations_say_the_same() {
        let common = FlowEvent {
            src_ip: "10.0.0.1".into(),
            dst_ip: "fe80::1".into(),
            src_port: 40_000,
            dst_port: 443,
            start_time: 1_700_000_000,
            end_time: 1_700_000_002,
            ..FlowEvent::default()
        };
        let early = FlowEvent {
            protocol: "TCP".into(),
            bytes_sent: 5,
            bytes_recv: 7,
            ..common.clone()
        };
        let late = FlowEvent {
            proto: "tcp".into(),
            bytes_tx: 5,
            bytes_rx: 7,
            duration_ms: 2000,
            ..common
        };
        let (early, late) = (converted(early), converted(late));
        assert_eq!(early.0, late.0);
        assert_eq!(early.0.key.to_string(), "10.0.0.1:40000 > [fe80::1]:443/6");
        assert_eq!((early.0.forward.bytes(), early.0.backward.bytes()), (5, 7));
        assert_eq!(early.0.duration(), std::time::Duration::from_secs(2));
        // Seconds became nanoseconds, and what came is kept.
        assert_eq!(late.1.len(), 2, "{:?}", late.1);
    }

    #[test]
    fn what_does_not_fit_is_kept_as_it_came() {
        let (record, attributes) = converted(FlowEvent {
            src_ip: "printer.example".into(),
            dst_port: 70_000,
            protocol: "QUIC".into(),
            bytes_sent: 1,
            bytes_tx: 2,
            flags: 0x1_0012,
            start_time: u64::MAX,
            duration_ms: 5,
            ..FlowEvent::default()
        });
        assert_eq!(record.key, FlowKey::default());
        assert_eq!(record.forward.bytes(), 2);
        assert_eq!(record.last, AT);
        let names: Vec<_> = attributes.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "legacy.bytes_sent",
                "legacy.dst_port",
                "legacy.flags",
                "legacy.protocol",
                "legacy.src_ip",
                "legacy.start_time"
            ]
        );
        assert_eq!(attributes["legacy.start_time"], Value::Uint(u64::MAX));
    }

    #[test]
    fn the_unit_of_a_time_is_told_by_its_size() {
        let second = 1_700_000_000_u64;
        for factor in [1, 1_000, 1_000_000, 1_000_000_000] {
            assert_eq!(nanos(second * factor), Some(1_700_000_000_000_000_000));
        }
        assert_eq!((nanos(0), nanos(u64::MAX)), (None, None));
    }

    #[test]
    fn an_end_before_the_beginning_is_no_negative_duration() {
        let (record, attributes) = converted(FlowEvent {
            start_time: 1_700_000_005,
            end_time: 1_700_000_000,
            ..FlowEvent::default()
        });
        assert_eq!(record.first, record.last);
        assert_eq!(
            attributes["legacy.end_before_start_ns"],
            Value::Int(1_700_000_000_000_000_000)
        );
    }

    #[test]
    fn ids_differ_by_agent_and_key() {
        let id = |agent: &str, key: &str| event_id(&agent.into(), key);
        assert_eq!(id("a", "bc"), id("a", "bc"));
        assert_ne!(id("a", "bc"), id("ab", "c"));
    }
}
