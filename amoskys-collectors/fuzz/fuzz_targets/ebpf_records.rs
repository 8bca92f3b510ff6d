//! What the rings of the programs in the kernel may hold: records of the sensor, one after another, and of the flow meter.
#![no_main]

use amoskys_collectors::ebpf::checks;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let count = checks::decode_records(input);
    // The least record is a header with its length before it.
    assert!(count <= input.len() / 66);
    let _ = checks::flow_report(input);
});
