//! The promises of an analyzer: the same input gives the same verdicts, across snapshots too, and no input makes it panic.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod traffic;

use std::sync::Arc;
use std::time::Duration;

use amoskys_analysis::{BaselineBuilder, Detection, DetectionConfig};
use amoskys_core::event::*;
use amoskys_core::{
    Analyzer, BoxExtractor, Class, Epoch, Event, EventId, Observation, Payload, Recorded, Seq, StreamId,
    Timestamp,
};
use amoskys_features::extract::{ExtractConfig, Hosts, NetworkExtractor};
use amoskys_features::window::WindowSpec;
use proptest::prelude::*;
use traffic::{Ending, Traffic, inside, outside, verdicts};

fn extractors() -> Vec<BoxExtractor> {
    let minute = WindowSpec::sliding(Duration::from_secs(60), Duration::from_secs(10)).unwrap();
    vec![Box::new(
        NetworkExtractor::new(ExtractConfig::default()).with::<Hosts>(minute),
    )]
}

/// A bit of everything, with attacks.
fn everything() -> Vec<Recorded> {
    let mut traffic = Traffic::default();
    for n in 0..80_u16 {
        let at = f64::from(n) * 0.7;
        traffic.tcp(at, inside(n % 5), outside(9), 443, Ending::Data(500, 5_000, 0.5));
        traffic.tcp(at, outside(7), inside(20), 100 + n, Ending::Refused);
        traffic.tcp(at, outside(8), inside(20), 22, Ending::Data(1_500, 2_200, 0.5));
        traffic.udp(at, inside(3), inside(1), 53, n % 4 != 0, 64);
        let name = format!("{}x{n}{}.t.example.com", "abcdefgh".repeat(5), "q7z");
        traffic.dns(
            at,
            inside(4),
            inside(1),
            &name,
            16,
            DnsRecord {
                answers: 1,
                answer_bytes: 90,
                ..DnsRecord::default()
            },
        );
        traffic.arp(at, ArpOperation::Reply, 66, 1, 7);
    }
    traffic.echoes(3.0, inside(5), outside(9), 60, 40, 200.0);
    traffic.record()
}

#[test]
fn it_keeps_the_promises_of_an_analyzer() {
    let events = everything();
    amoskys_core::conformance::analyzer(
        || Detection::new(DetectionConfig::default(), Vec::new()).unwrap(),
        &events,
    );
}

#[test]
fn it_keeps_them_with_a_baseline_and_windows() {
    let events = everything();
    let mut builder = BaselineBuilder::new(&DetectionConfig::default(), extractors()).unwrap();
    events.iter().for_each(|event| builder.observe(event));
    let baseline = builder.finish();
    let make = || {
        Detection::new(DetectionConfig::default(), extractors())
            .unwrap()
            .with_baseline(&baseline)
    };
    amoskys_core::conformance::analyzer(make, &events);
}

#[test]
fn a_snapshot_of_another_model_is_refused() {
    let mut detection = Detection::new(DetectionConfig::default(), Vec::new()).unwrap();
    verdicts(&mut detection, &everything());
    let snapshot = detection.snapshot().unwrap();
    let mut config = DetectionConfig::default();
    config.priors.scan = 0.5;
    let mut other = Detection::new(config, Vec::new()).unwrap();
    assert!(other.restore(&snapshot).is_err());
    assert_ne!(other.model().digest, detection.model().digest);
}

#[test]
fn a_detection_too_small_for_the_traffic_forgets_and_counts_it() {
    let mut config = DetectionConfig::default();
    (
        config.capacity.flows,
        config.capacity.hosts,
        config.capacity.pairs,
        config.capacity.incidents,
    ) = (16, 16, 16, 16);
    let mut detection = Detection::new(config, Vec::new()).unwrap();
    let mut traffic = Traffic::default();
    for n in 0..2_000 {
        traffic.tcp(f64::from(n) * 0.01, inside(n), outside(9), 80, Ending::Silent);
    }
    verdicts(&mut detection, &traffic.record());
    assert!(detection.evicted() > 1_000);
    assert!(detection.snapshot().unwrap().len() < 100_000);
}

