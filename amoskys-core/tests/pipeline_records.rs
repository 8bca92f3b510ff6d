//! One pipeline collects and carries its records to another log; another analyzes that log, from where it was.
#![cfg(feature = "pipeline")]

mod support;

use std::sync::Arc;

use amoskys_core::event::{Class, Payload};
use amoskys_core::memory::{LogCarrier, LogSource, MemoryCollector, MemorySink, MemoryWal};
use amoskys_core::pipeline::{BatchLimits, BuildError, Pipeline, Report};
use amoskys_core::{Offset, Shutdown, Wal};

use support::{Counting, assert_balanced, log_on, numbered};

/// Collects `events` of a growing source into `own`, and carries them to `common`.
async fn collect(own: &MemoryWal, common: &MemoryWal, events: u64) -> Report {
    let common: Arc<dyn Wal> = Arc::new(common.clone());
    let pipeline = Pipeline::builder()
        .collector(MemoryCollector::new("numbers", numbered(events)))
        .limits(BatchLimits {
            max_events: 20,
            ..BatchLimits::default()
        })
        .log(log_on(own))
        .record_sink(LogCarrier::new("common", common))
        .build()
        .expect("build");
    let report = pipeline.run(Shutdown::new()).await.expect("run");
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert_balanced(&report.ledger);
    report
}

/// Analyzes `common` as far as it goes; gives the verdicts drawn, and what was released.
async fn analyze(own: &MemoryWal, common: &MemoryWal) -> (Report, usize, Offset) {
    let source = LogSource::new("common", Arc::new(common.clone()));
    let released = source.released();
    let (sink, collected) = MemorySink::new("alerts");
    let pipeline = Pipeline::builder()
        .record_source(source)
        .analyzer(Counting::every(50))
        .log(log_on(own))
        .sink_of(Class::Alert, sink)
        .build()
        .expect("build");
    let report = pipeline.run(Shutdown::new()).await.expect("run");
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert_balanced(&report.ledger);
    let drawn = collected.events();
    assert!(
        drawn
            .iter()
            .all(|event| matches!(event.event.payload, Payload::Verdict(_)))
    );
    (report, drawn.len(), released())
}

#[tokio::test]
async fn what_one_carries_the_other_analyzes_once() {
    let new = || MemoryWal::new(16 << 20);
    let (agent, common, analyzer) = (new(), new(), new());
    let mut verdicts = 0;
    for (part, events) in [(1, 210), (2, 500), (3, 500)] {
        let report = collect(&agent, &common, events).await;
        assert_eq!(
            report.ledger.accounts["carry/common"].delivered, events,
            "part {part}"
        );
        let (report, drawn, released) = analyze(&analyzer, &common).await;
        assert_eq!(
            report.ledger.accounts["analysis"].delivered, events,
            "part {part}"
        );
        assert_eq!(released, common.durable(), "part {part}");
        verdicts += drawn;
        assert_eq!(verdicts as u64, events / 50, "part {part}");
    }
    // What was carried and acknowledged is forgotten here, except what a restart needs.
    assert!(agent.durable().0 - agent.first().0 <= 2);
}

#[tokio::test]
async fn without_its_checkpoint_an_analyzer_begins_anew_and_repeats_nothing() {
    let new = || MemoryWal::new(16 << 20);
    let (agent, common, analyzer) = (new(), new(), new());
    collect(&agent, &common, 500).await;
    assert_eq!(analyze(&analyzer, &common).await.1, 10);
    let end = analyzer.durable();
    analyzer.store("analysis", b"nothing of use").expect("store");
    assert_eq!(analyze(&analyzer, &common).await.1, 0);
    assert_eq!(analyzer.durable(), end, "the verdicts are in its log already");
}

#[test]
fn a_record_source_needs_somebody_to_read_for() {
    let common: Arc<dyn Wal> = Arc::new(MemoryWal::new(1 << 20));
    let built = Pipeline::builder()
        .record_source(LogSource::new("common", common))
        .build();
    assert_eq!(built.err(), Some(BuildError::NoAnalyzer));
    assert_eq!(Pipeline::builder().build().err(), Some(BuildError::NoCollector));
}
