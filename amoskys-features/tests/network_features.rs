//! What the features say about known traffic.

mod common;

use std::time::Duration;

use amoskys_core::event::{Entity, FlowEnd, FlowPhase, TcpState};
use amoskys_core::{FeatureVector, Timestamp};
use amoskys_features::extract::{DnsClients, ExtractConfig, Hosts, NetworkExtractor, Pairs, Services};
use amoskys_features::window::WindowSpec;
use common::{Sensor, ended, host, ms, run, tcp, value};

fn tumbling(seconds: u64) -> NetworkExtractor {
    let spec = WindowSpec::tumbling(Duration::from_secs(seconds)).expect("ten seconds is a length");
    NetworkExtractor::new(ExtractConfig::default())
        .with::<Hosts>(spec)
        .with::<Pairs>(spec)
        .with::<Services>(spec)
        .with::<DnsClients>(spec)
}

#[test]
fn a_port_scan_shows_in_the_scanner() {
    let mut sensor = Sensor::new("a");
    let mut events = Vec::new();
    for n in 0..50 {
        let at = 1000 + n * 10;
        let port = 1000 + n as u16;
        let record = tcp(n as u64, 1, 2, port, at, 1, 0);
        events.push(sensor.flow(at, record.clone()));
        if n % 5 == 0 {
            let mut refused = ended(record, FlowEnd::Reset, TcpState::Refused, at + 1);
            refused.backward.packets = 1;
            events.push(sensor.flow(at + 1, refused));
        }
    }
    events.push(sensor.clock(60_000));
    let features = run(&mut tumbling(10), &events);
    let scanner = Entity::Host(host(1));
    let of = |name: &str| value(&features, "host.10s", &scanner, 10_000, name);
    assert_eq!(of("opened"), 50.0);
    assert_eq!(
        (of("destinations"), of("ports"), of("ports_per_destination")),
        (1.0, 50.0, 50.0)
    );
    assert!((of("port_entropy") - 50_f64.log2()).abs() < 1e-9);
    // All outcomes are known by 7.5 s: answers time out after 6 s, though the sensor never told of them.
    assert_eq!(
        (of("attempts"), of("refused"), of("unanswered"), of("answered")),
        (50.0, 10.0, 40.0, 0.0)
    );
    assert_eq!(of("failed_ratio"), 1.0);
    assert_eq!((of("new_services"), of("new_destinations")), (50.0, 1.0));
    let vector = features.iter().find(|v| v.entity == scanner).unwrap();
    assert_eq!((vector.events.first.0, vector.events.last.0), (0, 59));
    assert_eq!((vector.start, vector.end), (ms(0), ms(10_000)));
}

#[test]
fn password_guessing_shows_in_the_pair() {
    let mut sensor = Sensor::new("a");
    let mut events = Vec::new();
    for n in 0..20 {
        let at = n * 1500;
        events.push(sensor.flow(at, tcp(n as u64, 1, 2, 22, at, 1, 0)));
        let session = ended(
            tcp(n as u64, 1, 2, 22, at, 12, 11),
            FlowEnd::Finished,
            TcpState::Closed,
            at + 1200,
        );
        events.push(sensor.flow(at + 1200, session));
    }
    events.push(sensor.clock(60_000));
    let features = run(&mut tumbling(60), &events);
    let pair = Entity::Pair(host(1), host(2));
    let of = |name: &str| value(&features, "pair.60s", &pair, 60_000, name);
    assert_eq!(
        (of("short_sessions"), of("ended"), of("answered")),
        (20.0, 20.0, 20.0)
    );
    assert_eq!((of("forward_packets"), of("backward_bytes")), (240.0, 22_000.0));
    assert!((of("duration_mean") - 1.2).abs() < 1e-9);
    assert_eq!(
        (of("flow_packets_mean"), of("flow_packets_variation")),
        (23.0, 0.0)
    );
    assert!((of("start_gap_median") - 1.5).abs() < 1e-9);
    assert_eq!((of("start_gap_spread"), of("ports")), (0.0, 1.0));
    assert!((of("byte_balance") - 100.0 / 2300.0).abs() < 1e-9);
    let service = Entity::Service(host(2), 6, 22);
    assert_eq!(
        value(&features, "service.60s", &service, 60_000, "client_top_share"),
        1.0
    );
}

