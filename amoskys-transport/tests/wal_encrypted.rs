//! An encrypted log: nothing of it can be read on the disk, a wrong key changes nothing, damage and crashes are dealt with as
//! in any other, and keys can be changed.
#![cfg(feature = "sled")]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use amoskys_core::config::WhenFull;
use amoskys_core::{BoxError, Class, Name, Offset, Open as _, Seal as _, Unsealed, Wal as _, WalError};
use amoskys_transport::verify::{FindingKind, Report, Verifier};
use amoskys_transport::{FileLogKeys, Log, LogError, LogKey, LogKeyId, LogKeys, LogOptions, WalOptions};
use bytes::Bytes;
use common::{copy_dir, kinds, read_all, seal, segments};

/// Keys in memory; the first is the current one.
struct Keys(Vec<[u8; 32]>);

impl LogKeys for Keys {
    fn current(&self) -> Result<LogKey, BoxError> {
        Ok(LogKey::from_bytes(self.0[0]))
    }

    fn by_id(&self, id: LogKeyId) -> Result<Option<LogKey>, BoxError> {
        let mut keys = self.0.iter().map(|secret| LogKey::from_bytes(*secret));
        Ok(keys.find(|key| key.id() == id))
    }
}

fn keys(numbers: &[u8]) -> Arc<dyn LogKeys> {
    Arc::new(Keys(numbers.iter().map(|n| [*n; 32]).collect()))
}

const AGENT: &str = "gateway-of-the-north-wing";
const SOURCE: &str = "thermometer-in-the-cellar";

fn options(numbers: &[u8]) -> LogOptions {
    let wal = WalOptions::new().budget_bytes(8 << 20).segment_bytes(16 << 10);
    let options = LogOptions::new().agent(AGENT).wal(wal);
    match numbers {
        [] => options,
        numbers => options.log_keys(keys(numbers)),
    }
}

fn open(dir: &Path, numbers: &[u8]) -> Log {
    Log::open(dir, options(numbers)).unwrap()
}

fn verify(dir: &Path, numbers: &[u8]) -> Report {
    Verifier::new(dir).log_keys(keys(numbers)).run().unwrap()
}

#[track_caller]
fn assert_clean(dir: &Path, numbers: &[u8]) -> Report {
    let report = verify(dir, numbers);
    assert!(report.is_clean() && report.locked_records == 0, "{report}");
    report
}

/// Appends batches from a source whose name is known, and waits for them.
fn fill(log: &mut Log, batches: u64) -> Vec<Bytes> {
    let source = Name::from(SOURCE);
    let mut sealed = Vec::new();
    for _ in 0..batches {
        let next = log.sealer.head(Class::Telemetry).next.0;
        let events: Vec<_> = (next..next + 3)
            .map(|n| common::event(n, Class::Telemetry, 150))
            .collect();
        let batch = Unsealed {
            class: Class::Telemetry,
            source: &source,
            events: &events,
            position: None,
            ledger: None,
        };
        sealed.push(log.sealer.seal(batch).unwrap().record);
    }
    let mut last = Offset(0);
    for record in &sealed {
        last = log.wal.append(record.clone()).unwrap();
    }
    log.wal.wait_durable(last).unwrap();
    sealed
}

fn records(log: &Log) -> Vec<Bytes> {
    let (records, damaged) = read_all(log);
    assert!(damaged.is_empty(), "{damaged:?}");
    records.into_iter().map(|(_, record)| record).collect()
}

/// The files below a directory in which these bytes stand.
fn holding(dir: &Path, bytes: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holding(&path, bytes));
        } else if std::fs::read(&path)
            .unwrap()
            .windows(bytes.len())
            .any(|window| window == bytes)
        {
            found.push(path);
        }
    }
    found
}

