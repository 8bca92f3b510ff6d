//! What the meter makes of packets: when flows start, go on and end, and what it counts.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use amoskys_collectors::flow::{FlowConfig, FlowHandler, FlowMeter, MeterStats};
use amoskys_core::Timestamp;
use amoskys_core::event::{ArpRecord, DnsRecord, FlowEnd, FlowPhase, FlowRecord, TcpState};
use common::*;

#[derive(Default)]
struct Seen {
    flows: Vec<(i64, FlowRecord)>,
    dns: Vec<DnsRecord>,
    arp: Vec<ArpRecord>,
}

impl FlowHandler for Seen {
    fn flow(&mut self, time: Timestamp, record: &FlowRecord) {
        self.flows.push((time.nanos(), record.clone()));
    }
    fn dns(&mut self, _: Timestamp, record: &DnsRecord) {
        self.dns.push(record.clone());
    }
    fn arp(&mut self, _: Timestamp, record: &ArpRecord) {
        self.arp.push(*record);
    }
}

impl Seen {
    fn ends(&self) -> Vec<(FlowEnd, &FlowRecord)> {
        let end = |record: &FlowRecord| match record.phase {
            FlowPhase::End(end) => Some(end),
            _ => None,
        };
        self.flows
            .iter()
            .filter_map(|(_, record)| Some((end(record)?, record)))
            .collect()
    }

    fn phases(&self) -> Vec<FlowPhase> {
        self.flows.iter().map(|(_, record)| record.phase).collect()
    }
}

fn meter_with(config: FlowConfig, frames: &[Frame]) -> (Seen, MeterStats) {
    let mut meter = FlowMeter::new(config).unwrap();
    let mut seen = Seen::default();
    for frame in frames {
        meter.push(&frame.packet(), &mut seen);
    }
    meter.finish(&mut seen);
    assert_eq!(meter.open_flows(), 0);
    let stats = meter.stats();
    assert_eq!(
        stats.packets,
        stats.metered + stats.arp + stats.skipped_total(),
        "packets balance"
    );
    let counted: u64 = seen.ends().iter().map(|(_, record)| record.packets()).sum();
    assert_eq!(
        counted, stats.metered,
        "each metered packet is in exactly one flow"
    );
    (seen, stats)
}

fn meter(frames: &[Frame]) -> Seen {
    meter_with(FlowConfig::default(), frames).0
}

/// A whole connection: handshake, a request, an answer, FIN both ways, the last ACK.
fn connection(start: i64) -> Vec<Frame> {
    let at = |ms: i64| start + ms * 1_000_000;
    vec![
        tcp(at(0), true, SYN, 100, b""),
        tcp(at(10), false, SYN | ACK, 500, b""),
        tcp(at(20), true, ACK, 101, b""),
        tcp(at(30), true, PSH | ACK, 101, b"GET / HTTP/1.0\r\n\r\n"),
        tcp(at(40), false, PSH | ACK, 501, b"HTTP/1.0 200 OK\r\n\r\nhello"),
        tcp(at(50), true, FIN | ACK, 119, b""),
        tcp(at(60), false, FIN | ACK, 525, b""),
        tcp(at(70), true, ACK, 120, b""),
    ]
}

