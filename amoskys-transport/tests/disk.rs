//! A disk that is full, or cannot be written. Needs root for a file system of its own; skipped without.
#![cfg(all(feature = "sled", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use amoskys_core::{Offset, Wal, WalError};
use amoskys_transport::{Log, LogError, LogOptions, WalOptions};
use bytes::Bytes;
use common::{assert_clean, fill};

/// A small file system in memory, unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    /// `None` without the privilege to mount.
    fn mount(at: &Path, megabytes: u32) -> Option<Self> {
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(at)
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(at.to_owned()));
        }
        assert!(
            std::env::var_os("AMOSKYS_REQUIRE_PEERS").is_none(),
            "cannot mount a tmpfs"
        );
        println!("skipped: cannot mount a tmpfs, which needs root");
        None
    }

    fn remount(&self, how: &str) {
        let status = Command::new("mount")
            .args(["-o", &format!("remount,{how}")])
            .arg(&self.0)
            .status()
            .unwrap();
        assert!(status.success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn options() -> LogOptions {
    LogOptions::new().wal(WalOptions::new().segment_bytes(1 << 20).budget_bytes(1 << 30))
}

fn open(dir: &Path) -> Log {
    Log::open(dir, options()).unwrap()
}

#[test]
fn a_full_disk_is_a_full_log_until_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_disk) = Disk::mount(dir.path(), 24) else {
        return;
    };
    let log_dir = dir.path().join("data");
    let mut log = open(&log_dir);
    let ballast = dir.path().join("ballast");
    std::fs::write(&ballast, vec![1; 8 << 20]).unwrap();
    let mut taken = 0;
    let error = loop {
        let record = common::seal(
            &mut log.sealer,
            amoskys_core::Class::Telemetry,
            taken * 50,
            50,
            1000,
        );
        let before = record.clone();
        match log.wal.append(record) {
            Ok(offset) => {
                log.wal.wait_durable(offset).unwrap();
                taken += 1;
            }
            Err(error) => break (error, before),
        }
        assert!(taken < 1000, "24 MiB are full at some time");
    };
    let (error, waiting) = error;
    assert!(matches!(error, WalError::Full { .. }), "{error}");
    // It stays full, and what is there stays readable.
    for _ in 0..10 {
        assert!(matches!(
            log.wal.append(waiting.clone()),
            Err(WalError::Full { .. })
        ));
    }
    assert_eq!(common::read_all(&log).0.len() as u64, taken);
    std::thread::sleep(std::time::Duration::from_millis(1200));
    // Room by others, and the log goes on with the very record it refused.
    std::fs::remove_file(&ballast).unwrap();
    let offset = log.wal.append(waiting).unwrap();
    log.wal.wait_durable(offset).unwrap();
    fill(&mut log, 20);
    // Full again, and now room by a trim.
    std::fs::write(&ballast, vec![1; 24 << 20]).unwrap_err();
    let record = Bytes::from(vec![7; 900_000]);
    let mut trimmed = 0;
    for _ in 0..30 {
        let durable = log.wal.durable();
        match log.wal.append(record.clone()) {
            Ok(_) => {}
            Err(WalError::Full { .. }) => {
                log.wal.trim(durable).unwrap();
                trimmed += 1;
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(trimmed > 0 && log.wal.durable() > offset);
}

#[test]
fn a_log_that_filled_the_disk_opens_again() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_disk) = Disk::mount(dir.path(), 16) else {
        return;
    };
    let log_dir = dir.path().join("data");
    let mut log = open(&log_dir);
    fill(&mut log, 50);
    std::fs::write(dir.path().join("ballast"), vec![1; 24 << 20]).unwrap_err();
    fill_until_full(&mut log);
    let durable = log.wal.durable();
    drop(log);
    let mut log = open(&log_dir);
    // What was under way when it was asked may be there too.
    assert!(log.wal.durable() >= durable);
    assert_eq!(common::read_all(&log).0.len() as u64, log.wal.durable().0);
    std::fs::remove_file(dir.path().join("ballast")).unwrap();
    fill(&mut log, 5);
    drop(log);
    assert_clean(&log_dir);
}

fn fill_until_full(log: &mut Log) {
    for n in 0..10_000 {
        let record = common::seal(&mut log.sealer, amoskys_core::Class::Bulk, n * 50, 50, 1000);
        match log.wal.append(record) {
            Ok(_) => {}
            Err(WalError::Full { .. }) => return,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("never full");
}

#[test]
fn a_read_only_disk_is_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(dir.path(), 16) else {
        return;
    };
    let log_dir = dir.path().join("data");
    let mut log = open(&log_dir);
    fill(&mut log, 20);
    drop(log);
    disk.remount("ro");
    let error = Log::open(&log_dir, options()).unwrap_err();
    assert!(
        matches!(
            error,
            LogError::Wal(WalError::Open { .. }) | LogError::File { .. }
        ),
        "{error}"
    );
    let mut causes = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        causes = format!("{causes}: {cause}");
        source = cause.source();
    }
    assert!(causes.contains("Read-only file system"), "{causes}");
    // Reading needs no writing.
    assert_clean(&log_dir);
    disk.remount("rw");
    let log = open(&log_dir);
    assert_eq!(log.wal.durable(), Offset(20));
}
