//! What is exported as IPFIX, our own decoder reads back as it was.
#![cfg(feature = "netflow")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use amoskys_collectors::flow::{FlowCollector, FlowConfig};
use amoskys_collectors::netflow::{
    ExportLoss, ExportRecord, IpfixConfig, IpfixEncoder, IpfixSink, NetflowConfig, NetflowDecoder,
    NetflowHandler,
};
use amoskys_core::event::{FlowEnd, FlowPhase, FlowRecord, Payload, TcpDirection};
use amoskys_core::{Collector, Event, Recorded, Seq, Sink, StreamId, Timestamp};
use common::*;

#[derive(Default)]
struct Read {
    flows: Vec<FlowRecord>,
    losses: u64,
}

impl NetflowHandler for Read {
    fn flow(&mut self, record: &ExportRecord<'_>) {
        self.flows.push(record.flow(None));
    }

    fn loss(&mut self, loss: &ExportLoss) {
        self.losses += u64::from(loss.count);
    }
}

/// Flows of every kind, ended.
async fn flows() -> Vec<FlowRecord> {
    let mut frames = traffic(20, 30);
    frames.extend([
        tcp(1, true, SYN, 0, b""),
        tcp(2, false, SYN | ACK, 0, b""),
        tcp(3, true, ACK | PSH, 1, b"hello"),
        tcp(4, false, FIN | ACK, 1, b""),
    ]);
    for frame in &mut frames {
        frame.nanos += 1_700_000_000 * SECOND;
    }
    frames.sort_by_key(|frame| frame.nanos);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("traffic.pcap");
    std::fs::write(&path, pcap(&frames)).unwrap();
    let config = FlowConfig {
        idle_timeout: Duration::from_secs(1),
        ..FlowConfig::default()
    };
    let mut collector = FlowCollector::from_files([&path])
        .unwrap()
        .with_config(config)
        .unwrap();
    let mut flows = Vec::new();
    while let Some(batch) = collector.next_batch().await.unwrap() {
        for event in batch.events {
            if let Payload::Flow(flow) = event.payload
                && matches!(flow.phase, FlowPhase::End(_))
            {
                flows.push(*flow);
            }
        }
    }
    assert!(flows.len() > 100);
    let mut v6 = flows[0].clone();
    v6.key.source = "2001:db8::1".parse().unwrap();
    v6.key.destination = "2001:db8::2".parse().unwrap();
    flows.insert(7, v6);
    flows
}

fn export(flows: &[FlowRecord], config: IpfixConfig, every: Duration) -> Vec<Vec<u8>> {
    let mut encoder = IpfixEncoder::new(config);
    let mut messages = Vec::new();
    let mut now = Timestamp::from_secs(1_700_000_000);
    let mut send = |message: &[u8]| messages.push(message.to_vec());
    for flow in flows {
        encoder.push(flow, now, &mut send);
        now = now.plus(every);
    }
    encoder.flush(now, &mut send);
    encoder.flush(now, &mut send);
    messages
}

fn read(messages: &[Vec<u8>]) -> Read {
    let mut decoder = NetflowDecoder::new(NetflowConfig::default()).unwrap();
    let mut read = Read::default();
    for message in messages {
        decoder.push(
            [192, 0, 2, 1].into(),
            Timestamp::from_secs(1_700_000_000),
            message,
            &mut read,
        );
    }
    let stats = decoder.stats();
    assert_eq!(
        (stats.malformed, stats.waited_sets, stats.late, stats.restarts),
        (0, 0, 0, 0),
        "{stats:?}"
    );
    read
}

/// What a record can say of one direction.
fn summary(flow: &FlowRecord, backward: bool) -> impl PartialEq + std::fmt::Debug + use<> {
    let (direction, key) = if backward {
        (&flow.backward, flow.key.reversed())
    } else {
        (&flow.forward, flow.key)
    };
    let side = |tcp: &TcpDirection| {
        let counts = tcp.flags;
        [
            counts.fin, counts.syn, counts.rst, counts.psh, counts.ack, counts.urg,
        ]
        .map(|count| count > 0)
    };
    let flags = flow
        .tcp
        .as_ref()
        .map(|tcp| side(if backward { &tcp.backward } else { &tcp.forward }));
    let millis = |time: Timestamp| time.nanos().div_euclid(1_000_000);
    (
        key,
        direction.packets,
        direction.bytes(),
        flags,
        millis(flow.first),
        millis(flow.last),
    )
}

#[tokio::test]
async fn each_direction_is_a_record() {
    let flows = flows().await;
    let messages = export(&flows, IpfixConfig::default(), Duration::ZERO);
    assert!(messages.len() > 3 && messages.iter().all(|message| message.len() <= 1400));
    let read = read(&messages);
    assert_eq!(read.losses, 0);
    let mut expected = Vec::new();
    for flow in &flows {
        expected.push(summary(flow, false));
        if flow.backward.packets > 0 {
            expected.push(summary(flow, true));
        }
    }
    assert_eq!(read.flows.len(), expected.len());
    for (found, expected) in read.flows.iter().zip(&expected) {
        assert_eq!(&summary(found, false), expected);
    }
    let ends = |flows: &[FlowRecord], wanted| {
        flows
            .iter()
            .filter(|flow| flow.phase == FlowPhase::End(wanted))
            .count()
    };
    for end in [FlowEnd::Idle, FlowEnd::SourceEnd] {
        assert!(ends(&read.flows, end) >= ends(&flows, end), "{end}");
    }
}

