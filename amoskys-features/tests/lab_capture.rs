//! On real traffic with five staged attacks, each attack stands out in the feature that is meant to show it.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use amoskys_collectors::flow::FlowCollector;
use amoskys_core::event::Entity;
use amoskys_core::{Class, Collector as _, Epoch, Extractor as _, FeatureVector, Recorded, Seq, StreamId};
use amoskys_features::extract::{ExtractConfig, NetworkExtractor, Pairs};
use amoskys_features::window::WindowSpec;
use common::{bits, run};

fn lab() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data")
}

/// The events of the capture, as a sensor would record them.
fn events() -> Vec<Recorded> {
    let stream = StreamId {
        agent: "sensor".into(),
        epoch: Epoch::default(),
        class: Class::Telemetry,
    };
    let stream = Arc::new(stream);
    let mut collector = FlowCollector::from_files([lab().join("lab.pcap")]).expect("the capture");
    let mut events = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        while let Some(batch) = collector.next_batch().await.expect("a readable capture") {
            for event in batch.events {
                events.push(Recorded {
                    timeline: 0,
                    stream: Arc::clone(&stream),
                    seq: Seq(events.len() as u64),
                    event,
                });
            }
        }
    });
    events
}

/// Host and peer of the attack of this name.
fn label(name: &str) -> (String, String) {
    let labels = std::fs::read_to_string(lab().join("labels.csv")).expect("the labels");
    let mut lines = labels.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let line = lines
        .find(|line| line.last() == Some(&name))
        .expect("an attack of this name");
    (line[2].to_owned(), line[3].to_owned())
}

/// Largest value of a feature for each entity, the largest first.
fn largest(features: &[FeatureVector], schema: &str, feature: &str) -> Vec<(Entity, f64)> {
    let mut largest: Vec<(Entity, f64)> = Vec::new();
    for vector in features
        .iter()
        .filter(|vector| vector.schema.name().as_str() == schema)
    {
        let value = vector.value(feature).expect("a feature of the schema");
        match largest.iter_mut().find(|entry| entry.0 == vector.entity) {
            Some(entry) => entry.1 = entry.1.max(value),
            None => largest.push((vector.entity.clone(), value)),
        }
    }
    largest.sort_by(|a, b| b.1.total_cmp(&a.1));
    largest
}

#[test]
fn each_attack_stands_out() {
    let ten_minutes = WindowSpec::sliding(Duration::from_secs(600), Duration::from_secs(60)).unwrap();
    let mut extractor = NetworkExtractor::standard(ExtractConfig::default()).with::<Pairs>(ten_minutes);
    let features = run(&mut extractor, &events());

    for (attack, schema, feature, at_least, times_the_next) in [
        ("port-scan", "host.10s", "ports_per_destination", 100.0, 20.0),
        ("ssh-password-guessing", "pair.10s", "short_sessions", 8.0, 1.2),
        ("syn-burst", "service.10s", "opened", 500.0, 10.0),
        ("dns-tunnel", "dns_client.60s", "subdomains_max", 20.0, 4.0),
    ] {
        let (host, peer) = label(attack);
        let found = largest(&features, schema, feature);
        let (entity, value) = &found[0];
        // A flood is seen at its target.
        let suspect = if attack == "syn-burst" { peer } else { host };
        assert!(entity.to_string().starts_with(&suspect), "{attack}: {found:?}");
        assert!(
            *value >= at_least && *value >= times_the_next * found[1].1,
            "{attack}: {:?}",
            &found[..2]
        );
    }

    // The beacon keeps time, and says the same each time.
    let (host, peer) = label("beacon");
    let beacon = Entity::Pair(host.parse().unwrap(), peer.parse().unwrap());
    let whole = features
        .iter()
        .rfind(|v| v.schema.name().as_str() == "pair.600s" && v.entity == beacon);
    let of = |name: &str| whole.and_then(|vector| vector.value(name)).unwrap();
    assert!(
        of("opened") >= 5.0 && of("start_gap_spread") < 0.15,
        "{} {}",
        of("opened"),
        of("start_gap_spread")
    );
    assert!(of("start_gap_skew").abs() <= 1.0 && of("start_gap_median") > 1.0);

    let counters = extractor.counters();
    assert_eq!(
        counters.windows.late_dropped + counters.windows.evicted + counters.clock.implausible,
        0
    );
    assert_eq!(
        extractor.entities(),
        0,
        "the end of the capture closes everything"
    );
}

#[test]
fn a_restart_in_the_middle_changes_no_bit() {
    let events = events();
    let standard = || NetworkExtractor::standard(ExtractConfig::default());
    let whole = run(&mut standard(), &events);
    let mut features = Vec::new();
    let mut extractor = standard();
    for part in events.chunks(events.len() / 7) {
        let mut next = standard();
        next.restore(&extractor.snapshot().unwrap()).unwrap();
        extractor = next;
        features.extend(run(&mut extractor, part));
    }
    assert_eq!(bits(&features), bits(&whole));
}
