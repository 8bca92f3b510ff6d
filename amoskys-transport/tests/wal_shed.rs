//! A full log that sheds, and one whose records expire: what goes leaves signed gaps, alerts and audit stay, and a crash at
//! any moment leaves either the records or what took their place.
#![cfg(feature = "sled")]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use amoskys_core::config::WhenFull;
use amoskys_core::event::GapReason;
use amoskys_core::memory::MemoryCollector;
use amoskys_core::pipeline::{BatchLimits, Pipeline};
use amoskys_core::{
    Class, DropReason, Ledger, Offset, Open as _, Opened, RecordFeed, Recorded, Shutdown, Sink, Wal as _,
    WalError,
};
use amoskys_transport::{Log, LogOptions, WalOptions};
use bytes::Bytes;
use common::{assert_clean, copy_dir, read_all, seal, segments};

const BUDGET: u64 = 512 << 10;

fn options() -> LogOptions {
    let wal = WalOptions::new().budget_bytes(BUDGET).segment_bytes(8 << 10);
    LogOptions::new()
        .agent("agent")
        .when_full(WhenFull::Shed)
        .wal(wal)
}

fn open(dir: &Path) -> Log {
    Log::open(dir, options()).unwrap()
}

/// Makes room as a pipeline does, if there is none. `false` if there will be none.
fn make_room(log: &Log, last: Option<Offset>) -> bool {
    while log.wal.used_bytes() > BUDGET - BUDGET / 8 {
        if !log.wal.shed().unwrap() {
            // What is not durable yet is not shed.
            if last.is_none_or(|last| last < log.wal.durable()) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    true
}

fn append(log: &Log, record: &Bytes) -> Offset {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match log.wal.append(record.clone()) {
            Ok(offset) => return offset,
            Err(WalError::Full { .. }) => {
                // What waits in memory counts too.
                assert!(Instant::now() < deadline);
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Seals and appends events of these classes in turn until so many batches are in, or nothing more can be.
fn fill(log: &mut Log, classes: &[Class], batches: u64) -> u64 {
    let mut last = None;
    let mut taken = 0;
    for batch in 0..batches {
        if !make_room(log, last) {
            break;
        }
        let class = classes[usize::try_from(batch).unwrap() % classes.len()];
        let next = log.sealer.head(class).next.0;
        let record = seal(&mut log.sealer, class, next, 3, 150);
        last = Some(append(log, &record));
        taken += 1;
    }
    if let Some(last) = last {
        log.wal.wait_durable(last).unwrap();
    }
    taken
}

/// Every record, opened.
fn all(log: &Log) -> Vec<(Offset, Opened)> {
    let (records, damaged) = read_all(log);
    assert!(damaged.is_empty(), "{damaged:?}");
    let open = |(offset, record)| (offset, log.opener.open(&record).unwrap());
    records.into_iter().map(open).collect()
}

/// Checks that in every stream each event is there or in a gap, in order; gives the events and what is missing, by class.
#[track_caller]
fn account(log: &Log) -> BTreeMap<Class, (u64, u64)> {
    let mut account = BTreeMap::<Class, (u64, u64)>::new();
    let mut next = BTreeMap::<Class, u64>::new();
    for (_, opened) in all(log) {
        let class = opened.stream.class;
        let next = next.entry(class).or_default();
        assert_eq!(opened.first.0, *next, "{class}");
        *next = opened.last.0 + 1;
        let count = opened.last.0 - opened.first.0 + 1;
        let (there, missing) = account.entry(class).or_default();
        match &opened.gap {
            Some(_) => *missing += count,
            None => *there += count,
        }
        for (n, event) in opened.events.iter().enumerate() {
            assert_eq!(event.id.ordinal, opened.first.0 + n as u64);
        }
    }
    for (class, next) in next {
        assert_eq!(next, log.sealer.head(class).next.0, "{class}");
    }
    account
}

const ALL: [Class; 5] = [
    Class::Telemetry,
    Class::Telemetry,
    Class::Bulk,
    Class::Telemetry,
    Class::Alert,
];

#[test]
fn the_oldest_telemetry_goes_and_alerts_stay() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    let batches = 900;
    assert_eq!(fill(&mut log, &ALL, batches), batches);
    assert!(log.wal.used_bytes() <= BUDGET);
    let before = account(&log);
    assert_eq!(before[&Class::Alert], (batches / 5 * 3, 0));
    let (_, telemetry) = before[&Class::Telemetry];
    assert!(telemetry > 0, "{before:?}");
    // Bulk goes first, where there is enough of it to be worth the writing.
    let part = |(there, missing): (u64, u64)| missing * 100 / (there + missing);
    assert!(
        part(before[&Class::Bulk]) > part(before[&Class::Telemetry]),
        "{before:?}"
    );
    // The oldest alert is where it was.
    let alert = all(&log)
        .into_iter()
        .find(|(_, opened)| opened.stream.class == Class::Alert);
    assert_eq!(alert.unwrap().0, Offset(4));

    let written: u64 = std::fs::read_dir(dir.path().join("log"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().extension().is_some_and(|e| e == "seg"))
        .map(|entry| entry.metadata().unwrap().len())
        .sum();
    assert!(written <= BUDGET + (256 << 10), "{written}");
    drop(log);
    let report = assert_clean(dir.path());
    assert!(!report.gaps.is_empty());
    assert!(report.gaps.iter().all(|gap| gap.reason == "shed"), "{report}");

    // It is the same when opened again, and goes on.
    let mut log = open(dir.path());
    assert_eq!(account(&log), before);
    fill(&mut log, &ALL, 300);
    assert_eq!(account(&log)[&Class::Alert], ((batches / 5 + 60) * 3, 0));
    drop(log);
    assert_clean(dir.path());
}

#[test]
fn what_is_left_of_many_segments_lies_in_few_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    assert_eq!(fill(&mut log, &[Class::Telemetry], 6000), 6000);
    drop(log);
    let report = assert_clean(dir.path());
    assert_eq!(report.gaps.len(), 1, "{report}");
    assert!(segments(dir.path()).len() <= 64, "{report}");
}

#[test]
fn with_nothing_left_to_shed_it_waits() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    let taken = fill(&mut log, &[Class::Alert], 10_000);
    assert!(taken < 10_000);
    assert!(!log.wal.shed().unwrap());
    assert_eq!(account(&log)[&Class::Alert], (taken * 3, 0));
    // Without the policy, nothing is ever shed.
    drop(log);
    let mut log = Log::open(dir.path(), options().when_full(WhenFull::Wait)).unwrap();
    assert!(!log.wal.shed().unwrap());
    // What was dealt with gives room.
    log.wal.trim(log.wal.durable()).unwrap();
    assert_eq!(fill(&mut log, &[Class::Telemetry], 5), 5);
    drop(log);
    assert_clean(dir.path());
}

#[test]
fn readers_in_the_middle_of_it_lose_only_what_is_shed() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    let stop = std::sync::atomic::AtomicBool::new(false);
    let wal = log.wal.clone();
    let opener = log.opener.clone();
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|n| {
                let (wal, opener, stop) = (wal.clone(), opener.clone(), &stop);
                scope.spawn(move || {
                    let mut from = Offset(0);
                    let mut next = BTreeMap::<Class, u64>::new();
                    loop {
                        let done = stop.load(std::sync::atomic::Ordering::Relaxed);
                        let records = wal.read(from, 4 << 10).unwrap();
                        let Some((last, _)) = records.last() else {
                            if done {
                                return next;
                            }
                            std::thread::yield_now();
                            continue;
                        };
                        from = last.next();
                        for (_, record) in &records {
                            let opened = opener.open(record).unwrap();
                            let next = next.entry(opened.stream.class).or_default();
                            // A gap may begin before what was read already.
                            assert!(opened.first.0 <= *next, "{:?} {next}", opened.first);
                            assert!(opened.gap.is_some() || opened.first.0 == *next);
                            *next = (opened.last.0 + 1).max(*next);
                        }
                        if n == 0 {
                            // One is slow.
                            std::thread::sleep(Duration::from_millis(3));
                        }
                    }
                })
            })
            .collect();
        fill(&mut log, &ALL, 3000);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for reader in readers {
            for (class, next) in reader.join().unwrap() {
                assert_eq!(next, log.sealer.head(class).next.0);
            }
        }
    });
    account(&log);
}

