//! Real captures, from the folder that `AMOSKYS_DATA` names: flows must equal the truth that TShark gave, and no
//! damaged copy of a capture may make a reader panic, hang or grow. Skipped without the folder.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use amoskys_collectors::capture::CaptureReader;
use amoskys_collectors::flow::{FlowConfig, FlowHandler, FlowMeter, TunnelMode};
use amoskys_core::Timestamp;
use amoskys_core::event::{FlowKey, FlowPhase, FlowRecord};

/// The captures, with their name and truth.
fn captures() -> Vec<(String, Vec<u8>, String)> {
    let Some(data) = std::env::var_os("AMOSKYS_DATA") else {
        eprintln!("skipped: AMOSKYS_DATA is not set");
        return Vec::new();
    };
    let base = PathBuf::from(data).join("pcap");
    let mut captures = Vec::new();
    for folder in ["benign", "attack", "derived"] {
        for entry in fs::read_dir(base.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let truth = fs::read_to_string(base.join("truth").join(format!("{name}.flows.csv"))).unwrap();
            captures.push((name, fs::read(path).unwrap(), truth));
        }
    }
    captures.sort();
    captures
}

/// Key, then what is counted of a flow.
type Counts = BTreeMap<(FlowKey, Vec<u64>), u32>;

/// What the truth counts of each direction, by the names of its columns.
const COUNTED: [&str; 9] = [
    "packets",
    "ip_bytes",
    "frame_bytes",
    "fin",
    "syn",
    "rst",
    "psh",
    "ack",
    "urg",
];

#[derive(Default)]
struct Ends(Counts);

impl FlowHandler for Ends {
    fn flow(&mut self, _: Timestamp, record: &FlowRecord) {
        if let FlowPhase::End(_) = record.phase {
            let sides = [&record.forward, &record.backward];
            let tcp = record.tcp.as_ref();
            let flags = [
                tcp.map(|tcp| tcp.forward.flags),
                tcp.map(|tcp| tcp.backward.flags),
            ];
            let mut counts = vec![record.forward.fragments + record.backward.fragments];
            for (side, flags) in sides.into_iter().zip(flags) {
                let flags = flags.unwrap_or_default();
                counts.extend([side.packets, side.bytes(), side.frame_bytes]);
                counts.extend([flags.fin, flags.syn, flags.rst, flags.psh, flags.ack, flags.urg]);
            }
            *self.0.entry((record.key, counts)).or_default() += 1;
        }
    }
}

fn meter(capture: &[u8], config: FlowConfig) -> Counts {
    let mut ends = Ends::default();
    let mut meter = FlowMeter::new(config).unwrap();
    if let Ok(mut reader) = CaptureReader::new(capture) {
        while let Some(packet) = reader.next_packet().unwrap() {
            meter.push(&packet, &mut ends);
        }
    }
    meter.finish(&mut ends);
    let stats = meter.stats();
    assert_eq!(stats.packets, stats.metered + stats.arp + stats.skipped_total());
    ends.0
}

fn truth(csv: &str) -> Counts {
    let mut lines = csv.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let mut counts = Counts::new();
    for line in lines {
        let fields: BTreeMap<&str, &str> = names.iter().copied().zip(line.split(',')).collect();
        let number = |name: &str| fields[name].parse::<u64>().unwrap_or(0);
        let key = FlowKey {
            source: fields["src_ip"].parse::<IpAddr>().unwrap(),
            source_port: number("src_port") as u16,
            destination: fields["dst_ip"].parse::<IpAddr>().unwrap(),
            destination_port: number("dst_port") as u16,
            protocol: number("protocol") as u8,
        };
        let mut each = vec![number("fragments")];
        for side in ["fwd", "rev"] {
            each.extend(COUNTED.map(|name| number(&format!("{side}_{name}"))));
        }
        *counts.entry((key, each)).or_default() += 1;
    }
    counts
}

#[test]
fn flows_equal_the_truth() {
    for (name, capture, flows) in captures() {
        let config = FlowConfig {
            never_expire: true,
            ..FlowConfig::default()
        };
        assert_eq!(meter(&capture, config), truth(&flows), "{name}");
    }
}

fn file_of_truth(name: &str, kind: &str) -> Option<String> {
    let base = PathBuf::from(std::env::var_os("AMOSKYS_DATA")?).join("pcap/truth");
    fs::read_to_string(base.join(format!("{name}.{kind}.csv"))).ok()
}

