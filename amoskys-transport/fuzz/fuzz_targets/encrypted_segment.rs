//! Any bytes as an encrypted segment file: the log opens, reads, goes on encrypted and can be verified.
#![no_main]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use amoskys_core::{BoxError, Wal, WalError};
use amoskys_transport::verify::{Anchors, Verifier};
use amoskys_transport::{Log, LogKey, LogKeyId, LogKeys, LogOptions, PublicKey, WalOptions};
use libfuzzer_sys::fuzz_target;

const SEGMENT: &[u8] = include_bytes!("../../tests/fixtures/v1-bus/log/00000000000000000000.seg");

/// The key of the fixture, which is no secret.
struct One;

impl LogKeys for One {
    fn current(&self) -> Result<LogKey, BoxError> {
        Ok(LogKey::from_bytes([9; 32]))
    }

    fn by_id(&self, id: LogKeyId) -> Result<Option<LogKey>, BoxError> {
        Ok(self.current().ok().filter(|key| key.id() == id))
    }
}

fuzz_target!(|input: &[u8]| {
    let dir = tempfile::tempdir_in("/dev/shm").expect("memory for files");
    let Some((mode, input)) = input.split_first() else {
        return;
    };
    let bytes = match mode % 3 {
        0 => input.to_vec(),
        mode => changed(input, mode == 2),
    };
    let (log, keys) = (dir.path().join("log"), dir.path().join("keys"));
    fs::create_dir(&log).expect("create");
    fs::create_dir(&keys).expect("create");
    fs::write(log.join("00000000000000000000.seg"), bytes).expect("write");
    fs::write(keys.join("agent.key"), [7; 32]).expect("write");
    fs::set_permissions(keys.join("agent.key"), fs::Permissions::from_mode(0o600)).expect("mode");
    let any = PublicKey::from_bytes([7; 32]);
    let _ = Verifier::new(dir.path()).key(any).run();
    let _ = Verifier::new(dir.path()).key(any).log_keys(Arc::new(One)).run();
    let _ = Anchors::new(dir.path()).key(any).log_keys(Arc::new(One)).read();
    let wal = WalOptions::new().budget_bytes(1 << 20).segment_bytes(4 << 10);
    let options = LogOptions::new().agent("bus").wal(wal).log_keys(Arc::new(One));
    let Ok(log) = Log::open(dir.path(), options) else {
        return;
    };
    let end = log.wal.durable();
    let mut from = log.wal.first();
    while from < end && from.0 < 1000 {
        from = match log.wal.read(from, 10_000) {
            Ok(records) => records.last().expect("records up to the end").0.next(),
            Err(WalError::Damaged { offset, .. }) => offset.next().max(from.next()),
            Err(error) => panic!("{error}"),
        };
        assert!(from <= end);
    }
    let offset = log.wal.append("more".into()).expect("append");
    log.wal.wait_durable(offset).expect("durable");
    assert_eq!(log.wal.read(offset, 100).expect("read"), [(offset, "more".into())]);
});

/// The segment with bytes changed as the input says: two for the place, one for the value. With the checksums of the
/// header, of the key's slots and of the first record's header made right again, if asked.
fn changed(input: &[u8], checksums: bool) -> Vec<u8> {
    let mut bytes = SEGMENT.to_vec();
    for change in input.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
        bytes[at] = change[2];
    }
    if checksums {
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        // The two slots of its key, and the first record behind them.
        for (at, len) in [(64, 60), (4096, 60), (4160, 28)] {
            let crc = crc32fast::hash(&bytes[at..at + len]);
            bytes[at + len..at + len + 4].copy_from_slice(&crc.to_le_bytes());
        }
    }
    bytes
}
