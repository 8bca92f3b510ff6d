//! Any bytes as a stored baseline: refused, or a baseline that stores itself again.
#![no_main]

use amoskys_analysis::baseline::Baseline;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(baseline) = postcard::from_bytes::<Baseline>(input) {
        let _ = (baseline.digest(), baseline.seconds(), baseline.events());
        if let Ok(file) = baseline.to_model() {
            let again = Baseline::from_model(&file);
            assert!(again.is_ok_and(|again| again.digest() == baseline.digest()));
        }
    }
});
