//! The decoder on datagrams made by hand: templates and their limits, sampling, times, losses, restarts.
#![cfg(feature = "netflow")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use amoskys_collectors::netflow::{
    ExportLoss, ExportRecord, NetflowConfig, NetflowDecoder, NetflowHandler, NetflowStats,
};
use amoskys_core::Timestamp;
use amoskys_core::event::{FlowEnd, FlowPhase, FlowRecord, Value};
use proptest::prelude::*;

const SECS: u32 = 1_700_000_000;
const FLOW: [(u16, u16); 4] = [(8, 4), (12, 4), (1, 4), (2, 4)];

#[derive(Default)]
struct Found {
    flows: Vec<(FlowRecord, BTreeMap<String, Value>)>,
    options: usize,
    losses: Vec<(u32, &'static str)>,
}

impl NetflowHandler for Found {
    fn flow(&mut self, record: &ExportRecord<'_>) {
        let mut attributes = BTreeMap::new();
        let flow = record.flow(Some(&mut attributes));
        assert_eq!(flow, record.flow(None), "attributes change nothing else");
        self.flows.push((flow, attributes));
    }

    fn options(&mut self, record: &ExportRecord<'_>) {
        self.options += 1;
        record
            .fields()
            .for_each(|field| drop((field.name(), field.value())));
    }

    fn loss(&mut self, loss: &ExportLoss) {
        self.losses.push((loss.count, loss.unit));
    }
}

/// An exporter's datagrams, and who decodes them.
struct Bench {
    decoder: NetflowDecoder,
    found: Found,
    now: Timestamp,
}

impl Bench {
    fn new() -> Self {
        Self::with(NetflowConfig::default())
    }

    fn with(config: NetflowConfig) -> Self {
        Self {
            decoder: NetflowDecoder::new(config).unwrap(),
            found: Found::default(),
            now: Timestamp::from_secs(SECS.into()),
        }
    }

    fn push(&mut self, datagram: &[u8]) -> &mut Self {
        self.push_from([192, 0, 2, 1].into(), datagram)
    }

    fn push_from(&mut self, exporter: IpAddr, datagram: &[u8]) -> &mut Self {
        self.decoder.push(exporter, self.now, datagram, &mut self.found);
        self
    }

    fn later(&mut self, by: Duration) -> &mut Self {
        self.now = self.now.plus(by);
        self
    }

