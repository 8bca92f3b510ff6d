use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::batch::Recorded;
use crate::event::{
    Class, Event, FlowEnd, FlowKey, FlowPhase, FlowRecord, LogLevel, LogRecord, Metric, Payload, Punctuation,
    Value,
};
use crate::id::{Epoch, EventId, Seq, StreamId};
use crate::time::Timestamp;

/// `count` events of several kinds and classes, the same for the same `seed`: flows between a few hosts, log
/// lines, metrics, and punctuation.
#[must_use]
pub fn sample_events(seed: u64, count: usize) -> Vec<Event> {
    let mut random = SplitMix(seed);
    let mut time = 1_700_000_000_000_000_000_i64;
    (0..count as u64)
        .map(|ordinal| {
            time += (random.next() % 200_000_000) as i64;
            let payload = match random.next() % 8 {
                0 => log(&mut random),
                1 => metric(&mut random),
                2 => Payload::Punctuation(Punctuation::default()),
                _ => flow(&mut random, ordinal, time),
            };
            let mut event = Event {
                id: EventId {
                    origin: seed,
                    ordinal,
                },
                time: Timestamp::from_nanos(time),
                device: "sensor-1".into(),
                source: "sample".into(),
                class: if random.next().is_multiple_of(16) {
                    Class::Alert
                } else {
                    Class::Telemetry
                },
                payload,
                ..Event::default()
            };
            if random.next().is_multiple_of(4) {
                event
                    .attributes
                    .insert("site".to_owned(), Value::Text("north".to_owned()));
            }
            event
        })
        .collect()
}

/// Events with places in a telemetry stream, as an analyzer gets them.
#[must_use]
pub fn recorded(events: Vec<Event>) -> Vec<Recorded> {
    let stream = Arc::new(StreamId {
        agent: "sensor-1".into(),
        epoch: Epoch {
            counter: 0,
            random: 7,
        },
        class: Class::Telemetry,
    });
    let place = |(at, mut event): (usize, Event)| {
        event.class = Class::Telemetry;
        Recorded {
            timeline: 0,
            stream: stream.clone(),
            seq: Seq(at as u64),
            event,
        }
    };
    events.into_iter().enumerate().map(place).collect()
}

fn flow(random: &mut SplitMix, flow: u64, time: i64) -> Payload {
    let host = |n: u64| IpAddr::V4(Ipv4Addr::new(10, 0, 0, (n % 20) as u8 + 1));
    let mut record = FlowRecord {
        flow,
        phase: FlowPhase::End(FlowEnd::default()),
        key: FlowKey {
            source: host(random.next()),
            source_port: (random.next() % 20_000) as u16 + 40_000,
            destination: host(random.next()),
            destination_port: [22, 53, 80, 443, 8080][(random.next() % 5) as usize],
            protocol: if random.next().is_multiple_of(3) { 17 } else { 6 },
        },
        first: Timestamp::from_nanos(time - (random.next() % 1_000_000_000) as i64),
        last: Timestamp::from_nanos(time),
        ..FlowRecord::default()
    };
    record.forward.packets = random.next() % 50 + 1;
    record.backward.packets = random.next() % 50;
    Payload::Flow(Box::new(record))
}

fn log(random: &mut SplitMix) -> Payload {
    let message = if random.next().is_multiple_of(2) {
        "session opened"
    } else {
        "Änderung übernommen"
    };
    Payload::Log(Box::new(LogRecord {
        level: LogLevel::Notice,
        facility: "auth".to_owned(),
        program: "sshd".to_owned(),
        pid: (random.next() % 30_000) as u32,
        message: message.to_owned(),
    }))
}

fn metric(random: &mut SplitMix) -> Payload {
    Payload::Metric(Box::new(Metric {
        name: "load".to_owned(),
        value: (random.next() % 1000) as f64 / 100.0,
        labels: vec![("core".to_owned(), "0".to_owned())],
        ..Metric::default()
    }))
}

/// SplitMix64 (Steele, Lea and Flood 2014): small, seeded, the same everywhere.
pub(super) struct SplitMix(pub(super) u64);

impl SplitMix {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