#[test]
fn nothing_of_it_can_be_read_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), &[1]);
    let sealed = fill(&mut log, 60);
    let value = b"what an analyzer knows, again and again ".repeat(500);
    log.wal.store("snapshot", &value).unwrap();
    log.wal.sync().unwrap();
    assert_eq!(records(&log), sealed);
    drop(log);
    let log_dir = dir.path().join("log");
    let message = "what an analyzer knows";
    let payload = &sealed[0][sealed[0].len() - 40..];
    for (what, bytes) in [
        ("source", SOURCE.as_bytes()),
        ("payload", payload),
        ("value", message.as_bytes()),
        ("sealed record", b"AMSB"),
    ] {
        assert_eq!(holding(&log_dir, bytes), Vec::<PathBuf>::new(), "{what}");
    }
    // The agent's name is in the anchor, which who checks the log without a key needs.
    assert_eq!(holding(&log_dir, AGENT.as_bytes()), [log_dir.join("anchor")]);

    let mut log = open(dir.path(), &[1]);
    assert_eq!(records(&log), sealed);
    assert_eq!(log.wal.load("snapshot").unwrap().as_deref(), Some(&value[..]));
    let (_, record) = log.wal.read(Offset(7), 1).unwrap().remove(0);
    assert_eq!(log.opener.open(&record).unwrap().source.as_str(), SOURCE);
    fill(&mut log, 10);
    drop(log);
    assert_eq!(assert_clean(dir.path(), &[1]).records, 70);
}

/// Everything in a directory: paths and contents.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let content = std::fs::read(&path).unwrap();
            found.push((path, content));
        }
    }
    found.sort();
    found
}

#[test]
fn a_wrong_key_or_none_changes_nothing_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let sealed = fill(&mut open(dir.path(), &[1]), 60);
    let before = files(dir.path());
    let id = LogKey::from_bytes([1; 32]).id().to_string();
    for wrong in [&[][..], &[2], &[2, 3]] {
        let error = Log::open(dir.path(), options(wrong)).unwrap_err();
        let LogError::Wal(WalError::Open { reason, .. }) = &error else {
            panic!("{error:?}");
        };
        assert!(reason.contains(&id), "{reason}");
        assert_eq!(files(dir.path()), before, "with {wrong:?}");
    }
    let error = Log::open(dir.path(), options(&[]).log_key_file(dir.path().join("none"))).unwrap_err();
    assert!(matches!(error, LogError::LogKey(_)), "{error:?}");
    assert_eq!(records(&open(dir.path(), &[1])), sealed);
}

#[test]
fn without_the_key_the_form_can_be_verified() {
    let dir = tempfile::tempdir().unwrap();
    fill(&mut open(dir.path(), &[1]), 60);
    let report = Verifier::new(dir.path()).run().unwrap();
    assert!(report.is_clean(), "{report}");
    assert_eq!(
        (report.locked_records, report.records, report.next_offset),
        (60, 0, 60)
    );
    assert!(
        report.to_string().contains("60 records are encrypted"),
        "{report}"
    );
    // What is altered or cut off is found all the same.
    let path = &segments(dir.path())[0];
    let good = std::fs::read(path).unwrap();
    let mut bytes = good.clone();
    bytes[4160 + 40] ^= 1;
    std::fs::write(path, &bytes).unwrap();
    assert_eq!(
        kinds(&Verifier::new(dir.path()).run().unwrap()),
        [FindingKind::Altered]
    );
    std::fs::write(path, good).unwrap();
    let last = segments(dir.path()).pop().unwrap();
    std::fs::remove_file(last).unwrap();
    let report = Verifier::new(dir.path()).run().unwrap();
    assert!(kinds(&report).contains(&FindingKind::Truncated), "{report}");
}

#[test]
fn plain_and_encrypted_lie_in_one_log_and_keys_can_be_changed() {
    let dir = tempfile::tempdir().unwrap();
    let mut sealed = Vec::new();
    // From plain to encrypted, to other keys, and back to plain; each time in the middle of a segment.
    for (numbers, batches) in [
        (&[][..], 30),
        (&[1][..], 30),
        (&[2, 1], 30),
        (&[3, 2, 1], 3),
        (&[3, 2, 1], 3),
    ] {
        let mut log = open(dir.path(), numbers);
        sealed.extend(fill(&mut log, batches));
        assert_eq!(records(&log), sealed, "{numbers:?}");
        drop(log);
        assert_clean(dir.path(), &[3, 2, 1]);
    }
    // Each key is needed as long as there is something under it.
    for numbers in [&[3, 2][..], &[3, 1], &[2, 1], &[]] {
        assert!(Log::open(dir.path(), options(numbers)).is_err(), "{numbers:?}");
    }
    let log = open(dir.path(), &[3, 2, 1]);
    log.wal.trim(Offset(60)).unwrap();
    drop(log);
    let log = open(dir.path(), &[3, 2]);
    assert_eq!(records(&log), sealed[60..]);
}

