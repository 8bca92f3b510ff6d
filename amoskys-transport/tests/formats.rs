//! Logs of this and other versions: today's can be read for ever, newer ones are refused without harm.
#![cfg(feature = "sled")]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use amoskys_core::config::WhenFull;
use amoskys_core::{Class, Event, Offset, Open, Seal, Seq, Transform, Unsealed, Wal, WalError};
use amoskys_transport::protect::{FileSubjectKeys, Protect, Reveal, RevealingOpener, Subject};
use amoskys_transport::verify::{FindingKind, Verifier};
use amoskys_transport::{
    FileSigner, Log, LogError, LogOptions, Opener, PublicKey, RecordKind, SealedHeader, SledWal, TrustMap,
    WalOptions,
};
use common::{assert_clean, fill, kinds, open, read_all, segments, verify};

const FIXTURE: &str = "tests/fixtures/v1";
/// The fixture's signing key, which is no secret.
const SEED: [u8; 32] = [7; 32];

fn fixture_options() -> LogOptions {
    let wal = WalOptions::new().budget_bytes(1 << 20).segment_bytes(4 << 10);
    LogOptions::new().agent("fixture").wal(wal)
}

fn put_key(dir: &Path) {
    fs::create_dir_all(dir.join("keys")).unwrap();
    let key = dir.join("keys/agent.key");
    fs::write(&key, SEED).unwrap();
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Writes the fixture of today's format. It is in the repository; run this only when a new version gets its own.
#[test]
#[ignore = "writes into the source tree"]
fn write_fixture() {
    let dir = tempfile::tempdir().unwrap();
    put_key(dir.path());
    let mut log = Log::open(dir.path(), fixture_options()).unwrap();
    fill(&mut log, 30);
    log.wal.trim(Offset(9)).unwrap();
    drop(log);
    // One record is destroyed, and a gap is recorded in its place.
    let segment = &segments(dir.path())[2];
    let mut bytes = fs::read(segment).unwrap();
    bytes[700] ^= 1;
    fs::write(segment, bytes).unwrap();
    for _ in 0..2 {
        let log = Log::open(dir.path(), fixture_options()).unwrap();
        assert_eq!(read_all(&log).1.len(), 1);
    }
    assert_clean(dir.path());
    let target = PathBuf::from(FIXTURE);
    let _ = fs::remove_dir_all(&target);
    fs::create_dir_all(target.join("log")).unwrap();
    fs::create_dir_all(target.join("keys")).unwrap();
    let files = segments(dir.path())
        .into_iter()
        .chain(["log/anchor", "keys/agent.pub", "keys/agent.epoch"].map(|file| dir.path().join(file)));
    for file in files {
        fs::copy(&file, target.join(file.strip_prefix(dir.path()).unwrap())).unwrap();
    }
}

const FEATURES: &str = "tests/fixtures/v1-features";
/// The key that the first one hands over to.
const NEXT_SEED: [u8; 32] = [8; 32];

fn features_options(budget: u64) -> LogOptions {
    let wal = WalOptions::new().budget_bytes(budget).segment_bytes(4 << 10);
    LogOptions::new()
        .agent("fixture")
        .when_full(WhenFull::Shed)
        .wal(wal)
}

/// Writes the fixture of what a log of the first version may hold besides: records that were shed, a new signing key, a
/// protected event, a new epoch after a fork.
#[test]
#[ignore = "writes into the source tree"]
fn write_features_fixture() {
    let dir = tempfile::tempdir().unwrap();
    put_key(dir.path());
    let mut log = Log::open(dir.path(), features_options(64 << 10)).unwrap();
    for batch in 0..200 {
        let class = [Class::Telemetry, Class::Bulk, Class::Telemetry, Class::Alert][batch % 4];
        let next = log.sealer.head(class).next.0;
        let record = common::seal(&mut log.sealer, class, next, 2, 60);
        let last = log.wal.append(record).unwrap();
        log.wal.wait_durable(last).unwrap();
        while log.wal.used_bytes() > 56 << 10 && log.wal.shed().unwrap() {}
    }
    let next = dir.path().join("keys/agent.key.next");
    fs::write(&next, NEXT_SEED).unwrap();
    fs::set_permissions(&next, fs::Permissions::from_mode(0o600)).unwrap();
    log.rotate_key(Arc::new(FileSigner::open(&next).unwrap()))
        .unwrap();

    let keys = Arc::new(FileSubjectKeys::open_or_create(dir.path().join("subjects.keys")).unwrap());
    let mut event = common::event(7, Class::Telemetry, 60);
    Protect::new(keys, |_: &Event| Some(Subject::new("Miller")))
        .transform(&mut event)
        .unwrap();
    let batch = Unsealed {
        class: Class::Telemetry,
        source: &"test".into(),
        events: &[event],
        position: None,
        ledger: None,
    };
    let offset = log.wal.append(log.sealer.seal(batch).unwrap().record).unwrap();
    log.wal.wait_durable(offset).unwrap();
    let mut note = format!("amoskys fork 1\nold {}\n", log.epoch());
    for class in [Class::Telemetry, Class::Alert] {
        let head = log.sealer.head(class);
        note += &format!("shared {class} {} {}\n", head.next, head.digest);
    }
    note += &format!("{:08x}\n", crc32fast::hash(note.as_bytes()));
    drop(log);
    fs::write(dir.path().join("log/fork"), note).unwrap();
    let mut log = Log::open(dir.path(), features_options(1 << 20)).unwrap();
    assert_eq!(log.epoch().counter, 1);
    fill(&mut log, 5);
    drop(log);
    assert_clean(dir.path());
    let target = PathBuf::from(FEATURES);
    let _ = fs::remove_dir_all(&target);
    fs::create_dir_all(target.join("log")).unwrap();
    fs::create_dir_all(target.join("keys")).unwrap();
    let others = [
        "log/anchor",
        "log/retired",
        "keys/agent.pub",
        "keys/agent.epoch",
        "subjects.keys",
    ];
    let files = segments(dir.path())
        .into_iter()
        .chain(others.map(|file| dir.path().join(file)));
    for file in files {
        fs::copy(&file, target.join(file.strip_prefix(dir.path()).unwrap())).unwrap();
    }
}

#[test]
fn the_features_of_the_first_version_are_read() {
    let report = verify(Path::new(FEATURES));
    assert!(report.is_clean(), "{report}");
    assert!(report.gaps.iter().any(|gap| gap.reason == "shed"), "{report}");

    let dir = tempfile::tempdir().unwrap();
    common::copy_dir(Path::new(FEATURES), dir.path());
    for (file, content) in [
        ("keys/agent.key", NEXT_SEED.to_vec()),
        (
            "subjects.keys",
            fs::read(dir.path().join("subjects.keys")).unwrap(),
        ),
    ] {
        let path = dir.path().join(file);
        fs::write(&path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let mut log = Log::open(dir.path(), features_options(1 << 20)).unwrap();
    assert_eq!(log.epoch().counter, 1);
    let keys = FileSubjectKeys::open(dir.path().join("subjects.keys")).unwrap();
    let reveal = Reveal::new(Arc::new(keys));
    let opener = RevealingOpener::new(log.opener.clone(), reveal.clone());
    let (records, damaged) = read_all(&log);
    assert!(damaged.is_empty());
    let (mut events, mut handed_over) = (0, false);
    for (_, record) in &records {
        handed_over |= SealedHeader::parse(record).unwrap().kind == RecordKind::HandOver;
        events += opener.open(record).unwrap().events.len() as u64;
    }
    assert!(handed_over && events > 100);
    assert_eq!(reveal.counts().revealed(), 1);
    fill(&mut log, 5);
    drop(log);
    assert_clean(dir.path());
}

#[test]
fn the_first_version_is_read() {
    let report = verify(Path::new(FIXTURE));
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.gaps.len(), 1, "{report}");
    assert_eq!(report.agent.as_deref(), Some("fixture"));

    let dir = tempfile::tempdir().unwrap();
    common::copy_dir(Path::new(FIXTURE), dir.path());
    let key = PublicKey::parse(&fs::read(dir.path().join("keys/agent.pub")).unwrap()).unwrap();
    let opener = Opener::verifying(TrustMap::new().allow("fixture", key));
    put_key(dir.path());
    let mut log = Log::open(dir.path(), fixture_options()).unwrap();
    let (records, damaged) = read_all(&log);
    assert_eq!(damaged.len(), 1);
    assert_eq!(records.len() as u64 + 1, report.next_offset - report.first_offset);
    let mut events = 0;
    for (_, record) in &records {
        for recorded in opener.open(record).unwrap().into_recorded() {
            let (batch, at) = (recorded.event.id.ordinal / 10, recorded.event.id.ordinal % 10);
            assert_eq!(
                recorded.event,
                common::event(batch * 10 + at, recorded.stream.class, 100)
            );
            events += 1;
        }
    }
    assert_eq!(events, report.events);
    // Thirty batches of four: every fifth an alert.
    assert_eq!(log.sealer.head(Class::Alert).next, Seq(24));
    assert_eq!(log.sealer.head(Class::Telemetry).next, Seq(96));
    assert_eq!(log.epoch().counter, 0);
    fill(&mut log, 10);
    drop(log);
    assert_clean(dir.path());
}

/// Makes a segment look like one of a later version.
fn age(segment: &Path, version: u16) {
    let mut bytes = fs::read(segment).unwrap();
    bytes[8..10].copy_from_slice(&version.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    fs::write(segment, bytes).unwrap();
}

#[test]
fn a_log_from_the_future_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    fill(&mut log, 100);
    drop(log);
    age(segments(dir.path()).last().unwrap(), 2);
    let before: Vec<_> = segments(dir.path())
        .iter()
        .map(|file| fs::read(file).unwrap())
        .collect();
    for error in [
        SledWal::open(dir.path().join("log"), WalOptions::new()).unwrap_err(),
        match Log::open(dir.path(), common::small("agent")).unwrap_err() {
            LogError::Wal(error) => error,
            other => panic!("{other}"),
        },
    ] {
        let WalError::Open { reason, .. } = error else {
            panic!("{error}")
        };
        assert!(reason.contains("format version 2"), "{reason}");
    }
    let after: Vec<_> = segments(dir.path())
        .iter()
        .map(|file| fs::read(file).unwrap())
        .collect();
    assert_eq!(before, after);
    assert_eq!(kinds(&verify(dir.path())), [FindingKind::Unsupported]);
}

#[test]
fn an_anchor_from_the_future_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let anchor = dir.path().join("log/anchor");
    let mut bytes = fs::read(&anchor).unwrap();
    bytes[4] = 2;
    let end = bytes.len() - 4;
    let crc = crc32fast::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(&crc.to_le_bytes());
    fs::write(&anchor, bytes).unwrap();
    let error = Log::open(dir.path(), common::small("agent")).unwrap_err();
    assert!(matches!(error, LogError::Version { found: 2, .. }), "{error}");
    let report = Verifier::new(dir.path()).run().unwrap();
    assert_eq!(kinds(&report), [FindingKind::Unsupported]);
}
