//! How much memory do a million concurrent flows take, and how long does the slowest packet wait?
//!
//! `-- --flows N` sets the number (default 1 000 000). Packets are UDP over IPv4, each flow between two addresses of its
//! own, handed to the meter in memory. Phases, each with as many packets as flows:
//!
//! - `new`: every packet begins a flow;
//! - `known`: every packet belongs to a flow that is open, in random order;
//! - `evict`: the table is full, and every packet begins a flow and ends the one unused for longest;
//! - `expire`: the time goes on, so that all old flows end at their idle time-out while new packets come.
//!
//! Times are of single packets, the clock's own 20 to 50 ns included. A machine that does other things at the same time
//! shows in the largest ones.
#![allow(clippy::unwrap_used, reason = "a bench may panic")]

use std::time::Instant;

use amoskys_collectors::capture::{LinkType, Packet};
use amoskys_collectors::flow::{FlowConfig, FlowHandler, FlowMeter};
use amoskys_core::Timestamp;
use amoskys_core::event::FlowRecord;

/// Counts the records, so that they have to be made.
#[derive(Default)]
struct Count(u64);

impl FlowHandler for Count {
    fn flow(&mut self, _: Timestamp, record: &FlowRecord) {
        self.0 += std::hint::black_box(record).packets().min(1);
    }
}

/// One frame, whose addresses are changed from packet to packet.
struct Frame([u8; 60]);

impl Frame {
    fn new() -> Self {
        let mut frame = [0; 60];
        frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
        frame[14..24].copy_from_slice(&[0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17]);
        frame[34..42].copy_from_slice(&[0x30, 0x39, 0, 9, 0, 26, 0, 0]);
        Self(frame)
    }

    fn packet(&mut self, flow: u32, nanos: i64) -> Packet<'_> {
        self.0[26..30].copy_from_slice(&(0x0a00_0000 + flow % (1 << 24)).to_be_bytes());
        self.0[30..34].copy_from_slice(&(0xac10_0000 + flow / (1 << 24)).to_be_bytes());
        Packet {
            time: Timestamp::from_nanos(nanos),
            link: LinkType::ETHERNET,
            wire_len: 60,
            data: &self.0,
            ..Packet::default()
        }
    }
}

/// Resident memory of this process, in bytes.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}

struct Scale {
    meter: FlowMeter,
    frame: Frame,
    count: Count,
    /// Nanoseconds of each packet of a phase.
    times: Vec<u32>,
    now: i64,
}

impl Scale {
    fn phase(&mut self, name: &str, flows: impl Iterator<Item = u32>, step: i64) {
        self.times.clear();
        let records = self.count.0;
        let begun = Instant::now();
        for flow in flows {
            self.now += step;
            let packet = self.frame.packet(flow, self.now);
            let started = Instant::now();
            self.meter.push(&packet, &mut self.count);
            self.times
                .push(u32::try_from(started.elapsed().as_nanos()).unwrap_or(u32::MAX));
        }
        let whole = begun.elapsed();
        let rate = self.times.len() as f64 / whole.as_secs_f64() / 1e6;
        self.times.sort_unstable();
        let at = |share: f64| self.times[((self.times.len() - 1) as f64 * share) as usize];
        println!(
            "{name:<8}  {rate:>8.2}  {:>8}  {:>8}  {:>8}  {:>10}  {:>9}",
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0),
            self.count.0 - records
        );
    }
}

/// The number after an argument of this name.
fn argument(name: &str) -> Option<u32> {
    std::env::args()
        .skip_while(|argument| argument != name)
        .nth(1)?
        .parse()
        .ok()
}

fn main() {
    // `cargo test` runs benches to see that they start.
    let is_test = std::env::args().any(|argument| argument == "--test");
    let flows = argument("--flows")
        .unwrap_or(if is_test { 1000 } else { 1_000_000 })
        .max(16);
    let config = FlowConfig {
        max_flows: flows,
        ..FlowConfig::default()
    };
    let mut scale = Scale {
        meter: FlowMeter::new(config).unwrap(),
        frame: Frame::new(),
        count: Count::default(),
        times: Vec::with_capacity(flows as usize),
        now: 1_700_000_000_000_000_000,
    };
    // The memory for the times is there before, and touched.
    scale.times.resize(flows as usize, 1);
    let before = resident();
    println!("{flows} flows; times in ns");
    println!(
        "{:<8}  {:>8}  {:>8}  {:>8}  {:>8}  {:>10}  {:>9}",
        "phase", "M pkt/s", "p50", "p99", "p99.9", "max", "records"
    );
    scale.phase("new", 0..flows, 1_000);
    if let (Some(before), Some(after)) = (before, resident()) {
        let bytes = after.saturating_sub(before);
        println!(
            "memory    {:.0} MB, {} bytes a flow",
            bytes as f64 / 1e6,
            bytes / u64::from(flows)
        );
    }
    let mut state = 7_u32;
    let random = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state % flows
    });
    scale.phase("known", random.take(flows as usize), 1_000);
    scale.phase("evict", flows..2 * flows, 1_000);
    // All flows of before end within these two minutes.
    let step = 120_000_000_000 / i64::from(flows);
    scale.phase("expire", (0..flows).map(|packet| 2 * flows + packet % 1000), step);
    if let (Some(before), Some(after)) = (before, resident()) {
        println!(
            "memory    {:.0} MB at the end",
            after.saturating_sub(before) as f64 / 1e6
        );
    }
}
