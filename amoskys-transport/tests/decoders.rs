//! Whatever is in a file that a person or another machine may have written: an error or what it says, never a panic, and
//! what cannot be read stays as it is. The fuzz targets go deeper.
#![cfg(feature = "bus")]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use amoskys_core::Wal;
use amoskys_transport::audit::{AuditKey, check_audit_lines};
use amoskys_transport::identity::{Identity, TlsFiles, Validity};
use amoskys_transport::protect::{FileSubjectKeys, Subject, SubjectKeys};
use amoskys_transport::verify::{Anchors, Verifier};
use amoskys_transport::{
    FileLogKeys, FileSigner, Log, LogOptions, PublicKey, Signer as _, TrustMap, WalOptions,
};
use proptest::prelude::*;
use proptest::sample::Index;

/// What may become of good bytes, or any bytes.
#[derive(Clone, Debug)]
enum Input {
    Changed(Vec<(Index, u8, u8)>),
    Any(Vec<u8>),
}

fn input() -> impl Strategy<Value = Input> {
    let change = (any::<Index>(), any::<u8>(), 0..4_u8);
    prop_oneof![
        3 => prop::collection::vec(change, 1..6).prop_map(Input::Changed),
        1 => prop::collection::vec(any::<u8>(), 0..600).prop_map(Input::Any),
    ]
}

impl Input {
    fn of(&self, good: &[u8]) -> Vec<u8> {
        let changes = match self {
            Self::Any(bytes) => return bytes.clone(),
            Self::Changed(changes) => changes,
        };
        let mut bytes = good.to_vec();
        for (at, byte, how) in changes {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = *byte,
                1 => bytes[at] ^= 1 << (byte % 8),
                2 => bytes.insert(at, *byte),
                _ => bytes.truncate(at),
            }
        }
        bytes
    }
}