#[tokio::test]
async fn or_one_record_is_both() {
    let flows = flows().await;
    let config = IpfixConfig {
        bidirectional: true,
        ..IpfixConfig::default()
    };
    let read = read(&export(&flows, config, Duration::ZERO));
    assert_eq!((read.flows.len(), read.losses), (flows.len(), 0));
    for (ours, theirs) in flows.iter().zip(&read.flows) {
        assert_eq!(summary(ours, false), summary(theirs, false));
        if ours.backward.packets > 0 {
            assert_eq!(summary(ours, true), summary(theirs, true));
        }
        let addresses =
            |flow: &FlowRecord| (flow.source_mac, flow.destination_mac, flow.interface, flow.vlan);
        assert_eq!(addresses(ours), addresses(theirs));
        let ttl = |flow: &FlowRecord| (flow.forward.ttl_min, flow.forward.ttl_max);
        assert_eq!(ttl(ours), ttl(theirs));
        let icmp = |flow: &FlowRecord| flow.icmp.as_ref().map(|icmp| (icmp.first_type, icmp.first_code));
        assert_eq!(icmp(ours), icmp(theirs));
    }
}

#[tokio::test]
async fn templates_come_again_for_who_missed_them_and_lost_records_show() {
    let flows = flows().await;
    let messages = export(&flows, IpfixConfig::default(), Duration::from_secs(10));
    let late = read_late(&messages[5..]);
    assert!(late.flows.len() > flows.len() / 2);
    let without_third: Vec<_> = [&messages[..2], &messages[3..]].concat();
    let whole = read(&messages).flows.len() as u64;
    let read = read(&without_third);
    assert!(read.losses > 0);
    assert_eq!(read.losses + read.flows.len() as u64, whole);
}

/// As `read`, by a collector that was started late.
fn read_late(messages: &[Vec<u8>]) -> Read {
    let mut decoder = NetflowDecoder::new(NetflowConfig::default()).unwrap();
    let mut read = Read::default();
    for message in messages {
        decoder.push(
            [192, 0, 2, 1].into(),
            Timestamp::from_secs(1_700_000_000),
            message,
            &mut read,
        );
    }
    read
}

#[tokio::test]
async fn a_sink_sends_flows_that_have_ended() {
    let flows = flows().await;
    let collector = UdpSocket::bind("127.0.0.1:0").unwrap();
    collector
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let mut sink = IpfixSink::connect(collector.local_addr().unwrap(), IpfixConfig::default()).unwrap();
    let stream = Arc::new(StreamId {
        agent: "sensor".into(),
        epoch: amoskys_core::Epoch::default(),
        class: amoskys_core::Class::Telemetry,
    });
    let recorded = |payload| Recorded {
        stream: Arc::clone(&stream),
        seq: Seq(0),
        timeline: 0,
        event: Event {
            payload,
            ..Event::default()
        },
    };
    let mut events: Vec<Recorded> = flows
        .iter()
        .take(50)
        .map(|flow| recorded(Payload::Flow(Box::new(flow.clone()))))
        .collect();
    let started = FlowRecord {
        phase: FlowPhase::Start,
        ..flows[0].clone()
    };
    events.push(recorded(Payload::Flow(Box::new(started))));
    events.push(recorded(Payload::default()));
    sink.write(&events).await.unwrap();
    sink.flush().await.unwrap();
    let mut messages = Vec::new();
    let mut buffer = [0; 2000];
    while let Ok(length) = collector.recv(&mut buffer) {
        messages.push(buffer[..length].to_vec());
    }
    let read = read(&messages);
    let expected: usize = flows
        .iter()
        .take(50)
        .map(|flow| 1 + usize::from(flow.backward.packets > 0))
        .sum();
    assert_eq!(read.flows.len(), expected);
}

#[tokio::test]
async fn what_nobody_takes_is_an_error_and_sent_again() {
    let flows = flows().await;
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    drop(taken);
    let mut sink = IpfixSink::connect(address, IpfixConfig::default()).unwrap();
    let mut encoded = Vec::new();
    for flow in &flows {
        encoded.push(Recorded {
            stream: Arc::new(StreamId {
                agent: "sensor".into(),
                epoch: amoskys_core::Epoch::default(),
                class: amoskys_core::Class::Telemetry,
            }),
            seq: Seq(0),
            timeline: 0,
            event: Event {
                payload: Payload::Flow(Box::new(flow.clone())),
                ..Event::default()
            },
        });
    }
    // The first message is refused by an ICMP message, which the second one tells of.
    let refused = sink.write(&encoded).await;
    assert!(refused.is_err(), "nobody listens");
    let collector = UdpSocket::bind(address).unwrap();
    collector
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    sink.write(&encoded).await.unwrap();
    sink.flush().await.unwrap();
    assert!(collector.recv(&mut [0; 2000]).is_ok());
}
