//! Any bytes as a file that names or holds keys: an error or keys, never a panic, never memory without bound.
#![no_main]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use amoskys_transport::audit::AuditKey;
use amoskys_transport::legacy::LegacyTrust;
use amoskys_transport::protect::FileSubjectKeys;
use amoskys_transport::{FileSigner, PublicKey, TrustMap};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(key) = PublicKey::parse(input) {
        assert_eq!(PublicKey::parse(key.to_pem().as_bytes()).expect("as written"), key);
    }
    let dir = tempfile::tempdir_in("/dev/shm").expect("memory for files");
    let path = dir.path().join("file");
    let put = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("write");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mode");
    };
    put(input);
    let _ = LegacyTrust::load(&path);
    let _ = AuditKey::open(&path);
    if let Ok(trust) = TrustMap::load(&path) {
        trust.save(dir.path().join("again")).expect("save");
        let again = TrustMap::load(dir.path().join("again")).expect("as written");
        assert!(again.iter().eq(trust.iter()));
    }
    let _ = FileSigner::open(&path);
    let _ = fs::remove_file(FileSigner::public_path(&path));
    // The slots of subjects' keys, with right checksums.
    let mut slots = input.to_vec();
    for (at, slot) in slots.chunks_exact_mut(128).enumerate() {
        if at == 0 {
            slot[..10].copy_from_slice(b"AMOSUBJ\0\x01\0");
            slot[10..16].fill(0);
            slot[48..].fill(0);
        }
        let crc = crc32fast::hash(&slot[..124]);
        slot[124..].copy_from_slice(&crc.to_le_bytes());
    }
    for bytes in [input, &slots] {
        put(bytes);
        check_subject_keys(&path, bytes);
    }
});

fn check_subject_keys(path: &Path, bytes: &[u8]) {
    match FileSubjectKeys::open(path) {
        Ok(keys) => assert!(keys.subjects() < bytes.len() / 128),
        // Whatever it is, it stays as it is.
        Err(_) => assert_eq!(fs::read(path).expect("read"), bytes),
    }
}
