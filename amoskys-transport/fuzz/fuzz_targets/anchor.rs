//! Any bytes as an anchor, with a right checksum: a finding, never a panic.
#![no_main]

use amoskys_transport::PublicKey;
use amoskys_transport::verify::Verifier;
use libfuzzer_sys::fuzz_target;

const ANCHOR: &[u8] = include_bytes!("../../tests/fixtures/v1/log/anchor");

fuzz_target!(|input: &[u8]| {
    let dir = tempfile::tempdir_in("/dev/shm").expect("memory for files");
    let Some((mode, input)) = input.split_first() else {
        return;
    };
    let mut bytes = ANCHOR[..ANCHOR.len() - 4].to_vec();
    if mode % 2 == 0 {
        bytes.truncate(5);
        bytes.extend_from_slice(input);
    } else {
        for change in input.chunks_exact(3) {
            let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
            bytes[at] = change[2];
        }
    }
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    std::fs::write(dir.path().join("anchor"), bytes).expect("write");
    let report = Verifier::new(dir.path())
        .key(PublicKey::from_bytes([7; 32]))
        .run()
        .expect("a report");
    assert!(!report.is_clean(), "the key is not the one that signed");
});