/// The segment files of a log: names and contents.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let name = |path: &std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let files = segments(dir);
    files
        .iter()
        .map(|path| (name(path), std::fs::read(path).unwrap()))
        .collect()
}

#[test]
fn a_crash_at_any_step_leaves_the_records_or_their_gap() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    fill(&mut log, &ALL, 700);
    let expected = account(&log);
    drop(log);
    let before = files(dir.path());
    let mut log = open(dir.path());
    // Until a segment was joined to the one before it.
    let mut after = before.clone();
    let gone = loop {
        fill(&mut log, &ALL, 10);
        let now = files(dir.path());
        let gone: Vec<_> = after
            .keys()
            .filter(|name| !now.contains_key(*name))
            .cloned()
            .collect();
        if let [gone] = &gone[..] {
            break (gone.clone(), after[gone].clone(), now);
        }
        after = now;
    };
    let ended = account(&log);
    assert_ne!(expected, ended);
    drop(log);
    let (name, content, _) = gone;
    let scratch = tempfile::tempdir().unwrap();
    // The file that would have taken a segment's place: whole, half, empty.
    let whole = files(dir.path()).into_values().next().unwrap();
    for cut in [whole.len(), whole.len() / 2, 0] {
        let copy = scratch.path().join(format!("cut-{cut}"));
        copy_dir(dir.path(), &copy);
        std::fs::write(copy.join("log/compact"), &whole[..cut]).unwrap();
        let log = open(&copy);
        assert_eq!(account(&log), ended);
        assert!(!copy.join("log/compact").exists());
        drop(log);
        assert_clean(&copy);
    }
    // The segment that was joined to another is still there.
    let copy = scratch.path().join("joined");
    copy_dir(dir.path(), &copy);
    std::fs::write(copy.join("log").join(&name), &content).unwrap();
    let log = open(&copy);
    assert_eq!(account(&log), ended);
    assert!(!copy.join("log").join(&name).exists());
    drop(log);
    assert_clean(&copy);
}

