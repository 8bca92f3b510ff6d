//! How many system calls a second are scored on one core?
//!
//! Question: can the calls of a busy host be judged by one core? Two answers: ranking whole traces (time for all calls of a trace,
//! divided by their number), and the surprise of each call. Traces of 300 made programs, 800 to learn from and 500 to score, some
//! hundred calls each; with `AMOSKYS_DATA`, those of `adfa-ld/`.

use std::hint::black_box;
use std::io::BufRead as _;

use amoskys_analysis::sequence::{CallParams, TraceParams};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// What is learned from, and what is scored.
type Traces = (Vec<Vec<u32>>, Vec<Vec<u32>>);

/// SplitMix64.
fn random(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % below
}

fn made() -> Traces {
    let mut state = 1;
    let mut trace = |_| {
        let program = random(&mut state, 300);
        let length = 100 + random(&mut state, 700);
        let mut calls = Vec::new();
        while (calls.len() as u64) < length {
            // A routine of the program, now and then with a call of its own.
            let mut routine = program * 31 + random(&mut state, 6);
            for _ in 0..3 + routine % 9 {
                calls.push(random(&mut routine, 40) as u32);
            }
            if random(&mut state, 10) == 0 {
                calls.push(random(&mut state, 150) as u32);
            }
        }
        calls
    };
    (
        (0..800).map(&mut trace).collect(),
        (0..500).map(&mut trace).collect(),
    )
}

/// The recorded traces, if they are there.
fn recorded() -> Option<Traces> {
    let file = std::path::PathBuf::from(std::env::var_os("AMOSKYS_DATA")?).join("adfa-ld/traces.csv.gz");
    let file = flate2::read::GzDecoder::new(std::fs::File::open(file).ok()?);
    let (mut train, mut rest) = (Vec::new(), Vec::new());
    for line in std::io::BufReader::new(file).lines().skip(1) {
        let line = line.ok()?;
        let fields: Vec<&str> = line.split(',').collect();
        let calls = fields.get(4)?.split_ascii_whitespace().map(str::parse);
        let calls: Result<Vec<u32>, _> = calls.collect();
        let kind = if fields[2] == "train" {
            &mut train
        } else {
            &mut rest
        };
        kind.push(calls.ok()?);
    }
    Some((train, rest))
}

fn calls(c: &mut Criterion) {
    let mut sets = vec![("made", made())];
    sets.extend(recorded().map(|traces| ("recorded", traces)));
    for (name, (train, scored)) in &sets {
        let traces = TraceParams::default().fit(train).expect("there are traces");
        let chances = CallParams::default().fit(train).expect("there are calls");
        let mut group = c.benchmark_group("calls");
        group.sample_size(10);
        group.throughput(Throughput::Elements(
            scored.iter().map(|calls| calls.len() as u64).sum(),
        ));
        group.bench_function(format!("rank/{name}"), |b| {
            let mut scorer = traces.scorer();
            b.iter(|| {
                for calls in scored {
                    black_box(scorer.score(calls));
                }
            });
        });
        group.bench_function(format!("surprise/{name}"), |b| {
            b.iter(|| {
                for calls in scored {
                    let mut at = chances.begin();
                    for call in calls {
                        black_box(chances.step(&mut at, *call));
                    }
                }
            });
        });
        group.finish();
    }
}

criterion_group!(benches, calls);
criterion_main!(benches);
