//! How many edges a second are scored on one core?
//!
//! Question: is the edge scorer fast enough to sit beside a flow collector at full load? A stream like that of a network of some thousand
//! hosts: sources and destinations of unequal weight, a minute every thousand edges, and a flood between two hosts for a tenth of
//! them. With `AMOSKYS_DATA` the recorded stream of `graph/` is timed as well.

use std::hint::black_box;
use std::io::BufRead as _;

use amoskys_analysis::graph::{Contact, ContactParams, ContactScorer, EdgeParams, EdgeScorer, Role};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

type Edge = (u64, u64, u64);

/// SplitMix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number below the limit, low ones more often.
fn unequal(state: &mut u64, limit: u64) -> u64 {
    let uniform = (random(state) >> 11) as f64 / (1_u64 << 53) as f64;
    (limit as f64 * uniform.powi(3)) as u64
}

fn made(edges: u64) -> Vec<Edge> {
    let mut state = 1;
    let edge = |n| match n % 10_000 {
        0..1_000 => (7_777_777, 3, n / 1_000),
        _ => (
            unequal(&mut state, 3_000),
            10_000 + unequal(&mut state, 20_000),
            n / 1_000,
        ),
    };
    (0..edges).map(edge).collect()
}

/// The recorded stream, if it is there.
fn recorded() -> Option<Vec<Edge>> {
    let file = std::path::PathBuf::from(std::env::var_os("AMOSKYS_DATA")?).join("graph/darpa98_june.csv.gz");
    let file = flate2::read::GzDecoder::new(std::fs::File::open(file).ok()?);
    let edge = |line: String| {
        let mut fields = line.split(',').map(|field| field.parse().ok());
        Some((fields.next()??, fields.next()??, fields.next()??))
    };
    let lines = std::io::BufReader::new(file).lines().skip(1);
    lines.map(|line| edge(line.ok()?)).collect()
}

fn edges(c: &mut Criterion) {
    let mut streams = vec![("made", made(1_000_000))];
    streams.extend(recorded().map(|edges| ("recorded", edges)));
    let mut group = c.benchmark_group("edges");
    group.sample_size(10);
    for (name, stream) in &streams {
        group.throughput(Throughput::Elements(stream.len() as u64));
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
                        for (source, destination, minute) in stream {
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
    let stream = made(200_000);
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