    fn stats(&self) -> NetflowStats {
        self.decoder.stats()
    }
}

fn set(id: u16, body: &[u8]) -> Vec<u8> {
    let mut set = id.to_be_bytes().to_vec();
    set.extend(u16::try_from(4 + body.len()).unwrap().to_be_bytes());
    set.extend(body);
    set
}

fn shorts(numbers: &[u16]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

fn longs(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// A template record of elements and lengths, the same in v9 and IPFIX.
fn template(id: u16, fields: &[(u16, u16)]) -> Vec<u8> {
    let mut body = shorts(&[id, u16::try_from(fields.len()).unwrap()]);
    body.extend(fields.iter().flat_map(|(id, length)| shorts(&[*id, *length])));
    body
}

fn v9_at(uptime_ms: u32, secs: u32, sequence: u32, sets: &[Vec<u8>]) -> Vec<u8> {
    let mut datagram = shorts(&[9, 1]);
    datagram.extend(longs(&[uptime_ms, secs, sequence, 7]));
    datagram.extend(sets.concat());
    datagram
}

fn v9(sequence: u32, sets: &[Vec<u8>]) -> Vec<u8> {
    v9_at(100_000, SECS, sequence, sets)
}

fn ipfix(sequence: u32, sets: &[Vec<u8>]) -> Vec<u8> {
    let sets = sets.concat();
    let mut message = shorts(&[10, u16::try_from(16 + sets.len()).unwrap()]);
    message.extend(longs(&[SECS, sequence, 7]));
    message.extend(sets);
    message
}

fn v5(uptime_ms: u32, sequence: u32, sampling: u16, records: &[[u32; 2]]) -> Vec<u8> {
    let mut datagram = shorts(&[5, u16::try_from(records.len()).unwrap()]);
    datagram.extend(longs(&[uptime_ms, SECS, 500_000_000, sequence]));
    datagram.extend(shorts(&[0x0102, sampling]));
    for [first, last] in records {
        datagram.extend([10, 0, 0, 1, 10, 0, 0, 2, 10, 0, 0, 254]);
        datagram.extend(shorts(&[3, 4]));
        datagram.extend(longs(&[10, 1000, *first, *last]));
        datagram.extend(shorts(&[40_000, 80]));
        datagram.extend([0, 0x13, 6, 0]);
        datagram.extend(shorts(&[64_500, 64_501]));
        datagram.extend([24, 16, 0, 0]);
    }
    datagram
}

/// A record of `FLOW`.
fn flow(octets: u32) -> Vec<u8> {
    longs(&[0x0a00_0001, 0x0a00_0002, octets, 3])
}

#[test]
fn v5_is_read_to_the_field() {
    let mut bench = Bench::new();
    bench.push(&v5(60_000, 0, 0x4064, &[[50_000, 59_000]]));
    let (flow, attributes) = &bench.found.flows[0];
    assert_eq!(flow.key.to_string(), "10.0.0.1:40000 > 10.0.0.2:80/6");
    assert_eq!(
        (flow.forward.packets, flow.bytes(), flow.interface),
        (10, 1000, 3)
    );
    assert_eq!(flow.phase, FlowPhase::End(FlowEnd::Finished));
    let exported = i64::from(SECS) * 1_000_000_000 + 500_000_000;
    assert_eq!(flow.first.nanos(), exported - 10_000_000_000);
    assert_eq!(flow.last.nanos(), exported - 1_000_000_000);
    let flags = flow.tcp.as_ref().unwrap().forward.flags;
    assert_eq!((flags.fin, flags.syn, flags.ack, flags.rst), (1, 1, 1, 0));
    for (name, value) in [
        ("egressInterface", Value::Uint(4)),
        ("ipNextHopIPv4Address", Value::Text("10.0.0.254".into())),
        ("bgpSourceAsNumber", Value::Uint(64_500)),
        ("sourceIPv4PrefixLength", Value::Uint(24)),
        ("observationDomainId", Value::Uint(0x0102)),
        ("exportProtocolVersion", Value::Uint(5)),
        ("sampling_interval", Value::Float(100.0)),
        ("scaled_octets", Value::Uint(100_000)),
        ("scaled_packets", Value::Uint(1000)),
    ] {
        assert_eq!(attributes.get(name), Some(&value), "{name}");
    }
    assert!(!attributes.contains_key("paddingOctets"));
    assert_eq!(flow.sampling_rate, 100);
}

#[test]
fn the_clock_since_boot_may_wrap_in_a_flow() {
    let mut bench = Bench::new();
    bench.push(&v5(1_000, 0, 0, &[[u32::MAX - 999, 500]]));
    let flow = &bench.found.flows[0].0;
    assert_eq!(flow.duration(), Duration::from_millis(1_500));
    assert_eq!(
        flow.first.nanos(),
        (i64::from(SECS) * 1000 + 500 - 2000) * 1_000_000
    );
}

#[test]
fn losses_are_counted_by_each_versions_rule() {
    let mut bench = Bench::new();
    let two = [[0, 0]; 2];
    bench.push(&v5(1000, 100, 0, &two)).push(&v5(1000, 132, 0, &two));
    bench.push(&v9(5, &[])).push(&v9(9, &[]));
    let template = set(2, &template(256, &FLOW));
    bench.push(&ipfix(40, &[template, set(256, &[flow(1), flow(2)].concat())]));
    bench.push(&ipfix(49, &[]));
    assert_eq!(
        bench.found.losses,
        [(30, "flows"), (3, "datagrams"), (7, "records")]
    );
    assert_eq!(bench.stats().missing, 40);
    // One that was overtaken is used, and is not missing a second time.
    bench.push(&v5(1000, 102, 0, &two));
    assert_eq!(
        (bench.stats().late, bench.stats().missing, bench.stats().flows),
        (1, 40, 8)
    );
}

#[test]
fn a_restart_is_no_loss_and_its_templates_are_forgotten() {
    let mut bench = Bench::new();
    let learn = set(0, &template(256, &FLOW));
    bench.push(&v9_at(900_000, SECS, 500, &[learn.clone(), set(256, &flow(1))]));
    bench.push(&v9_at(1_000, SECS + 30, 0, &[set(256, &flow(2))]));
    assert_eq!((bench.stats().restarts, bench.stats().missing), (1, 0));
    assert_eq!(
        bench.found.flows.len(),
        1,
        "the number may mean another template now"
    );
    bench.push(&v9_at(2_000, SECS + 31, 1, &[learn]));
    assert_eq!(bench.found.flows.len(), 2, "what waited is read");
}

#[test]
fn exporters_and_domains_have_templates_of_their_own() {
    let mut bench = Bench::new();
    bench.push(&v9(0, &[set(0, &template(256, &FLOW))]));
    bench.push_from([192, 0, 2, 2].into(), &v9(0, &[set(256, &flow(1))]));
    bench.push(&ipfix(0, &[set(256, &flow(1))]));
    assert_eq!((bench.found.flows.len(), bench.stats().waited_sets), (0, 2));
    // The same exporter through an IPv6 socket.
    bench.push_from("::ffff:192.0.2.1".parse().unwrap(), &v9(1, &[set(256, &flow(1))]));
    assert_eq!(bench.found.flows.len(), 1);
    bench.decoder.finish();
    assert_eq!(bench.stats().sets_without_template, 2);
}

#[test]
fn records_wait_for_their_template_as_long_as_there_is_room() {
    let config = NetflowConfig {
        max_waiting_bytes: 600,
        ..NetflowConfig::default()
    };
    let mut bench = Bench::with(config);
    for number in 0..100 {
        bench.push(&v9(number, &[set(256, &flow(number))]));
    }
    let given_up = bench.stats().sets_without_template;
    assert!((90..100).contains(&given_up), "{given_up}");
    bench.push(&v9(100, &[set(0, &template(256, &FLOW))]));
    let kept: Vec<u64> = bench.found.flows.iter().map(|(flow, _)| flow.bytes()).collect();
    assert_eq!(
        kept,
        (given_up..100).collect::<Vec<_>>(),
        "the latest, in their order"
    );
    bench.decoder.finish();
    assert_eq!(bench.stats().sets_without_template, given_up);
}

/// Exporters that never send their templates do not keep others from waiting for theirs.
#[test]
fn what_waits_for_long_makes_room() {
    let config = NetflowConfig {
        max_waiting_bytes: 400,
        max_total_waiting_bytes: 1000,
        ..NetflowConfig::default()
    };
    let mut bench = Bench::with(config);
    for host in 1..20 {
        bench.push_from([10, 0, 0, host].into(), &v9(0, &[set(256, &flow(1))]));
    }
    let before = bench.stats().sets_without_template;
    assert!((1..19).contains(&before), "{before}");
    bench
        .later(Duration::from_secs(1801))
        .push(&v9(0, &[set(256, &flow(1))]));
    assert_eq!(bench.stats().sets_without_template, 19);
    bench.push(&v9(1, &[set(0, &template(256, &FLOW))]));
    assert_eq!(bench.found.flows.len(), 1);
}

#[test]
fn templates_expire_and_are_limited() {
    let config = NetflowConfig {
        max_templates: 2,
        max_fields: 4,
        ..NetflowConfig::default()
    };
    let mut bench = Bench::with(config);
    for id in 256..260 {
        bench.push(&v9(0, &[set(0, &template(id, &FLOW))]));
    }
    bench.push(&v9(0, &[set(0, &template(256, &[(1, 4); 5]))]));
    bench.push(&v9(0, &[set(0, &template(257, &[(210, 0)]))]));
    assert_eq!((bench.stats().templates, bench.stats().refused_templates), (2, 4));
    bench
        .later(Duration::from_secs(3600))
        .push(&v9(0, &[set(0, &template(257, &FLOW))]));
    bench
        .later(Duration::from_secs(3601))
        .push(&v9(0, &[set(257, &flow(9))]));
    assert_eq!(bench.stats().expired_templates, 1);
    assert_eq!(bench.found.flows.len(), 1, "the other was sent again");
}

#[test]
fn exporters_are_limited_and_silent_ones_make_room() {
    let config = NetflowConfig {
        max_domains: 10,
        ..NetflowConfig::default()
    };
    let mut bench = Bench::with(config);
    for host in 0..100 {
        bench.push_from([10, 0, 0, host].into(), &v9(0, &[]));
    }
    assert_eq!(bench.stats().no_room, 90);
    bench
        .later(Duration::from_secs(7201))
        .push_from([10, 0, 1, 1].into(), &v9(0, &[]));
    assert_eq!(bench.stats().no_room, 90);
}

#[test]
fn only_listed_exporters_are_listened_to() {
    let config = NetflowConfig {
        exporters: vec![[192, 0, 2, 1].into()],
        ..NetflowConfig::default()
    };
    let mut bench = Bench::with(config);
    bench
        .push_from([192, 0, 2, 9].into(), &v9(0, &[]))
        .push(&v9(0, &[]));
    assert_eq!((bench.stats().not_allowed, bench.stats().datagrams), (1, 2));
}

#[test]
fn options_state_the_sampling_of_the_flows_after_them() {
    let mut bench = Bench::new();
    // Scope: system; options: sampler 3 takes one packet of 50.
    let mut options = shorts(&[300, 4, 8, 1, 4, 48, 1, 50, 2]);
    options.extend([0, 0]);
    let mut fields = FLOW.to_vec();
    fields.push((48, 1));
    let with_sampler = |sampler: u8| [flow(100), vec![sampler]].concat();
    let data = set(256, &[with_sampler(3), with_sampler(0)].concat());
    bench.push(&v9(
        0,
        &[
            set(1, &options),
            set(300, &[0, 0, 0, 1, 3, 0, 50, 0]),
            set(0, &template(256, &fields)),
            data,
        ],
    ));
    assert_eq!(bench.found.options, 1);
    let scaled = |at: usize| bench.found.flows[at].1.get("scaled_octets").cloned();
    assert_eq!(bench.found.flows[0].0.bytes(), 100, "as it was counted");
    assert_eq!((scaled(0), scaled(1)), (Some(Value::Uint(5000)), None));
    let rate = |at: usize| bench.found.flows[at].0.sampling_rate;
    assert_eq!(
        (rate(0), rate(1)),
        (50, 0),
        "nothing is said of the other sampler"
    );
    let first = &bench.found.flows[0].0;
    assert_eq!(first.scaled(first.bytes()), 5000);
}

#[test]
fn variable_lengths_enterprises_and_reverse_fields_are_read() {
    let mut fields = shorts(&[256, 7, 8, 4, 12, 4, 1, 8]);
    fields.extend(shorts(&[0x8000 | 1, 8]));
    fields.extend(longs(&[29_305]));
    fields.extend(shorts(&[0x8000 | 2, 4]));
    fields.extend(longs(&[29_305]));
    fields.extend(shorts(&[0x8000 | 99, 65_535]));
    fields.extend(longs(&[4242]));
    fields.extend(shorts(&[371, 65_535]));
    let mut record = longs(&[0x0a00_0001, 0x0a00_0002, 0, 700, 0, 900, 5]);
    record.extend([3, 1, 2, 3]);
    record.extend([255, 0, 5]);
    record.extend(b"alice");
    let mut bench = Bench::new();
    bench.push(&ipfix(
        0,
        &[set(2, &fields), set(256, &[record.clone(), record].concat())],
    ));
    assert_eq!(bench.found.flows.len(), 2);
    let (flow, attributes) = &bench.found.flows[1];
    assert_eq!(
        (flow.forward.bytes(), flow.backward.bytes(), flow.backward.packets),
        (700, 900, 5)
    );
    assert_eq!(
        attributes.get("enterprise_4242_99"),
        Some(&Value::Bytes(vec![1, 2, 3]))
    );
    assert_eq!(attributes.get("userName"), Some(&Value::Text("alice".into())));
}

#[test]
fn absolute_times_are_read_in_every_unit() {
    let ntp = (u64::from(SECS) + 2_208_988_800) << 32 | 1 << 31;
    let secs = u64::from(SECS);
    for (id, bytes, expected_ms) in [
        (150, SECS.to_be_bytes().to_vec(), secs * 1000),
        (152, (secs * 1000 + 7).to_be_bytes().to_vec(), secs * 1000 + 7),
        (154, ntp.to_be_bytes().to_vec(), secs * 1000 + 500),
        (156, ntp.to_be_bytes().to_vec(), secs * 1000 + 500),
        (158, 250_000_u32.to_be_bytes().to_vec(), secs * 1000 - 250),
        (323, (secs * 1000 - 1).to_be_bytes().to_vec(), secs * 1000 - 1),
    ] {
        let mut bench = Bench::new();
        let fields = [(8, 4), (id, bytes.len() as u16)];
        let record = [&[10, 0, 0, 1][..], &bytes].concat();
        bench.push(&ipfix(0, &[set(2, &template(256, &fields)), set(256, &record)]));
        let first = bench.found.flows[0].0.first.nanos();
        assert_eq!(
            first,
            i64::try_from(expected_ms).unwrap() * 1_000_000,
            "element {id}"
        );
    }
}

#[test]
fn what_contradicts_itself_is_counted_and_the_rest_is_read() {
    let good = set(0, &template(256, &FLOW));
    for broken in [
        vec![0, 0, 0, 3],
        vec![0, 0, 255, 255, 1],
        set(0, &shorts(&[256, 9, 1, 4])),
        set(0, &shorts(&[9, 1, 1, 4])),
        set(1, &shorts(&[256, 0, 0, 0])),
        set(17, &[1, 2, 3, 4]),
        vec![1],
    ] {
        let mut bench = Bench::new();
        bench.push(&v9(0, &[good.clone(), set(256, &flow(1)), broken.clone()]));
        assert_eq!(
            (bench.stats().malformed, bench.stats().flows),
            (1, 1),
            "{broken:?}"
        );
    }
    let mut bench = Bench::new();
    bench
        .push(b"")
        .push(&[0, 5])
        .push(&[0, 9, 0])
        .push(&[0, 10, 0, 2])
        .push(&[0, 7, 0, 0]);
    assert_eq!((bench.stats().unknown_version, bench.stats().malformed), (2, 3));
    // The second record of v5 is cut short.
    let mut cut = v5(1000, 0, 0, &[[0, 0]; 2]);
    cut.pop();
    bench.push(&cut);
    assert_eq!((bench.stats().flows, bench.stats().malformed), (1, 4));
}

/// Datagrams that often have sound templates and sets.
fn datagram() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![0_u16..20, Just(65_535)];
    let element = prop_oneof![1_u16..60, 80_u16..90, 130_u16..170, 220_u16..320, Just(0x8001)];
    let fields = prop::collection::vec((element, length), 0..12);
    let body = prop::collection::vec(any::<u8>(), 0..200);
    let one = prop_oneof![
        (256_u16..260, fields).prop_map(|(id, fields)| set(2, &template(id, &fields))),
        (256_u16..260, body.clone()).prop_map(|(id, body)| set(id, &body)),
        (0_u16..5, body).prop_map(|(id, body)| set(id, &body)),
        prop::collection::vec(any::<u8>(), 0..8),
    ];
    let sets = prop::collection::vec(one, 0..6);
    (sets, any::<u32>(), any::<u32>(), 0_u8..4, 0_usize..6).prop_map(
        |(mut sets, sequence, uptime, version, cut)| {
            let mut datagram = match version {
                0 => ipfix(sequence, &sets),
                1 => {
                    for set in sets.iter_mut().filter(|set| set.first_chunk() == Some(&[0, 2])) {
                        set[1] = 0;
                    }
                    v9_at(uptime, SECS, sequence, &sets)
                }
                2 => [
                    v5(uptime, sequence, sequence as u16, &[[uptime, sequence]]),
                    sets.concat(),
                ]
                .concat(),
                _ => sets.concat(),
            };
            datagram.truncate(datagram.len().saturating_sub(cut.saturating_sub(3)));
            datagram
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_datagram_is_too_much(datagrams in prop::collection::vec(datagram(), 0..30)) {
        let config = NetflowConfig {
            max_domains: 4,
            max_templates: 3,
            max_fields: 8,
            max_waiting_bytes: 1000,
            max_total_waiting_bytes: 2000,
            max_template_bytes: 4096,
            ..NetflowConfig::default()
        };
        let mut bench = Bench::with(config);
        for (number, datagram) in datagrams.iter().enumerate() {
            bench.later(Duration::from_secs(300)).push_from([10, 0, 0, number as u8 % 3].into(), datagram);
        }
        bench.decoder.finish();
        let stats = bench.stats();
        prop_assert_eq!(stats.datagrams, datagrams.len() as u64);
        prop_assert_eq!(stats.flows, bench.found.flows.len() as u64);
        for (flow, _) in &bench.found.flows {
            for lengths in [flow.forward.lengths, flow.backward.lengths] {
                prop_assert!(lengths.min <= lengths.max && (lengths.count > 0 || lengths.sum == 0));
            }
        }
    }
}
