//! The verifier finds what was done to a log, and says where.
#![cfg(feature = "sled")]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use amoskys_core::{Class, Wal};
use amoskys_transport::verify::{FindingKind, Verifier, VerifyError};
use amoskys_transport::{FileSigner, Log, Sealer};
use common::{assert_clean, fill, kinds, open, seal, segments, stored_records, verify};

/// A closed log of one or more segments.
fn log_of(batches: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    fill(&mut log, batches);
    drop(log);
    assert_clean(dir.path());
    dir
}

/// All files whose every byte is covered.
fn covered(dir: &Path) -> Vec<PathBuf> {
    let mut files = segments(dir);
    files.extend(
        [
            "log/anchor",
            "keys/agent.key",
            "keys/agent.pub",
            "keys/agent.epoch",
        ]
        .map(|file| dir.join(file)),
    );
    files
}

#[test]
fn one_flipped_byte_anywhere_is_found() {
    let dir = log_of(3);
    let mut seed = 1_u32;
    for file in covered(dir.path()) {
        let good = fs::read(&file).unwrap();
        for at in 0..good.len() {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let mut bad = good.clone();
            bad[at] ^= ((seed >> 24) as u8).max(1);
            fs::write(&file, bad).unwrap();
            match Verifier::new(dir.path()).run() {
                Ok(report) => assert!(!report.is_clean(), "byte {at} of {}", file.display()),
                // The only key there was is no key any more.
                Err(error) => assert!(matches!(error, VerifyError::NoKey { .. }), "{error}"),
            }
        }
        fs::write(&file, good).unwrap();
    }
    assert_clean(dir.path());
}

#[test]
fn one_flipped_bit_in_reserved_space_is_found() {
    let dir = log_of(6);
    // As it is while the log is open, or after a crash.
    let last = segments(dir.path()).pop().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    let end = bytes.len();
    bytes.resize(end + 300_000, 0);
    fs::write(&last, &bytes).unwrap();
    assert_clean(dir.path());
    for at in [end, end + 1, end + 8, end + 70_001, end + 299_999] {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        fs::write(&last, bad).unwrap();
        let report = verify(dir.path());
        assert_eq!(kinds(&report), [FindingKind::Truncated], "{report}");
        assert_eq!(report.findings[0].place.byte, at as u64);
    }
}

#[test]
fn a_damaged_record_is_named_by_its_place() {
    let dir = log_of(6);
    let segment = &segments(dir.path())[0];
    let bytes = fs::read(segment).unwrap();
    let (at, len) = stored_records(&bytes)[3];
    let mut bad = bytes.clone();
    bad[at + len - 20] ^= 1;
    fs::write(segment, bad).unwrap();
    let report = verify(dir.path());
    let altered = report
        .findings
        .iter()
        .find(|finding| finding.kind == FindingKind::Altered)
        .unwrap();
    assert_eq!((altered.place.byte, altered.place.offset), (at as u64, Some(3)));
    assert_eq!(altered.events, Some((12, 15)));
    assert!(altered.place.file.ends_with(".seg"));
}

#[test]
fn a_removed_segment_is_missing() {
    let dir = log_of(120);
    let files = segments(dir.path());
    assert!(files.len() >= 4, "{files:?}");
    for removed in [0, 1, files.len() - 1] {
        let copy = tempfile::tempdir().unwrap();
        common::copy_dir(dir.path(), copy.path());
        fs::remove_file(&segments(copy.path())[removed]).unwrap();
        let report = verify(copy.path());
        let expected = if removed + 1 == files.len() {
            FindingKind::Truncated
        } else {
            FindingKind::Missing
        };
        assert_eq!(kinds(&report), [expected], "{report}");
    }
}

#[test]
fn a_log_cut_at_the_end_of_a_record_is_truncated() {
    let dir = log_of(6);
    let segment = &segments(dir.path())[0];
    let bytes = fs::read(segment).unwrap();
    for keep in 0..6 {
        let (at, _) = stored_records(&bytes)[keep];
        fs::write(segment, &bytes[..at]).unwrap();
        let report = verify(dir.path());
        assert_eq!(kinds(&report), [FindingKind::Truncated], "{report}");
        assert!(
            report.findings.iter().any(|f| f.place.byte == at as u64),
            "{report}"
        );
    }
}

#[test]
fn records_that_changed_places_are_reordered() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    let records: Vec<_> = (0..6)
        .map(|n| seal(&mut log.sealer, Class::Telemetry, n * 10, 4, 100))
        .collect();
    for at in [0, 2, 1, 3, 5, 4] {
        log.wal.append(records[at].clone()).unwrap();
    }
    drop(log);
    let report = verify(dir.path());
    assert_eq!(kinds(&report), [FindingKind::Reordered], "{report}");
    let places: Vec<_> = report
        .findings
        .iter()
        .map(|finding| finding.place.offset)
        .collect();
    assert_eq!(places, [Some(2), Some(5)]);
}

#[test]
fn a_record_that_is_there_twice_is_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    let records: Vec<_> = (0..3)
        .map(|n| seal(&mut log.sealer, Class::Telemetry, n * 10, 4, 100))
        .collect();
    for at in [0, 1, 2, 1] {
        log.wal.append(records[at].clone()).unwrap();
    }
    drop(log);
    let report = verify(dir.path());
    assert_eq!(kinds(&report), [FindingKind::Repeated], "{report}");
}