#[test]
fn a_log_that_holds_nothing_yet_can_change_its_mind() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), &[]));
    drop(open(dir.path(), &[1]));
    drop(open(dir.path(), &[2, 1]));
    let sealed = fill(&mut open(dir.path(), &[2]), 5);
    assert_eq!(records(&open(dir.path(), &[2])), sealed);
    assert_clean(dir.path(), &[2]);
}

#[test]
fn keys_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.key");
    FileLogKeys::create(&path).unwrap();
    let with_file = || options(&[]).log_key_file(&path);
    let sealed = fill(&mut Log::open(dir.path(), with_file()).unwrap(), 5);
    let old = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{}\n{old}", "5b".repeat(32))).unwrap();
    let mut log = Log::open(dir.path(), with_file()).unwrap();
    assert_eq!(records(&log), sealed);
    fill(&mut log, 5);
    drop(log);
    let keys = Arc::new(FileLogKeys::open(&path).unwrap());
    let report = Verifier::new(dir.path()).log_keys(keys).run().unwrap();
    assert!(report.is_clean() && report.locked_records == 0, "{report}");
}

#[test]
fn any_flipped_bit_is_found_and_the_rest_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), &[1]);
    let sealed = fill(&mut log, 40);
    drop(log);
    let segment = segments(dir.path())[1].clone();
    let good = std::fs::read(&segment).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    // Everywhere in the beginning, and in steps behind it.
    let mut places: Vec<usize> = (0..128).step_by(3).collect();
    places.extend((4096..4160).step_by(5));
    places.extend((4160..good.len()).step_by(331));
    for (n, at) in places.into_iter().enumerate() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (n % 8);
        std::fs::write(&segment, &bytes).unwrap();
        let report = verify(dir.path(), &[1]);
        // Of what is there twice, and of room, one is enough.
        let spare = (64..128).contains(&at) || (4096..4160).contains(&at);
        assert!(spare || !report.is_clean(), "byte {at}: {report}");
        let copy = scratch.path().join(n.to_string());
        copy_dir(dir.path(), &copy);
        let log = open(&copy, &[1]);
        let (there, damaged) = read_all(&log);
        assert!(damaged.len() <= 2, "byte {at}: {damaged:?}");
        let there: Vec<_> = there.into_iter().map(|(_, record)| record).collect();
        let good_ones = sealed.iter().filter(|record| there.contains(record)).count();
        assert!(good_ones + 1 >= sealed.len(), "byte {at}: {good_ones}");
        drop(log);
        // What was found when it was read is explained when it is opened again.
        drop(open(&copy, &[1]));
        let report = verify(&copy, &[1]);
        assert!(
            report.findings.iter().all(|finding| finding.place.byte < 4160),
            "byte {at}: what is damaged is explained: {report}"
        );
        std::fs::remove_dir_all(copy).unwrap();
    }
}

#[test]
fn a_lost_page_at_the_beginning_takes_no_key_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let sealed = fill(&mut open(dir.path(), &[1]), 40);
    let segment = segments(dir.path())[1].clone();
    let good = std::fs::read(&segment).unwrap();
    for lost in [0..512, 0..4096, 4096..4160] {
        let mut bytes = good.clone();
        bytes[lost].fill(0);
        std::fs::write(&segment, &bytes).unwrap();
        assert_eq!(records(&open(dir.path(), &[1])), sealed);
        std::fs::write(&segment, &good).unwrap();
    }
}

