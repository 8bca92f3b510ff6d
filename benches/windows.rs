//! What do event-time features cost for each event, and which catalog of features costs most?
//!
//! Inputs are the events of the laboratory's capture: flow records of every start, update and end, DNS and ARP messages,
//! and the clock. The figure to look at is elements (events) a second. `standard` is what `sentinel` uses, two windows
//! of four catalogs; the others are one catalog with one sliding window of 60 s every 10 s. Each run begins with an empty
//! extractor and closes the windows that the events close.

mod lab;

use std::time::Duration;

use amoskys_core::{Extractor, Recorded};
use amoskys_features::extract::{DnsClients, ExtractConfig, Hosts, NetworkExtractor, Pairs, Services};
use amoskys_features::window::WindowSpec;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn extract(mut extractor: NetworkExtractor, events: &[Recorded]) -> usize {
    let (mut vectors, mut count) = (Vec::new(), 0);
    for event in events {
        extractor.observe(event, &mut vectors);
        count += vectors.len();
        vectors.clear();
    }
    count
}

fn windows(criterion: &mut Criterion) {
    let events = lab::events();
    let empty = || NetworkExtractor::new(ExtractConfig::default());
    let minute = || WindowSpec::sliding(Duration::from_secs(60), Duration::from_secs(10)).expect("a window");
    type Make<'a> = &'a dyn Fn() -> NetworkExtractor;
    let extractors: [(&str, Make<'_>); 5] = [
        ("standard", &|| {
            NetworkExtractor::standard(ExtractConfig::default())
        }),
        ("hosts", &|| empty().with::<Hosts>(minute())),
        ("pairs", &|| empty().with::<Pairs>(minute())),
        ("services", &|| empty().with::<Services>(minute())),
        ("dns_clients", &|| empty().with::<DnsClients>(minute())),
    ];
    let mut group = criterion.benchmark_group("windows");
    group.throughput(Throughput::Elements(events.len() as u64));
    for (name, make) in extractors {
        let vectors = extract(make(), &events);
        let id = BenchmarkId::new(name, format!("{vectors}_vectors"));
        group.bench_function(id, |bencher| {
            bencher.iter_batched(
                make,
                |extractor| extract(extractor, &events),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, windows);
criterion_main!(benches);
