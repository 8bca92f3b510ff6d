//! How many exported flow records a second are decoded on one core, and how many datagrams a second are received over
//! loopback without loss?
//!
//! Three parts: criterion's figures; the same by the thread's own processor time, which a busy machine does not spoil;
//! and a table of rates sent over loopback, where sender, receiver and reader share the cores. The kernel drops what
//! does not fit the receive buffer.
#![allow(clippy::unwrap_used, reason = "a bench may panic")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use amoskys_collectors::netflow::{
    ExportRecord, NetflowCollector, NetflowConfig, NetflowDecoder, NetflowHandler,
};
use amoskys_core::{Collector, DropReason, Shutdown, Tally, Timestamp};
use criterion::{Criterion, Throughput};
use rustix::time::{ClockId, clock_gettime};

/// What routers export of a flow: elements and lengths, 57 bytes.
const FIELDS: [(u16, u16); 20] = [
    (8, 4),
    (12, 4),
    (15, 4),
    (10, 4),
    (14, 4),
    (2, 4),
    (1, 4),
    (22, 4),
    (21, 4),
    (7, 2),
    (11, 2),
    (6, 1),
    (4, 1),
    (5, 1),
    (16, 4),
    (17, 4),
    (9, 1),
    (13, 1),
    (61, 1),
    (89, 3),
];
const RECORDS: usize = 24;

fn record(number: u32) -> Vec<u8> {
    let mut record = Vec::new();
    for (id, length) in FIELDS {
        let value = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (id % 8);
        record.extend(&value.to_be_bytes()[8 - usize::from(length)..]);
    }
    record
}

fn set(id: u16, body: &[u8]) -> Vec<u8> {
    let mut set = id.to_be_bytes().to_vec();
    set.extend((4 + body.len() as u16).to_be_bytes());
    set.extend(body);
    set
}

fn template() -> Vec<u8> {
    let numbers = [256, FIELDS.len() as u16]
        .into_iter()
        .chain(FIELDS.into_iter().flat_map(|(id, length)| [id, length]));
    numbers.flat_map(u16::to_be_bytes).collect()
}

/// A datagram of v5, v9 or IPFIX.
fn datagram(version: u16, sequence: u32, with_template: bool) -> Vec<u8> {
    let sets = match (version, with_template) {
        (5, _) => (0..RECORDS).flat_map(|_| [7; 48]).collect(),
        (9, true) => set(0, &template()),
        (_, true) => set(2, &template()),
        _ => set(256, &(0..RECORDS as u32).flat_map(record).collect::<Vec<_>>()),
    };
    let mut datagram = version.to_be_bytes().to_vec();
    if version == 10 {
        datagram.extend((16 + sets.len() as u16).to_be_bytes());
        datagram.extend(
            [1_700_000_000, sequence * RECORDS as u32, 1]
                .iter()
                .flat_map(|n: &u32| n.to_be_bytes()),
        );
    } else {
        datagram.extend((RECORDS as u16).to_be_bytes());
        let sequence = if version == 5 {
            sequence * RECORDS as u32
        } else {
            sequence
        };
        let words: &[u32] = match version {
            5 => &[100_000, 1_700_000_000, 0, sequence, 0],
            _ => &[100_000, 1_700_000_000, sequence, 1],
        };
        datagram.extend(words.iter().flat_map(|n| n.to_be_bytes()));
    }
    datagram.extend(sets);
    datagram
}

/// Makes a flow of every record, as a collector does.
struct Flows {
    attributes: bool,
}

impl NetflowHandler for Flows {
    fn flow(&mut self, record: &ExportRecord<'_>) {
        if self.attributes {
            let mut attributes = BTreeMap::new();
            black_box(record.flow(Some(&mut attributes)));
        } else {
            black_box(record.flow(None));
        }
    }
}

