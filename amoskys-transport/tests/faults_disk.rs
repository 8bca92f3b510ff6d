//! A disk that is full or cannot be written, met by a log that is damaged, new, or has values beside it. Needs root for a
//! file system of its own; skipped without.
#![cfg(all(feature = "sled", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use amoskys_core::{Class, Wal};
use amoskys_transport::Log;
use common::{assert_clean, fill, read_all, segments, small, stored_records, verify};

/// A small file system in memory, unmounted when dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    /// `None` without the privilege to mount.
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=12m", "tmpfs"])
            .arg(dir.path())
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(dir));
        }
        assert!(
            std::env::var_os("AMOSKYS_REQUIRE_PEERS").is_none(),
            "cannot mount a tmpfs"
        );
        println!("skipped: cannot mount a tmpfs, which needs root");
        None
    }

    fn log(&self) -> PathBuf {
        self.0.path().join("data")
    }

    /// Leaves no room at all.
    fn fill_up(&self) {
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.0.path().join("ballast"))
            .unwrap();
        for size in [1 << 16, 1 << 12, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.0.path().join("ballast")).unwrap();
    }

    fn remount(&self, how: &str) {
        let status = Command::new("mount")
            .args(["-o", &format!("remount,{how}")])
            .arg(self.0.path())
            .status()
            .unwrap();
        assert!(status.success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn open(dir: &Path) -> Log {
    common::open(dir)
}

#[test]
fn a_log_is_begun_once_there_is_room() {
    let Some(disk) = Disk::mount() else { return };
    disk.fill_up();
    for _ in 0..3 {
        let error = Log::open(disk.log(), small("agent")).unwrap_err();
        let text = causes(&error);
        assert!(text.contains("No space left"), "{text}");
    }
    disk.free();
    let mut log = open(&disk.log());
    fill(&mut log, 20);
    drop(log);
    assert_clean(&disk.log());
}

#[test]
fn values_survive_a_full_disk() {
    let Some(disk) = Disk::mount() else { return };
    let mut log = open(&disk.log());
    fill(&mut log, 30);
    log.wal.store("reader", b"12").unwrap();
    drop(log);
    disk.fill_up();
    {
        let log = open(&disk.log());
        // Not known meanwhile, or what it was.
        let reader = log.wal.load("reader").unwrap();
        assert!(reader.is_none_or(|reader| reader == b"12"[..]));
        // More than fits into what is reserved anyhow.
        for n in 0..200_u32 {
            let _ = log.wal.store(&format!("value {n}"), &n.to_le_bytes().repeat(500));
        }
        log.wal.store("other", b"13").unwrap();
        // It is in memory, and nobody is told otherwise.
        let text = causes(&log.wal.sync().unwrap_err());
        assert!(text.contains("no room"), "{text}");
        assert_eq!(log.wal.load("other").unwrap().as_deref(), Some(&b"13"[..]));
    }
    let log = open(&disk.log());
    assert_eq!(read_all(&log).0.len(), 30);
    drop(log);
    disk.free();
    let mut log = open(&disk.log());
    assert_eq!(log.wal.load("reader").unwrap().as_deref(), Some(&b"12"[..]));
    log.wal.store("reader", b"14").unwrap();
    fill(&mut log, 5);
    drop(log);
    assert_eq!(
        open(&disk.log()).wal.load("reader").unwrap().as_deref(),
        Some(&b"14"[..])
    );
    assert_clean(&disk.log());
}

#[test]
fn a_value_stored_while_the_disk_was_full_is_kept_once_there_is_room() {
    let Some(disk) = Disk::mount() else { return };
    let mut log = open(&disk.log());
    fill(&mut log, 30);
    log.wal.store("reader", b"12").unwrap();
    log.wal.sync().unwrap();
    disk.fill_up();
    for n in 0..200_u32 {
        let _ = log.wal.store(&format!("value {n}"), &n.to_le_bytes().repeat(500));
    }
    let _ = log.wal.sync();
    disk.free();
    log.wal.store("reader", b"13").unwrap();
    log.wal.sync().unwrap();
    fill(&mut log, 5);
    drop(log);
    assert_eq!(
        open(&disk.log()).wal.load("reader").unwrap().as_deref(),
        Some(&b"13"[..])
    );
}

#[test]
fn damage_met_with_a_full_disk_is_recorded_later() {
    let Some(disk) = Disk::mount() else { return };
    let mut log = open(&disk.log());
    fill(&mut log, 150);
    drop(log);
    let segment = &segments(&disk.log())[1];
    let mut bytes = fs::read(segment).unwrap();
    let (at, _) = stored_records(&bytes)[4];
    bytes[at + 300] ^= 1;
    fs::write(segment, bytes).unwrap();
    disk.fill_up();
    for _ in 0..2 {
        let log = open(&disk.log());
        let (records, damaged) = read_all(&log);
        assert_eq!((records.len(), damaged.len()), (149, 1));
        drop(log);
        assert!(!verify(&disk.log()).is_clean());
    }
    disk.free();
    let log = open(&disk.log());
    let _ = read_all(&log);
    drop(log);
    let mut log = open(&disk.log());
    fill(&mut log, 5);
    drop(log);
    assert_eq!(assert_clean(&disk.log()).gaps.len(), 1);
}

#[test]
fn a_damaged_log_on_a_read_only_disk_is_opened_once_it_can_be_written() {
    let Some(disk) = Disk::mount() else { return };
    let mut log = open(&disk.log());
    fill(&mut log, 60);
    let head = log.sealer.head(Class::Telemetry);
    log.wal.store("reader", b"12").unwrap();
    drop(log);
    let last = segments(&disk.log()).pop().unwrap();
    let len = fs::metadata(&last).unwrap().len();
    fs::OpenOptions::new()
        .write(true)
        .open(&last)
        .unwrap()
        .set_len(len - 200)
        .unwrap();
    disk.remount("ro");
    for _ in 0..2 {
        let error = Log::open(disk.log(), small("agent")).unwrap_err();
        let text = causes(&error);
        assert!(text.contains("Read-only file system"), "{text}");
        assert!(!verify(&disk.log()).is_clean());
    }
    disk.remount("rw");
    let mut log = open(&disk.log());
    assert_eq!(log.sealer.head(Class::Telemetry), head);
    assert_eq!(log.wal.load("reader").unwrap().as_deref(), Some(&b"12"[..]));
    fill(&mut log, 5);
    drop(log);
    assert_eq!(assert_clean(&disk.log()).gaps.len(), 1);
}
