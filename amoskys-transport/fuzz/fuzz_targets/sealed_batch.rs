//! Any bytes as a sealed batch: an error or events, never a panic, never memory without bound.
#![no_main]

use amoskys_core::Open;
use amoskys_transport::{Opener, SealedHeader};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

/// A segment with good records, to begin from.
const SEGMENT: &[u8] = include_bytes!("../../tests/fixtures/v1/log/00000000000000000012.seg");

fuzz_target!(|input: &[u8]| {
    let opener = Opener::unchecked().max_payload_bytes(1 << 20);
    let try_it = |record: Bytes| {
        let opened = opener.open(&record);
        if let (Ok(opened), Ok(header)) = (&opened, SealedHeader::parse(&record)) {
            assert_eq!(opened.first, header.first);
            assert_eq!(opened.last, header.last());
        }
    };
    try_it(Bytes::copy_from_slice(input));
    // The first record of the segment, with bytes changed as the input says: two for the place, one for the value.
    let len = u32::from_le_bytes([SEGMENT[68], SEGMENT[69], SEGMENT[70], SEGMENT[71]]) as usize;
    let mut record = SEGMENT[96..96 + len].to_vec();
    for change in input.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % record.len();
        record[at] = change[2];
    }
    try_it(record.into());
});
