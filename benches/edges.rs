//! How many edges a second are scored on one core?
//!
//! Question: is the edge scorer fast enough to sit beside a flow collector at full load? A stream like that of a network of some thousand
//! hosts: sources and destinations of unequal weight, a minute every thousand edges, and a flood between two hosts for a tenth of
//! them. With `AMOSKYS_DATA` the recorded stream of `graph/` is timed as well.

#[path = "edges/streams.rs"]
mod streams;

use std::hint::black_box;

use amoskys_analysis::graph::{Contact, ContactParams, ContactScorer, EdgeParams, EdgeScorer, Role};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

use self::streams::{made, recorded};

fn edges(c: &mut Criterion) {
    let mut streams = vec![made(1_000_000)];
    streams.extend(recorded());
    let mut group = c.benchmark_group("edges");
    group.sample_size(10);
    for stream in &streams {
        let name = stream.name;
        group.throughput(Throughput::Elements(stream.edges.len() as u64));
        for (role, label) in [(Role::Source, "source"), (Role::Either, "either")] {
            let params = EdgeParams {
                role,
                ..EdgeParams::default()
            };
            let new = || EdgeScorer::new(&params).expect("default settings are valid");
            group.bench_function(format!("{label}/{name}"), |b| {
                b.iter_batched_ref(
                    new,
                    |scorer| {
                        for (source, destination, minute) in &stream.edges {
                            black_box(scorer.score(*source, *destination, *minute));
                        }
                    },
                    BatchSize::LargeInput,
                );
            });
        }
    }
    group.finish();
}

fn contacts(c: &mut Criterion) {
    let stream = made(200_000).edges;
    let mut group = c.benchmark_group("contacts");
    group.sample_size(10);
    group.throughput(Throughput::Elements(stream.len() as u64));
    let new = || ContactScorer::new(&ContactParams::default()).expect("default settings are valid");
    group.bench_function("made", |b| {
        b.iter_batched_ref(
            new,
            |scorer| {
                for (source, destination, minute) in &stream {
                    let contact = Contact {
                        source: *source,
                        destination: *destination,
                        service: destination % 7,
                        answered: Some(source % 16 != 0),
                        bytes: Some(*destination),
                    };
                    black_box(scorer.score(&contact, *minute));
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, edges, contacts);
criterion_main!(benches);
