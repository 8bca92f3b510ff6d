//! Live capture from real interfaces: the loopback interface, and a pair of virtual ones. Needs CAP_NET_RAW, and
//! root for the pair. Without, the tests say so and pass, unless `AMOSKYS_REQUIRE_PEERS=1`.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/pair.rs"]
mod pair;

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::process::Command;
use std::time::{Duration, Instant};

use amoskys_collectors::capture::{LinkType, LiveCapture, LiveConfig, LiveError, Packet};
use amoskys_collectors::flow::{FlowCollector, FlowConfig, FlowHandler, FlowMeter};
use amoskys_collectors::packet::{Decoded, decode};
use amoskys_core::event::{FlowPhase, FlowRecord, Payload};
use amoskys_core::{Collector, Shutdown, Timestamp};
use pair::{Pair, run};

fn skip(why: &str) {
    assert_ne!(
        std::env::var("AMOSKYS_REQUIRE_PEERS").as_deref(),
        Ok("1"),
        "required, but {why}"
    );
    eprintln!("skipped: {why}");
}

/// `None`, having said so, where this process may not capture.
fn open(interface: &str, config: &LiveConfig) -> Option<LiveCapture> {
    match LiveCapture::open(interface, config) {
        Ok(capture) => Some(capture),
        Err(error @ LiveError::Privileges { .. }) => {
            skip(&error.to_string());
            None
        }
        Err(error) => panic!("{error:?}"),
    }
}

/// Sends `count` datagrams of `bytes` over the loopback interface, from the port of one socket to that of another.
fn send(count: usize, bytes: usize) -> (u16, u16) {
    let (from, to) = (
        UdpSocket::bind("127.0.0.1:0").unwrap(),
        UdpSocket::bind("127.0.0.1:0").unwrap(),
    );
    let address = to.local_addr().unwrap();
    for _ in 0..count {
        from.send_to(&vec![7; bytes], address).unwrap();
    }
    (from.local_addr().unwrap().port(), address.port())
}

/// Counts UDP packets between two ports until there have been none for a while.
fn count(capture: &mut LiveCapture, ports: (u16, u16)) -> u64 {
    let mut seen = 0;
    let mut quiet = 0;
    while quiet < 4 {
        let before = seen;
        capture.wait(Duration::from_millis(100)).unwrap();
        while let Some(packet) = capture.next_packet() {
            if let Decoded::Ip(ip) = decode(&packet)
                && ip.ports() == ports
            {
                assert_eq!(ip.source(), ip.destination());
                seen += 1;
            }
        }
        quiet = if seen == before { quiet + 1 } else { 0 };
    }
    seen
}

#[test]
fn each_packet_on_the_loopback_interface_is_seen_once() {
    let Some(mut capture) = open("lo", &LiveConfig::default()) else {
        return;
    };
    let ports = send(1000, 300);
    assert_eq!(count(&mut capture, ports), 1000);
    assert_eq!(capture.take_drops().unwrap(), 0);
}

#[test]
fn packets_are_cut_to_the_snap_length_but_keep_their_size() {
    let config = LiveConfig {
        snap_bytes: 128,
        ..LiveConfig::default()
    };
    let Some(mut capture) = open("lo", &config) else {
        return;
    };
    let ports = send(3, 5000);
    capture.wait(Duration::from_secs(5)).unwrap();
    let mut seen = 0;
    while let Some(packet) = capture.next_packet() {
        let Decoded::Ip(ip) = decode(&packet) else {
            continue;
        };
        if ip.ports() == ports {
            assert_eq!(
                (packet.data.len(), packet.wire_len, ip.length()),
                (128, 5042, 5028)
            );
            seen += 1;
        }
    }
    assert_eq!(seen, 3);
}

#[test]
fn what_the_kernel_drops_is_counted() {
    let config = LiveConfig {
        ring_bytes: 512 << 10,
        ..LiveConfig::default()
    };
    let Some(mut capture) = open("lo", &config) else {
        return;
    };
    // Four times what fits, while nobody reads.
    let sent = 1400;
    let ports = send(sent, 1400);
    let seen = count(&mut capture, ports);
    let drops = capture.take_drops().unwrap();
    assert!(drops > 0 && seen > 0);
    // Other traffic on the interface may have been dropped too.
    assert!(
        seen + drops >= sent as u64,
        "{seen} seen and {drops} dropped of {sent}"
    );
    assert_eq!(capture.take_drops().unwrap(), 0, "drops are told once");
}

