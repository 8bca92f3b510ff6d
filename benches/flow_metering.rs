//! Where does the time of flow metering go: reading the file, decoding headers, counting, or making records?
//!
//! Inputs are the packets of the laboratory's capture, in memory. The figure to look at is elements (packets) a second:
//!
//! - `read`: packets out of the capture file's bytes;
//! - `decode`: their headers;
//! - `meter/ends_only`: decode and count, one record for each flow, as `compare_flow` measures;
//! - `meter/with_updates`: the same with records at the start and every five seconds, as a sensor runs;
//! - `rows/csv`: the records as rows of text. Its elements are flows.

mod lab;

use std::hint::black_box;

use amoskys_collectors::capture::CaptureReader;
use amoskys_collectors::flow::{FlowConfig, FlowHandler, FlowMeter, RowFormat, RowWriter};
use amoskys_collectors::packet::decode;
use amoskys_core::Timestamp;
use amoskys_core::event::FlowRecord;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lab::Packets;

/// Counts the records, so that they have to be made.
struct Count(u64);

impl FlowHandler for Count {
    fn flow(&mut self, _: Timestamp, record: &FlowRecord) {
        self.0 += black_box(record).packets();
    }
}

/// Keeps the records.
struct Keep(Vec<FlowRecord>);

impl FlowHandler for Keep {
    fn flow(&mut self, _: Timestamp, record: &FlowRecord) {
        self.0.push(record.clone());
    }
}

fn ends_only() -> FlowConfig {
    FlowConfig {
        start_records: false,
        update_interval: None,
        ..FlowConfig::default()
    }
}

fn meter<H: FlowHandler>(packets: &Packets, config: &FlowConfig, mut handler: H) -> H {
    let mut meter = FlowMeter::new(config.clone()).expect("a meter");
    for packet in packets.iter() {
        meter.push(&packet, &mut handler);
    }
    meter.finish(&mut handler);
    handler
}

fn flow_metering(criterion: &mut Criterion) {
    let packets = Packets::of_lab();
    let file = lab::file();
    let mut group = criterion.benchmark_group("flow_metering");
    group.throughput(Throughput::Elements(packets.len()));
    group.bench_function("read", |bencher| {
        bencher.iter(|| {
            let mut reader = CaptureReader::new(file.as_slice()).expect("a capture");
            while let Some(packet) = reader.next_packet().expect("a packet") {
                black_box(packet);
            }
        });
    });
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            for packet in packets.iter() {
                black_box(decode(&packet));
            }
        });
    });
    for (name, config) in [
        ("meter/ends_only", ends_only()),
        ("meter/with_updates", FlowConfig::default()),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| meter(&packets, &config, Count(0)).0);
        });
    }
    let Keep(records) = meter(&packets, &ends_only(), Keep(Vec::new()));
    group.throughput(Throughput::Elements(records.len() as u64));
    group.bench_function("rows/csv", |bencher| {
        bencher.iter(|| {
            let mut rows = RowWriter::new(std::io::sink(), RowFormat::Csv).expect("a header");
            for record in &records {
                rows.write(record).expect("a row");
            }
        });
    });
    group.finish();
}

criterion_group!(benches, flow_metering);
criterion_main!(benches);