#[test]
fn a_connection_is_one_flow_that_ends_with_its_last_packet() {
    let seen = meter(&connection(0));
    assert_eq!(
        seen.phases(),
        [FlowPhase::Start, FlowPhase::End(FlowEnd::Finished)]
    );
    let record = &seen.flows[1].1;
    let tcp = record.tcp.as_ref().unwrap();
    assert_eq!(tcp.state, TcpState::Closed);
    let times = [tcp.syn, tcp.syn_ack, tcp.ack].map(|time| time.unwrap().nanos() / 1_000_000);
    assert_eq!(times, [0, 10, 20]);
    assert_eq!((record.forward.packets, record.backward.packets), (5, 3));
    assert_eq!((record.forward.data_packets, record.forward.payload.sum), (1, 18));
    assert_eq!(record.forward.bytes(), 5 * 40 + 18);
    assert_eq!(record.forward.header_bytes, 5 * 40);
    assert_eq!(record.forward.frame_bytes, 5 * 54 + 18);
    assert_eq!(record.forward.first_bytes, b"GET / HTTP/1.0\r\n");
    assert_eq!(
        (
            tcp.forward.flags.syn,
            tcp.forward.flags.fin,
            tcp.forward.flags.psh
        ),
        (1, 1, 1)
    );
    assert_eq!((tcp.forward.flags.ack, tcp.backward.flags.ack), (4, 3));
    assert_eq!(tcp.forward.initial_window, Some(0x1000));
    assert_eq!((tcp.forward.retransmitted, tcp.backward.out_of_order), (0, 0));
    assert_eq!(
        (record.gaps.count, record.gaps.min, record.gaps.max),
        (7, 10_000_000, 10_000_000)
    );
    assert_eq!(record.sequence.len(), 8);
    assert_eq!(
        (
            record.sequence[1].backward,
            record.sequence[1].length,
            record.sequence[1].gap_us
        ),
        (true, 40, 10_000)
    );
    assert_eq!(record.duration(), Duration::from_millis(70));
}

#[test]
fn the_same_ports_used_again_are_a_new_flow() {
    let mut frames = connection(0);
    frames.extend(connection(SECOND / 2));
    let seen = meter(&frames);
    let ends = seen.ends();
    assert_eq!(
        ends.iter()
            .map(|(end, record)| (*end, record.flow, record.packets()))
            .collect::<Vec<_>>(),
        [(FlowEnd::Finished, 0, 8), (FlowEnd::Finished, 1, 8)]
    );
    // A new handshake in the middle of a connection whose end was not seen.
    let mut frames = connection(0)[..5].to_vec();
    let mut again = connection(SECOND);
    for frame in &mut again {
        frame.bytes[38] += 1;
    }
    frames.extend(again);
    assert_eq!(meter(&frames).ends()[0].0, FlowEnd::Replaced);
}

#[test]
fn a_syn_sent_again_is_no_new_connection() {
    let frames = [0, 1, 3, 7].map(|second| tcp(second * SECOND, true, SYN, 100, b""));
    let seen = meter(&frames);
    let ends = seen.ends();
    assert_eq!(ends.len(), 1);
    let tcp = ends[0].1.tcp.as_ref().unwrap();
    assert_eq!((tcp.state, tcp.forward.flags.syn), (TcpState::SynSent, 4));
}

#[test]
fn scans_can_be_told_from_connections() {
    let refused = meter(&[tcp(0, true, SYN, 100, b""), tcp(1000, false, RST | ACK, 0, b"")]);
    let (end, record) = refused.ends()[0];
    assert_eq!(
        (end, record.tcp.as_ref().unwrap().state),
        (FlowEnd::Reset, TcpState::Refused)
    );
    let half_open = [
        tcp(0, true, SYN, 100, b""),
        tcp(1000, false, SYN | ACK, 7, b""),
        tcp(2000, true, RST, 101, b""),
    ];
    let seen = meter(&half_open);
    let tcp_stats = seen.ends()[0].1.tcp.clone().unwrap();
    assert_eq!((tcp_stats.state, tcp_stats.ack), (TcpState::Reset, None));
    let fin_scan = meter(&[tcp(0, true, FIN, 100, b"")]);
    assert_eq!(
        fin_scan.ends()[0].1.tcp.as_ref().unwrap().state,
        TcpState::Closing
    );
}

#[test]
fn bytes_sent_twice_and_bytes_missing_are_told_apart() {
    let frames = [
        tcp(0, true, ACK, 100, b"aaaa"),
        tcp(1, true, ACK, 104, b"bbbb"),
        tcp(2, true, ACK, 104, b"bbbb"),
        tcp(3, true, ACK, 112, b"dddd"),
        tcp(4, true, ACK, 115, b"d"),
        tcp(5, true, ACK, 115, b"d"),
    ];
    let seen = meter(&frames);
    let side = &seen.ends()[0].1.tcp.as_ref().unwrap().forward;
    // The last two look like keep-alive probes, which are no retransmissions.
    assert_eq!((side.retransmitted, side.out_of_order), (1, 1));
}

