//! A checkpoint that cannot be kept harms nobody: the analysis goes on, the next one is another try, a restart reads more of the log, and
//! a full log does not wait for it.
#![cfg(feature = "pipeline")]

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amoskys_core::event::Class;
use amoskys_core::memory::{MemoryCollector, MemorySink, MemoryWal};
use amoskys_core::pipeline::{BatchLimits, Pipeline, Report, Retention};
use amoskys_core::{LogParts, Offset, Recorded, Shutdown, Wal, WalError};
use bytes::Bytes;

use support::{Counting, assert_balanced, log_on, numbered, ordinals};

/// What the pipeline calls the analyzers' checkpoint.
const CHECKPOINT: &str = "analysis";

/// A log that stores so many checkpoints badly, and is well otherwise.
#[derive(Debug)]
struct Reluctant {
    log: MemoryWal,
    refusals: AtomicU32,
    stored: AtomicU32,
    /// Whether the log itself has failed when it is asked what is durable.
    gone: bool,
}

impl Wal for Reluctant {
    fn append(&self, record: Bytes) -> Result<Offset, WalError> {
        self.log.append(record)
    }

    fn durable(&self) -> Offset {
        self.log.durable()
    }

    fn wait_durable(&self, offset: Offset) -> Result<(), WalError> {
        match self.gone {
            true => Err(failed("made records durable")),
            false => self.log.wait_durable(offset),
        }
    }

    fn on_durable(&self, notify: Box<dyn Fn(Offset) + Send + Sync>) {
        self.log.on_durable(notify);
    }

    fn first(&self) -> Offset {
        self.log.first()
    }

    fn read(&self, from: Offset, max_bytes: usize) -> Result<Vec<(Offset, Bytes)>, WalError> {
        self.log.read(from, max_bytes)
    }

    fn trim(&self, to: Offset) -> Result<(), WalError> {
        self.log.trim(to)
    }

    fn load(&self, name: &str) -> Result<Option<Bytes>, WalError> {
        self.log.load(name)
    }

    fn store(&self, name: &str, value: &[u8]) -> Result<(), WalError> {
        let one_less = |left: u32| left.checked_sub(1);
        let order = Ordering::SeqCst;
        if name == CHECKPOINT && self.refusals.fetch_update(order, order, one_less).is_ok() {
            return Err(failed("stored a value"));
        }
        if name == CHECKPOINT {
            self.stored.fetch_add(1, order);
        }
        self.log.store(name, value)
    }

    fn used_bytes(&self) -> u64 {
        self.log.used_bytes()
    }

    fn budget_bytes(&self) -> u64 {
        self.log.budget_bytes()
    }
}

fn failed(action: &'static str) -> WalError {
    WalError::Failed {
        action,
        source: "no space left on device".into(),
    }
}

/// Runs an analysis on a log that refuses so many checkpoints, with one asked for at each step.
async fn run(log: &Arc<Reluctant>, events: u64) -> (Result<Report, String>, Vec<Recorded>) {
    let (report, events, _) = watched(log, events, Retention::UntilFull).await;
    (report, events)
}

/// The same, with what was told of checkpoints.
async fn watched(
    log: &Arc<Reluctant>,
    events: u64,
    retention: Retention,
) -> (Result<Report, String>, Vec<Recorded>, Vec<Option<String>>) {
    let told: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
    let telling = told.clone();
    let (sink, collected) = MemorySink::new("all");
    let parts = LogParts {
        wal: log.clone(),
        ..log_on(&log.log)
    };
    let pipeline = Pipeline::builder()
        .collector(MemoryCollector::new("numbers", numbered(events)))
        .limits(BatchLimits {
            max_events: 50,
            ..BatchLimits::default()
        })
        .log(parts)
        .retention(retention)
        .analyzer(Counting::every(100))
        .checkpoint_every(Duration::from_nanos(1))
        .watch_checkpoints(move |failure| telling.lock().expect("lock").push(failure.map(str::to_owned)))
        .sink(sink)
        .build()
        .expect("build");
    let report = tokio::time::timeout(Duration::from_secs(60), pipeline.run(Shutdown::new()))
        .await
        .expect("it must end")
        .map_err(|error| error.to_string());
    let told = told.lock().expect("lock").clone();
    (report, collected.events(), told)
}

