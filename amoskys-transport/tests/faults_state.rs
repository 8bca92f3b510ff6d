//! What is not damage: another process, a newer version, a clock that steps. Each is told apart, and nothing is changed.
#![cfg(feature = "sled")]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use amoskys_core::{Class, Name, Open, Seal, Timestamp, Unsealed, Wal};
use amoskys_transport::{FileSigner, Log, Signer};
use common::{assert_clean, fill, open, read_all, segments, small, verify};

const DIR: &str = "AMOSKYS_TEST_HELD_IN";

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn snapshot(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(dir.join("log"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

/// The process that holds the log: it runs only as a child of the test below.
#[test]
#[ignore = "run by `a_log_held_by_another_process_is_left_alone`"]
fn child() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else {
        return;
    };
    let mut log = open(&dir);
    fill(&mut log, 20);
    println!("held");
    loop {
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}

#[test]
fn a_log_held_by_another_process_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--ignored", "--nocapture"])
        .env(DIR, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map(Result::unwrap).any(|line| line.contains("held")));
    // Once the anchor of what was just written is there, nothing changes by itself.
    std::thread::sleep(std::time::Duration::from_millis(1200));
    let before = snapshot(dir.path());
    for _ in 0..2 {
        let text = causes(&Log::open(dir.path(), small("agent")).unwrap_err());
        assert!(text.contains("in use by another process"), "{text}");
        assert!(text.contains("close that first"), "{text}");
    }
    assert!(before == snapshot(dir.path()));
    child.kill().unwrap();
    child.wait().unwrap();
    let mut log = open(dir.path());
    assert_eq!(read_all(&log).0.len(), 20);
    fill(&mut log, 3);
    drop(log);
    assert_clean(dir.path());
}

/// Makes the checksum at `at` that of the bytes between `from` and it.
fn correct(bytes: &mut [u8], from: usize, at: usize) {
    let crc = crc32fast::hash(&bytes[from..at]);
    bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn a_log_of_a_newer_version_is_refused_and_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    fill(&mut log, 120);
    log.wal.store("reader", b"7").unwrap();
    drop(log);
    let files = segments(dir.path());
    let mut cases: Vec<(PathBuf, usize, usize)> = Vec::new();
    // The version, and a flag that every reader must know: of the first, of one between, of the last.
    for file in [&files[0], &files[2], files.last().unwrap()] {
        cases.extend([(file.clone(), 8, 60), (file.clone(), 12, 60)]);
    }
    let anchor = dir.path().join("log/anchor");
    let crc_at = fs::metadata(&anchor).unwrap().len() as usize - 4;
    cases.push((anchor, 4, crc_at));
    for (file, byte, crc_at) in cases {
        let good = fs::read(&file).unwrap();
        let mut newer = good.clone();
        newer[byte] = 9;
        correct(&mut newer, 0, crc_at);
        fs::write(&file, &newer).unwrap();
        let before = snapshot(dir.path());
        for _ in 0..2 {
            let text = causes(&Log::open(dir.path(), small("agent")).unwrap_err());
            assert!(text.contains("format version"), "{text}");
            assert!(
                text.contains("use the newer version, or another directory"),
                "{text}"
            );
        }
        assert!(before == snapshot(dir.path()), "{} byte {byte}", file.display());
        assert!(!verify(dir.path()).is_clean());
        fs::write(&file, good).unwrap();
    }
    let mut log = open(dir.path());
    assert_eq!(log.wal.load("reader").unwrap().as_deref(), Some(&b"7"[..]));
    fill(&mut log, 3);
    drop(log);
    assert_clean(dir.path());
}

#[test]
fn a_record_of_a_newer_version_stays_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    fill(&mut log, 60);
    drop(log);
    let file = &segments(dir.path())[1];
    let mut bytes = fs::read(file).unwrap();
    let (at, _) = common::stored_records(&bytes)[3];
    bytes[at + 20] = 1;
    let (_, rest) = bytes.split_at_mut(at);
    correct(rest, 0, 28);
    fs::write(file, &bytes).unwrap();
    for _ in 0..3 {
        let mut log = open(dir.path());
        let (_, damaged) = read_all(&log);
        assert_eq!(damaged.len(), 1);
        fill(&mut log, 1);
        drop(log);
        // It is there, so no gap says that it is lost.
        let report = verify(dir.path());
        assert!(report.gaps.is_empty() && report.findings.len() == 1, "{report}");
        assert!(fs::read(file).unwrap() == bytes);
    }
}

/// Event times, the times in the segments' headers and that of the anchor decide nothing.
#[test]
fn a_clock_that_steps_back_and_forward_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let clock = [
        0,
        i64::MAX,
        i64::MIN,
        1_700_000_000_000_000_000,
        -1,
        4_000_000_000_000_000_000,
    ];
    let mut expected = Vec::new();
    for (round, nanos) in clock.into_iter().enumerate() {
        let mut log = open(dir.path());
        for n in 0..30 {
            let mut event = common::event(n, Class::Telemetry, 300);
            event.time = Timestamp::from_nanos(nanos);
            let source = Name::from("test");
            let events = [event];
            let batch = Unsealed {
                class: Class::Telemetry,
                source: &source,
                events: &events,
                position: None,
                ledger: None,
            };
            let record = log.sealer.seal(batch).unwrap().record;
            expected.push(events[0].clone());
            log.wal.append(record).unwrap();
        }
        drop(log);
        step_clock(dir.path(), nanos, clock[(round + 2) % clock.len()]);
        assert_clean(dir.path());
        let log = open(dir.path());
        let (records, damaged) = read_all(&log);
        assert!(damaged.is_empty());
        let events: Vec<_> = records
            .iter()
            .flat_map(|(_, record)| log.opener.open(record).unwrap().events)
            .collect();
        assert_eq!(events, expected);
        let head = log.sealer.head(Class::Telemetry);
        assert_eq!(head.next.0, expected.len() as u64);
    }
    assert_clean(dir.path());
}

/// As if the last segment had been begun at one time, and the anchor written at another.
fn step_clock(dir: &Path, created: i64, written: i64) {
    let file = segments(dir).pop().unwrap();
    let mut bytes = fs::read(&file).unwrap();
    bytes[44..52].copy_from_slice(&created.to_le_bytes());
    correct(&mut bytes, 0, 60);
    fs::write(file, bytes).unwrap();

    let signer = FileSigner::open(dir.join("keys/agent.key")).unwrap();
    let anchor = dir.join("log/anchor");
    let mut bytes = fs::read(&anchor).unwrap();
    bytes[16..24].copy_from_slice(&written.to_le_bytes());
    let signed = bytes.len() - 4 - 64;
    let digest = ring::digest::digest(&ring::digest::SHA256, &bytes[..signed]);
    let message = [b"amoskys log anchor\n", digest.as_ref()].concat();
    bytes[signed..signed + 64].copy_from_slice(&signer.sign(&message).unwrap());
    let crc_at = bytes.len() - 4;
    correct(&mut bytes, 0, crc_at);
    fs::write(anchor, bytes).unwrap();
}
