//! An audit log is whole, or it shows where it is not: whatever is changed, cut off, removed or put in, and whatever a crash
//! leaves.
#![cfg(feature = "audit")]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use amoskys_transport::KeyError;
use amoskys_transport::audit::{
    AuditError, AuditFault, AuditKey, AuditLog, AuditOptions, AuditReport, AuditVerifier, Entry,
    check_audit_lines,
};
use proptest::prelude::*;

fn key() -> Arc<AuditKey> {
    Arc::new(AuditKey::from_bytes(&[7; 32]))
}

fn options() -> AuditOptions {
    AuditOptions::default().sync(false)
}

fn open(path: &Path) -> AuditLog {
    AuditLog::open(path, key(), options()).unwrap()
}

fn write(log: &AuditLog, count: usize) {
    for n in 0..count {
        let entry = Entry::new("agent/a", "connection.refused", "127.0.0.1", "denied");
        log.append(
            &entry
                .reason(&format!("unknown_key: number {n}"))
                .attribute("bus", "bus"),
        )
        .unwrap();
    }
}

fn check(path: &Path) -> AuditReport {
    AuditVerifier::new(path).key(key()).run().unwrap()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for file in files(from).iter().filter(|file| file.is_file()) {
        fs::copy(file, to.join(file.file_name().unwrap())).unwrap();
    }
}

#[test]
fn it_goes_on_when_it_is_opened_again_and_over_many_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let small = options().max_bytes(1).files(3);
    for _ in 0..3 {
        let log = AuditLog::open(&path, key(), small).unwrap();
        assert!(matches!(
            AuditLog::open(&path, key(), small),
            Err(AuditError::InUse { .. })
        ));
        write(&log, 700);
        drop(log);
        let report = check(&path);
        assert!(report.is_clean(), "{report}");
    }
    let report = check(&path);
    // 700 lines are about 250 KiB; the smallest file has 128.
    assert!(report.files <= 4 && report.last.unwrap() > 2100, "{report}");
    assert!(report.entries < 2100, "the oldest were deleted");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // A file that nobody deleted for room is missed: the oldest, one between, the newest.
    let whole = files(dir.path());
    let copied = dir.path().join("copy");
    for gone in whole
        .iter()
        .filter(|file| !file.to_string_lossy().ends_with(".head"))
    {
        copy(dir.path(), &copied);
        fs::remove_file(copied.join(gone.file_name().unwrap())).unwrap();
        let report = check(&copied.join("audit.jsonl"));
        assert!(!report.is_clean(), "without {}", gone.display());
    }
    let wrong = Arc::new(AuditKey::from_bytes(&[8; 32]));
    let report = AuditVerifier::new(&path).key(wrong).run().unwrap();
    assert!(
        report
            .findings
            .iter()
            .any(|finding| finding.fault == AuditFault::Altered)
    );
    let without = AuditVerifier::new(&path).run().unwrap();
    assert!(without.is_clean() && !without.is_keyed, "{without}");
}

#[test]
fn a_tail_cut_at_any_byte_is_found_and_so_is_any_flipped_bit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    write(&open(&path), 3);
    let good = fs::read(&path).unwrap();
    for len in 0..good.len() {
        fs::write(&path, &good[..len]).unwrap();
        assert!(!check(&path).is_clean(), "cut to {len}");
    }
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&path, bytes).unwrap();
        assert!(!check(&path).is_clean(), "byte {at}");
    }
    fs::write(&path, &good).unwrap();
    assert!(check(&path).is_clean());
    let head = dir.path().join("audit.jsonl.head");
    let bytes = fs::read(&head).unwrap();
    for at in 0..bytes.len() - 1 {
        let mut other = bytes.clone();
        other[at] ^= 1 << (at % 8);
        fs::write(&head, other).unwrap();
        assert!(!check(&path).is_clean(), "byte {at} of the head");
    }
    fs::remove_file(&head).unwrap();
    assert_eq!(check(&path).findings[0].fault, AuditFault::Head);
}

#[test]
fn a_crash_in_a_line_is_cut_off_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    write(&open(&path), 2);
    let two = fs::read(&path).unwrap();
    let head = fs::read(dir.path().join("audit.jsonl.head")).unwrap();
    write(&open(&path), 1);
    let three = fs::read(&path).unwrap();
    for len in (two.len()..three.len()).step_by(11) {
        fs::write(&path, &three[..len]).unwrap();
        fs::write(dir.path().join("audit.jsonl.head"), &head).unwrap();
        write(&open(&path), 2);
        let report = check(&path);
        assert!(report.is_clean(), "{report}");
        assert_eq!(
            (report.entries, report.torn),
            (4, u64::from(len > two.len())),
            "cut to {len}"
        );
    }
    // The line was whole, and the head not yet written.
    fs::write(&path, &three).unwrap();
    fs::write(dir.path().join("audit.jsonl.head"), &head).unwrap();
    assert!(check(&path).is_clean());
    write(&open(&path), 1);
    assert_eq!(check(&path).entries, 4);
}