fn decoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("netflow_decode");
    group.throughput(Throughput::Elements(RECORDS as u64));
    for (version, name) in [(5, "v5"), (9, "v9"), (10, "ipfix")] {
        for (attributes, how) in [(false, "flows"), (true, "flows_and_attributes")] {
            let mut decoder = NetflowDecoder::new(NetflowConfig::default()).unwrap();
            let exporter = [192, 0, 2, 1].into();
            let mut handler = Flows { attributes };
            decoder.push(
                exporter,
                Timestamp::from_secs(1),
                &datagram(version, 0, true),
                &mut handler,
            );
            let datagram = datagram(version, 0, false);
            group.bench_function(format!("{name}/{how}"), |bencher| {
                bencher.iter(|| decoder.push(exporter, Timestamp::from_secs(1), &datagram, &mut handler));
            });
            assert!(decoder.stats().flows > 0);
        }
    }
    group.finish();
}

/// Records a second of the thread's processor time.
fn by_processor_time() {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    };
    println!("\nrecords a second of processor time:");
    for version in [5, 9, 10] {
        for attributes in [false, true] {
            let mut decoder = NetflowDecoder::new(NetflowConfig::default()).unwrap();
            let exporter = [192, 0, 2, 1].into();
            let mut handler = Flows { attributes };
            decoder.push(
                exporter,
                Timestamp::from_secs(1),
                &datagram(version, 0, true),
                &mut handler,
            );
            let datagram = datagram(version, 0, false);
            let (started, before) = (now(), decoder.stats().flows);
            while now() - started < 0.5 {
                for _ in 0..100 {
                    decoder.push(exporter, Timestamp::from_secs(1), &datagram, &mut handler);
                }
            }
            let rate = (decoder.stats().flows - before) as f64 / (now() - started);
            let what = if attributes {
                "with attributes"
            } else {
                "flows alone"
            };
            println!("{version:>4}  {what:<16}  {rate:>12.0}");
        }
    }
}

/// Sends v9 at a steady rate for a while; the share that arrived and became flows.
async fn receive(per_second: u32, time: Duration, attributes: bool) -> (u32, u64, u64) {
    let stop = Shutdown::new();
    let config = NetflowConfig {
        attributes,
        ..NetflowConfig::default()
    };
    let mut collector = NetflowCollector::bind("127.0.0.1:0", config)
        .unwrap()
        .with_stop(stop.clone());
    let address = collector.local_addr().unwrap();
    let reader = tokio::spawn(async move {
        let mut tally = Tally::default();
        while let Some(batch) = collector.next_batch().await.unwrap() {
            tally.add(&batch.tally);
        }
        tally
    });
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let data = datagram(9, 1, false);
    let sent = tokio::task::spawn_blocking(move || {
        sender.send_to(&datagram(9, 0, true), address).unwrap();
        let started = Instant::now();
        let mut sent: u32 = 0;
        let mut datagram = data;
        while started.elapsed() < time {
            let due = (started.elapsed().as_secs_f64() * f64::from(per_second)) as u32;
            while sent < due {
                sent += 1;
                datagram[12..16].copy_from_slice(&sent.to_be_bytes());
                sender.send_to(&datagram, address).unwrap();
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        sent
    })
    .await
    .unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.trigger();
    let tally = reader.await.unwrap();
    (
        sent,
        tally.used / RECORDS as u64,
        tally.dropped.get(&DropReason::KERNEL).copied().unwrap_or(0),
    )
}

fn receiving() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let time = Duration::from_secs(if quick { 1 } else { 3 });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap();
    println!("\nreceived over loopback, {RECORDS} flows a datagram:");
    println!(
        "{:>12}  {:>12}  {:>10}  {:>10}  {:>14}",
        "attributes", "sent/s", "received", "dropped", "flows/s"
    );
    for attributes in [true, false] {
        for per_second in [5_000, 10_000, 20_000, 40_000, 80_000] {
            let (sent, received, dropped) = runtime.block_on(receive(per_second, time, attributes));
            let rate = f64::from(sent) / time.as_secs_f64();
            let flows = received as f64 * RECORDS as f64 / time.as_secs_f64();
            println!("{attributes:>12}  {rate:>12.0}  {received:>10}  {dropped:>10}  {flows:>14.0}");
        }
    }
}

fn main() {
    // `cargo test` runs benches to see that they start.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    decoding(&mut criterion);
    by_processor_time();
    receiving();
    criterion.final_summary();
}
