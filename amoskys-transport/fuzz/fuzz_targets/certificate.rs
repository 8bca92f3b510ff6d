//! Any bytes as a certificate, as an identity in one, as a PEM file of certificates, keys and revocations, and as lines of
//! an audit log: an error or what it says, never a panic.
#![no_main]

use amoskys_transport::audit::{AuditKey, check_audit_lines};
use amoskys_transport::identity::{Identity, TlsFiles, Validity};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let der = input.to_vec().into();
    let _ = Validity::of_certificate(&der);
    let _ = Identity::of_certificate(&der);
    if let Ok(text) = std::str::from_utf8(input) {
        for uri in [text.to_owned(), format!("amoskys://agent/{text}")] {
            if let Ok(identity) = Identity::of_uri(&uri) {
                assert_eq!(identity.to_uri(), uri);
            }
        }
    }
    let key = AuditKey::from_bytes(&[7; 32]);
    let (good, faults) = check_audit_lines(input, Some(&key));
    assert!(good == 0 || faults.len() < input.len());
    let _ = check_audit_lines(input, None);

    let dir = tempfile::tempdir_in("/dev/shm").expect("memory for files");
    let path = |name: &str| dir.path().join(name);
    for name in ["ca", "certificate", "key", "crl"] {
        std::fs::write(path(name), input).expect("write");
    }
    let files = TlsFiles::new(path("ca"), path("certificate"), path("key")).crl(path("crl"));
    let _ = files.server_config();
    let _ = files.client_config();
});