#[test]
fn a_log_that_was_altered_is_gone_on_with_and_stays_a_finding() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let prepare = |change: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        for file in files(dir.path()) {
            fs::remove_file(file).unwrap();
        }
        write(&open(&path), 4);
        fs::write(&path, change(fs::read(&path).unwrap())).unwrap();
        write(&open(&path), 2);
        write(&open(&path), 2);
        check(&path)
    };
    let flipped = prepare(&|mut bytes| {
        bytes[20] ^= 1;
        bytes
    });
    assert_eq!(flipped.findings.len(), 2, "{flipped}");
    assert_eq!(flipped.findings[0].fault, AuditFault::Altered);
    assert!(
        matches!(flipped.findings[1].fault, AuditFault::Resumed { .. }),
        "{flipped}"
    );
    assert_eq!(flipped.entries, 3 + 4, "{flipped}");
    let shorter = prepare(&|bytes| {
        let at = bytes.iter().position(|byte| *byte == b'\n').unwrap();
        bytes[..=at].to_vec()
    });
    assert!(
        matches!(shorter.findings[0].fault, AuditFault::Resumed { .. }),
        "{shorter}"
    );
    assert_eq!((shorter.findings.len(), shorter.entries), (1, 5), "{shorter}");
    let empty = prepare(&|_| Vec::new());
    assert_eq!(empty.findings.len(), 2, "{empty}");
    let noise = prepare(&|_| vec![b'x'; 200_000]);
    assert!(noise.entries == 4 && !noise.is_clean(), "{noise}");
}

#[test]
fn long_texts_are_cut_and_secret_keys_withheld() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let log = open(&path);
    let secret =
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n";
    log.append(&Entry::new("a", "b", secret, "c").attribute("key", secret))
        .unwrap();
    log.append(&Entry::new("a", "b", "c", "d").reason(&"\u{1}é".repeat(100_000)))
        .unwrap();
    let mut all = Entry::new("\u{1}".repeat(9_000).as_str(), "b", &"\u{2}".repeat(9_000), "d");
    for n in 0..20 {
        all = all.attribute(&n.to_string(), &"\u{3}".repeat(9_000));
    }
    log.append(&all).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.contains("MC4C") && text.contains("withheld"));
    assert!(text.lines().all(|line| line.len() <= 65_536));
    let report = check(&path);
    assert!(report.is_clean() && report.entries == 3, "{report}");
}

#[test]
fn a_key_file_is_its_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.key");
    AuditKey::open_or_create(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(format!("{:?}", AuditKey::open(&path).unwrap()), "AuditKey");
    for mode in [0o640, 0o604, 0o644] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert!(matches!(
            AuditKey::open_or_create(&path),
            Err(KeyError::LooseMode { .. })
        ));
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    for wrong in [&b"short"[..], &[b'g'; 64], b""] {
        fs::write(&path, wrong).unwrap();
        assert!(matches!(
            AuditKey::open_or_create(&path),
            Err(KeyError::Form { .. })
        ));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any change to the bytes of a log is found, or changes nothing that is read.
    #[test]
    fn no_other_lines_are_believed(
        cuts in prop::collection::vec((0..2_000_usize, 0..60_usize, prop::collection::vec(any::<u8>(), 0..60)), 1..4),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        write(&open(&path), 6);
        let good = fs::read(&path).unwrap();
        let mut bytes = good.clone();
        for (at, len, put) in cuts {
            let at = at % (bytes.len() + 1);
            let end = (at + len).min(bytes.len());
            bytes.splice(at..end, put);
        }
        prop_assume!(bytes != good);
        fs::write(&path, &bytes).unwrap();
        prop_assert!(!check(&path).is_clean());
        // And whoever goes on with it neither fails nor hides it.
        write(&open(&path), 1);
        let report = check(&path);
        prop_assert_eq!(report.last.is_some(), true);
    }

    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..3_000)) {
        let key = key();
        let (entries, faults) = check_audit_lines(&bytes, Some(&*key));
        prop_assert!(entries == 0 && (bytes.is_empty() || !faults.is_empty()));
        let _ = check_audit_lines(&bytes, None);
    }
}
