//! A pipeline that dies after any record of its log, and goes on, ends as if it had never died.
#![cfg(feature = "pipeline")]

mod support;

use std::sync::Arc;

use amoskys_core::event::{Class, Event};
use amoskys_core::memory::{MemoryCollector, MemorySink, MemoryWal, PlainOpen, PlainSeal, push};
use amoskys_core::pipeline::{BatchLimits, Pipeline, Report, Retention};
use amoskys_core::{DropReason, LogParts, Offset, Open, Recorded, Shutdown, Wal};

use support::{Counting, assert_balanced, log_on, numbered, ordinals};

/// Telemetry and alerts of one source, in collector batches that are larger than sealed ones.
fn events() -> Vec<Event> {
    let mut events = numbered(600);
    for event in events.iter_mut().filter(|event| event.id.ordinal % 7 == 3) {
        event.class = Class::Alert;
    }
    events
}

async fn run(wal: &MemoryWal) -> (Report, Vec<Recorded>) {
    let (sink, collected) = MemorySink::new("all");
    let pipeline = Pipeline::builder()
        .collector(MemoryCollector::new("numbers", events()).batch_events(150))
        .limits(BatchLimits {
            max_events: 40,
            ..BatchLimits::default()
        })
        .log(log_on(wal))
        .retention(Retention::UntilFull)
        .analyzer(Counting::every(50))
        .sink(sink)
        .build()
        .expect("build");
    let report = pipeline.run(Shutdown::new()).await.expect("run");
    (report, collected.events())
}

/// The first records of a log, as a crash would leave them, without values kept beside it.
fn cut(wal: &MemoryWal, records: u64) -> MemoryWal {
    let crashed = MemoryWal::new(16 << 20);
    for (offset, record) in wal.read(Offset(0), usize::MAX).expect("read") {
        if offset.0 < records {
            crashed.append(record).expect("append");
        }
    }
    crashed
}

/// Events of the log by stream, without regard to how streams are interleaved.
fn by_class(wal: &MemoryWal, class: Class) -> Vec<(u64, Event)> {
    let records = wal.read(Offset(0), usize::MAX).expect("read");
    let opened = records
        .iter()
        .map(|(_, record)| PlainOpen.open(record).expect("open"));
    let recorded = opened.flat_map(|opened| opened.into_recorded().collect::<Vec<_>>());
    recorded
        .filter(|e| e.stream.class == class)
        .map(|e| (e.seq.0, e.event))
        .collect()
}