#[test]
fn inner_flows_equal_the_truth() {
    let mut compared = 0;
    for (name, capture, flows) in captures() {
        // sFlow quotes the headers of packets, which are not traffic inside a tunnel.
        let inner = file_of_truth(&name, "flows_inner").filter(|_| !name.contains("sflow"));
        let config = |tunnels| FlowConfig {
            never_expire: true,
            tunnels,
            ..FlowConfig::default()
        };
        let found = meter(&capture, config(TunnelMode::Inner));
        assert_eq!(found, truth(inner.as_deref().unwrap_or(&flows)), "{name}");
        compared += u32::from(inner.is_some());
        // Both: the outer flows are all there, and so are the inner ones that are not outer ones.
        let both = meter(&capture, config(TunnelMode::Both));
        let outer = truth(&flows);
        assert!(
            outer.iter().all(|(flow, count)| both.get(flow) == Some(count)),
            "{name}"
        );
        if inner.is_some() {
            assert!(both.len() > outer.len(), "{name}");
        }
    }
    assert!(std::env::var_os("AMOSKYS_DATA").is_none() || compared >= 7);
}

/// Records at their ends.
#[derive(Default)]
struct Records(Vec<FlowRecord>);

impl FlowHandler for Records {
    fn flow(&mut self, _: Timestamp, record: &FlowRecord) {
        if let FlowPhase::End(_) = record.phase {
            self.0.push(record.clone());
        }
    }
}

fn records(capture: &[u8]) -> Vec<FlowRecord> {
    let config = FlowConfig {
        never_expire: true,
        ..FlowConfig::default()
    };
    let mut records = Records::default();
    let mut meter = FlowMeter::new(config).unwrap();
    let mut reader = CaptureReader::new(capture).unwrap();
    while let Some(packet) = reader.next_packet().unwrap() {
        meter.push(&packet, &mut records);
    }
    meter.finish(&mut records);
    records.0
}

/// NFStream's statistics: lengths are of whole frames there, so those compared are what does not depend on it; times
/// are rounded down to milliseconds.
#[test]
fn statistics_equal_those_of_nfstream() {
    let (mut compared, mut in_time, mut skipped) = (0, 0, 0);
    for (name, capture, _) in captures() {
        let Some(csv) = file_of_truth(&name, "nfstream") else {
            continue;
        };
        let mut lines = csv.lines();
        let names: Vec<&str> = lines.next().unwrap().split(',').collect();
        let rows: Vec<BTreeMap<&str, &str>> = lines
            .map(|line| names.iter().copied().zip(line.split(',')).collect())
            .collect();
        for record in records(&capture) {
            let key = record.key;
            let mut same = rows.iter().filter(|row| {
                let is = |name: &str, value: u64| row[name].parse() == Ok(value);
                row["src_ip"].parse() == Ok(key.source)
                    && row["dst_ip"].parse() == Ok(key.destination)
                    && is("src_port", key.source_port.into())
                    && is("dst_port", key.destination_port.into())
                    && is("protocol", key.protocol.into())
                    && is("src2dst_packets", record.forward.packets)
                    && is("dst2src_packets", record.backward.packets)
                    && is(
                        "bidirectional_bytes",
                        record.forward.frame_bytes + record.backward.frame_bytes,
                    )
            });
            let (Some(row), None) = (same.next(), same.next()) else {
                skipped += 1;
                continue;
            };
            compared += 1;
            // Its clock never goes back: in a file whose clock does, it takes another time for the packets.
            let millis = |time: Timestamp| time.nanos().div_euclid(1_000_000);
            let same_times = row["bidirectional_first_seen_ms"].parse() == Ok(millis(record.first))
                && row["bidirectional_last_seen_ms"].parse() == Ok(millis(record.last));
            in_time += u32::from(same_times);
            compare(&name, &record, row, same_times);
        }
    }
    eprintln!("{compared} flows compared with NFStream, {in_time} with times; {skipped} it sees otherwise");
    assert!(std::env::var_os("AMOSKYS_DATA").is_none() || (compared > 2000 && in_time > 2000));
}

