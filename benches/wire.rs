//! What does it cost to encode a flow event, and to decode and validate it again, and how many bytes does it take?
//!
//! Inputs are the first flow events of the laboratory's capture, with all statistics, in batches of the sizes a
//! sensor seals. The figure to look at is elements (events) a second; the bytes an event takes are in the name.

mod lab;

use std::hint::black_box;

use amoskys_core::Event;
use amoskys_core::wire::{decode_events, encode_events};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const BATCHES: [usize; 3] = [1, 64, 512];

fn wire(criterion: &mut Criterion) {
    let events: Vec<Event> = lab::flow_events()
        .into_iter()
        .map(|recorded| recorded.event)
        .collect();
    let mut group = criterion.benchmark_group("wire");
    for count in BATCHES {
        let batch = &events[..count];
        let mut bytes = Vec::new();
        encode_events(batch, &mut bytes);
        let id = |name: &str| {
            let each = bytes.len() / count;
            BenchmarkId::new(name, format!("{count}_events_of_{each}_bytes"))
        };
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(id("encode"), |bencher| {
            let mut out = Vec::with_capacity(bytes.len());
            bencher.iter(|| {
                out.clear();
                encode_events(black_box(batch), &mut out);
                out.len()
            });
        });
        group.bench_function(id("decode"), |bencher| {
            bencher.iter(|| decode_events(black_box(&bytes)).expect("events"));
        });
    }
    group.finish();
}

criterion_group!(benches, wire);
criterion_main!(benches);