#[test]
fn damage_is_kept_as_evidence_and_never_rewritten() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    fill(&mut log, &[Class::Telemetry], 100);
    drop(log);
    let path = &segments(dir.path())[1];
    let mut bytes = std::fs::read(path).unwrap();
    let (at, len) = common::stored_records(&bytes)[2];
    bytes[at + len / 2] ^= 1;
    std::fs::write(path, &bytes).unwrap();
    let mut log = open(dir.path());
    fill(&mut log, &[Class::Telemetry, Class::Alert], 2000);
    assert_eq!(std::fs::read(path).unwrap(), bytes);
    let (_, damaged) = read_all(&log);
    assert_eq!(damaged.len(), 1);
}

#[test]
fn old_records_expire_and_leave_gaps() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path(), options().retention(Duration::from_millis(600))).unwrap();
    fill(&mut log, &ALL, 60);
    let deadline = Instant::now() + Duration::from_secs(20);
    // Also those of the segment that was being filled.
    while account(&log).values().any(|(there, _)| *there > 0) {
        assert!(Instant::now() < deadline, "{:?}", account(&log));
        std::thread::sleep(Duration::from_millis(50));
    }
    fill(&mut log, &[Class::Alert], 3);
    drop(log);
    let report = assert_clean(dir.path());
    assert!(!report.gaps.is_empty());
    assert!(report.gaps.iter().all(|gap| gap.reason == "expired"), "{report}");
    // Without retention, the rest stays.
    let log = open(dir.path());
    let account = account(&log);
    assert_eq!(account[&Class::Alert], (9, 36));
    let reasons = all(&log).into_iter().filter_map(|(_, opened)| opened.gap);
    assert!(reasons.into_iter().all(|gap| gap.reason == GapReason::Expired));
}

