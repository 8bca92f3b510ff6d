//! A log goes on where it was, whatever was lost beside it.
#![cfg(feature = "sled")]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

mod common;

use std::fs;

use amoskys_core::{Class, Open, Seq, Wal, WalError};
use amoskys_transport::{
    Check, FileSigner, Log, LogError, SharedTrust, Signer as _, SledWal, TrustMap, WalOptions,
};
use common::{assert_clean, fill, open, read_all, seal, small};

#[test]
fn streams_go_on_in_the_same_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    let epoch = log.epoch();
    fill(&mut log, 7);
    let heads = [Class::Telemetry, Class::Alert].map(|class| log.sealer.head(class));
    drop(log);
    let mut log = open(dir.path());
    assert_eq!(log.epoch(), epoch);
    assert_eq!(
        [Class::Telemetry, Class::Alert].map(|class| log.sealer.head(class)),
        heads
    );
    fill(&mut log, 7);
    drop(log);
    let report = assert_clean(dir.path());
    assert_eq!((report.records, report.events), (14, 56));
}

#[test]
fn a_new_log_of_the_same_agent_is_a_new_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path()).epoch();
    fs::remove_dir_all(dir.path().join("log")).unwrap();
    let second = open(dir.path()).epoch();
    assert_eq!((first.counter, second.counter), (0, 1));
    assert_ne!(first.random, second.random);
    assert_eq!(open(dir.path()).epoch(), second);
}

#[test]
fn the_heads_are_found_without_the_anchor() {
    for lost in ["log/anchor", "keys/agent.epoch", "both"] {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path());
        fill(&mut log, 200);
        let (epoch, head) = (log.epoch(), log.sealer.head(Class::Telemetry));
        drop(log);
        let files = if lost == "both" {
            vec!["log/anchor", "keys/agent.epoch"]
        } else {
            vec![lost]
        };
        for file in files {
            fs::remove_file(dir.path().join(file)).unwrap();
        }
        let mut log = open(dir.path());
        assert_eq!(log.epoch(), epoch, "without {lost}");
        assert_eq!(log.sealer.head(Class::Telemetry), head, "without {lost}");
        fill(&mut log, 3);
        drop(log);
        assert_clean(dir.path());
    }
}

#[test]
fn a_damaged_anchor_is_not_needed() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    fill(&mut log, 20);
    let head = log.sealer.head(Class::Telemetry);
    drop(log);
    let anchor = dir.path().join("log/anchor");
    let good = fs::read(&anchor).unwrap();
    for at in (0..good.len()).step_by(7) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(&anchor, bad).unwrap();
        assert_eq!(open(dir.path()).sealer.head(Class::Telemetry), head);
    }
    assert_clean(dir.path());
}

#[test]
fn a_trimmed_log_goes_on_and_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..4 {
        let mut log = open(dir.path());
        fill(&mut log, 300);
        let durable = log.wal.durable();
        log.wal.trim(amoskys_core::Offset(durable.0 - 20)).unwrap();
        drop(log);
        let report = assert_clean(dir.path());
        assert!(
            report.first_offset > 0 && report.next_offset - report.first_offset < 300,
            "{report}"
        );
    }
    // A start that was not trimmed is missing.
    fs::remove_file(&common::segments(dir.path())[0]).unwrap();
    assert!(!common::verify(dir.path()).is_clean());
}

#[test]
fn another_agent_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let error = Log::open(dir.path(), small("other")).unwrap_err();
    assert!(matches!(error, LogError::Agent { .. }), "{error}");
}

#[test]
fn a_log_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _held = open(dir.path());
    let error = Log::open(dir.path(), small("agent")).unwrap_err();
    let LogError::Wal(WalError::Open { reason, .. }) = error else {
        panic!("{error}")
    };
    assert!(reason.contains("in use"), "{reason}");
}

#[test]
fn the_store_beside_the_log_is_rebuilt() {
    let damage: [&dyn Fn(&std::path::Path); 5] = [
        &|state| fs::remove_dir_all(state).unwrap(),
        &|state| fs::write(state.join("db"), noise(1 << 20)).unwrap(),
        &|state| fs::write(state.join("conf"), noise(300)).unwrap(),
        &|state| fs::write(state.join("db"), []).unwrap(),
        &|state| {
            fs::remove_dir_all(state).unwrap();
            fs::write(state, b"a file").unwrap();
        },
    ];
    for (which, damage) in damage.iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path());
        fill(&mut log, 30);
        log.wal.store("reader", b"17").unwrap();
        drop(log);
        damage(&dir.path().join("log/state"));
        let mut log = open(dir.path());
        assert_eq!(read_all(&log).0.len(), 30, "damage {which}");
        log.wal.store("reader", b"18").unwrap();
        fill(&mut log, 2);
        drop(log);
        let log = open(dir.path());
        assert_eq!(
            log.wal.load("reader").unwrap().as_deref(),
            Some(&b"18"[..]),
            "damage {which}"
        );
        drop(log);
        assert_clean(dir.path());
    }
}

