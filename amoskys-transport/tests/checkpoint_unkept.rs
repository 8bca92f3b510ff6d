//! A log whose folder of values can never be written: analysis, sinks and carriers go on, say so, and the log keeps to its budget.
//! Needs root for a file system of its own; skipped without.
#![cfg(all(feature = "sled", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amoskys_core::event::{Class, ModelRef, Verdict};
use amoskys_core::memory::{LogCarrier, MemoryCollector, MemorySink, MemoryWal};
use amoskys_core::pipeline::{BatchLimits, Pipeline};
use amoskys_core::{Analyzer, AnalyzerError, Digest, Observation, Shutdown, Wal as _};
use amoskys_transport::{Log, LogOptions, WalOptions};

const EVENTS: u64 = 20_000;
const BUDGET: u64 = 512 << 10;

/// A file system of one megabyte that is full, unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    /// `None` without the privilege to mount.
    fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(at)
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            let disk = Self(at.to_owned());
            std::fs::write(at.join("ballast"), vec![1; 2 << 20]).unwrap_err();
            return Some(disk);
        }
        assert!(
            std::env::var_os("AMOSKYS_REQUIRE_PEERS").is_none(),
            "cannot mount a tmpfs"
        );
        println!("skipped: cannot mount a tmpfs, which needs root");
        None
    }

    fn enlarge(&self) {
        let status = Command::new("mount")
            .args(["-o", "remount,size=32m"])
            .arg(&self.0)
            .status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Counts what it is shown.
#[derive(Debug)]
struct Counting(Arc<AtomicU64>);

impl Analyzer for Counting {
    fn model(&self) -> ModelRef {
        ModelRef {
            name: "counting".into(),
            version: "1".into(),
            digest: Digest::of_parts([&b"counting"[..]]),
        }
    }

    fn observe(&mut self, observation: Observation<'_>, _: &mut Vec<Verdict>) -> Result<(), AnalyzerError> {
        if let Observation::Event(event) = observation
            && event.stream.class == Class::Telemetry
        {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<Vec<u8>, AnalyzerError> {
        Ok(self.0.load(Ordering::SeqCst).to_le_bytes().to_vec())
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), AnalyzerError> {
        let seen = bytes.try_into().map(u64::from_le_bytes);
        self.0.store(seen.unwrap_or_default(), Ordering::SeqCst);
        Ok(())
    }
}

fn options() -> LogOptions {
    let wal = WalOptions::new().budget_bytes(BUDGET).segment_bytes(16 << 10);
    LogOptions::new().agent("agent").wal(wal)
}

/// What one run was told of its checkpoints, and how many events it has seen.
async fn run(log: Log, events: std::ops::Range<u64>) -> (Vec<Option<String>>, u64) {
    let told: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
    let (telling, seen) = (told.clone(), Arc::new(AtomicU64::new(0)));
    let events = events.map(|n| common::event(n, Class::Telemetry, 100)).collect();
    let pipeline = Pipeline::builder()
        .collector(MemoryCollector::new("test", events))
        .limits(BatchLimits {
            max_events: 50,
            ..BatchLimits::default()
        })
        .log(log)
        .analyzer(Counting(seen.clone()))
        .checkpoint_every(Duration::from_millis(50))
        .watch_checkpoints(move |failure| telling.lock().unwrap().push(failure.map(str::to_owned)))
        .build()
        .unwrap();
    let report = tokio::time::timeout(Duration::from_secs(60), pipeline.run(Shutdown::new()));
    let report = report.await.expect("a full log would wait for ever").unwrap();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    (told.lock().unwrap().clone(), seen.load(Ordering::SeqCst))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_without_room_for_checkpoints_goes_on_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let log_dir = dir.path().join("log");
    let Some(disk) = Disk::mount(&log_dir.join("log/state")) else {
        return;
    };
    let (told, seen) = run(Log::open(&log_dir, options()).unwrap(), 0..EVENTS).await;
    assert_eq!(seen, EVENTS);
    assert_eq!(told.first(), Some(&None));
    let last = told.last().cloned().flatten().unwrap_or_default();
    assert!(last.contains("no room"), "{last}");
    // It held a fraction of what passed through it.
    let log = Log::open(&log_dir, options()).unwrap();
    assert!(log.wal.used_bytes() <= BUDGET && log.wal.first().0 > 0);
    drop(log);

    disk.enlarge();
    let (told, _) = run(Log::open(&log_dir, options()).unwrap(), EVENTS..EVENTS + 100).await;
    assert_eq!(told.last(), Some(&None), "{told:?}");
    let log = Log::open(&log_dir, options()).unwrap();
    assert!(log.wal.load("analysis").unwrap().is_some());
}

/// What a sink and another log were given by one run.
async fn deliver(log: Log, events: std::ops::Range<u64>, common: &MemoryWal) -> Vec<u64> {
    let events = events.map(|n| common::event(n, Class::Telemetry, 100)).collect();
    let (sink, given) = MemorySink::new("given");
    let pipeline = Pipeline::builder()
        .collector(MemoryCollector::new("test", events))
        .limits(BatchLimits {
            max_events: 50,
            ..BatchLimits::default()
        })
        .log(log)
        .sink(sink)
        .record_sink(LogCarrier::new("common", Arc::new(common.clone())))
        .build()
        .unwrap();
    let report = tokio::time::timeout(Duration::from_secs(60), pipeline.run(Shutdown::new()));
    let report = report.await.expect("a full log would wait for ever").unwrap();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    given
        .events()
        .iter()
        .map(|recorded| recorded.event.id.ordinal)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sinks_and_carriers_go_on_where_no_note_can_be_kept() {
    let dir = tempfile::tempdir().unwrap();
    let log_dir = dir.path().join("log");
    let Some(disk) = Disk::mount(&log_dir.join("log/state")) else {
        return;
    };
    let common = MemoryWal::new(1 << 30);
    let given = deliver(Log::open(&log_dir, options()).unwrap(), 0..EVENTS, &common).await;
    assert!(given.into_iter().eq(0..EVENTS), "each once, in order");
    let carried = common.durable();
    assert!(carried.0 >= EVENTS / 50);
    let log = Log::open(&log_dir, options()).unwrap();
    assert!(log.wal.used_bytes() <= BUDGET && log.wal.first().0 > 0);
    assert!(log.wal.load("sink/given").unwrap().is_none());
    drop(log);

    // Without a note, what the log still holds is given again, and nothing else.
    disk.enlarge();
    let given = deliver(Log::open(&log_dir, options()).unwrap(), 0..EVENTS + 100, &common).await;
    let first = given[0];
    assert!(first > 0, "it was forgotten as it was delivered");
    assert!(given.into_iter().eq(first..EVENTS + 100));
    assert!(common.durable() > carried);
    let log = Log::open(&log_dir, options()).unwrap();
    assert!(log.wal.load("sink/given").unwrap().is_some());
    assert!(log.wal.load("carry/common").unwrap().is_some());
}