#[test]
fn a_reader_that_is_ahead_of_others_counts_each_event_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    let ledger = Ledger::new();
    let feed = |stage: &str| {
        let open: Arc<dyn amoskys_core::Open> = log.opener.clone();
        RecordFeed::counted(log.wal.clone(), Offset(0), open, ledger.clone(), stage)
    };
    let feeds = [feed("ahead"), feed("behind")];
    let mut at = [Offset(0); 2];
    let go_on = |feed: &RecordFeed, at: &mut Offset, bytes: usize, share: u64| {
        let records = feed.read(*at, bytes).unwrap();
        let Some((last, _)) = records.last() else {
            return false;
        };
        *at = last.next();
        // The other side may lag a little.
        let safe = at.0.saturating_sub(share);
        feed.acknowledge(Offset(safe.max(feed.acknowledged().0)));
        true
    };
    let classes = [Class::Telemetry, Class::Bulk, Class::Telemetry];
    let mut sealed = 0;
    for round in 0..120_u64 {
        sealed += 3 * fill(&mut log, &classes, 40);
        for _ in 0..2 + round % 3 {
            go_on(
                &feeds[0],
                &mut at[0],
                3000 + 700 * (round as usize % 7),
                round % 9,
            );
        }
        go_on(&feeds[1], &mut at[1], 2500, 2);
        let both = feeds.iter().map(RecordFeed::acknowledged).min().unwrap();
        log.wal.trim(both).unwrap();
    }
    for (feed, at) in feeds.iter().zip(&mut at) {
        while go_on(feed, at, 1 << 16, 0) {}
    }
    let snapshot = ledger.snapshot();
    for stage in ["ahead", "behind"] {
        let account = &snapshot.accounts[stage];
        let shed = account.dropped.get(&DropReason::SHED).copied().unwrap_or(0);
        assert!(shed > 0, "{stage}");
        assert_eq!(account.received, sealed, "{stage}: {snapshot}");
        assert_eq!(account.delivered + shed, sealed, "{stage}: {snapshot}");
    }
}

/// A sink that takes its time.
struct Slow(std::time::Duration);

impl Sink for Slow {
    type Error = std::convert::Infallible;

    fn name(&self) -> &str {
        if self.0.is_zero() { "fast" } else { "slow" }
    }

    async fn write(&mut self, _: &[Recorded]) -> Result<(), Self::Error> {
        tokio::time::sleep(self.0).await;
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_is_ahead_of_others_counts_each_event_once() {
    const EVENTS: u64 = 12_000;
    let dir = tempfile::tempdir().unwrap();
    let events = (0..EVENTS)
        .map(|n| common::event(n, Class::Telemetry, 200))
        .collect();
    let report = Pipeline::builder()
        .collector(MemoryCollector::new("numbers", events))
        .limits(BatchLimits {
            max_events: 8,
            ..BatchLimits::default()
        })
        .log(open(dir.path()))
        .sink(Slow(Duration::ZERO))
        .sink(Slow(Duration::from_millis(3)))
        .build()
        .unwrap()
        .run(Shutdown::new())
        .await
        .unwrap();
    for stage in ["sink/fast", "sink/slow"] {
        let account = &report.ledger.accounts[stage];
        assert_eq!(account.received, EVENTS, "{stage}: {}", report.ledger);
        let shed = account.dropped.get(&DropReason::SHED).copied().unwrap_or(0);
        assert_eq!(account.delivered + shed, EVENTS, "{stage}: {}", report.ledger);
    }
    let slow = &report.ledger.accounts["sink/slow"];
    assert!(slow.delivered < EVENTS, "{}", report.ledger);
}