#[test]
fn flipped_bits_in_the_store_stop_nobody() {
    let dir = tempfile::tempdir().unwrap();
    {
        let wal = SledWal::open(dir.path(), WalOptions::new()).unwrap();
        for n in 0..200u32 {
            wal.store(&format!("name {n}"), &noise(50 + n as usize)).unwrap();
        }
        let last = wal.append("record".into()).unwrap();
        wal.wait_durable(last).unwrap();
    }
    let work = tempfile::tempdir().unwrap();
    let db = fs::read(dir.path().join("state/db")).unwrap();
    for at in (0..db.len()).step_by(db.len() / 60) {
        let copy = work.path().join(at.to_string());
        common::copy_dir(dir.path(), &copy);
        let mut bad = db.clone();
        bad[at] ^= 0x04;
        fs::write(copy.join("state/db"), bad).unwrap();
        let wal = SledWal::open(&copy, WalOptions::new()).unwrap();
        for n in 0..200u32 {
            // There, or lost with the rest; never something else.
            let value = wal.load(&format!("name {n}")).unwrap();
            assert!(value.is_none_or(|value| value == noise(50 + n as usize)));
        }
        wal.store("name 1", b"new").unwrap();
        assert_eq!(wal.load("name 1").unwrap().as_deref(), Some(&b"new"[..]));
        assert_eq!(wal.read(amoskys_core::Offset(0), 100).unwrap()[0].1, "record");
        drop(wal);
        fs::remove_dir_all(copy).unwrap();
    }
}

#[test]
fn what_was_never_durable_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    fill(&mut log, 10);
    let head = log.sealer.head(Class::Telemetry);
    // As a process leaves it that is killed: reserved space, and half a record.
    let last = common::segments(dir.path()).pop().unwrap();
    let record = seal(&mut log.sealer, Class::Telemetry, 500, 4, 100);
    drop(log);
    let mut bytes = fs::read(&last).unwrap();
    bytes.extend_from_slice(&record[..record.len() / 2]);
    bytes.resize(bytes.len() + 5000, 0);
    fs::write(&last, bytes).unwrap();
    let mut log = open(dir.path());
    assert_eq!(log.wal.durable().0, 10);
    assert_eq!(log.sealer.head(Class::Telemetry), head);
    fill(&mut log, 1);
    drop(log);
    assert_clean(dir.path());
}

#[test]
fn events_and_positions_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    fill(&mut log, 5);
    let (records, _) = read_all(&log);
    let opened = log.opener.open(&records[3].1).unwrap();
    assert_eq!((opened.first, opened.last), (Seq(12), Seq(15)));
    assert_eq!(opened.events[2], common::event(32, Class::Telemetry, 100));
    assert_eq!(&opened.position.unwrap().0[..], 34u64.to_le_bytes());
    assert_eq!(opened.source.as_str(), "test");
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64 ^ len as u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn keys_of_others_are_believed_as_long_as_a_trust_map_says_so_and_the_own_always() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let foreign = Log::open(other.path(), small("other")).unwrap();
    let key = FileSigner::open(other.path().join("keys/agent.key"))
        .unwrap()
        .public_key();
    let mut sealer = foreign.sealer;
    let of_other = seal(&mut sealer, Class::Telemetry, 0, 2, 50);
    let trust = SharedTrust::default();
    let options = small("agent").trust(trust.clone()).check(Check::Signature);
    let mut log = Log::open(dir.path(), options).unwrap();
    let own = seal(&mut log.sealer, Class::Telemetry, 0, 2, 50);
    log.opener.open(&of_other).unwrap_err();
    trust.replace(TrustMap::new().allow("other", key));
    log.opener.open(&of_other).unwrap();
    log.opener.open(&own).unwrap();
    trust.replace(TrustMap::new());
    log.opener.open(&of_other).unwrap_err();
    log.opener.open(&own).unwrap();
}
