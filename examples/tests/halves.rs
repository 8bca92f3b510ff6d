//! Two sensors that each see half of the traffic lead to the same verdicts as one that sees it all.

mod support;

use std::path::Path;
use std::sync::Arc;

use amoskys_analysis::{AlertFile, Detection, DetectionConfig};
use amoskys_collectors::flow::FlowCollector;
use amoskys_core::memory::{LogCarrier, LogSource, MemoryWal};
use amoskys_core::pipeline::{MergeOptions, Pipeline};
use amoskys_core::{Class, Shutdown, Wal};
use amoskys_transport::{Log, LogOptions};
use serde_json::Value;
use support::{alerts, content, data, halves};

/// Collects a capture as this agent, and carries its records to a common log.
async fn collect(dir: &Path, agent: &str, capture: &Path, to: &Arc<dyn Wal>) {
    let log = Log::open(dir.join(agent), LogOptions::new().agent(agent)).expect("a log");
    let pipeline = Pipeline::builder()
        .collector(FlowCollector::from_files([capture]).expect("a capture"))
        .log(log)
        .record_sink(LogCarrier::new("common", to.clone()))
        .build()
        .expect("build");
    let report = pipeline.run(Shutdown::new()).await.expect("run");
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    let carried = &report.ledger.accounts["carry/common"];
    assert_eq!(carried.delivered, report.ledger.accounts["log/flow"].delivered);
    assert!(report.ledger.unbalanced().is_empty() && carried.pending == 0);
}

/// Analyzes a common log, and gives the alerts.
async fn analyze(dir: &Path, log: Arc<dyn Wal>, expect: &[&str]) -> Vec<Value> {
    let file = dir.join("alerts.jsonl");
    let own = Log::open(dir.join("analyzer"), LogOptions::new().agent("analyzer")).expect("a log");
    let pipeline = Pipeline::builder()
        .record_source(LogSource::new("common", log))
        .merge(MergeOptions {
            expect: expect.iter().copied().map(Into::into).collect(),
            ..MergeOptions::default()
        })
        .analyzer(Detection::new(DetectionConfig::default(), Vec::new()).expect("a detection"))
        .log(own)
        .sink_of(Class::Alert, AlertFile::open(&file).expect("a file"))
        .build()
        .expect("build");
    let report = pipeline.run(Shutdown::new()).await.expect("run");
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert!(report.ledger.unbalanced().is_empty(), "{}", report.ledger);
    alerts(&file)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sensors_with_half_the_traffic_each_raise_the_alerts_of_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    let whole: Arc<dyn Wal> = Arc::new(MemoryWal::new(1 << 30));
    std::fs::create_dir(path("one")).expect("create");
    collect(dir.path(), "whole", &data("lab.pcap"), &whole).await;
    let one = analyze(&path("one"), whole, &["whole"]).await;
    assert!(one.len() >= 5, "{one:#?}");

    let halves = [path("left.pcap"), path("right.pcap")];
    halves::split(&data("lab.pcap"), [&halves[0], &halves[1]]);
    let bytes = halves
        .each_ref()
        .map(|half| std::fs::metadata(half).expect("half").len());
    assert!(bytes.iter().all(|bytes| *bytes > 50_000), "{bytes:?}");
    for (round, order) in [[0, 1], [1, 0]].into_iter().enumerate() {
        let both: Arc<dyn Wal> = Arc::new(MemoryWal::new(1 << 30));
        let round = path(&format!("two-{round}"));
        std::fs::create_dir(&round).expect("create");
        for half in order {
            collect(&round, ["left", "right"][half], &halves[half], &both).await;
        }
        let two = analyze(&round, both, &["left", "right"]).await;
        assert_eq!(content(&two), content(&one));
    }
}