#[test]
fn a_connection_that_was_silent_keeps_its_direction() {
    let mut frames = connection(0)[..5].to_vec();
    // The server speaks first after a pause; then again after more than the memory of connections.
    frames.push(tcp(300 * SECOND, false, PSH | ACK, 525, b"still here"));
    frames.push(tcp(301 * SECOND, true, ACK, 119, b""));
    frames.push(tcp(9000 * SECOND, false, PSH | ACK, 535, b"and now"));
    let seen = meter(&frames);
    let ends: Vec<_> = seen
        .ends()
        .iter()
        .map(|(end, record)| (*end, record.flow, record.key.source_port))
        .collect();
    assert_eq!(
        ends,
        [
            (FlowEnd::Idle, 0, 40_000),
            (FlowEnd::Idle, 1, 40_000),
            (FlowEnd::SourceEnd, 2, 80)
        ]
    );
    let second = seen.ends()[1].1;
    assert_eq!((second.forward.packets, second.backward.packets), (1, 1));
    assert_eq!(second.tcp.as_ref().unwrap().state, TcpState::Established);
    assert_eq!(second.source_mac, seen.ends()[0].1.source_mac);
    assert_eq!(second.first.nanos(), 300 * SECOND);
    // A new handshake is a new connection, whoever opens it.
    frames[5] = tcp(300 * SECOND, false, SYN, 7, b"");
    assert_eq!(meter(&frames).ends()[1].1.key.source_port, 80);
}

#[test]
fn an_idle_flow_ends_in_event_time() {
    let mut frames: Vec<Frame> = [0, 1, 2]
        .map(|second| udp(second * SECOND, (1, 1), (2, 2), b"x"))
        .to_vec();
    // Another flow moves the clock.
    frames.extend([10, 40, 61, 63].map(|second| udp(second * SECOND, (3, 3), (4, 4), b"x")));
    let seen = meter(&frames);
    let (time, end) = seen
        .flows
        .iter()
        .find(|(_, record)| matches!(record.phase, FlowPhase::End(_)))
        .unwrap();
    assert_eq!(
        (end.phase, end.flow, end.packets()),
        (FlowPhase::End(FlowEnd::Idle), 0, 3)
    );
    let late = time - 62 * SECOND;
    assert!(
        (0..100_000_000).contains(&late),
        "ended {late} ns after it was due"
    );
    let updates = seen
        .phases()
        .iter()
        .filter(|phase| **phase == FlowPhase::Update)
        .count();
    assert_eq!(
        updates, 2,
        "of the first flow at 5 s; of the second 5 s after the packet at 40 s"
    );
}

#[test]
fn a_gap_parts_flows_exactly_at_the_timeout() {
    let pair = |gap: i64| [udp(0, (1, 1), (2, 2), b"x"), udp(gap, (1, 1), (2, 2), b"x")];
    assert_eq!(meter(&pair(60 * SECOND)).ends().len(), 1);
    assert_eq!(meter(&pair(60 * SECOND + 1)).ends().len(), 2);
}

#[test]
fn a_long_flow_is_cut_at_the_active_timeout() {
    let frames: Vec<Frame> = (0..45)
        .map(|minute| udp(minute * 30 * SECOND, (1, 1), (2, 2), b"x"))
        .collect();
    let config = FlowConfig {
        active_timeout: Duration::from_secs(600),
        ..FlowConfig::default()
    };
    let (seen, _) = meter_with(config, &frames);
    let ends: Vec<(FlowEnd, u64)> = seen
        .ends()
        .iter()
        .map(|(end, record)| (*end, record.packets()))
        .collect();
    assert_eq!(
        ends,
        [
            (FlowEnd::Active, 21),
            (FlowEnd::Active, 21),
            (FlowEnd::SourceEnd, 3)
        ]
    );
}

#[test]
fn updates_come_every_five_seconds_while_packets_do() {
    let frames: Vec<Frame> = (0..200)
        .map(|n| udp(n * SECOND / 10, (1, 1), (2, 2), b"x"))
        .collect();
    let seen = meter(&frames);
    let updates: Vec<i64> = seen
        .flows
        .iter()
        .filter(|(_, record)| record.phase == FlowPhase::Update)
        .map(|(time, _)| *time)
        .collect();
    assert_eq!(updates.len(), 3);
    for (n, time) in updates.iter().enumerate() {
        let due = (n as i64 + 1) * 5 * SECOND;
        assert!(
            (due..due + 300_000_000).contains(time),
            "{time} is not about {due}"
        );
    }
    let counts: Vec<u64> = seen.flows.iter().map(|(_, record)| record.packets()).collect();
    assert!(counts.is_sorted(), "counters are cumulative");
}

