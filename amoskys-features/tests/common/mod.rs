//! Flow, DNS and ARP events as a sensor would send them.
#![allow(dead_code, reason = "each test uses a part")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use amoskys_core::event::{
    DnsQuestion, DnsRecord, Entity, FlowDirection, FlowEnd, FlowKey, FlowPhase, FlowRecord, Punctuation,
    Summary, TcpDirection, TcpFlagCounts, TcpState, TcpStats,
};
use amoskys_core::{
    Event, EventId, Extractor, FeatureVector, Name, Payload, Recorded, Seq, StreamId, Timestamp,
};

pub(crate) fn host(n: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, n))
}

pub(crate) fn ms(ms: i64) -> Timestamp {
    Timestamp::from_nanos(ms.saturating_mul(1_000_000))
}

/// A stream of events, numbered as they are made.
pub(crate) struct Sensor {
    stream: Arc<StreamId>,
    next: u64,
}

impl Sensor {
    pub(crate) fn new(agent: &str) -> Self {
        let stream = StreamId {
            agent: Name::from(agent),
            epoch: Default::default(),
            class: Default::default(),
        };
        Self {
            stream: Arc::new(stream),
            next: 0,
        }
    }

    pub(crate) fn event(&mut self, time: Timestamp, payload: Payload) -> Recorded {
        let seq = Seq(self.next);
        self.next += 1;
        let id = EventId {
            origin: 1,
            ordinal: seq.0,
        };
        let event = Event {
            id,
            time,
            source: Name::from("flow"),
            payload,
            ..Event::default()
        };
        Recorded {
            timeline: 0,
            stream: Arc::clone(&self.stream),
            seq,
            event,
        }
    }

    pub(crate) fn flow(&mut self, time_ms: i64, record: FlowRecord) -> Recorded {
        self.event(ms(time_ms), Payload::Flow(Box::new(record)))
    }

    pub(crate) fn query(&mut self, time_ms: i64, client: u8, name: &str, qtype: u16) -> Recorded {
        let record = DnsRecord {
            key: FlowKey {
                source: host(client),
                source_port: 4000,
                destination: host(53),
                destination_port: 53,
                protocol: 17,
            },
            questions: vec![DnsQuestion {
                name: name.to_owned(),
                qtype,
                qclass: 1,
            }],
            bytes: 12 + name.len() as u32 + 6,
            ..DnsRecord::default()
        };
        self.event(ms(time_ms), Payload::Dns(Box::new(record)))
    }

    pub(crate) fn clock(&mut self, time_ms: i64) -> Recorded {
        self.event(ms(time_ms), Payload::Punctuation(Punctuation::default()))
    }

    pub(crate) fn end(&mut self, time_ms: i64) -> Recorded {
        self.event(
            ms(time_ms),
            Payload::Punctuation(Punctuation {
                lateness_ns: 0,
                end: true,
            }),
        )
    }
}

/// A TCP flow record with so many packets of 100 bytes each way.
pub(crate) fn tcp(
    flow: u64,
    source: u8,
    destination: u8,
    port: u16,
    first_ms: i64,
    forward: u64,
    backward: u64,
) -> FlowRecord {
    let direction = |packets: u64| {
        let lengths = Summary {
            count: packets,
            sum: packets * 100,
            min: 100,
            max: 100,
            std_dev: 0.0,
        };
        let payload = Summary {
            count: packets,
            sum: packets * 60,
            min: 60,
            max: 60,
            std_dev: 0.0,
        };
        FlowDirection {
            packets,
            data_packets: packets,
            lengths,
            payload,
            ..FlowDirection::default()
        }
    };
    let state = if backward == 0 {
        TcpState::SynSent
    } else {
        TcpState::Established
    };
    let flags = TcpDirection {
        flags: TcpFlagCounts {
            syn: 1,
            ..TcpFlagCounts::default()
        },
        ..TcpDirection::default()
    };
    FlowRecord {
        flow,
        key: FlowKey {
            source: host(source),
            source_port: 40_000 + (flow % 20_000) as u16,
            destination: host(destination),
            destination_port: port,
            protocol: 6,
        },
        first: ms(first_ms),
        last: ms(first_ms),
        forward: direction(forward),
        backward: direction(backward),
        tcp: Some(TcpStats {
            state,
            forward: flags,
            ..TcpStats::default()
        }),
        ..FlowRecord::default()
    }
}

pub(crate) fn ended(mut record: FlowRecord, end: FlowEnd, state: TcpState, last_ms: i64) -> FlowRecord {
    record.phase = FlowPhase::End(end);
    record.last = ms(last_ms);
    if let Some(tcp) = &mut record.tcp {
        tcp.state = state;
    }
    record
}

pub(crate) fn run(extractor: &mut impl Extractor, events: &[Recorded]) -> Vec<FeatureVector> {
    let mut features = Vec::new();
    events
        .iter()
        .for_each(|event| extractor.observe(event, &mut features));
    features
}

/// The value of a feature in the window of this entity that ends at this time.
pub(crate) fn value(
    features: &[FeatureVector],
    schema: &str,
    entity: &Entity,
    end_ms: i64,
    name: &str,
) -> f64 {
    let found = features.iter().find(|vector| {
        vector.schema.name().as_str() == schema && vector.entity == *entity && vector.end == ms(end_ms)
    });
    let vector = found.unwrap_or_else(|| panic!("no {schema} window of {entity} ending at {end_ms}"));
    vector.value(name).unwrap_or_else(|| panic!("no feature {name}"))
}

/// Vectors as text that is equal only if every bit is.
pub(crate) fn bits(features: &[FeatureVector]) -> Vec<String> {
    let line = |v: &FeatureVector| {
        let values: Vec<u64> = v.values.iter().map(|value| value.to_bits()).collect();
        format!(
            "{} {} {} {} {:?} {:?}",
            v.schema.name(),
            v.entity,
            v.start,
            v.end,
            v.events,
            values
        )
    };
    features.iter().map(line).collect()
}
