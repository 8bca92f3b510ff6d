//! Every kind of file of a log times every kind of fault: the log opens, what was not touched is there, what was lost is
//! known to the event, the log goes on, and opening it again changes nothing more.
//!
//! What is hit is drawn from a seed, which is printed; `AMOSKYS_TEST_SEED` takes it again.
#![cfg(feature = "sled")]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use amoskys_core::{Class, Epoch, Offset, Wal};
use amoskys_transport::verify::Report;
use amoskys_transport::{Log, LogError, LogOptions, SealedHeader, WalOptions};
use bytes::Bytes;
use common::{assert_clean, copy_dir, read_all, seal, segments, stored_records, verify};

/// Numbers from a seed.
struct Dice(u64);

impl Dice {
    fn new(salt: u64) -> Self {
        static SEED: OnceLock<u64> = OnceLock::new();
        let seed = *SEED.get_or_init(|| {
            let given = std::env::var("AMOSKYS_TEST_SEED").ok();
            let now = std::time::SystemTime::UNIX_EPOCH
                .elapsed()
                .unwrap()
                .subsec_nanos();
            given.map_or(u64::from(now), |seed| seed.parse().unwrap())
        });
        println!("AMOSKYS_TEST_SEED={seed}");
        Self((seed ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn noise(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    FlippedBit,
    ZeroedSector,
    FirstSectorZeroed,
    CutAnywhere,
    CutToNothing,
    Zeroed,
    Noise,
    NoiseBehind,
    Missing,
}

const FAULTS: [Fault; 9] = [
    Fault::FlippedBit,
    Fault::ZeroedSector,
    Fault::FirstSectorZeroed,
    Fault::CutAnywhere,
    Fault::CutToNothing,
    Fault::Zeroed,
    Fault::Noise,
    Fault::NoiseBehind,
    Fault::Missing,
];

impl Fault {
    fn inflict(self, file: &Path, dice: &mut Dice) {
        const SECTOR: usize = 512;
        let mut bytes = fs::read(file).unwrap_or_default();
        let len = bytes.len();
        let zero = |bytes: &mut Vec<u8>, sector: usize| {
            let end = (sector * SECTOR + SECTOR).min(len);
            bytes[sector * SECTOR..end].fill(0);
        };
        match self {
            Self::FlippedBit if len > 0 => bytes[dice.below(len)] ^= 1 << dice.below(8),
            Self::ZeroedSector if len > 0 => zero(&mut bytes, dice.below(len.div_ceil(SECTOR))),
            Self::FirstSectorZeroed if len > 0 => zero(&mut bytes, 0),
            Self::FlippedBit | Self::ZeroedSector | Self::FirstSectorZeroed => {}
            Self::CutAnywhere => bytes.truncate(dice.below(len)),
            Self::CutToNothing => bytes.clear(),
            Self::Zeroed => bytes.fill(0),
            Self::Noise => bytes = dice.noise(len),
            Self::NoiseBehind => {
                let behind = 1 + dice.below(3000);
                bytes.extend(dice.noise(behind));
            }
            Self::Missing => {
                let _ = fs::remove_file(file);
                return;
            }
        }
        // In place, so that the mode stays.
        fs::write(file, bytes).unwrap();
    }
}

fn options() -> LogOptions {
    LogOptions::new()
        .agent("agent")
        .wal(WalOptions::new().budget_bytes(8 << 20).segment_bytes(8 << 10))
}

fn open(dir: &Path) -> Log {
    Log::open(dir, options()).unwrap()
}

/// Appends batches of all classes, of several sizes, durably.
fn fill(log: &mut Log, batches: u64) {
    let mut last = None;
    for batch in 0..batches {
        let class = Class::ALL[batch as usize % Class::ALL.len()];
        let next = log.sealer.head(class).next.0;
        let record = seal(
            &mut log.sealer,
            class,
            next,
            1 + batch % 5,
            60 + batch as usize % 90,
        );
        last = Some(log.wal.append(record).unwrap());
        if batch % 7 == 0 {
            log.wal.wait_durable(last.unwrap()).unwrap();
        }
    }
    log.wal.wait_durable(last.unwrap()).unwrap();
}

/// A log as it was before anything happened to it.
struct Good {
    dir: tempfile::TempDir,
    epoch: Epoch,
    records: BTreeMap<Offset, Bytes>,
}

impl Good {
    /// Several segments, all classes, a beginning that was trimmed, a note of streams that were given up.
    fn log() -> &'static Self {
        static GOOD: OnceLock<Good> = OnceLock::new();
        GOOD.get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            let mut log = open(dir.path());
            fill(&mut log, 130);
            let begins = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
            let floor = Offset(begins(&segments(dir.path())[3]));
            log.wal.trim(floor).unwrap();
            log.wal.store("reader", b"here").unwrap();
            let epoch = log.epoch();
            drop(log);
            let retired = "amoskys retired 1\n0-00000000000000000000000000000009 telemetry 5 ";
            write_note(
                &dir.path().join("log/retired"),
                &format!("{retired}{}\n", "07".repeat(32)),
            );
            let log = open(dir.path());
            let (records, damaged) = read_all(&log);
            assert!(damaged.is_empty() && log.wal.first() == floor);
            drop(log);
            assert!(segments(dir.path()).len() >= 6);
            assert_clean(dir.path());
            Self {
                dir,
                epoch,
                records: records.into_iter().collect(),
            }
        })
    }

    fn copy(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        copy_dir(self.dir.path(), copy.path());
        copy
    }
}

/// Lines, and their checksum.
fn write_note(path: &Path, lines: &str) {
    let crc = crc32fast::hash(lines.as_bytes());
    fs::write(path, format!("{lines}{crc:08x}\n")).unwrap();
}

/// Events, as class and number.
type Events = BTreeSet<(Class, u64)>;

fn events_of(record: &[u8]) -> impl Iterator<Item = (Class, u64)> {
    let header = SealedHeader::parse(record).unwrap();
    (0..header.count).map(move |n| (header.stream.class, header.first.0 + n))
}

fn is_gap(record: &[u8]) -> bool {
    SealedHeader::parse(record).unwrap().gap_end.is_some()
}

/// What gap records account for, as the verifier reports them.
fn explained(report: &Report) -> Events {
    let mut events = Events::new();
    for gap in &report.gaps {
        let class = Class::ALL
            .into_iter()
            .find(|class| gap.stream.contains(&format!("/{}@", class.as_str())))
            .unwrap();
        for number in gap.first..=gap.last {
            assert!(events.insert((class, number)), "explained twice: {report}");
        }
    }
    events
}

/// The offsets of the records that a change of a segment file destroyed.
fn destroyed(before: &[u8], after: &[u8]) -> Vec<usize> {
    let records = stored_records(before).into_iter().enumerate();
    let lost = records.filter(|(_, (at, _))| {
        let len = u32::from_le_bytes(before[at + 4..at + 8].try_into().unwrap()) as usize;
        after.get(*at..at + 32 + len) != Some(&before[*at..at + 32 + len])
    });
    lost.map(|(n, _)| n).collect()
}

/// All files of the log's directory whose content is not expected to change by opening it.
fn snapshot(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for sub in ["log", "keys"] {
        for entry in fs::read_dir(dir.join(sub)).unwrap() {
            let path = entry.unwrap().path();
            // The anchor says when it was written.
            if path.is_file() && !path.ends_with("log/anchor") {
                files.insert(path.clone(), fs::read(path).unwrap());
            }
        }
    }
    files
}

/// Whether a finding is about bytes that carry no event, and are left as they are: a segment's own header, and noise
/// behind its records.
fn is_harmless(detail: &str) -> bool {
    detail.contains("header")
        || detail.contains("no record is lost")
        || detail.contains("no record and not zero")
        || detail.contains("padding")
}

/// Lives through a fault: all but `lost` is there, and `lost` is what the gaps say in the end.
#[track_caller]
fn survive(what: &str, dir: &Path, good: &Good, lost: &BTreeSet<Offset>) {
    let lost_events: Events = lost
        .iter()
        .flat_map(|offset| events_of(&good.records[offset]))
        .collect();
    if !lost.is_empty() {
        assert!(!verify(dir).is_clean(), "{what}: not noticed");
    }
    // What is good is readable at once. Damage in old segments is noticed by reading.
    let mut log = open(dir);
    assert_eq!(log.epoch(), good.epoch, "{what}");
    let (records, _) = read_all(&log);
    let records: BTreeMap<_, _> = records.into_iter().collect();
    for (offset, record) in &good.records {
        let found = records.get(offset);
        if lost.contains(offset) {
            assert!(
                found.is_none_or(|found| is_gap(found)),
                "{what}: record {offset} should be lost"
            );
        } else {
            assert_eq!(found, Some(record), "{what}: record {offset}");
        }
    }
    fill(&mut log, 9);
    drop(log);

    let mut log = open(dir);
    let (records, _) = read_all(&log);
    let mut events = Events::new();
    for (_, record) in records.iter().filter(|(_, record)| !is_gap(record)) {
        for event in events_of(record) {
            assert!(events.insert(event), "{what}: {event:?} is there twice");
        }
    }
    let heads = Class::ALL.map(|class| (class, log.sealer.head(class).next.0));
    fill(&mut log, 2);
    drop(log);
    let report = verify(dir);
    let left: Vec<_> = report
        .findings
        .iter()
        .filter(|finding| !is_harmless(&finding.detail))
        .collect();
    assert!(left.is_empty(), "{what}: {report}");
    // Each event is there or explained, never both, up to where the streams have come.
    assert_eq!(explained(&report), lost_events, "{what}: {report}");
    assert!(events.is_disjoint(&lost_events), "{what}");
    for (class, next) in heads {
        let of_class = |(of, _): &&(Class, u64)| *of == class;
        let all: BTreeSet<_> = events
            .iter()
            .chain(&lost_events)
            .filter(of_class)
            .map(|(_, n)| *n)
            .collect();
        let first = all.first().copied().unwrap();
        assert!(all.into_iter().eq(first..next), "{what}: {class} up to {next}");
    }

    // Once it is settled, opening changes nothing more.
    drop(open(dir));
    let (files, report) = (snapshot(dir), verify(dir));
    drop(open(dir));
    assert!(files == snapshot(dir), "{what}: opening it once more changed it");
    let again = verify(dir);
    assert_eq!(
        (&report.gaps, &report.findings),
        (&again.gaps, &again.findings),
        "{what}"
    );
    assert_eq!(
        (report.records, report.next_offset),
        (again.records, again.next_offset),
        "{what}"
    );
}

fn in_segment(which: usize, repeat: usize) {
    let good = Good::log();
    let mut dice = Dice::new(which as u64);
    let faults = FAULTS
        .into_iter()
        .chain(std::iter::repeat_n(Fault::FlippedBit, repeat));
    for fault in faults {
        let dir = good.copy();
        let files = segments(dir.path());
        let file = &files[which.min(files.len() - 1)];
        let first: u64 = file.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let before = fs::read(file).unwrap();
        fault.inflict(file, &mut dice);
        let after = fs::read(file).unwrap_or_default();
        let lost = destroyed(&before, &after)
            .into_iter()
            .map(|n| Offset(first + n as u64));
        survive(
            &format!("{fault:?} in segment {which}"),
            dir.path(),
            good,
            &lost.collect(),
        );
    }
}

#[test]
fn in_the_first_segment_left() {
    in_segment(0, 2);
}

#[test]
fn in_a_segment_in_the_middle() {
    in_segment(2, 3);
}

#[test]
fn in_the_last_segment() {
    in_segment(usize::MAX, 3);
}

/// Files without events in them: nothing is lost with them.
fn beside(files: &[&str]) {
    let good = Good::log();
    let mut dice = Dice::new(files[0].len() as u64);
    for file in files {
        for fault in FAULTS {
            let dir = good.copy();
            fault.inflict(&dir.path().join(file), &mut dice);
            survive(
                &format!("{fault:?} in {file}"),
                dir.path(),
                good,
                &BTreeSet::new(),
            );
        }
    }
}

#[test]
fn in_the_anchor_and_the_epoch() {
    beside(&["log/anchor", "keys/agent.epoch"]);
}

#[test]
fn in_what_lies_beside_the_segments() {
    beside(&["log/retired", "log/lock"]);
}

#[test]
fn in_the_files_of_sled() {
    beside(&["log/state/db", "log/state/conf"]);
}

#[test]
fn in_files_half_made() {
    let good = Good::log();
    let mut dice = Dice::new(77);
    let dir = good.copy();
    for name in [
        "log/anchor.tmp",
        "log/spare",
        "log/retired.tmp",
        "log/fork.tmp",
        "keys/agent.epoch.tmp",
    ] {
        let len = 1 + dice.below(2000);
        fs::write(dir.path().join(name), dice.noise(len)).unwrap();
    }
    survive("left over", dir.path(), good, &BTreeSet::new());
}

/// Of a request to begin a new epoch that cannot be read, nothing is done; the publisher makes it again.
#[test]
fn in_the_note_of_a_fork() {
    let good = Good::log();
    let mut dice = Dice::new(5);
    for fault in FAULTS.into_iter().filter(|fault| *fault != Fault::Missing) {
        let dir = good.copy();
        let note = dir.path().join("log/fork");
        write_note(&note, &format!("amoskys fork 1\nold {}\n", good.epoch));
        fault.inflict(&note, &mut dice);
        survive(
            &format!("{fault:?} in log/fork"),
            dir.path(),
            good,
            &BTreeSet::new(),
        );
        assert!(!note.exists());
    }
}

/// A key cannot be made again: the error says what to do, nothing is changed, and with the key the log goes on.
#[test]
fn in_the_keys() {
    let good = Good::log();
    let mut dice = Dice::new(6);
    for file in ["keys/agent.key", "keys/agent.pub"] {
        for fault in FAULTS {
            let dir = good.copy();
            let key = dir.path().join(file);
            let content = fs::read(&key).unwrap();
            fault.inflict(&key, &mut dice);
            let what = format!("{fault:?} in {file}");
            let before = snapshot(dir.path());
            for _ in 0..2 {
                match Log::open(dir.path(), options()) {
                    // A public key is made from the secret one, and a flipped bit may be in no part that counts.
                    Ok(_) if fault == Fault::Missing && file.ends_with(".pub") => {}
                    Ok(_) if fault == Fault::FlippedBit || fault == Fault::NoiseBehind => {}
                    Ok(_) => panic!("{what}: opened"),
                    Err(error) => {
                        let LogError::Key(_) = &error else {
                            panic!("{what}: {error}")
                        };
                        assert!(error.to_string().contains("restore"), "{what}: {error}");
                        assert!(before == snapshot(dir.path()), "{what}: something was changed");
                    }
                }
            }
            fs::write(&key, content).unwrap();
            if file.ends_with(".key") {
                use std::os::unix::fs::PermissionsExt;
                fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
            }
            survive(&what, dir.path(), good, &BTreeSet::new());
        }
    }
}
