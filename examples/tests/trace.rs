//! The program that prints what the kernel sees, given what cannot be.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod support;

use support::{fail, program};

#[test]
fn a_time_that_is_none_is_refused() {
    for seconds in ["-1", "nan", "1e300"] {
        let (code, said) = fail(program("trace").arg(format!("--seconds={seconds}")));
        assert!(code == Some(1) && said.contains("--seconds"), "{said}");
    }
}