#[test]
fn a_flow_that_never_expires_is_one_flow() {
    let mut frames = connection(0);
    frames.extend(connection(SECOND));
    frames.extend(connection(10 * 86_400 * SECOND));
    let config = FlowConfig {
        never_expire: true,
        ..FlowConfig::default()
    };
    let (seen, _) = meter_with(config, &frames);
    assert_eq!(seen.ends().len(), 1);
    assert_eq!(seen.ends()[0].1.packets(), 24);
}

#[test]
fn periods_of_activity_and_pauses() {
    let seconds = [0, 1, 2, 20, 21, 40];
    let seen = meter(&seconds.map(|second| udp(second * SECOND, (1, 1), (2, 2), b"x")));
    let record = seen.ends()[0].1;
    assert_eq!(
        (record.active.count, record.active.max, record.active.min),
        (3, 2 * SECOND as u64, 0)
    );
    assert_eq!(
        (record.idle.count, record.idle.min, record.idle.max),
        (2, 18 * SECOND as u64, 19 * SECOND as u64)
    );
    assert_eq!(record.active.sum + record.idle.sum, 40 * SECOND as u64);
}

#[test]
fn a_full_table_evicts_and_counts() {
    let config = FlowConfig {
        max_flows: 100,
        ..FlowConfig::default()
    };
    // One flow is used again and again, and stays; a thousand others come once.
    let mut frames = Vec::new();
    for n in 0..1000_u16 {
        frames.push(udp(i64::from(n) * 1000, (1, 1), (2, 2), b"x"));
        frames.push(udp(i64::from(n) * 1000, (3, 1000 + n), (4, 4), b"x"));
    }
    let (seen, stats) = meter_with(config, &frames);
    let evicted: Vec<_> = seen
        .ends()
        .into_iter()
        .filter(|(end, _)| *end == FlowEnd::Evicted)
        .collect();
    assert_eq!(
        (evicted.len() as u64, stats.evicted, stats.flows),
        (901, 901, 1001)
    );
    assert!(evicted.iter().all(|(_, record)| record.packets() == 1));
    assert!(seen.ends().iter().any(|(_, record)| record.packets() == 1000));
}

#[test]
fn every_dns_message_is_reported_with_its_flow() {
    let frames = [dns_query(0, 1, 7, "a.example"), dns_query(5, 1, 8, "b.example")];
    let seen = meter(&frames);
    let names: Vec<_> = seen
        .dns
        .iter()
        .map(|record| (record.flow, record.questions[0].name.as_str()))
        .collect();
    assert_eq!(names, [(0, "a.example"), (0, "b.example")]);
    assert_eq!(seen.dns[0].key, seen.flows[0].1.key);
    let stats = seen.ends()[0].1.dns.clone().unwrap();
    assert_eq!(
        (stats.queries, stats.first_name.as_str(), stats.first_type),
        (2, "a.example", 16)
    );
}

#[test]
fn a_tunnel_through_echoes_shows() {
    let honest = [
        icmp_echo(0, 1, 2, true, 1, b"abcdefgh"),
        icmp_echo(1, 2, 1, false, 1, b"abcdefgh"),
    ];
    let tunnel = [
        icmp_echo(0, 1, 2, true, 1, b"question"),
        icmp_echo(1, 2, 1, false, 1, b"answer, longer"),
        icmp_echo(2, 2, 1, false, 9, b"more"),
    ];
    let icmp = |frames: &[Frame]| meter(frames).ends()[0].1.icmp.clone().unwrap();
    let stats = icmp(&honest);
    assert_eq!(
        (
            stats.echo_requests,
            stats.echo_replies,
            stats.altered_replies,
            stats.unsolicited_replies
        ),
        (1, 1, 0, 0)
    );
    let stats = icmp(&tunnel);
    assert_eq!(
        (
            stats.echo_replies,
            stats.altered_replies,
            stats.unsolicited_replies
        ),
        (2, 1, 1)
    );
}