#[test]
fn a_record_that_was_left_out_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    let records: Vec<_> = (0..4)
        .map(|n| seal(&mut log.sealer, Class::Telemetry, n * 10, 4, 100))
        .collect();
    for at in [0, 1, 3] {
        log.wal.append(records[at].clone()).unwrap();
    }
    drop(log);
    let report = verify(dir.path());
    assert_eq!(kinds(&report), [FindingKind::Missing], "{report}");
    assert_eq!(report.findings[0].events, Some((8, 11)));
}

#[test]
fn a_record_of_another_key_is_forged() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    fill(&mut log, 3);
    let other = FileSigner::create(dir.path().join("other.key")).unwrap();
    let mut forger = Sealer::new("agent", log.epoch(), Arc::new(other));
    forger = forger.resume(Class::Telemetry, log.sealer.head(Class::Telemetry));
    log.wal
        .append(seal(&mut forger, Class::Telemetry, 900, 4, 100))
        .unwrap();
    drop(log);
    let report = verify(dir.path());
    // The anchor was made to believe it too, by whoever runs the program; the signature says who did not seal it.
    assert!(kinds(&report).contains(&FindingKind::Forged), "{report}");
    assert!(report.to_string().contains("not trusted"));
}

#[test]
fn a_rewritten_record_with_right_checksums_is_found() {
    let dir = log_of(6);
    let segment = &segments(dir.path())[0];
    let bytes = fs::read(segment).unwrap();
    let (at, _) = stored_records(&bytes)[2];
    let len = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
    // One byte in the header, in the signature, in the payload; each with the checksums made right again.
    for inside in [70, 170, len - 5] {
        let mut bad = bytes.clone();
        bad[at + 32 + inside] ^= 0x80;
        let crc = crc32fast::hash(&bad[at + 32..at + 32 + len]);
        bad[at + 24..at + 28].copy_from_slice(&crc.to_le_bytes());
        let crc = crc32fast::hash(&bad[at..at + 28]);
        bad[at + 28..at + 32].copy_from_slice(&crc.to_le_bytes());
        fs::write(segment, bad).unwrap();
        let report = verify(dir.path());
        assert!(!report.is_clean(), "byte {inside} of the record");
        let kinds = kinds(&report);
        assert!(
            kinds.contains(&FindingKind::Forged) || kinds.contains(&FindingKind::Altered),
            "{report}"
        );
    }
}

#[test]
fn another_logs_segment_is_foreign() {
    let (dir, other) = (log_of(6), log_of(6));
    fs::copy(&segments(other.path())[0], &segments(dir.path())[0]).unwrap();
    let report = verify(dir.path());
    assert!(kinds(&report).contains(&FindingKind::Foreign), "{report}");
}

#[test]
fn a_key_from_elsewhere_finds_a_log_that_was_made_anew() {
    let (dir, other) = (log_of(6), log_of(6));
    let key = FileSigner::open(dir.path().join("keys/agent.key")).unwrap();
    let key = amoskys_transport::Signer::public_key(&key);
    assert!(Verifier::new(dir.path()).key(key).run().unwrap().is_clean());
    assert_clean(other.path());
    let report = Verifier::new(other.path()).key(key).run().unwrap();
    assert!(kinds(&report).contains(&FindingKind::Forged), "{report}");
}

#[test]
fn a_log_by_itself_can_be_verified_with_a_key() {
    let dir = log_of(6);
    let key =
        amoskys_transport::PublicKey::parse(&fs::read(dir.path().join("keys/agent.pub")).unwrap()).unwrap();
    let copy = tempfile::tempdir().unwrap();
    common::copy_dir(&dir.path().join("log"), copy.path());
    assert!(Verifier::new(copy.path()).key(key).run().unwrap().is_clean());
    let nothing = tempfile::tempdir().unwrap();
    assert!(matches!(
        Verifier::new(nothing.path()).run(),
        Err(VerifyError::NoLog { .. })
    ));
}

#[test]
fn a_log_in_use_can_be_verified() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for _ in 0..40 {
                fill(&mut log, 25);
                let durable = log.wal.durable();
                log.wal
                    .trim(amoskys_core::Offset(durable.0.saturating_sub(60)))
                    .unwrap();
            }
        });
        while !writer.is_finished() {
            let report = verify(dir.path());
            assert!(report.is_clean() && report.in_use, "{report}");
        }
    });
    drop(log);
    assert_clean(dir.path());
}

#[test]
fn the_report_is_json_too() {
    let dir = log_of(6);
    let segment = &segments(dir.path())[0];
    let mut bytes = fs::read(segment).unwrap();
    bytes[100] ^= 1;
    fs::write(segment, bytes).unwrap();
    let json = serde_json::to_value(verify(dir.path())).unwrap();
    assert_eq!(json["findings"][0]["kind"], "altered");
    assert_eq!(json["findings"][0]["place"]["byte"], 64);
    assert_eq!(json["records"], 5);
}

#[test]
fn everything_public_can_be_sent_and_shared() {
    fn both<T: Send + Sync>() {}
    both::<Log>();
    both::<Verifier>();
    both::<amoskys_transport::SledWal>();
    both::<amoskys_transport::Opener>();
    both::<amoskys_transport::TrustMap>();
    fn sent<T: Send + amoskys_core::Seal>() {}
    sent::<Sealer>();
}
