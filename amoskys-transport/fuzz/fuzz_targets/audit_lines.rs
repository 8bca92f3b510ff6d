//! Any bytes as the lines of an audit log: nothing is believed that was not authenticated, never a panic, never memory without
//! bound.
#![no_main]

use amoskys_transport::audit::{AuditKey, check_audit_lines};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let key = AuditKey::from_bytes(&[7; 32]);
    let (entries, faults) = check_audit_lines(input, Some(&key));
    // A MAC is not guessed.
    assert_eq!(entries, 0);
    assert!(input.is_empty() || !faults.is_empty());
    let _ = check_audit_lines(input, None);
});