fn address() -> impl Strategy<Value = std::net::IpAddr> {
    prop_oneof![
        (0_u8..4).prop_map(|n| std::net::IpAddr::from([10, 0, 0, n])),
        any::<[u8; 4]>().prop_map(Into::into),
        any::<[u8; 16]>().prop_map(Into::into),
    ]
}

/// Times that are mostly close together, and sometimes absurd.
fn moment() -> impl Strategy<Value = Timestamp> {
    let near = (0_i64..100_000_000_000).prop_map(|n| Timestamp::from_nanos(1_700_000_000_000_000_000 + n));
    prop_oneof![8 => near, 1 => any::<i64>().prop_map(Timestamp::from_nanos), 1 => Just(Timestamp::MAX), 1 => Just(Timestamp::MIN)]
}

fn count() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0_u64..20, 1 => any::<u64>(), 1 => Just(u64::MAX)]
}

fn series() -> impl Strategy<Value = Summary> {
    (count(), count(), count(), any::<f64>()).prop_map(|(count, sum, min, std_dev)| Summary {
        count,
        sum,
        min,
        max: sum,
        std_dev,
    })
}

fn direction() -> impl Strategy<Value = FlowDirection> {
    (
        count(),
        count(),
        series(),
        series(),
        proptest::collection::vec(any::<u8>(), 0..16),
    )
        .prop_map(
            |(packets, data_packets, lengths, payload, first_bytes)| FlowDirection {
                packets,
                data_packets,
                fragments: packets / 7,
                lengths,
                payload,
                first_bytes,
                ..FlowDirection::default()
            },
        )
}

fn flow() -> impl Strategy<Value = Payload> {
    use TcpState::*;
    let state = prop_oneof![
        Just(Midstream),
        Just(SynSent),
        Just(SynReceived),
        Just(Established),
        Just(Closing),
        Just(Closed),
        Just(Reset),
        Just(Refused)
    ];
    let phase = prop_oneof![
        Just(FlowPhase::Start),
        Just(FlowPhase::Update),
        Just(FlowPhase::End(FlowEnd::Finished))
    ];
    let ports = prop_oneof![Just(22_u16), Just(135), Just(443), Just(0), any::<u16>()];
    let protocol = prop_oneof![4 => Just(6_u8), 2 => Just(17), 2 => Just(1), 1 => any::<u8>()];
    let key = (address(), address(), ports, protocol);
    let times = (moment(), moment(), proptest::option::of(moment()));
    let samples = proptest::collection::vec((any::<bool>(), any::<u16>(), any::<u32>()), 0..20);
    (
        (0_u64..30, phase, state),
        key,
        times,
        (direction(), direction()),
        (count(), count(), count()),
        samples,
    )
        .prop_map(
            |(
                (flow, phase, state),
                (source, destination, destination_port, protocol),
                (first, last, syn),
                (forward, backward),
                icmp,
                samples,
            )| {
                let key = FlowKey {
                    source,
                    source_port: 40_000,
                    destination,
                    destination_port,
                    protocol,
                };
                let tcp = TcpStats {
                    state,
                    syn: syn.or(Some(first)),
                    syn_ack: syn,
                    ..TcpStats::default()
                };
                let (echo_replies, altered_replies, unsolicited_replies) = icmp;
                let icmp = IcmpStats {
                    first_type: 8,
                    echo_replies,
                    altered_replies,
                    unsolicited_replies,
                    ..IcmpStats::default()
                };
                let sample = |(backward, length, gap_us)| PacketSample {
                    backward,
                    length,
                    gap_us,
                };
                Payload::Flow(Box::new(FlowRecord {
                    flow,
                    phase,
                    key,
                    first,
                    last,
                    forward,
                    backward,
                    tcp: (protocol == 6).then_some(tcp),
                    icmp: (protocol == 1).then_some(icmp),
                    sequence: samples.into_iter().map(sample).collect(),
                    ..FlowRecord::default()
                }))
            },
        )
}

