//! Any bytes as a file of heads that a bus has signed: what was not signed is not believed, and a log is compared with the
//! rest.
#![no_main]

use std::fs;
use std::path::Path;

use amoskys_transport::PublicKey;
use amoskys_transport::verify::{Anchors, Verifier};
use libfuzzer_sys::fuzz_target;

const HEADS: &[u8] = include_bytes!("../../tests/fixtures/v1-bus/heads");
const KEY: &[u8] = include_bytes!("../../tests/fixtures/v1-bus/keys/agent.pub");
const LOG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/v1");

fuzz_target!(|input: &[u8]| {
    let Some((mode, input)) = input.split_first() else {
        return;
    };
    let dir = tempfile::tempdir_in("/dev/shm").expect("memory for files");
    let (file, copy) = (dir.path().join("heads"), dir.path().join("copy"));
    let key = PublicKey::parse(KEY).expect("a key");
    let bytes = if mode % 2 == 0 { input.to_vec() } else { changed(input) };
    fs::write(&file, bytes).expect("write");
    let anchors = Anchors::new(&file).key(key);
    let Ok(seen) = anchors.read() else { return };
    let _ = Verifier::new(Path::new(LOG)).anchors(seen).run();
    // What is believed is believed again, and nothing else is passed on.
    let records = anchors.export(&copy).expect("export");
    let again = Anchors::new(&copy).key(key).export(dir.path().join("again"));
    assert_eq!(again.expect("export"), records);
    if mode % 2 == 1 {
        assert!(records <= signed(), "{records}");
    }
});

fn changed(input: &[u8]) -> Vec<u8> {
    let mut bytes = HEADS.to_vec();
    for change in input.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
        bytes[at] = change[2];
    }
    bytes
}

/// Records in the fixture.
fn signed() -> u64 {
    let mut rest = &HEADS[16..];
    let mut count = 0;
    while let Some((len, behind)) = rest.split_first_chunk::<4>() {
        rest = &behind[u32::from_le_bytes(*len) as usize..];
        count += 1;
    }
    count
}
