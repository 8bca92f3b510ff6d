//! Any bytes as one of the files of a log's directory: the log opens or says why not, goes on and can be verified.
#![no_main]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use amoskys_core::{Offset, Wal, WalError};
use amoskys_transport::verify::Verifier;
use amoskys_transport::{Log, LogOptions, WalOptions};
use libfuzzer_sys::fuzz_target;

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/v1");
const EPOCH: &[u8] = include_bytes!("../../tests/fixtures/v1/keys/agent.epoch");

fuzz_target!(|input: &[u8]| {
    let Some((which, input)) = input.split_first() else {
        return;
    };
    let dir = tempfile::tempdir_in("/dev/shm").expect("memory for files");
    copy(Path::new(FIXTURE), dir.path());
    let key = dir.path().join("keys/agent.key");
    fs::write(&key, [7; 32]).expect("write");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("mode");
    let (name, content) = match which % 8 {
        0 => ("keys/agent.epoch", input.to_vec()),
        1 => ("log/fork", input.to_vec()),
        2 => ("log/fork", note("amoskys fork 1", input)),
        3 => ("log/retired", note("amoskys retired 1", input)),
        4 => ("keys/agent.key.next", input.to_vec()),
        5 => ("keys/agent.pub", input.to_vec()),
        6 => ("log/compact", input.to_vec()),
        _ => ("log/state/conf", input.to_vec()),
    };
    let path = dir.path().join(name);
    fs::create_dir_all(path.parent().expect("a directory")).expect("create");
    fs::write(&path, content).expect("write");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mode");
    let _ = Verifier::new(dir.path()).run();
    let wal = WalOptions::new().budget_bytes(1 << 20).segment_bytes(4 << 10);
    let Ok(log) = Log::open(dir.path(), LogOptions::new().agent("fixture").wal(wal)) else {
        return;
    };
    let mut from = Offset(0);
    loop {
        from = match log.wal.read(from, 10_000) {
            Ok(records) => match records.last() {
                Some((last, _)) => last.next(),
                None => break,
            },
            Err(WalError::Damaged { offset, .. }) => offset.next(),
            Err(error) => panic!("{error}"),
        };
    }
    assert!(from.0 >= 30, "what was in the log is in it");
    drop(log);
});

/// A note with its title and the right checksum. The epoch of the log stands for an `E`, so that it is found.
fn note(title: &str, input: &[u8]) -> Vec<u8> {
    let epoch = EPOCH.split(|byte| *byte == b' ').next().unwrap_or_default();
    let mut out = format!("{title}\n").into_bytes();
    for byte in input {
        match byte {
            b'E' => out.extend_from_slice(epoch),
            byte => out.push(*byte),
        }
    }
    out.push(b'\n');
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(format!("{crc:08x}\n").as_bytes());
    out
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("create");
    for entry in fs::read_dir(from).expect("list") {
        let entry = entry.expect("list");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copy");
        }
    }
}