fn compare(name: &str, record: &FlowRecord, row: &BTreeMap<&str, &str>, times: bool) {
    let number = |column: &str| row[column].parse::<f64>().unwrap();
    let near = |what: &str, ours: f64, theirs: f64, tolerance: f64| {
        assert!(
            (ours - theirs).abs() <= tolerance,
            "{name} {}: {what} is {ours}, NFStream has {theirs}",
            record.key
        );
    };
    // Frames on one link differ from packets by the link header, but for padding of short ones.
    let even = |side: &amoskys_core::event::FlowDirection| {
        let extra = side.frame_bytes.checked_sub(side.bytes())?;
        (side.packets > 0 && extra.is_multiple_of(side.packets)).then(|| extra / side.packets)
    };
    for (prefix, side) in [("src2dst", &record.forward), ("dst2src", &record.backward)] {
        let column = |name: &str| format!("{prefix}_{name}");
        if let Some(link) = even(side).filter(|link| (*link == 14 || *link == 18) && side.lengths.min > 46) {
            near(
                "length min",
                (side.lengths.min + link) as f64,
                number(&column("min_ps")),
                0.0,
            );
            near(
                "length max",
                (side.lengths.max + link) as f64,
                number(&column("max_ps")),
                0.0,
            );
            near(
                "length mean",
                side.lengths.mean() + link as f64,
                number(&column("mean_ps")),
                1e-6,
            );
            near(
                "length deviation",
                side.lengths.std_dev,
                number(&column("stddev_ps")),
                1e-5 * side.lengths.std_dev.max(1.0),
            );
        }
        if times {
            // Each time stamp is up to a millisecond off, so each gap is.
            let ms = 1e6;
            near(
                "gap max",
                side.gaps.max as f64 / ms,
                number(&column("max_piat_ms")),
                1.0,
            );
            near(
                "gap min",
                side.gaps.min as f64 / ms,
                number(&column("min_piat_ms")),
                1.0,
            );
            near(
                "gap mean",
                side.gaps.mean() / ms,
                number(&column("mean_piat_ms")),
                1.0,
            );
            near(
                "gap deviation",
                side.gaps.std_dev / ms,
                number(&column("stddev_piat_ms")),
                1.5,
            );
            let duration = match (side.first, side.last) {
                (Some(first), Some(last)) => last.since(first).as_secs_f64() * 1e3,
                _ => 0.0,
            };
            near("duration", duration, number(&column("duration_ms")), 1.0);
        }
        let Some(tcp) = &record.tcp else { continue };
        let flags = if prefix == "src2dst" {
            tcp.forward.flags
        } else {
            tcp.backward.flags
        };
        for (flag, count) in [
            ("syn", flags.syn),
            ("fin", flags.fin),
            ("rst", flags.rst),
            ("psh", flags.psh),
            ("ack", flags.ack),
            ("urg", flags.urg),
            ("ece", flags.ece),
            ("cwr", flags.cwr),
        ] {
            near(
                flag,
                count as f64,
                number(&column(&format!("{flag}_packets"))),
                0.0,
            );
        }
    }
    if times {
        near(
            "gaps",
            record.gaps.max as f64 / 1e6,
            number("bidirectional_max_piat_ms"),
            1.0,
        );
    }
}

/// What is known to be in the captures, besides: of a file, how many clients began TLS or QUIC and how many sent a
/// request, and what one of them said.
#[test]
fn clients_name_their_servers() {
    let known = [
        (
            "ndpi__tls_ech.pcapng",
            1,
            0,
            "tcp performance.radar.cloudflare.com h2,http/1.1",
        ),
        ("ndpi__quic-29.pcap", 1, 0, "quic localhost h3-29"),
        ("ndpi__quic-v2.pcapng", 1, 0, "quic test h3"),
        (
            "ndpi__tls_certificate_too_long.pcap",
            8,
            2,
            "tcp wdcp.microsoft.com h2,http/1.1",
        ),
        ("ndpi__WebattackSQLinj.pcap", 0, 9, "GET 205.174.165.68"),
        ("zeek__tcp__handshake-reorder.pcap", 0, 1, "GET bro.org"),
    ];
    for (name, capture, _) in captures() {
        let Some((_, tls, http, said)) = known.iter().find(|(known, ..)| *known == name) else {
            continue;
        };
        let mut counts = (0, 0);
        let mut found = false;
        for record in records(&capture) {
            if let Some(hello) = &record.tls {
                let over = if hello.quic { "quic" } else { "tcp" };
                // A file whose QUIC is not read has no such client.
                found |= format!("{over} {} {}", hello.server_name, hello.alpn) == *said;
                assert!(
                    hello.ja4.len() == 36 && hello.ja4.starts_with(&over[..1]),
                    "{hello:?}"
                );
                counts.0 += 1;
            }
            if let Some(request) = &record.http {
                found |= format!("{} {}", request.method, request.host) == *said;
                counts.1 += 1;
            }
        }
        if !said.starts_with("quic") || cfg!(feature = "quic") {
            assert_eq!((counts, found), ((*tls, *http), true), "{name}");
        }
    }
}

#[test]
fn damaged_copies_do_no_harm() {
    // A few hundred copies of each file, always the same ones.
    for (name, capture, _) in captures() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ capture.len() as u64;
        let mut random = |below: usize| {
            state = state
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            (state >> 33) as usize % below.max(1)
        };
        let started = Instant::now();
        let rounds = if capture.len() < 20_000 { 200 } else { 50 };
        for _ in 0..rounds {
            let cut = random(capture.len());
            meter(&capture[..cut], FlowConfig::default());
            let mut flipped = capture.clone();
            for _ in 0..=random(40) {
                let at = random(flipped.len());
                flipped[at] ^= 1 << random(8);
            }
            meter(&flipped, FlowConfig::default());
            // The headers decide what is read as what, so damage there is worth more tries.
            let mut begun = capture.clone();
            let at = random(200.min(begun.len()));
            begun[at] = random(256) as u8;
            meter(&begun, FlowConfig::default());
        }
        let each = started.elapsed() / (3 * rounds);
        assert!(each < Duration::from_secs(1), "{name}: {each:?} for one copy");
    }
}
