//! What several tests need.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::path::{Path, PathBuf};

use amoskys_core::event::{LogLevel, LogRecord};
use amoskys_core::{Class, Event, EventId, Name, Offset, Payload, Position, Seal, Timestamp, Unsealed, Wal};
use amoskys_transport::verify::{Finding, FindingKind, Report, Verifier};
use amoskys_transport::{Log, LogOptions, Sealer, WalOptions};
use bytes::Bytes;

/// An event that differs from all others, of about `len` bytes.
pub(crate) fn event(ordinal: u64, class: Class, len: usize) -> Event {
    let mut state = ordinal.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678;
    let message = (0..len).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'!' + (state % 90) as u8)
    });
    let log = LogRecord {
        level: LogLevel::default(),
        message: message.collect(),
        ..LogRecord::default()
    };
    Event {
        id: EventId { origin: 7, ordinal },
        time: Timestamp::from_secs(1_700_000_000 + ordinal as i64),
        device: "device".into(),
        source: "test".into(),
        class,
        payload: Payload::Log(Box::new(log)),
        ..Event::default()
    }
}

/// Small segments, so that a little data makes many.
pub(crate) fn small(agent: &str) -> LogOptions {
    LogOptions::new()
        .agent(agent)
        .wal(WalOptions::new().budget_bytes(8 << 20).segment_bytes(16 << 10))
}

pub(crate) fn open(dir: &Path) -> Log {
    Log::open(dir, small("agent")).unwrap()
}

pub(crate) fn seal(sealer: &mut Sealer, class: Class, from: u64, count: u64, len: usize) -> Bytes {
    let events: Vec<_> = (from..from + count).map(|n| event(n, class, len)).collect();
    let source = Name::from("test");
    let position = Position(Bytes::from((from + count).to_le_bytes().to_vec()));
    let batch = Unsealed {
        class,
        source: &source,
        events: &events,
        position: Some(&position),
        ledger: None,
    };
    sealer.seal(batch).unwrap().record
}

/// Appends `batches` batches, every fifth an alert, and waits until they are durable.
pub(crate) fn fill(log: &mut Log, batches: u64) {
    let mut last = None;
    for batch in 0..batches {
        let class = if batch % 5 == 4 {
            Class::Alert
        } else {
            Class::Telemetry
        };
        let record = seal(&mut log.sealer, class, batch * 10, 4, 100);
        last = Some(log.wal.append(record).unwrap());
    }
    if let Some(last) = last {
        log.wal.wait_durable(last).unwrap();
    }
}

pub(crate) fn verify(dir: &Path) -> Report {
    Verifier::new(dir).run().unwrap()
}

#[track_caller]
pub(crate) fn assert_clean(dir: &Path) -> Report {
    let report = verify(dir);
    assert!(report.is_clean(), "{report}");
    report
}

pub(crate) fn kinds(report: &Report) -> Vec<FindingKind> {
    let mut kinds: Vec<_> = report
        .findings
        .iter()
        .map(|finding: &Finding| finding.kind)
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// The segment files of a data directory, in order.
pub(crate) fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir.join("log"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|e| e == "seg"))
        .collect();
    found.sort();
    found
}

/// Everything that can be read, and the offsets that cannot.
pub(crate) fn read_all(log: &Log) -> (Vec<(Offset, Bytes)>, Vec<Offset>) {
    let (mut records, mut damaged) = (Vec::new(), Vec::new());
    let mut from = log.wal.first();
    loop {
        match log.wal.read(from, 1 << 16) {
            Ok(read) => {
                let Some((last, _)) = read.last() else {
                    return (records, damaged);
                };
                from = last.next();
                records.extend(read);
            }
            Err(amoskys_core::WalError::Damaged { offset, .. }) => {
                assert!(offset >= from);
                damaged.push(offset);
                from = offset.next();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The records of a segment file: position and whole stored length.
pub(crate) fn stored_records(segment: &[u8]) -> Vec<(usize, usize)> {
    let mut at = 64;
    let mut found = Vec::new();
    while at + 32 <= segment.len() && segment[at..at + 4] != [0; 4] {
        let len = u32::from_le_bytes(segment[at + 4..at + 8].try_into().unwrap()) as usize;
        let stored = (32 + len).next_multiple_of(8);
        found.push((at, stored));
        at += stored;
    }
    found
}