#[test]
fn a_missing_interface_and_wrong_settings_are_refused() {
    let missing = LiveCapture::open("no such thing", &LiveConfig::default());
    assert!(matches!(missing, Err(LiveError::NoInterface { .. })));
    let tiny = LiveConfig {
        ring_bytes: 1,
        ..LiveConfig::default()
    };
    assert!(matches!(
        LiveCapture::open("lo", &tiny),
        Err(LiveError::Setting {
            key: "ring_bytes",
            ..
        })
    ));
}

#[tokio::test]
async fn the_collector_reports_flows_while_they_last_and_ends_them_when_stopped() {
    if open("lo", &LiveConfig::default()).is_none() {
        return;
    }
    let stop = Shutdown::new();
    let mut flows = FlowCollector::from_interface("lo", LiveConfig::default()).with_stop(stop.clone());
    let (from, to) = (
        UdpSocket::bind("127.0.0.1:0").unwrap(),
        UdpSocket::bind("127.0.0.1:0").unwrap(),
    );
    let key = (from.local_addr().unwrap().port(), to.local_addr().unwrap().port());
    let deadline = Instant::now() + Duration::from_secs(20);
    let (mut started, mut ended, mut punctuations) = (false, None, 0);
    // The capture starts with the first call, so keep sending until it sees something.
    loop {
        assert!(Instant::now() < deadline, "no flow was reported");
        from.send_to(b"hello", to.local_addr().unwrap()).unwrap();
        let next = tokio::time::timeout(Duration::from_millis(50), flows.next_batch()).await;
        let batch = match next {
            Err(_) => continue,
            Ok(batch) => batch.unwrap(),
        };
        let Some(batch) = batch else { break };
        assert!(batch.position.is_none());
        for event in &batch.events {
            match &event.payload {
                Payload::Flow(flow) if (flow.key.source_port, flow.key.destination_port) == key => {
                    match flow.phase {
                        FlowPhase::Start => started = true,
                        FlowPhase::End(_) => ended = Some(flow.packets()),
                        _ => {}
                    }
                }
                Payload::Punctuation(_) => punctuations += 1,
                _ => {}
            }
        }
        if started && punctuations > 1 {
            stop.trigger();
        }
    }
    assert!(
        ended.is_some_and(|packets| packets > 1),
        "the flow was ended when the collector was stopped"
    );
}

/// Gives the inside an address, and a neighbour to send to.
fn address(pair: &Pair) -> bool {
    let name = &pair.name;
    let made = [
        format!("ip -n {name} addr add 198.18.7.1/24 dev inside"),
        format!("ip -n {name} neigh add 198.18.7.2 lladdr 02:00:00:00:00:98 dev inside"),
    ];
    made.iter().all(|line| run(line))
}

/// Sends a datagram from each of these ports, so many times.
fn send_inside(pair: &Pair, ports: std::ops::Range<u16>, times: u32) {
    let send = format!(
        "for p in $(seq {} {}); do for n in $(seq {times}); do echo hello > /dev/udp/198.18.7.2/$p; done; done",
        ports.start,
        ports.end - 1
    );
    let sent = pair.inside("bash").args(["-c", &send]).status().unwrap();
    assert!(sent.success());
}

/// Adds an interface for VLAN 5 inside; false if the kernel cannot.
fn tag(pair: &Pair) -> bool {
    let name = &pair.name;
    let made = [
        format!("ip -n {name} link add link inside name tagged type vlan id 5"),
        format!("ip -n {name} addr add 198.18.5.1/24 dev tagged"),
        format!("ip -n {name} link set tagged up"),
        format!("ip -n {name} neigh add 198.18.5.2 lladdr 02:00:00:00:00:99 dev tagged"),
    ];
    made.iter().all(|line| run(line))
}