fn put(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn files_of_keys(input in input()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let good = PublicKey::from_bytes([7; 32]).to_pem();
        if let Ok(key) = PublicKey::parse(&input.of(good.as_bytes())) {
            prop_assert_eq!(PublicKey::parse(key.to_pem().as_bytes()).unwrap(), key);
        }
        let trust = TrustMap::new()
            .allow("gateway-3", PublicKey::from_bytes([7; 32]))
            .allow("näher", PublicKey::from_bytes([9; 32]));
        trust.save(&path).unwrap();
        put(&path, &input.of(&fs::read(&path).unwrap()));
        let _ = TrustMap::load(&path);
        put(&path, &input.of(&[7; 32]));
        let _ = FileSigner::open(&path);
        let _ = AuditKey::open(&path);
    }

    #[test]
    fn the_file_of_subjects_keys(input in input()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let keys = FileSubjectKeys::open_or_create(&path).unwrap();
        keys.key_of(&Subject::new("a")).unwrap();
        drop(keys);
        let bytes = input.of(&fs::read(&path).unwrap());
        put(&path, &bytes);
        if FileSubjectKeys::open(&path).is_err() {
            prop_assert_eq!(fs::read(&path).unwrap(), bytes);
        }
    }

    #[test]
    fn certificates_and_identities(input in input()) {
        let good = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let der = input.of(good.cert.der()).into();
        let _ = Validity::of_certificate(&der);
        let _ = Identity::of_certificate(&der);
        if let Ok(text) = String::from_utf8(input.of(b"amoskys://agent/gateway-3"))
            && let Ok(identity) = Identity::of_uri(&text)
        {
            prop_assert_eq!(identity.to_uri(), text);
        }
        let dir = tempfile::tempdir().unwrap();
        let [ca, certificate, key, crl] =
            ["ca", "certificate", "key", "crl"].map(|name| dir.path().join(name));
        let pem = input.of(good.cert.pem().as_bytes());
        for path in [&ca, &certificate, &crl] {
            put(path, &pem);
        }
        put(&key, &input.of(good.signing_key.serialize_pem().as_bytes()));
        let files = TlsFiles::new(ca, certificate, key).crl(crl);
        let _ = files.server_config();
        let _ = files.client_config();
    }

    #[test]
    fn lines_of_an_audit_log(input in input()) {
        let key = AuditKey::from_bytes(&[7; 32]);
        let good = b"{\"n\":0,\"action\":\"x\"}\n{\"n\":1}\n";
        let _ = check_audit_lines(&input.of(good), Some(&key));
        let _ = check_audit_lines(&input.of(good), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_encrypted_segment(input in input(), checksums in any::<bool>()) {
        let dir = tempfile::tempdir().unwrap();
        let good = fs::read("tests/fixtures/v1-bus/log/00000000000000000000.seg").unwrap();
        let mut bytes = input.of(&good);
        if checksums && bytes.len() >= 64 {
            let crc = crc32fast::hash(&bytes[..60]);
            bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        }
        let same = bytes == good;
        put(&dir.path().join("log/00000000000000000000.seg"), &bytes);
        put(&dir.path().join("keys/agent.key"), &[7; 32]);
        put(&dir.path().join("log.keys"), "09".repeat(32).as_bytes());
        let keys = dir.path().join("log.keys");
        let open = Arc::new(FileLogKeys::open(&keys).unwrap());
        let key = FileSigner::open(dir.path().join("keys/agent.key")).unwrap().public_key();
        let _ = Verifier::new(dir.path()).key(key).run();
        let _ = Verifier::new(dir.path()).key(key).log_keys(open.clone()).run();
        let _ = Anchors::new(dir.path()).key(key).log_keys(open).read();
        let wal = WalOptions::new().budget_bytes(1 << 20).segment_bytes(4 << 10);
        let options = LogOptions::new().agent("bus").wal(wal).log_key_file(keys);
        // A log that cannot be what it says it is, is refused; damage is stepped over.
        if let Ok(mut log) = Log::open(dir.path(), options) {
            let (before, damaged) = common::read_all(&log);
            prop_assert!(!same || damaged.is_empty());
            common::fill(&mut log, 2);
            prop_assert_eq!(common::read_all(&log).0.len(), before.len() + 2);
        } else {
            prop_assert!(!same);
        }
    }

    #[test]
    fn heads_that_a_bus_has_signed(input in input()) {
        let dir = tempfile::tempdir().unwrap();
        let (file, copy) = (dir.path().join("heads"), dir.path().join("copy"));
        let good = fs::read("tests/fixtures/v1-bus/heads").unwrap();
        let key = PublicKey::parse(&fs::read("tests/fixtures/v1-bus/keys/agent.pub").unwrap()).unwrap();
        let export = |bytes: &[u8], to: &Path| {
            put(&file, bytes);
            Anchors::new(&file).key(key).export(to)
        };
        let all = export(&good, &dir.path().join("all")).unwrap();
        // What was not signed is not believed, and what is believed is passed on as it was.
        if let Ok(records) = export(&input.of(&good), &copy) {
            prop_assert!(records <= all);
            let passed_on = fs::read(&copy).unwrap();
            prop_assert_eq!(export(&passed_on, &dir.path().join("again")).unwrap(), records);
            let seen = Anchors::new(&copy).key(key).read().unwrap();
            let _ = Verifier::new("tests/fixtures/v1").anchors(seen).run().unwrap();
        }
    }

    #[test]
    fn the_small_files_beside_a_log(which in 0..5_usize, input in input(), signed in any::<bool>()) {
        let dir = tempfile::tempdir().unwrap();
        let mut log = common::open(dir.path());
        common::fill(&mut log, 12);
        let (next, epoch) = (log.wal.durable(), log.epoch());
        drop(log);
        let name = ["keys/agent.epoch", "log/fork", "log/retired", "log/anchor", "log/compact"][which];
        let path = dir.path().join(name);
        let good = match which {
            1 => format!("amoskys fork 1\nold {epoch}\nshared telemetry 3 {}\n", "07".repeat(32)),
            2 => format!("amoskys retired 1\n{epoch} telemetry 3 {}\n", "07".repeat(32)),
            _ => String::new(),
        };
        let mut bytes = match which {
            1 | 2 => input.of(good.as_bytes()),
            _ => input.of(&fs::read(&path).unwrap_or_default()),
        };
        if signed && (which == 1 || which == 2) {
            let crc = crc32fast::hash(&bytes);
            bytes.extend_from_slice(format!("{crc:08x}\n").as_bytes());
        }
        put(&path, &bytes);
        let _ = Verifier::new(dir.path()).run();
        // An anchor of a newer layout is refused; all else is stepped over.
        match Log::open(dir.path(), common::small("agent")) {
            Ok(log) => prop_assert!(log.wal.durable() >= next),
            Err(error) => prop_assert!(which == 3 || which == 1, "{error}"),
        }
    }
}
