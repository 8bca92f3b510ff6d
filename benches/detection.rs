//! What does a verdict cost: how many events a second does one core judge, and what do forests cost to fit and to ask?
//!
//! - `detection/cold`: the three layers and fusion over the events of the laboratory's capture, without a baseline;
//!   `detection/with_baseline` adds feature windows and a forest. Elements are events.
//! - `iforest/fit`: rows of 20 normal columns into 100 trees of 256 rows each; `iforest/score` asks about all of
//!   them. Elements are rows. Fitting hardly depends on their number, because trees are grown on samples.

mod lab;

use amoskys_analysis::iforest::{IsolationForest, Rows};
use amoskys_analysis::{BaselineBuilder, Detection, DetectionConfig};
use amoskys_core::event::Verdict;
use amoskys_core::{Analyzer, BoxExtractor, Observation, Recorded};
use amoskys_features::extract::{ExtractConfig, NetworkExtractor};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const COLUMNS: usize = 20;

fn extractors() -> Vec<BoxExtractor> {
    vec![Box::new(NetworkExtractor::standard(ExtractConfig::default()))]
}

fn cold() -> Detection {
    Detection::new(DetectionConfig::default(), extractors()).expect("a detection")
}

fn judge(mut detection: Detection, events: &[Recorded]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for event in events {
        detection
            .observe(Observation::Event(event), &mut verdicts)
            .expect("an event it knows");
    }
    verdicts
}

fn detection(criterion: &mut Criterion) {
    let events = lab::events();
    let alerts = judge(cold(), &events).iter().filter(|v| v.is_alert()).count();
    assert!(alerts > 0, "there is something to find");
    let mut builder = BaselineBuilder::new(&DetectionConfig::default(), extractors()).expect("a builder");
    events.iter().for_each(|event| builder.observe(event));
    let baseline = builder.finish();

    let mut group = criterion.benchmark_group("detection");
    group.throughput(Throughput::Elements(events.len() as u64));
    group.bench_function("cold", |bencher| {
        bencher.iter_batched(
            cold,
            |detection| judge(detection, &events),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("with_baseline", |bencher| {
        let detection = || cold().with_baseline(&baseline);
        bencher.iter_batched(
            detection,
            |detection| judge(detection, &events),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// Rows of columns that are about normally distributed, always the same.
fn rows(count: usize) -> Vec<f64> {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut uniform = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 11) as f64 / (1_u64 << 53) as f64
    };
    (0..count * COLUMNS)
        .map(|_| (0..12).map(|_| uniform()).sum::<f64>() - 6.0)
        .collect()
}

fn iforest(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("iforest");
    group.sample_size(20);
    for count in [1_000, 10_000, 100_000] {
        let values = rows(count);
        let rows = Rows::new(&values, COLUMNS).expect("whole rows");
        let params = IsolationForest::params().seed(7);
        let params = params.validate().expect("parameters in range");
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new("fit", count), |bencher| {
            bencher.iter(|| params.fit_rows(rows).expect("a forest"));
        });
        let forest = params.fit_rows(rows).expect("a forest");
        group.bench_function(BenchmarkId::new("score", count), |bencher| {
            bencher.iter(|| forest.score(rows).expect("scores"));
        });
    }
    group.finish();
}

criterion_group!(benches, detection, iforest);
criterion_main!(benches);