#[test]
fn rings_share_the_packets_and_each_flow_stays_with_one() {
    let Some(pair) = Pair::new().filter(address) else {
        return skip("virtual interfaces cannot be made (needs root and the ip command)");
    };
    let mut rings = match LiveCapture::open_shared(&pair.name, &LiveConfig::default(), 3) {
        Ok(rings) => rings,
        Err(error @ LiveError::Privileges { .. }) => return skip(&error.to_string()),
        Err(error) => panic!("{error:?}"),
    };
    send_inside(&pair, 2000..2060, 3);
    // Ports by ring and how often each was seen.
    let mut seen: Vec<BTreeMap<u16, u32>> = vec![BTreeMap::new(); rings.len()];
    let deadline = Instant::now() + Duration::from_secs(5);
    let all = |seen: &[BTreeMap<u16, u32>]| seen.iter().flat_map(BTreeMap::values).sum::<u32>();
    while all(&seen) < 180 && Instant::now() < deadline {
        for (ring, seen) in rings.iter_mut().zip(&mut seen) {
            ring.wait(Duration::from_millis(20)).unwrap();
            while let Some(packet) = ring.next_packet() {
                if let Decoded::Ip(ip) = decode(&packet)
                    && (2000..2060).contains(&ip.ports().1)
                {
                    *seen.entry(ip.ports().1).or_default() += 1;
                }
            }
        }
    }
    assert_eq!(all(&seen), 180, "each packet is seen once: {seen:?}");
    // The source port is another one for each datagram, so that they are flows of their own; all rings have some.
    assert!(seen.iter().all(|seen| !seen.is_empty()), "{seen:?}");
    for ring in &mut rings {
        assert_eq!(ring.take_drops().unwrap(), 0);
    }
}

#[tokio::test]
async fn several_threads_meter_an_interface_as_one() {
    let Some(pair) = Pair::new().filter(address) else {
        return skip("virtual interfaces cannot be made (needs root and the ip command)");
    };
    if open(&pair.name, &LiveConfig::default()).is_none() {
        return;
    }
    let stop = Shutdown::new();
    let mut flows = FlowCollector::from_interface(&pair.name, LiveConfig::default())
        .with_threads(3)
        .with_stop(stop.clone());
    let mut ended = BTreeMap::new();
    let mut numbers = std::collections::BTreeSet::new();
    let (mut used, mut stated) = (0, None);
    let (mut sent, deadline) = (false, Instant::now() + Duration::from_secs(20));
    loop {
        assert!(Instant::now() < deadline, "the collector did not end");
        let next = tokio::time::timeout(Duration::from_millis(500), flows.next_batch()).await;
        let Ok(batch) = next else {
            // It is silent, so it captures.
            if !sent {
                send_inside(&pair, 3000..3040, 2);
                sent = true;
            } else {
                stop.trigger();
            }
            continue;
        };
        let Some(batch) = batch.unwrap() else { break };
        used += batch.tally.used;
        for event in batch.events {
            match event.payload {
                Payload::Flow(flow) if (3000..3040).contains(&flow.key.destination_port) => {
                    if let FlowPhase::End(_) = flow.phase {
                        *ended.entry(flow.key.destination_port).or_insert(0) += flow.packets();
                        assert!(numbers.insert(flow.flow), "flow {} twice", flow.flow);
                    }
                }
                Payload::Punctuation(_) => {
                    assert!(stated.is_none_or(|stated| stated <= event.time), "time goes back");
                    stated = Some(event.time);
                    // Then it is captured, even if it says so all the time.
                    if !sent {
                        send_inside(&pair, 3000..3040, 2);
                        sent = true;
                    } else if ended.is_empty() && used >= 80 {
                        stop.trigger();
                    }
                }
                Payload::Loss(loss) => panic!("{loss:?}"),
                _ => {}
            }
        }
    }
    assert_eq!(ended, (3000..3040).map(|port| (port, 2)).collect());
    assert!(used >= 80 && stated.is_some());
}