fn dns() -> impl Strategy<Value = Payload> {
    (
        address(),
        address(),
        any::<bool>(),
        "\\PC{0,80}",
        any::<u16>(),
        any::<u32>(),
    )
        .prop_map(|(source, destination, response, name, qtype, answer_bytes)| {
            let key = FlowKey {
                source,
                destination,
                destination_port: 53,
                protocol: 17,
                ..FlowKey::default()
            };
            let questions = vec![DnsQuestion {
                name,
                qtype,
                qclass: 1,
            }];
            Payload::Dns(Box::new(DnsRecord {
                key,
                response,
                questions,
                answers: 1,
                answer_bytes,
                ..DnsRecord::default()
            }))
        })
}

fn arp() -> impl Strategy<Value = Payload> {
    (0_u16..4, 0_u8..4, 0_u8..4, 0_u8..4, any::<bool>()).prop_map(|(operation, mac, sender, target, same)| {
        let mac = MacAddr([2, 0, 0, 0, 0, mac]);
        Payload::Arp(Box::new(ArpRecord {
            operation: operation.into(),
            sender_mac: mac,
            sender_ip: [10, 0, 0, sender].into(),
            target_ip: [10, 0, 0, target].into(),
            frame_source: if same { mac } else { MacAddr::BROADCAST },
            ..ArpRecord::default()
        }))
    })
}

fn payload() -> impl Strategy<Value = Payload> {
    let clock = (any::<bool>(), count())
        .prop_map(|(end, lateness_ns)| Payload::Punctuation(Punctuation { lateness_ns, end }));
    prop_oneof![6 => flow(), 2 => dns(), 2 => arp(), 1 => clock]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_events_make_it_panic(events in proptest::collection::vec((moment(), 0_u64..2, payload()), 0..300), cut in 0_usize..300) {
        let streams: Vec<_> = ["a", "b"]
            .map(|agent| Arc::new(StreamId { agent: agent.into(), epoch: Epoch::default(), class: Class::Telemetry }))
            .into();
        let events: Vec<Recorded> = (0_u64..)
            .zip(events)
            .map(|(ordinal, (time, stream, payload))| Recorded { timeline: 0,
                stream: streams[stream as usize].clone(),
                seq: Seq(ordinal),
                event: Event { id: EventId { origin: stream, ordinal }, time, payload, ..Event::default() },
            })
            .collect();
        let mut config = DetectionConfig::default();
        config.report_score = 0.01;
        let make = || Detection::new(config.clone(), Vec::new()).unwrap();
        let mut whole = make();
        let expected = verdicts(&mut whole, &events);
        for verdict in &expected {
            prop_assert!((0.0..=1.0).contains(&verdict.score));
            prop_assert!(verdict.time <= verdict.updated);
            prop_assert!(verdict.evidence.iter().all(|e| e.contribution.is_finite()));
        }
        // Cut anywhere, and gone on from a snapshot.
        let (before, after) = events.split_at(cut.min(events.len()));
        let (mut first, mut second) = (make(), make());
        let mut found = verdicts(&mut first, before);
        second.restore(&first.snapshot().unwrap()).unwrap();
        found.extend(verdicts(&mut second, after));
        prop_assert_eq!(format!("{found:?}"), format!("{expected:?}"));
    }
}

#[test]
fn features_of_others_are_taken_without_complaint() {
    let mut extractor = extractors().remove(0);
    let (mut vectors, mut found) = (Vec::new(), Vec::new());
    let mut detection = Detection::new(DetectionConfig::default(), Vec::new()).unwrap();
    for event in &everything() {
        extractor.observe(event, &mut vectors);
        for vector in vectors.drain(..) {
            detection
                .observe(Observation::Features(&vector), &mut found)
                .unwrap();
        }
    }
    assert!(found.is_empty());
}