fn reluctant(refusals: u32, gone: bool) -> Arc<Reluctant> {
    of_bytes(64 << 20, refusals, gone)
}

fn of_bytes(budget: u64, refusals: u32, gone: bool) -> Arc<Reluctant> {
    Arc::new(Reluctant {
        log: MemoryWal::new(budget),
        refusals: AtomicU32::new(refusals),
        stored: AtomicU32::new(0),
        gone,
    })
}

fn check(report: &Report, events: &[Recorded], count: u64) {
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert_balanced(&report.ledger);
    let (alerts, telemetry): (Vec<Recorded>, Vec<Recorded>) = events
        .iter()
        .cloned()
        .partition(|event| event.stream.class == Class::Alert);
    assert_eq!(ordinals(&telemetry), (0..count).collect::<Vec<_>>());
    assert_eq!(alerts.len() as u64, count / 100);
}

#[tokio::test]
async fn the_analysis_goes_on_and_the_next_checkpoint_is_another_try() {
    let log = reluctant(2, false);
    let (report, events) = run(&log, 10_000).await;
    check(&report.expect("run"), &events, 10_000);
    assert_eq!(log.refusals.load(Ordering::SeqCst), 0);
    assert!(log.stored.load(Ordering::SeqCst) > 0);
    assert!(log.load(CHECKPOINT).expect("load").is_some());
}

#[tokio::test]
async fn without_any_checkpoint_a_restart_reads_the_log_again_and_draws_nothing_twice() {
    let log = reluctant(u32::MAX, false);
    let (report, events) = run(&log, 5_000).await;
    check(&report.expect("run"), &events, 5_000);
    assert!(log.load(CHECKPOINT).expect("load").is_none());
    // All is read once more; the verdicts are in the log already.
    log.refusals.store(0, Ordering::SeqCst);
    let (report, _) = run(&log, 0).await;
    let report = report.expect("run");
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    let records = amoskys_core::read_log(&*log, &amoskys_core::memory::PlainOpen);
    let alerts = records
        .map(|record| record.expect("a record").1)
        .filter(|opened| opened.stream.class == Class::Alert)
        .map(|opened| opened.events.len());
    assert_eq!(alerts.sum::<usize>(), 50);
    assert!(log.load(CHECKPOINT).expect("load").is_some());
}

#[tokio::test]
async fn what_can_never_be_kept_does_not_stop_what_comes() {
    for retention in [Retention::Consumed, Retention::UntilFull] {
        // Some ten times what the log holds.
        let log = of_bytes(128 << 10, u32::MAX, false);
        let (report, events, told) = watched(&log, 20_000, retention).await;
        check(&report.expect("run"), &events, 20_000);
        assert!(log.load(CHECKPOINT).expect("load").is_none());
        assert!(log.first().0 > 0, "it was full");
        assert_eq!(told.first(), Some(&None), "nothing is wrong at first");
        let last = told.last().cloned().flatten().unwrap_or_default();
        assert!(last.contains("no space left on device"), "{last}");
        // With room again, the analysis goes on with what is there, and keeps its state.
        log.refusals.store(0, Ordering::SeqCst);
        let (report, _, told) = watched(&log, 0, retention).await;
        assert!(report.expect("run").failures.is_empty());
        assert_eq!(told.last(), Some(&None));
        assert!(log.load(CHECKPOINT).expect("load").is_some());
    }
}

#[tokio::test]
async fn a_log_that_is_gone_ends_the_analysis() {
    let log = reluctant(0, true);
    let (report, _) = run(&log, 1_000).await;
    match report {
        Err(_) => {}
        Ok(report) => assert!(!report.failures.is_empty()),
    }
}
