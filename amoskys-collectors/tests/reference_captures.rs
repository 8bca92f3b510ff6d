//! Real captures, from the folder that `AMOSKYS_DATA` names: flows must equal the truth that TShark gave, and no
//! damaged copy of a capture may make a reader panic, hang or grow. Skipped without the folder.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use amoskys_collectors::capture::CaptureReader;
use amoskys_collectors::flow::{FlowConfig, FlowHandler, FlowMeter};
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