#[test]
fn a_tunnel_shows_in_the_dns_client() {
    let mut sensor = Sensor::new("a");
    let mut events = Vec::new();
    for n in 0..100_i64 {
        let payload: String = (0..40_i64)
            .map(|i| char::from(b'a' + ((n * 31 + i * i * 7 + i * n) % 26) as u8))
            .collect();
        events.push(sensor.query(n * 50, 1, &format!("{payload}.{n}.t.example.com"), 16));
        events.push(sensor.query(
            n * 50 + 1,
            2,
            ["www.example.org", "Mail.Example.NET", "example.com"][n as usize % 3],
            1,
        ));
    }
    events.push(sensor.clock(10_000));
    let features = run(&mut tumbling(10), &events);
    let tunnel = Entity::Client(host(1), 17, 53);
    let usual = Entity::Client(host(2), 17, 53);
    let of = |who: &Entity, name: &str| value(&features, "dns_client.10s", who, 10_000, name);
    // Beyond 64 names the count is a sketch.
    assert!((of(&tunnel, "subdomains_max") - 100.0).abs() < 13.0);
    assert_eq!(of(&tunnel, "carrier_type_ratio"), 1.0);
    assert_eq!((of(&tunnel, "domains"), of(&tunnel, "new_domains")), (1.0, 1.0));
    assert!(of(&tunnel, "subdomain_length_mean") > 40.0);
    assert_eq!(
        (
            of(&usual, "names"),
            of(&usual, "subdomains_max"),
            of(&usual, "address_ratio")
        ),
        (3.0, 1.0, 1.0)
    );
    assert_eq!(of(&usual, "queries"), 100.0);
    assert!(of(&usual, "ttl_mean").is_nan(), "nobody answered");
}

#[test]
fn packets_are_counted_once_whatever_records_come() {
    let mut sensor = Sensor::new("a");
    let update = |packets: u64| {
        let mut record = tcp(9, 1, 2, 443, 1000, packets, packets);
        record.phase = FlowPhase::Update;
        record
    };
    let events = [
        sensor.flow(1000, tcp(9, 1, 2, 443, 1000, 1, 0)),
        sensor.flow(6000, update(10)),
        sensor.flow(11_000, update(30)),
        // Repeated, and overtaken.
        sensor.flow(11_000, update(30)),
        sensor.flow(11_500, update(20)),
        sensor.flow(
            16_000,
            ended(update(35), FlowEnd::Finished, TcpState::Closed, 16_000),
        ),
        sensor.clock(30_000),
    ];
    let mut extractor = tumbling(10);
    let features = run(&mut extractor, &events);
    let pair = Entity::Pair(host(1), host(2));
    let of = |end: i64, name: &str| value(&features, "pair.10s", &pair, end, name);
    assert_eq!(
        (of(10_000, "forward_packets"), of(20_000, "forward_packets")),
        (10.0, 25.0)
    );
    assert_eq!((of(10_000, "opened"), of(20_000, "opened")), (1.0, 0.0));
    assert_eq!((of(10_000, "answered"), of(20_000, "attempts")), (1.0, 0.0));
    assert_eq!(extractor.counters().tracker.stale, 2);
}

#[test]
fn a_flow_that_began_before_us_is_counted_from_its_next_record() {
    let mut sensor = Sensor::new("a");
    let record = |packets: u64, phase: FlowPhase| {
        let mut record = tcp(9, 1, 2, 443, 1000, packets, packets);
        record.phase = phase;
        record
    };
    let mut lost_start = tcp(10, 1, 3, 80, 61_000, 7, 7);
    lost_start.phase = FlowPhase::Update;
    let events = [
        sensor.flow(60_000, record(1000, FlowPhase::Update)),
        sensor.flow(65_000, record(1005, FlowPhase::Update)),
        // This one began after we did: its first record was lost, and nothing of it was counted yet.
        sensor.flow(66_000, lost_start),
        sensor.clock(80_000),
    ];
    let mut extractor = tumbling(10);
    let features = run(&mut extractor, &events);
    let of = |to: u8, name: &str| {
        value(
            &features,
            "pair.10s",
            &Entity::Pair(host(1), host(to)),
            70_000,
            name,
        )
    };
    assert_eq!((of(2, "forward_packets"), of(2, "opened")), (5.0, 0.0));
    assert_eq!((of(3, "forward_packets"), of(3, "opened")), (7.0, 1.0));
    assert_eq!(extractor.counters().tracker.unanchored, 1);
}

