//! sFlow: datagrams built by the specification, decoded and collected.
#![cfg(feature = "sflow")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::net::{IpAddr, Ipv6Addr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use amoskys_collectors::packet::SkipReason;
use amoskys_collectors::sflow::{
    SampledFlow, SflowCollector, SflowConfig, SflowDecoder, SflowError, SflowExport, SflowHandler, SflowStats,
};
use amoskys_core::event::{ArpRecord, FlowEnd, FlowPhase, Metric, MetricKind, Payload, TcpState, Value};
use amoskys_core::{Batch, Collector, DropReason, Name, Shutdown, Tally, Timestamp};
use common::*;
use proptest::prelude::*;
use tempfile::TempDir;

const AGENT: [u8; 4] = [192, 0, 2, 7];

fn words(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// Opaque data with its format and its length, as samples and records are encoded.
fn framed(format: u32, data: &[u8]) -> Vec<u8> {
    let mut framed = words(&[format, data.len() as u32]);
    framed.extend(data);
    framed
}

/// A datagram of sub-agent 3.
fn datagram(sequence: u32, uptime_ms: u32, samples: &[Vec<u8>]) -> Vec<u8> {
    let agent = u32::from_be_bytes(AGENT);
    let mut datagram = words(&[5, 1, agent, 3, sequence, uptime_ms, samples.len() as u32]);
    datagram.extend(samples.concat());
    datagram
}

/// A sample of interface 12, one packet in `rate`, from interface 12 to `output`.
fn flow_sample(rate: u32, output: u32, records: &[Vec<u8>]) -> Vec<u8> {
    let mut sample = words(&[1, 12, rate, 1000, 0, 12, output, records.len() as u32]);
    sample.extend(records.concat());
    framed(1, &sample)
}

/// A sampled frame. The agent stripped the checksum, 4 bytes, and sends the beginning.
fn raw(protocol: u32, frame: &[u8], sent: usize) -> Vec<u8> {
    let header = &frame[..sent.min(frame.len())];
    let mut record = words(&[protocol, frame.len() as u32 + 4, 4, header.len() as u32]);
    record.extend(header);
    record.resize(record.len().next_multiple_of(4), 0);
    framed(1, &record)
}

fn ipv4(protocol: u8, transport: &[u8], payload: usize) -> Vec<u8> {
    let length = (20 + transport.len() + payload) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0, 0, 0, 61, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    packet.extend(transport);
    packet.resize(length.into(), 7);
    packet
}

fn ethernet(vlan: Option<u16>, ether_type: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    if let Some(vlan) = vlan {
        frame.extend([0x81, 0]);
        frame.extend(vlan.to_be_bytes());
    }
    frame.extend(ether_type.to_be_bytes());
    frame.extend(packet);
    frame
}

fn tcp(flags: u8) -> Vec<u8> {
    let mut header = vec![0x9c, 0x40, 1, 0xbb, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags];
    header.extend([1, 0, 0, 0, 0, 0]);
    header
}

/// Generic counters of interface 12; it does not count broadcasts received.
fn counter_sample() -> Vec<u8> {
    let mut counters = words(&[12, 6]);
    counters.extend(1_000_000_000_u64.to_be_bytes());
    counters.extend(words(&[1, 0b01]));
    counters.extend(5_000_000_000_u64.to_be_bytes());
    counters.extend(words(&[10, 11, u32::MAX, 13, 14, 15]));
    counters.extend(6_000_000_000_u64.to_be_bytes());
    counters.extend(words(&[20, 21, 22, 23, 24, 2]));
    let mut sample = words(&[1, 12, 2]);
    sample.extend(framed(1, &counters));
    sample.extend(framed(2, &[0; 52]));
    framed(2, &sample)
}

#[derive(Default)]
struct Found {
    flows: Vec<SampledFlow>,
    arp: Vec<ArpRecord>,
    metrics: Vec<Metric>,
    losses: Vec<(IpAddr, u32, u32)>,
}

impl SflowHandler for Found {
    fn flow(&mut self, _: &SflowExport, flow: SampledFlow) {
        self.flows.push(flow);
    }

    fn arp(&mut self, _: &SflowExport, message: ArpRecord) {
        self.arp.push(message);
    }

    fn metric(&mut self, _: &SflowExport, metric: Metric) {
        self.metrics.push(metric);
    }

    fn loss(&mut self, export: &SflowExport, datagrams: u32) {
        self.losses.push((export.agent, export.sub_agent, datagrams));
    }
}

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

fn decode(config: SflowConfig, datagrams: &[Vec<u8>]) -> (Found, SflowStats) {
    let mut decoder = SflowDecoder::new(config).unwrap();
    let mut found = Found::default();
    for datagram in datagrams {
        decoder.push([10, 9, 9, 9].into(), NOW, datagram, &mut found);
    }
    (found, decoder.stats())
}

fn decode_one(samples: &[Vec<u8>]) -> (Found, SflowStats) {
    decode(SflowConfig::default(), &[datagram(1, 1000, samples)])
}

#[test]
fn samples_of_a_flow_are_one_record_and_are_not_scaled() {
    let switch = framed(1001, &words(&[42, 0, 43, 0]));
    let router = framed(1002, &words(&[1, u32::from_be_bytes([192, 0, 2, 254]), 24, 16]));
    let frame = |flags, payload| ethernet(Some(42), 0x0800, &ipv4(6, &tcp(flags), payload));
    let (found, stats) = decode_one(&[
        flow_sample(512, 13, &[raw(1, &frame(0x18, 1000), 128), switch, router]),
        flow_sample(512, 13, &[raw(1, &frame(0x10, 0), 128)]),
        flow_sample(256, 13, &[raw(1, &frame(0x04, 0), 128)]),
    ]);
    assert_eq!((stats.packets, stats.flows, found.flows.len()), (3, 2, 2));
    let SampledFlow { record, attributes } = &found.flows[0];
    assert_eq!(record.key.to_string(), "10.0.0.1:40000 > 10.0.0.2:443/6");
    assert_eq!((record.first, record.last, record.flow), (NOW, NOW, 0));
    assert_eq!((record.interface, record.vlan), (12, Some(42)));
    assert_eq!(record.source_mac.unwrap().0, [2, 0, 0, 0, 0, 1]);
    assert_eq!(record.phase, FlowPhase::End(FlowEnd::Active));
    let forward = &record.forward;
    assert_eq!(
        (forward.packets, forward.bytes(), forward.data_packets),
        (2, 1080, 1)
    );
    assert_eq!((forward.lengths.min, forward.lengths.max), (40, 1040));
    assert_eq!((forward.payload.sum, forward.header_bytes), (1000, 80));
    assert_eq!(forward.frame_bytes, 1080 + 2 * 18, "without the checksum");
    assert_eq!(
        (forward.ttl_min, forward.ttl_max, record.backward.packets),
        (61, 61, 0)
    );
    let tcp = record.tcp.as_ref().unwrap();
    assert_eq!((tcp.forward.flags.ack, tcp.forward.flags.psh), (2, 1));
    assert_eq!(tcp.state, TcpState::Midstream);
    assert_eq!(record.sampling_rate, 512);
    assert_eq!(record.scaled(record.packets()), 1024);
    let expected = [
        ("egressInterface", Value::Uint(13)),
        ("ipNextHopIPv4Address", Value::Text("192.0.2.254".to_owned())),
        ("postVlanId", Value::Uint(43)),
        ("sampling_interval", Value::Float(512.0)),
        ("scaled_octets", Value::Uint(1080 * 512)),
        ("scaled_packets", Value::Uint(1024)),
        ("sflow_source", Value::Text("0:12".to_owned())),
        ("sflow_sub_agent", Value::Uint(3)),
        ("vlanId", Value::Uint(42)),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(*attributes, expected.into_iter().collect());
    let other = &found.flows[1].record;
    assert_eq!(other.sampling_rate, 256, "another rate is another record");
    assert_eq!((other.flow, other.phase), (1, FlowPhase::End(FlowEnd::Reset)));
}

#[test]
fn packets_come_with_other_headers_and_in_the_expanded_form() {
    let v6 = [
        &[0x60, 0, 0, 0, 0, 8, 58, 64][..],
        &Ipv6Addr::LOCALHOST.octets(),
        &Ipv6Addr::LOCALHOST.octets(),
        &[128, 0, 0, 0, 0, 1, 0, 1],
    ]
    .concat();
    let mut expanded = words(&[1, 0, 70_000_000, 10, 1000, 0, 0, 70_000_000, 1, 256, 1]);
    expanded.extend(raw(12, &v6, 128));
    let mut fields = words(&[60, 17, 0x0a00_0001, 0x0a00_0002, 53, 4000, 0, 0]);
    fields = framed(3, &fields);
    let ipv4_alone = raw(11, &ipv4(17, &[0, 53, 0, 99, 0, 8, 0, 0], 0), 128);
    let (found, stats) = decode_one(&[
        framed(3, &expanded),
        flow_sample(1, 0x3fff_ffff, &[fields]),
        flow_sample(0, 0, &[ipv4_alone]),
    ]);
    assert_eq!((stats.packets, stats.flows), (3, 3));
    let ping = &found.flows[0];
    assert_eq!(ping.record.key.to_string(), "[::1]:0 > [::1]:0/58");
    assert_eq!(ping.record.icmp.as_ref().unwrap().echo_requests, 1);
    assert_eq!(ping.record.interface, 70_000_000);
    assert_eq!(ping.attributes.get("discardCode"), Some(&Value::Uint(256)));
    let fields = &found.flows[1];
    assert_eq!(fields.record.key.to_string(), "10.0.0.1:53 > 10.0.0.2:4000/17");
    assert_eq!(
        (fields.record.bytes(), fields.record.forward.payload.count),
        (60, 0)
    );
    assert!(
        !fields.attributes.contains_key("egressInterface"),
        "the device itself"
    );
    assert!(
        !fields.attributes.contains_key("scaled_packets"),
        "all were looked at"
    );
    assert_eq!(found.flows[2].record.bytes(), 28);
}

#[test]
fn counters_of_an_interface_are_metrics() {
    let (found, stats) = decode_one(&[counter_sample()]);
    assert_eq!(stats.counter_samples, 1);
    let value = |name: &str| found.metrics.iter().find(|metric| metric.name == name);
    let octets = value("if_in_octets").unwrap();
    assert_eq!(
        (octets.value, octets.unit.as_str(), octets.kind),
        (5e9, "By", MetricKind::Counter)
    );
    assert_eq!(octets.labels, [("interface".to_owned(), "12".to_owned())]);
    assert_eq!(value("if_out_errors").unwrap().value, 24.0);
    assert_eq!(value("if_out_ucast_pkts").unwrap().value, 20.0);
    assert_eq!(value("if_speed").unwrap().value, 1e9);
    assert_eq!(value("if_admin_up").unwrap().value, 1.0);
    assert_eq!(value("if_oper_up").unwrap().value, 0.0);
    assert!(value("if_in_broadcast_pkts").is_none(), "it is not counted");
    assert_eq!(found.metrics.len(), 15);
}

#[test]
fn what_is_not_used_is_counted_by_its_reason() {
    let arp = [
        &[0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1][..],
        &[0, 0, 0, 0, 0, 0, 10, 0, 0, 2],
    ]
    .concat();
    let ip = ipv4(17, &[0, 53, 0, 99, 0, 8, 0, 0], 0);
    let other_counters = framed(2, &[words(&[1, 12, 1]), framed(2, &[0; 52])].concat());
    let discarded = framed(5, &words(&[1, 12, 0, 12, 13, 256, 0]));
    let (found, stats) = decode_one(&[
        flow_sample(1, 0, &[raw(1, &ethernet(None, 0x0806, &arp), 128)]),
        flow_sample(1, 0, &[raw(1, &ethernet(None, 0x88cc, &[0; 40]), 128)]),
        flow_sample(1, 0, &[raw(1, &ethernet(None, 0x0800, &ip), 20)]),
        flow_sample(1, 0, &[raw(6, &ip, 128)]),
        flow_sample(1, 0, &[framed(1001, &words(&[1, 0, 1, 0]))]),
        other_counters,
        discarded,
        framed(4413 << 12 | 9, &[1, 2, 3, 4]),
    ]);
    assert_eq!((stats.arp, found.arp.len(), found.flows.len()), (1, 1, 0));
    for reason in [SkipReason::NonIp, SkipReason::Truncated, SkipReason::UnknownLink] {
        assert_eq!(stats.skipped(reason), 1, "{reason}");
    }
    let counts = [
        stats.not_a_flow,
        stats.other_counters,
        stats.discarded_packets,
        stats.unknown_samples,
    ];
    assert_eq!((counts, stats.malformed), ([1; 4], 0));
}

#[test]
fn datagrams_that_are_none_are_counted_and_the_sequence_goes_on() {
    let good = |sequence| datagram(sequence, sequence * 1000, &[counter_sample()]);
    let mut cut = good(2);
    cut.truncate(60);
    let mut with_tail = good(3);
    with_tail.extend([9, 9]);
    let mut old = good(4);
    old[3] = 4;
    let datagrams = [
        good(1),
        cut,
        with_tail,
        old,
        good(6),
        vec![0, 0, 0, 5, 0, 0, 0, 9],
        vec![0],
    ];
    let (found, stats) = decode(SflowConfig::default(), &datagrams);
    assert_eq!(stats.datagrams, 7);
    assert_eq!((stats.malformed, stats.unknown_version), (4, 1));
    assert_eq!(stats.counter_samples, 3, "what came before the tail is good");
    // That of version 4 and one more.
    assert_eq!(stats.missing, 2);
    assert_eq!(found.losses, [(AGENT.into(), 3, 2)]);
}

#[test]
fn agents_restart_and_are_limited_and_forgotten() {
    let mut decoder = SflowDecoder::new(SflowConfig {
        max_agents: 1,
        agent_lifetime: Duration::from_secs(60),
        senders: vec![[10, 9, 9, 9].into()],
        ..SflowConfig::default()
    })
    .unwrap();
    let mut found = Found::default();
    let mut push = |at: u64, sender: [u8; 4], datagram: &[u8]| {
        let now = NOW.plus(Duration::from_secs(at));
        decoder.push(sender.into(), now, datagram, &mut found);
        decoder.stats()
    };
    let here = [10, 9, 9, 9];
    push(0, here, &datagram(500, 900_000, &[]));
    let stats = push(10, here, &datagram(1, 2000, &[]));
    assert_eq!((stats.restarts, stats.missing), (1, 0), "it booted");
    let mut other = datagram(900, 10, &[]);
    other[15] = 4;
    assert_eq!(push(20, here, &other).no_room, 1, "another sub-agent");
    assert_eq!(push(20, [10, 9, 9, 8], &other).not_allowed, 1);
    assert_eq!(push(100, here, &other).no_room, 1, "the first was forgotten");
    assert!(found.losses.is_empty());
}

/// sFlow among other traffic; every seventh datagram is lost on the way.
fn capture() -> (TempDir, PathBuf) {
    let mut frames = traffic(3, 40);
    let frame = ethernet(None, 0x0800, &ipv4(6, &tcp(0x10), 100));
    for second in (0..40).filter(|second| second % 7 != 6) {
        let flow = flow_sample(100, 13, &[raw(1, &frame, 64)]);
        let bytes = datagram(second, second * 1000, &[flow, counter_sample()]);
        frames.push(udp(i64::from(second) * SECOND + 5, (1, 999), (9, 6343), &bytes));
    }
    frames.sort_by_key(|frame| frame.nanos);
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("sflow.pcap");
    std::fs::write(&path, pcap(&frames)).unwrap();
    (dir, path)
}

fn from_file(path: &PathBuf) -> SflowCollector {
    SflowCollector::from_files([path], SflowConfig::default()).unwrap()
}

async fn read(mut collector: SflowCollector) -> Vec<Batch> {
    let mut batches = Vec::new();
    while let Some(batch) = collector.next_batch().await.unwrap() {
        batches.push(batch);
    }
    batches
}

fn tally(batches: &[Batch]) -> Tally {
    let mut tally = Tally::default();
    batches.iter().for_each(|batch| tally.add(&batch.tally));
    tally
}

#[tokio::test]
async fn keeps_the_promises_of_a_collector() {
    let (_dir, path) = capture();
    amoskys_core::conformance::collector(|| from_file(&path)).await;
}

#[tokio::test]
async fn a_capture_gives_flows_and_metrics_and_says_what_was_lost() {
    let (_dir, path) = capture();
    let config = SflowConfig {
        names: [(AGENT.into(), Name::from("switch-7"))].into(),
        ..SflowConfig::default()
    };
    let batches = read(SflowCollector::from_files([&path], config).unwrap()).await;
    let tally = tally(&batches);
    assert_eq!(tally.used, 2 * 35);
    assert_eq!(tally.dropped.get(&DropReason::MISSING), Some(&5));
    assert_eq!(tally.dropped.len(), 1);
    let (mut flows, mut metrics, mut lost) = (0, 0, 0);
    for event in batches.iter().flat_map(|batch| &batch.events) {
        match &event.payload {
            Payload::Flow(flow) => {
                assert_eq!((flow.flow, flow.first), (flows, event.time));
                flows += 1;
            }
            Payload::Metric(_) => metrics += 1,
            Payload::Loss(loss) => lost += loss.count,
            _ => continue,
        }
        assert_eq!(event.device.as_str(), "switch-7");
    }
    assert_eq!((flows, metrics, lost), (35, 35 * 15, 5));
}

#[tokio::test]
async fn a_socket_takes_datagrams_until_it_is_stopped() {
    let stop = Shutdown::new();
    let mut collector = SflowCollector::bind("127.0.0.1:0", SflowConfig::default())
        .unwrap()
        .with_stop(stop.clone());
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = collector.local_addr().unwrap();
    for sequence in [1, 2, 5] {
        let bytes = datagram(sequence, sequence * 1000, &[counter_sample()]);
        sender.send_to(&bytes, address).unwrap();
    }
    let mut batches = Vec::new();
    while let Some(batch) = collector.next_batch().await.unwrap() {
        batches.push(batch);
        if tally(&batches).used == 3 {
            stop.trigger();
        }
    }
    let tally = tally(&batches);
    assert_eq!(
        (tally.used, tally.dropped.get(&DropReason::MISSING)),
        (3, Some(&2))
    );
}

#[test]
fn what_cannot_be_used_is_refused_at_once() {
    let wrong = SflowConfig {
        max_agents: 0,
        ..SflowConfig::default()
    };
    let refused = SflowCollector::bind("127.0.0.1:0", wrong);
    assert!(matches!(refused, Err(SflowError::Config(_))));
    let missing = SflowCollector::from_files(["/nowhere.pcap"], SflowConfig::default());
    assert!(matches!(missing, Err(SflowError::Open { .. })));
}

/// Datagrams with records of all formats that are read, damaged at a few places, or any bytes at all.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let format = prop_oneof![1_u32..12, 1001_u32..1045, 2000_u32..2211, any::<u32>()];
    let record =
        (format, prop::collection::vec(0_u8..9, 0..160)).prop_map(|(format, data)| framed(format, &data));
    let frame = ethernet(Some(42), 0x0800, &ipv4(6, &tcp(0x18), 90));
    let records = prop::collection::vec(prop_oneof![Just(raw(1, &frame, 96)), record], 0..4);
    let sample = (1_u32..6, records).prop_map(|(kind, records)| {
        let head = [7, 2, 10, 3, 6][kind as usize - 1];
        let mut sample = words(&vec![1; head]);
        sample.extend(words(&[records.len() as u32]));
        sample.extend(records.concat());
        framed(kind, &sample)
    });
    let samples = prop::collection::vec(prop_oneof![sample, Just(counter_sample())], 0..5);
    let whole = (0_u32..9, any::<u32>(), samples)
        .prop_map(|(sequence, uptime, samples)| datagram(sequence, uptime, &samples));
    let places = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let broken = (whole, places, any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(mut bytes, places, end, cut)| {
            for (place, byte) in places {
                let at = place.index(bytes.len());
                bytes[at] = byte;
            }
            if cut {
                bytes.truncate(end.index(bytes.len()));
            }
            bytes
        },
    );
    prop_oneof![4 => broken, 1 => prop::collection::vec(any::<u8>(), 0..300)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_datagram_is_too_much(datagrams in prop::collection::vec(damaged(), 0..20)) {
        let config = SflowConfig { max_agents: 2, ..SflowConfig::default() };
        let (found, stats) = decode(config, &datagrams);
        prop_assert_eq!(stats.datagrams, datagrams.len() as u64);
        prop_assert_eq!(stats.flows, found.flows.len() as u64);
        prop_assert_eq!(stats.arp, found.arp.len() as u64);
        let missing: u64 = found.losses.iter().map(|loss| u64::from(loss.2)).sum();
        prop_assert_eq!(stats.missing, missing);
        let packets: u64 = found.flows.iter().map(|flow| flow.record.packets()).sum();
        prop_assert_eq!(stats.packets, packets);
        for flow in &found.flows {
            let lengths = flow.record.forward.lengths;
            prop_assert!(lengths.min <= lengths.max && lengths.count == flow.record.packets());
        }
    }
}
