//! Any bytes as an envelope of the predecessor: what is signed of it is one thing only, whoever reads it; never a panic,
//! never memory without bound.
#![no_main]

use amoskys_transport::legacy::check_envelope;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let _ = check_envelope(input);
    // The same bytes as a flow, and as a payload.
    if let Ok(len) = u8::try_from(input.len())
        && len < 0x80
    {
        let _ = check_envelope(&[&[0x22, len], input].concat());
        let _ = check_envelope(&[&[0x3a, len], input].concat());
    }
});