#[test]
fn an_arp_liar_claims_an_address_from_two_cards() {
    use amoskys_core::Payload;
    use amoskys_core::event::{ArpOperation, ArpRecord, MacAddr};

    let mut sensor = Sensor::new("a");
    let ip = std::net::Ipv4Addr::new(10, 0, 0, 1);
    let says = |mac: u8| ArpRecord {
        operation: ArpOperation::Reply,
        sender_mac: MacAddr([2, 0, 0, 0, 0, mac]),
        sender_ip: ip,
        target_ip: std::net::Ipv4Addr::new(10, 0, 0, 9),
        frame_source: MacAddr([2, 0, 0, 0, 0, mac]),
        ..ArpRecord::default()
    };
    let events = [
        sensor.event(ms(1000), Payload::Arp(Box::new(says(1)))),
        sensor.event(ms(2000), Payload::Arp(Box::new(says(66)))),
        sensor.clock(10_000),
    ];
    let features = run(&mut tumbling(10), &events);
    let of = |name: &str| value(&features, "host.10s", &Entity::Host(host(1)), 10_000, name);
    assert_eq!(
        (
            of("arp_replies"),
            of("arp_hardware_addresses"),
            of("arp_mismatched")
        ),
        (2.0, 2.0, 0.0)
    );
}

#[test]
fn one_streams_clock_moves_nobody_elses_windows() {
    let (mut slow, mut fast) = (Sensor::new("slow"), Sensor::new("fast"));
    let mut extractor = tumbling(10);
    let mut features: Vec<FeatureVector> = Vec::new();
    features.extend(run(
        &mut extractor,
        &[slow.flow(1000, tcp(0, 1, 2, 80, 1000, 1, 0))],
    ));
    features.extend(run(&mut extractor, &[fast.clock(1_000_000_000)]));
    assert!(features.is_empty());
    features.extend(run(
        &mut extractor,
        &[slow.flow(2000, tcp(1, 1, 2, 80, 2000, 1, 0)), slow.end(2000)],
    ));
    assert_eq!(
        value(&features, "host.10s", &Entity::Host(host(1)), 10_000, "opened"),
        2.0
    );
    assert_eq!(extractor.counters().windows.late_dropped, 0);
    assert_eq!(extractor.entities(), 0);
}

#[test]
fn joined_captures_go_on_after_a_leap_in_either_direction() {
    let mut sensor = Sensor::new("a");
    let mut events = Vec::new();
    let day = 86_400_000;
    for (capture, start) in [0, 30 * day, 3 * day].into_iter().enumerate() {
        for n in 0..10 {
            let at = start + n * 100;
            let flow = (capture * 10) as u64 + n as u64;
            events.push(sensor.flow(at, tcp(flow, 1, 2, 80, at, 1, 0)));
            let whole = ended(
                tcp(flow, 1, 2, 80, at, 3, 3),
                FlowEnd::Finished,
                TcpState::Closed,
                at + 50,
            );
            events.push(sensor.flow(at + 50, whole));
        }
    }
    events.push(sensor.end(3 * day + 2000));
    let mut extractor = tumbling(10);
    let features = run(&mut extractor, &events);
    let ends: Vec<Timestamp> = features
        .iter()
        .filter(|v| v.schema.name().as_str() == "host.10s")
        .map(|v| v.end)
        .collect();
    assert_eq!(ends, [ms(10_000), ms(30 * day + 10_000), ms(3 * day + 10_000)]);
    for end in [10_000, 30 * day + 10_000, 3 * day + 10_000] {
        // Two records were needed to believe the leap: the first flow, start and end.
        let opened = value(&features, "host.10s", &Entity::Host(host(1)), end, "opened");
        assert_eq!(opened, if end == 10_000 { 10.0 } else { 9.0 });
    }
    assert_eq!(extractor.counters().clock.implausible, 4);
    assert_eq!(extractor.counters().clock.reset, 2);
}

#[test]
fn names_of_features_are_unique_and_described() {
    let extractor = NetworkExtractor::standard(ExtractConfig::default());
    let mut all = std::collections::BTreeSet::new();
    for schema in extractor.schemas() {
        let mut names = std::collections::BTreeSet::new();
        for feature in schema.features() {
            assert!(
                names.insert(feature.name.as_str()),
                "{} twice in {}",
                feature.name,
                schema.name()
            );
            assert!(!feature.description.is_empty());
            all.insert(feature.name.clone());
        }
    }
    assert!(all.len() >= 100, "{}", all.len());
}