#[test]
fn arp_messages_are_events_of_their_own() {
    let seen = meter(&[arp_reply(0, 7, 1), arp_reply(1, 8, 1)]);
    let claims: Vec<_> = seen
        .arp
        .iter()
        .map(|record| (record.sender_ip, record.sender_mac.0[5]))
        .collect();
    assert_eq!(claims, [([10, 0, 0, 1].into(), 7), ([10, 0, 0, 1].into(), 8)]);
}

#[test]
fn one_absurd_time_does_not_end_all_flows() {
    let year = 365 * 86_400 * SECOND;
    let mut frames: Vec<Frame> = (0..10).map(|n| udp(n * SECOND, (1, 1), (2, 2), b"x")).collect();
    frames[5].nanos = 40 * year;
    let (seen, stats) = meter_with(FlowConfig::default(), &frames);
    assert_eq!(seen.ends().len(), 1);
    assert_eq!(stats.times_corrected, 1);
    assert_eq!(seen.ends()[0].1.last.nanos(), 9 * SECOND);
}

#[test]
fn a_leap_over_years_is_no_work_and_loses_no_order() {
    let year = 365 * 86_400 * SECOND;
    let mut frames: Vec<Frame> = (0..50_u16)
        .map(|n| udp(i64::from(n) * SECOND, (1, n), (2, 2), b"x"))
        .collect();
    for n in 1..50 {
        frames.push(udp(n * year, (1, 1), (2, 2), b"x"));
        frames.push(udp(n * year + 1, (1, 1), (2, 2), b"x"));
    }
    let (seen, stats) = meter_with(FlowConfig::default(), &frames);
    assert_eq!((stats.times_corrected, stats.flows), (0, 99));
    assert!(
        seen.flows.iter().map(|(time, _)| *time).is_sorted(),
        "records come in order of time"
    );
    let first_end = seen
        .flows
        .iter()
        .find(|(_, record)| matches!(record.phase, FlowPhase::End(_)))
        .unwrap()
        .0;
    assert!(
        first_end < 61 * SECOND,
        "flows end when they are due, not when the next packet comes"
    );
}

#[test]
fn captures_joined_in_the_wrong_order_are_metered() {
    let year = 365 * 86_400 * SECOND;
    let mut frames: Vec<Frame> = (0..100)
        .map(|n| udp(year + n * SECOND, (1, 1), (2, 2), b"x"))
        .collect();
    frames.extend((0..100).map(|n| udp(n * SECOND, (3, 1), (4, 2), b"x")));
    let (seen, stats) = meter_with(FlowConfig::default(), &frames);
    assert_eq!((stats.clock_set_back, stats.flows), (1, 2));
    let durations: Vec<u64> = seen
        .ends()
        .iter()
        .map(|(_, record)| record.duration().as_secs())
        .collect();
    assert_eq!(
        durations,
        [99, 84],
        "time goes on after sixteen packets have shown that the clock was set back"
    );
}

#[test]
fn the_clock_moves_without_packets() {
    let mut meter = FlowMeter::new(FlowConfig::default()).unwrap();
    let mut seen = Seen::default();
    meter.push(&udp(0, (1, 1), (2, 2), b"x").packet(), &mut seen);
    meter.advance(Timestamp::from_secs(59), &mut seen);
    assert_eq!(seen.ends().len(), 0);
    meter.advance(Timestamp::from_secs(61), &mut seen);
    assert_eq!(seen.ends()[0].0, FlowEnd::Idle);
    assert_eq!(meter.open_flows(), 0);
}

#[test]
fn the_same_packets_give_the_same_records() {
    let frames = traffic(40, 200);
    let config = FlowConfig {
        max_flows: 60,
        idle_timeout: Duration::from_secs(3),
        ..FlowConfig::default()
    };
    let first = meter_with(config.clone(), &frames).0;
    let second = meter_with(config, &frames).0;
    assert!(first.flows.len() > 1000);
    assert_eq!(first.flows, second.flows);
    assert_eq!(first.dns, second.dns);
}

