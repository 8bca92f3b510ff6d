//! Any bytes as a file of idempotency keys: what is good in it is known, once and again, and the rest is cut off.
#![no_main]

use std::fs;

use amoskys_transport::legacy::check_index;
use libfuzzer_sys::fuzz_target;

const HEADER: usize = 40;
const CHUNK: usize = 32;

fuzz_target!(|input: &[u8]| {
    let Some((mode, input)) = input.split_first() else {
        return;
    };
    let bytes = if mode % 2 == 0 { input.to_vec() } else { signed(input) };
    let dir = tempfile::tempdir_in("/dev/shm").expect("memory for files");
    let file = dir.path().join("00000000000000000001.keys");
    fs::write(&file, &bytes).expect("write");
    match check_index(dir.path()) {
        Ok(known) => {
            assert!(known <= bytes.len() / 16);
            assert_eq!(check_index(dir.path()).expect("what was good"), known);
        }
        // Of a newer version, it stays as it is.
        Err(_) => assert_eq!(fs::read(&file).expect("read"), bytes),
    }
});

/// A header with these bytes in it, and a chunk with the others, with the right checksums.
fn signed(input: &[u8]) -> Vec<u8> {
    let mut bytes = b"AMOSIDX\0\x01\0".to_vec();
    bytes.resize(HEADER - 4, 0);
    let (changes, body) = input.split_at(input.len().min(24));
    for change in changes[..changes.len().min(4)].chunks_exact(2) {
        let at = 8 + usize::from(change[0]) % 28;
        bytes[at] ^= change[1];
    }
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    let mut chunk = b"AMLK".to_vec();
    chunk.extend_from_slice(&u32::try_from(body.len()).expect("short").to_le_bytes());
    let mut numbers = changes.get(4..).unwrap_or_default().to_vec();
    numbers.resize(CHUNK - 12, 0);
    chunk.extend_from_slice(&numbers);
    let mut hash = crc32fast::Hasher::new();
    hash.update(&chunk);
    hash.update(body);
    chunk.extend_from_slice(&hash.finalize().to_le_bytes());
    bytes.extend_from_slice(&chunk);
    bytes.extend_from_slice(body);
    bytes
}