#[test]
fn a_vlan_tag_that_the_kernel_took_out_is_seen() {
    let Some(pair) = Pair::new() else {
        return skip("virtual interfaces cannot be made (needs root and the ip command)");
    };
    if !tag(&pair) {
        // No package brings it, so this is no missing peer.
        eprintln!("skipped: this kernel has no VLAN devices");
        return;
    }
    let Some(mut capture) = open(&pair.name, &LiveConfig::default()) else {
        return;
    };
    let send = "for n in 1 2 3 4 5; do echo hello > /dev/udp/198.18.5.2/9; done";
    let sent = pair.inside("bash").args(["-c", send]).status().unwrap();
    assert!(sent.success());
    let mut tags = BTreeMap::new();
    let deadline = Instant::now() + Duration::from_secs(5);
    while tags.values().sum::<u32>() < 5 && Instant::now() < deadline {
        capture.wait(Duration::from_millis(100)).unwrap();
        while let Some(packet) = capture.next_packet() {
            let Decoded::Ip(ip) = decode(&packet) else {
                continue;
            };
            if ip.ports().1 == 9 {
                *tags.entry(packet.stripped_vlan).or_insert(0) += 1;
            }
        }
    }
    assert_eq!(tags, BTreeMap::from([(Some(5), 5)]));
}

/// Keeps all records.
#[derive(Default)]
struct Records(Vec<(Timestamp, FlowRecord)>);

impl FlowHandler for Records {
    fn flow(&mut self, time: Timestamp, record: &FlowRecord) {
        self.0.push((time, record.clone()));
    }
}

/// As a ring hands them over: so many at once, of more flows than stay near the core.
#[test]
fn packets_metered_at_once_make_the_records_of_packets_metered_one_by_one() {
    let frames: Vec<[u8; 60]> = (0..60_000u32)
        .map(|n| {
            let mut frame = [0; 60];
            frame[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17]);
            frame[26..34].copy_from_slice(&[10, 0, (n / 1000 % 25) as u8, 1, 10, 0, 0, 2]);
            let port = 1000 + u16::try_from(n % 1000).unwrap();
            frame[34..36].copy_from_slice(&port.to_be_bytes());
            frame[36..38].copy_from_slice(&[0, 9]);
            // Some are no packets.
            frame[14] -= u8::from(n % 997 == 0);
            frame
        })
        .collect();
    let packets = |part: std::ops::Range<usize>| {
        let start = part.start;
        frames[part].iter().enumerate().map(move |(n, data)| {
            // Some are late, and one is far ahead.
            let number = (start + n) as i64;
            let late = if number % 501 == 0 { 2_000_000 } else { 0 };
            let ahead = if number == 40_000 { 9_000_000_000_000 } else { 0 };
            Packet {
                time: Timestamp::from_nanos(1_000_000 * number - late + ahead),
                link: LinkType::ETHERNET,
                wire_len: 60,
                data,
                ..Packet::default()
            }
        })
    };
    let config = FlowConfig {
        idle_timeout: Duration::from_secs(20),
        ..FlowConfig::default()
    };
    let (mut one, mut all) = (Records::default(), Records::default());
    let mut meter = FlowMeter::new(config.clone()).unwrap();
    for packet in packets(0..frames.len()) {
        meter.push(&packet, &mut one);
    }
    meter.finish(&mut one);
    let mut blocks = FlowMeter::new(config).unwrap();
    for start in (0..frames.len()).step_by(1111) {
        blocks.push_packets(packets(start..frames.len().min(start + 1111)), &mut all);
    }
    blocks.finish(&mut all);
    assert_eq!(meter.stats(), blocks.stats());
    assert!(meter.stats().flows > 25_000 && meter.stats().skipped_total() > 0);
    assert!(one.0 == all.0, "{} and {} records", one.0.len(), all.0.len());
}

/// The test calls itself as a process without capabilities.
#[test]
fn without_the_capability_the_error_names_it() {
    const INNER: &str = "AMOSKYS_TEST_WITHOUT_CAPABILITIES";
    if std::env::var_os(INNER).is_some() {
        let alone = LiveCapture::open("lo", &LiveConfig::default()).unwrap_err();
        let shared = LiveCapture::open_shared("lo", &LiveConfig::default(), 2).unwrap_err();
        println!("alone {alone} shared {shared}");
        return;
    }
    let output = Command::new("setpriv")
        .args(["--bounding-set=-all", "--inh-caps=-all"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "without_the_capability_the_error_names_it",
            "--nocapture",
        ])
        .env(INNER, "1")
        .output();
    let Ok(output) = output else {
        return skip("setpriv is missing");
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() && said.is_empty() {
        return skip("capabilities cannot be given up here");
    }
    for opened in ["alone", "shared"] {
        let sentence = format!("{opened} could not capture on \"lo\": missing CAP_NET_RAW; give the process");
        assert!(said.contains(&sentence), "{said}");
    }
}