#[test]
fn a_record_put_elsewhere_does_not_decrypt() {
    let dir = tempfile::tempdir().unwrap();
    fill(&mut open(dir.path(), &[1]), 20);
    let path = &segments(dir.path())[0];
    let mut bytes = std::fs::read(path).unwrap();
    // The bodies of two records of the same length change places; their checksums are made to fit.
    let len = u32::from_le_bytes(bytes[4164..4168].try_into().unwrap()) as usize;
    let stored = (32 + len).next_multiple_of(8);
    let second = 4160 + stored;
    assert_eq!(
        u32::from_le_bytes(bytes[second + 4..second + 8].try_into().unwrap()) as usize,
        len
    );
    let (first_body, second_body) = (
        bytes[4192..4192 + len].to_vec(),
        bytes[second + 32..second + 32 + len].to_vec(),
    );
    for (at, body) in [(4160, second_body), (second, first_body)] {
        bytes[at + 32..at + 32 + len].copy_from_slice(&body);
        let crc = crc32fast::hash(&body).to_le_bytes();
        bytes[at + 24..at + 28].copy_from_slice(&crc);
        let crc = crc32fast::hash(&bytes[at..at + 28]).to_le_bytes();
        bytes[at + 28..at + 32].copy_from_slice(&crc);
    }
    std::fs::write(path, bytes).unwrap();
    // From outside it looks good.
    assert!(Verifier::new(dir.path()).run().unwrap().is_clean());
    assert!(!verify(dir.path(), &[1]).is_clean());
    let (there, damaged) = read_all(&open(dir.path(), &[1]));
    assert_eq!((there.len(), damaged.len()), (18, 2));
    // What could not be read is replaced by a gap when it is opened again.
    drop(open(dir.path(), &[1]));
    let report = verify(dir.path(), &[1]);
    assert!(report.is_clean() && !report.gaps.is_empty(), "{report}");
}

#[test]
fn it_sheds_and_stays_encrypted() {
    let dir = tempfile::tempdir().unwrap();
    let wal = WalOptions::new().budget_bytes(256 << 10).segment_bytes(16 << 10);
    let with = |numbers: &[u8]| options(numbers).wal(wal.clone()).when_full(WhenFull::Shed);
    // Begun in plain text, and so rewritten.
    let mut log = Log::open(dir.path(), with(&[])).unwrap();
    fill(&mut log, 100);
    drop(log);
    let mut log = Log::open(dir.path(), with(&[1])).unwrap();
    for _ in 0..60 {
        while log.wal.used_bytes() > 224 << 10 {
            assert!(log.wal.shed().unwrap());
        }
        fill(&mut log, 10);
    }
    let mut next = 0;
    for (_, record) in read_all(&log).0 {
        let opened = log.opener.open(&record).unwrap();
        assert_eq!(opened.first.0, next);
        next = opened.last.0 + 1;
    }
    assert_eq!(next, 700 * 3);
    drop(log);
    assert!(!assert_clean(dir.path(), &[1]).gaps.is_empty());
    assert_eq!(
        holding(&dir.path().join("log"), SOURCE.as_bytes()),
        Vec::<PathBuf>::new()
    );
}

const DIR: &str = "AMOSKYS_TEST_ENCRYPTED_IN";

/// The process that is killed: it runs only as a child of the test below.
#[test]
#[ignore = "run by `killed_at_any_moment_nothing_durable_is_lost`"]
fn child() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else {
        return;
    };
    let mut log = open(&dir, &[1]);
    let mut out = std::io::stdout().lock();
    loop {
        let mut last = Offset(0);
        for _ in 0..3 {
            let next = log.sealer.head(Class::Telemetry).next.0;
            let record = seal(&mut log.sealer, Class::Telemetry, next, 2, 150);
            last = log.wal.append(record).unwrap();
        }
        log.wal.trim(Offset(last.0.saturating_sub(200))).unwrap();
        log.wal.wait_durable(last).unwrap();
        writeln!(out, "durable {}", last.0).unwrap();
    }
}

#[test]
fn killed_at_any_moment_nothing_durable_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    for kill in 0..8_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "child", "--nocapture", "--test-threads=1"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let durable = |line: &String| line.strip_prefix("durable ")?.parse::<u64>().ok();
        let mut last = (&mut lines)
            .filter_map(|line| durable(&line))
            .take(20 + kill as usize * 17)
            .last();
        child.kill().unwrap();
        child.wait().unwrap();
        // The last line may be cut off by the kill.
        let rest: Vec<_> = lines.collect();
        last = rest.iter().rev().skip(1).find_map(durable).or(last);
        let log = open(dir.path(), &[1]);
        assert!(log.wal.durable().0 > last.unwrap());
        let mut next = None;
        for record in records(&log) {
            let opened = log.opener.open(&record).unwrap();
            assert!(next.is_none_or(|next| next == opened.first.0));
            next = Some(opened.last.0 + 1);
        }
        assert_eq!(next, Some(log.sealer.head(Class::Telemetry).next.0));
        drop(log);
        assert_clean(dir.path(), &[1]);
    }
}
