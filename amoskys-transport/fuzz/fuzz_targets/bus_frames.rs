//! Any bytes as the frames of a connection to the bus: good frames or none, never a panic, never memory without bound.
#![no_main]

use amoskys_transport::bus::check_frames;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let good = check_frames(input);
    assert!(good * 5 <= input.len());
    // The same bytes as the body of one frame of each type.
    let len = u32::try_from(input.len() + 1).expect("short").to_le_bytes();
    for kind in 0..=15 {
        let frame = [&len[..], &[kind], input].concat();
        assert!(check_frames(&frame) <= 1);
    }
});
