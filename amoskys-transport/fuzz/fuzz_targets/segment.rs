//! Any bytes as a segment file: the log opens, reads, goes on and can be verified.
#![no_main]

use amoskys_core::{Offset, Wal, WalError};
use amoskys_transport::verify::Verifier;
use amoskys_transport::{PublicKey, SledWal, WalOptions};
use libfuzzer_sys::fuzz_target;

const SEGMENT: &[u8] = include_bytes!("../../tests/fixtures/v1/log/00000000000000000012.seg");
const RECORDS: u64 = 4;

fuzz_target!(|input: &[u8]| {
    let dir = tempfile::tempdir_in("/dev/shm").expect("memory for files");
    let name = dir.path().join("00000000000000000012.seg");
    let Some((mode, input)) = input.split_first() else {
        return;
    };
    let bytes = match mode % 3 {
        0 => input.to_vec(),
        mode => changed(input, mode == 2),
    };
    std::fs::write(&name, bytes).expect("write");
    let _ = Verifier::new(dir.path())
        .key(PublicKey::from_bytes([7; 32]))
        .run();
    let wal = match SledWal::open(dir.path(), WalOptions::new().budget_bytes(1 << 20)) {
        Ok(wal) => wal,
        Err(WalError::Open { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    let end = wal.durable();
    let mut from = wal.first();
    while from < end {
        from = match wal.read(from, 10_000) {
            Ok(records) => records.last().expect("records up to the end").0.next(),
            Err(WalError::Damaged { offset, .. }) => offset.next().max(from.next()),
            Err(error) => panic!("{error}"),
        };
        assert!(from <= end);
        if from.0 > RECORDS * 100 {
            // A header that claims a far offset with a right checksum is believed; no need to read that far.
            break;
        }
    }
    let offset = wal.append("more".into()).expect("append");
    assert_eq!(offset, end);
    wal.wait_durable(offset).expect("durable");
    assert_eq!(wal.read(offset, 100).expect("read"), [(offset, "more".into())]);
    let _: Offset = offset;
});

/// The segment with bytes changed as the input says: two for the place, one for the value. With the checksums of
/// the first record's header made right again, if asked.
fn changed(input: &[u8], checksums: bool) -> Vec<u8> {
    let mut bytes = SEGMENT.to_vec();
    for change in input.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
        bytes[at] = change[2];
    }
    if checksums {
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes[64..92]);
        bytes[92..96].copy_from_slice(&crc.to_le_bytes());
    }
    bytes
}
