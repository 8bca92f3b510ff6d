//! What opening a large log costs. Run by hand: `cargo test -p amoskys-transport --test faults_opening -- --ignored --nocapture`.
#![cfg(all(feature = "sled", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

mod common;

use std::path::Path;
use std::time::Instant;

use amoskys_core::{Class, Wal, WalError};
use amoskys_transport::{Log, LogOptions, WalOptions};
use common::seal;

/// With a segment at the end that is well filled: it is read as a whole.
const BYTES: u64 = (1 << 30) + (56 << 20);
/// Whatever its size, a log is opened in this.
const MAX_MEMORY: u64 = 100 << 20;

/// Most memory held since the last call, in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let kilobytes: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    kilobytes << 10
}

fn opened(what: &str, dir: &Path) -> Log {
    peak_memory();
    let before = Instant::now();
    let log = Log::open(dir, LogOptions::new().wal(WalOptions::new())).unwrap();
    let took = before.elapsed();
    let peak = peak_memory();
    println!("{what}: {took:.3?}, at most {} MiB of memory", peak >> 20);
    assert!(peak < MAX_MEMORY);
    log
}

#[test]
#[ignore = "writes a gigabyte"]
fn a_large_log_opens_quickly_and_in_little_memory() {
    let dir = tempfile::tempdir().unwrap();
    {
        let mut log = opened("an empty log", dir.path());
        let mut next = 0;
        while log.wal.used_bytes() < BYTES {
            let record = seal(&mut log.sealer, Class::Telemetry, next, 150, 300);
            next += 150;
            while let Err(error) = log.wal.append(record.clone()) {
                assert!(matches!(error, WalError::Full { .. }), "{error}");
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
    }
    let sizes = common::segments(dir.path());
    let sizes: Vec<_> = sizes.iter().map(|path| path.metadata().unwrap().len()).collect();
    let (all, last) = (sizes.iter().sum::<u64>(), sizes[sizes.len() - 1]);
    assert!(all >= BYTES);
    println!("{} MiB, of which {} in the last segment", all >> 20, last >> 20);
    drop(opened("as it was closed", dir.path()));
    std::fs::remove_file(dir.path().join("log/anchor")).unwrap();
    drop(opened("without its anchor", dir.path()));
}
