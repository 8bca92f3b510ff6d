//! The committed objects are what their sources compile to. Needs clang 14; without, the test says so and passes, unless
//! `AMOSKYS_REQUIRE_PEERS=1`.
#![cfg(all(feature = "ebpf", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod ebpf_common;

use std::process::Command;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bpf");

#[test]
fn the_objects_are_those_of_the_sources() {
    let output = Command::new(format!("{FOLDER}/build"))
        .arg("--check")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => {}
        Some(2) => ebpf_common::skip("clang 14 is missing"),
        _ => panic!("{said}"),
    }
}

#[test]
fn the_objects_say_nothing_of_where_they_were_made() {
    for name in [
        "events.x86_64.o",
        "events.aarch64.o",
        "calls.bpfel.o",
        "calls_before_5_11.bpfel.o",
        "flows.bpfel.o",
    ] {
        let object = std::fs::read(format!("{FOLDER}/{name}")).unwrap();
        for trace in [FOLDER.as_bytes(), b"/home/", b"/tmp/", b"/root/"] {
            let found = object.windows(trace.len()).any(|window| window == trace);
            assert!(!found, "{name} has {}", String::from_utf8_lossy(trace));
        }
    }
}
