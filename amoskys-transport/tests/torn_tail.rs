//! A commit that a crash or a power cut left half done: everything before it is there, and the rest is a prefix.
#![cfg(feature = "sled")]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

mod common;

use std::fs;
use std::path::Path;

use amoskys_core::{Class, Offset, Wal};
use amoskys_transport::{SledWal, WalOptions};
use bytes::Bytes;
use common::{seal, stored_records};

fn record(n: u64) -> Bytes {
    Bytes::from(vec![
        u8::try_from(n % 251).unwrap() + 1;
        200 + (n as usize * 37) % 900
    ])
}

fn read_all(wal: &SledWal) -> Vec<(Offset, Bytes)> {
    let mut all = Vec::new();
    let mut from = wal.first();
    while let Some((last, _)) = {
        all.extend(wal.read(from, 5000).unwrap());
        all.last().filter(|(last, _)| *last >= from)
    } {
        from = last.next();
    }
    all
}

/// A log whose last commit has several records. Returns its only segment and where that commit begins.
fn with_a_large_last_commit(dir: &Path) -> (Vec<u8>, u64) {
    let name = dir.join("00000000000000000000.seg");
    loop {
        let _ = fs::remove_dir_all(dir);
        let wal = SledWal::open(dir, WalOptions::new()).unwrap();
        for n in 0..40 {
            let offset = wal.append(record(n)).unwrap();
            if n < 20 {
                wal.wait_durable(offset).unwrap();
            }
        }
        drop(wal);
        let bytes = fs::read(&name).unwrap();
        let (at, _) = *stored_records(&bytes).last().unwrap();
        let before = u32::from_le_bytes(bytes[at + 16..at + 20].try_into().unwrap());
        if before >= 8 {
            return (bytes, 39 - u64::from(before));
        }
    }
}

#[test]
fn any_loss_of_sectors_in_the_last_commit_leaves_a_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let (good, last_commit) = with_a_large_last_commit(dir.path());
    let name = dir.path().join("00000000000000000000.seg");
    let begin = stored_records(&good)[usize::try_from(last_commit).unwrap()].0;
    let mut seed = 7_u32;
    for round in 0..200 {
        let mut torn = good.clone();
        // The disk had written any of the sectors, and zeros are where it had not.
        let mut at = begin;
        while at < torn.len() {
            let end = (at / 512 * 512 + 512).min(torn.len());
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if (seed >> 24) < 128 {
                torn[at..end].fill(0);
            }
            at = end;
        }
        if round % 3 == 0 {
            torn.truncate(begin + (seed as usize % (good.len() - begin)));
        }
        torn.resize(torn.len() + round * 100, 0);
        fs::write(&name, torn).unwrap();
        let wal = SledWal::open(dir.path(), WalOptions::new()).unwrap();
        let records = read_all(&wal);
        assert!(
            records.len() as u64 >= last_commit,
            "round {round}: {} of {last_commit}",
            records.len()
        );
        assert_eq!(records.len() as u64, wal.durable().0);
        for (n, (offset, bytes)) in records.iter().enumerate() {
            assert_eq!((offset.0, bytes), (n as u64, &record(n as u64)));
        }
        // And it goes on from there.
        let next = wal.append(record(999)).unwrap();
        assert_eq!(next.0, records.len() as u64);
        wal.wait_durable(next).unwrap();
        drop(wal);
        let wal = SledWal::open(dir.path(), WalOptions::new()).unwrap();
        assert_eq!(read_all(&wal).last().unwrap().1, record(999));
    }
}

#[test]
fn a_log_that_was_never_durable_beyond_its_first_segment_opens() {
    let dir = tempfile::tempdir().unwrap();
    drop(SledWal::open(dir.path(), WalOptions::new()).unwrap());
    let name = dir.path().join("00000000000000000000.seg");
    for content in [&b""[..], &[0; 64], &[0; 5000], b"half a header"] {
        fs::write(&name, content).unwrap();
        let wal = SledWal::open(dir.path(), WalOptions::new()).unwrap();
        assert_eq!(wal.durable(), Offset(0));
        let offset = wal.append(record(1)).unwrap();
        wal.wait_durable(offset).unwrap();
        drop(wal);
        let wal = SledWal::open(dir.path(), WalOptions::new()).unwrap();
        assert_eq!(read_all(&wal), [(Offset(0), record(1))]);
    }
}

#[test]
fn offsets_are_not_used_twice_when_a_new_segment_is_torn() {
    let dir = tempfile::tempdir().unwrap();
    let options = || WalOptions::new().budget_bytes(128 << 10).segment_bytes(8 << 10);
    let next = {
        let wal = SledWal::open(dir.path(), options()).unwrap();
        let mut last = Offset(0);
        for n in 0..60 {
            last = wal.append(record(n)).unwrap();
            wal.wait_durable(last).unwrap();
        }
        wal.trim(last.next()).unwrap();
        last.next()
    };
    let mut segments: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    segments.retain(|path| path.extension().is_some_and(|e| e == "seg"));
    segments.sort();
    // Only the newest is left, and its content did not make it to the disk.
    for segment in &segments[..segments.len() - 1] {
        fs::remove_file(segment).unwrap();
    }
    let newest = segments.last().unwrap();
    let first: u64 = newest.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    fs::write(newest, b"").unwrap();
    let wal = SledWal::open(dir.path(), options()).unwrap();
    assert_eq!(wal.durable().0, first);
    assert!(first > 0 && first <= next.0);
}

#[test]
fn a_torn_commit_does_not_break_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = common::open(dir.path());
    common::fill(&mut log, 10);
    let head = log.sealer.head(Class::Telemetry);
    drop(log);
    // The anchor of that moment, and a commit after it of which half is there.
    let anchor = fs::read(dir.path().join("log/anchor")).unwrap();
    let mut log = common::open(dir.path());
    let record = seal(&mut log.sealer, Class::Telemetry, 800, 4, 100);
    log.wal.append(record).unwrap();
    drop(log);
    fs::write(dir.path().join("log/anchor"), anchor).unwrap();
    let segment = common::segments(dir.path()).pop().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let end = bytes.len();
    bytes[end - 100..].fill(0);
    fs::write(&segment, bytes).unwrap();
    let mut log = common::open(dir.path());
    assert_eq!(log.sealer.head(Class::Telemetry), head);
    common::fill(&mut log, 5);
    drop(log);
    assert!(common::assert_clean(dir.path()).gaps.is_empty());
}