#[test]
fn fragments_belong_to_the_flow_of_their_first_if_asked() {
    for version in [4, 6] {
        for follow_fragments in [false, true] {
            let config = FlowConfig {
                follow_fragments,
                start_records: false,
                ..FlowConfig::default()
            };
            let mut meter = FlowMeter::new(config).unwrap();
            let mut seen = Ended::default();
            let [first, later] = fragments(version, 1);
            let [_, strange] = fragments(version, 2);
            for frame in [first, later, strange] {
                meter.push(&frame.packet(), &mut seen);
            }
            meter.finish(&mut seen);
            let ports: Vec<(u16, u64, u64)> = seen
                .0
                .iter()
                .map(|flow| (flow.key.destination_port, flow.packets(), flow.forward.fragments))
                .collect();
            let expected = if follow_fragments {
                // The last one's first was not seen.
                [(9, 2, 2), (0, 1, 1)]
            } else {
                [(9, 1, 1), (0, 2, 2)]
            };
            assert_eq!(ports, expected, "version {version}");
        }
    }
}

#[test]
fn the_first_fragment_is_forgotten_after_a_while() {
    let config = FlowConfig {
        follow_fragments: true,
        start_records: false,
        ..FlowConfig::default()
    };
    let mut meter = FlowMeter::new(config).unwrap();
    let mut seen = Ended::default();
    let [first, mut later] = fragments(4, 1);
    later.nanos = first.nanos + 31 * SECOND;
    meter.push(&first.packet(), &mut seen);
    meter.push(&later.packet(), &mut seen);
    meter.finish(&mut seen);
    assert_eq!(seen.0.len(), 2);
}

#[derive(Default)]
struct Ended(Vec<FlowRecord>);

impl FlowHandler for Ended {
    fn flow(&mut self, _: Timestamp, record: &FlowRecord) {
        self.0.push(record.clone());
    }
}

/// What is worked out of a connection with a bulk transfer, of which one packet in a hundred was kept.
#[test]
fn counts_of_a_sample_are_scaled_and_bulks_are_found() {
    let mut frames = vec![
        tcp(0, true, SYN, 99, &[]),
        tcp(10, false, SYN | ACK, 499, &[]),
        tcp(30, true, ACK, 100, &[]),
        tcp(
            40,
            true,
            ACK | PSH,
            100,
            b"GET /large HTTP/1.1\r\nHost: example.org\r\n\r\n",
        ),
    ];
    for n in 0..5_u8 {
        let at = 2 * SECOND + i64::from(n) * 1000;
        frames.push(tcp(at, false, ACK, 500 + u32::from(n) * 100, &[n; 100]));
    }
    let config = FlowConfig {
        sampling_rate: 100,
        entropy_bytes: 300,
        ..FlowConfig::default()
    };
    let mut seen = Seen::default();
    let mut meter = FlowMeter::new(config).unwrap();
    for frame in &frames {
        meter.push(&frame.packet(), &mut seen);
    }
    meter.finish(&mut seen);
    let (_, record) = seen.flows.last().unwrap();
    assert_eq!(
        (record.forward.packets, record.scaled(record.forward.packets)),
        (3, 300)
    );
    assert_eq!(
        record.scaled(record.backward.bytes()),
        100 * record.backward.bytes()
    );
    assert_eq!(record.subflows, 2);
    let bulk = record.backward.bulk;
    assert_eq!(
        (bulk.count, bulk.packets, bulk.bytes, bulk.duration_ns),
        (1, 5, 500, 4000)
    );
    assert_eq!(record.forward.bulk.count, 0);
    assert_eq!(
        (record.forward.header_min, record.backward.first),
        (40, Some(Timestamp::from_nanos(10)))
    );
    // Three values, a hundred times each; of the first 300 bytes.
    let entropy = record.backward.entropy.unwrap();
    assert!((entropy - 3_f64.log2()).abs() < 1e-9, "{entropy}");
    let request = record.http.as_ref().unwrap();
    assert_eq!(
        (request.method.as_str(), request.host.as_str()),
        ("GET", "example.org")
    );
    let wrong = FlowConfig {
        sampling_rate: 0,
        ..FlowConfig::default()
    };
    assert_eq!(wrong.validate().unwrap_err().key, "sampling_rate");
}