/// Ids of the source's events in log order, over all classes.
fn order(wal: &MemoryWal) -> Vec<u64> {
    let records = wal.read(Offset(0), usize::MAX).expect("read");
    let opened = records
        .iter()
        .map(|(_, record)| PlainOpen.open(record).expect("open"));
    let of_source = opened.filter(|opened| opened.source.as_str() == "numbers");
    of_source
        .flat_map(|opened| opened.events)
        .map(|event| event.id.ordinal)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_cut_off_after_any_record_ends_the_same() {
    let wal = MemoryWal::new(16 << 20);
    let (undisturbed, _) = run(&wal).await;
    assert_balanced(&undisturbed.ledger);
    let telemetry = by_class(&wal, Class::Telemetry);
    let mut alerts: Vec<Event> = by_class(&wal, Class::Alert)
        .into_iter()
        .map(|(_, event)| event)
        .collect();
    alerts.sort_by_key(|event| event.id);

    for records in 0..=wal.durable().0 {
        let crashed = cut(&wal, records);
        let (report, _) = run(&crashed).await;
        assert_balanced(&report.ledger);
        assert_eq!(
            report.ledger.accounts, undisturbed.ledger.accounts,
            "ledger after a crash at {records}"
        );
        assert_eq!(
            order(&crashed),
            (0..600).collect::<Vec<_>>(),
            "order after a crash at {records}"
        );
        assert_eq!(
            by_class(&crashed, Class::Telemetry),
            telemetry,
            "telemetry after a crash at {records}"
        );
        // Alerts of the source and verdicts share a stream; how they interleave depends on timing.
        let after = by_class(&crashed, Class::Alert);
        assert!(after.iter().enumerate().all(|(at, (seq, _))| at as u64 == *seq));
        let mut after: Vec<Event> = after.into_iter().map(|(_, event)| event).collect();
        after.sort_by_key(|event| event.id);
        assert_eq!(after, alerts, "alerts after a crash at {records}");
    }
}

#[tokio::test]
async fn a_second_run_over_a_finished_log_adds_nothing() {
    let wal = MemoryWal::new(16 << 20);
    let (first, _) = run(&wal).await;
    let end = wal.durable();
    let (second, delivered) = run(&wal).await;
    assert_eq!(wal.durable(), end);
    assert_eq!(first.ledger, second.ledger);
    assert!(delivered.is_empty(), "the sink had everything already");
}

#[tokio::test]
async fn a_consumed_log_is_forgotten_but_not_how_far_everyone_had_come() {
    let wal = MemoryWal::new(16 << 20);
    let mut verdicts = Vec::new();
    for part in 1..=3 {
        let (sink, collected) = MemorySink::new("all");
        // The source has grown since the last run, and another one had nothing new.
        let pipeline = Pipeline::builder()
            .collector(MemoryCollector::new("growing", numbered(part * 200)))
            .collector(MemoryCollector::new("idle", numbered(10)))
            .log(log_on(&wal))
            .analyzer(Counting::every(60))
            .sink_of(Class::Alert, sink)
            .build()
            .expect("build");
        let report = pipeline.run(Shutdown::new()).await.expect("run");
        assert_balanced(&report.ledger);
        assert_eq!(
            report.ledger.accounts["log/growing"].delivered,
            part * 200,
            "part {part}"
        );
        assert_eq!(
            report.ledger.accounts["collect/growing"].delivered,
            part * 200,
            "part {part}"
        );
        assert_eq!(report.ledger.accounts["log/idle"].delivered, 10, "part {part}");
        assert_eq!(
            report.ledger.accounts["analysis"].delivered,
            part * 200 + 10,
            "part {part}"
        );
        assert!(
            wal.durable().0 - wal.first().0 <= 2,
            "nearly everything was forgotten"
        );
        verdicts.extend(collected.events());
    }
    // One for each 60 of 610 events.
    assert_eq!(verdicts.len(), 10);
}

#[tokio::test]
async fn what_a_live_source_held_in_memory_is_reported_as_lost_in_the_crash() {
    // A record that says: 100 received, 40 delivered with this record, 60 still in memory.
    let wal = MemoryWal::new(1 << 20);
    let (handle, pushed) = push("live", 100);
    for event in numbered(100) {
        handle.try_push(event).expect("room");
    }
    drop(handle);
    let build = |collector| {
        Pipeline::builder()
            .collector(collector)
            .limits(BatchLimits {
                max_events: 40,
                ..BatchLimits::default()
            })
            .log(log_on(&wal))
            .retention(Retention::UntilFull)
            .build()
            .expect("build")
    };
    build(pushed).run(Shutdown::new()).await.expect("run");
    let crashed = cut(&wal, 1);
    let (handle, pushed) = push("live", 100);
    for event in numbered(5) {
        handle.try_push(event).expect("room");
    }
    drop(handle);
    let log = LogParts {
        wal: Arc::new(crashed.clone()),
        seal: Box::new(PlainSeal::resume("agent", &crashed).expect("resume")),
        open: Arc::new(PlainOpen),
    };
    let (sink, collected) = MemorySink::new("all");
    let pipeline = Pipeline::builder()
        .collector(pushed)
        .log(log)
        .sink(sink)
        .build()
        .expect("build");
    let report = pipeline.run(Shutdown::new()).await.expect("run");
    assert_balanced(&report.ledger);
    let account = &report.ledger.accounts["log/live"];
    assert_eq!((account.received, account.delivered), (105, 45));
    assert_eq!(account.dropped[&DropReason::CRASH], 60);
    assert_eq!(ordinals(&collected.events()).len(), 45);
}
