//! A signing key hands over to the next, in the log; whoever trusts the old key believes the new one from there on, and
//! no crash in between leaves a log that nobody may write.
#![cfg(feature = "sled")]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use amoskys_core::config::WhenFull;
use amoskys_core::{Class, Open as _, Payload, Wal as _};
use amoskys_transport::verify::{FindingKind, Report, Verifier};
use amoskys_transport::{
    FileSigner, Log, LogError, Opener, PublicKey, RecordKind, SealedHeader, Sealer, Signer, TrustMap,
    WalOptions,
};
use bytes::Bytes;
use common::{assert_clean, copy_dir, fill, open, read_all, seal, segments, small};

fn key_file(dir: &Path) -> std::path::PathBuf {
    dir.join("keys/agent.key")
}

fn key(dir: &Path) -> PublicKey {
    FileSigner::open(key_file(dir)).unwrap().public_key()
}

/// Puts a new key beside the log's.
fn put_next(dir: &Path) -> PublicKey {
    let next = FileSigner::next_path(&key_file(dir));
    FileSigner::create(next).unwrap().public_key()
}

fn other_key(dir: &Path, name: &str) -> Arc<FileSigner> {
    Arc::new(FileSigner::create(dir.join(name)).unwrap())
}

fn verify_with(dir: &Path, trust: TrustMap) -> Report {
    Verifier::new(dir).trust(trust).run().unwrap()
}

fn trust(key: PublicKey) -> TrustMap {
    TrustMap::new().allow("agent", key)
}

fn signers(log: &Log) -> Vec<amoskys_transport::KeyId> {
    let records = read_all(log).0.into_iter();
    let keys = records.map(|(_, record)| SealedHeader::parse(&record).unwrap().key);
    keys.collect()
}

#[test]
fn who_trusts_the_old_key_follows_to_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    fill(&mut log, 5);
    let (old, new) = (key(dir.path()), other_key(dir.path(), "new.key"));
    log.rotate_key(new.clone()).unwrap();
    fill(&mut log, 5);
    let keys = signers(&log);
    assert_eq!(keys[..6], [old.id(); 6]);
    assert_eq!(keys[6..], [new.public_key().id(); 5]);

    let records = read_all(&log).0;
    let opener = Opener::verifying(trust(old));
    // Before the hand-over nobody knows the new key.
    assert!(opener.open(&records[7].1).is_err());
    for (_, record) in &records {
        opener.open(record).unwrap();
    }
    let header = SealedHeader::parse(&records[5].1).unwrap();
    assert_eq!(
        (header.kind, header.stream.class),
        (RecordKind::HandOver, Class::Audit)
    );
    let opened = opener.open(&records[5].1).unwrap();
    match &opened.events[0].payload {
        Payload::Audit(entry) => assert_eq!(entry.action, "key.handed_over"),
        other => panic!("{other:?}"),
    }
    drop(log);
    for key in [old, new.public_key()] {
        let by_map = verify_with(dir.path(), trust(key));
        let by_key = Verifier::new(dir.path()).key(key).run().unwrap();
        assert!(by_key.is_clean(), "{by_key}");
        assert_eq!(by_key.hand_overs.len(), 1);
        // In a map, what a key took over from has to be said.
        assert_eq!(by_map.is_clean(), key == old, "{by_map}");
    }
    let both = trust(new.public_key()).retire("agent", old);
    assert!(verify_with(dir.path(), both).is_clean());
    let stranger = other_key(dir.path(), "stranger.key").public_key();
    let report = verify_with(dir.path(), trust(stranger));
    assert!(
        report
            .findings
            .iter()
            .all(|finding| finding.kind == FindingKind::Forged)
    );
    assert_eq!(report.records, 0);
}

#[test]
fn a_key_beside_the_log_takes_over_when_it_is_opened_and_the_old_file_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    fill(&mut open(dir.path()), 3);
    let (old, new) = (key(dir.path()), put_next(dir.path()));
    for _ in 0..2 {
        fill(&mut open(dir.path()), 3);
        assert_eq!(key(dir.path()), new);
        assert!(!FileSigner::next_path(&key_file(dir.path())).exists());
    }
    assert_eq!(assert_clean(dir.path()).hand_overs.len(), 1);
    // And once more; the first key is enough to follow.
    let third = put_next(dir.path());
    fill(&mut open(dir.path()), 3);
    assert_eq!(key(dir.path()), third);
    let report = verify_with(dir.path(), trust(old));
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.hand_overs.len(), 2);
    assert!(verify_with(dir.path(), TrustMap::new().retire("agent", old)).is_clean());
}

#[test]
fn a_sealer_that_was_given_away_changes_its_key_before_the_next_batch() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    fill(&mut log, 2);
    let (old, new) = (key(dir.path()), put_next(dir.path()));
    let rotation = log.key_rotation();
    assert!(rotation.finish().is_none());
    rotation.begin(Arc::new(
        FileSigner::open(FileSigner::next_path(&key_file(dir.path()))).unwrap(),
    ));
    assert!(rotation.finish().is_none(), "nothing was sealed since");
    fill(&mut log, 2);
    rotation.finish().unwrap().unwrap();
    assert_eq!(key(dir.path()), new);
    fill(&mut log, 2);
    let (old, new) = (old.id(), new.id());
    assert_eq!(signers(&log), [old, old, old, new, new, new, new]);
    drop(log);
    assert_clean(dir.path());
}

#[test]
fn a_key_is_used_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    let first = Arc::new(FileSigner::open(key_file(dir.path())).unwrap());
    let second = other_key(dir.path(), "second.key");
    assert!(matches!(
        log.rotate_key(first.clone()),
        Err(LogError::HandOver(_))
    ));
    log.rotate_key(second.clone()).unwrap();
    for used in [first, second.clone()] {
        assert!(matches!(log.rotate_key(used), Err(LogError::HandOver(_))));
    }
    fill(&mut log, 1);
    assert_eq!(signers(&log).last(), Some(&second.public_key().id()));
    drop(log);
    // Opened with the old key, it says which one is missing.
    match Log::open(dir.path(), small("agent")) {
        Err(LogError::HandedOver { key, .. }) => assert_eq!(key, second.public_key().id()),
        other => panic!("{other:?}"),
    }
    let options = small("agent").signer(second);
    fill(&mut Log::open(dir.path(), options).unwrap(), 1);
}

/// The states that a crash can leave, one after the other.
#[test]
fn a_crash_at_any_moment_is_gone_on_from() {
    let dir = tempfile::tempdir().unwrap();
    let before = dir.path().join("before");
    fill(&mut open(&before), 4);
    let old = key(&before);
    // 1. The new key lies beside the old one.
    let new = put_next(&before);
    let after = dir.path().join("after");
    copy_dir(&before, &after);
    drop(open(&after));
    assert_eq!(key(&after), new);

    let check = |state: &Path, what: &str| {
        let log = Log::open(state, small("agent")).unwrap_or_else(|error| panic!("{what}: {error}"));
        drop(log);
        fill(&mut open(state), 2);
        assert_eq!(key(state), new, "{what}");
        let report = verify_with(state, trust(old));
        assert!(report.is_clean(), "{what}: {report}");
        assert_eq!(report.hand_overs.len(), 1, "{what}");
        assert_eq!(fs::read_dir(state.join("keys")).unwrap().count(), 3, "{what}");
    };
    let copies = std::cell::Cell::new(0);
    let state = |log: &Path, keys: &Path| {
        copies.set(copies.get() + 1);
        let state = dir.path().join(format!("state{}", copies.get()));
        copy_dir(&log.join("log"), &state.join("log"));
        copy_dir(&keys.join("keys"), &state.join("keys"));
        state
    };
    // 2. The record is in the log to any byte, or whole; the anchor is the one before.
    let segment = segments(&after).pop().unwrap();
    let (whole, begun) = (
        fs::read(&segment).unwrap(),
        fs::read(segments(&before).pop().unwrap()).unwrap(),
    );
    for cut in (begun.len()..=whole.len()).step_by(37).chain([whole.len()]) {
        let state = state(&after, &before);
        fs::write(segments(&state).pop().unwrap(), &whole[..cut]).unwrap();
        fs::copy(before.join("log/anchor"), state.join("log/anchor")).unwrap();
        check(&state, &format!("cut at {cut}"));
    }
    // 3. The anchor is the new one.
    check(&state(&after, &before), "after the anchor");
    // 4. The old public key is gone; then the new secret key is in its place; then all is done.
    let no_public = state(&after, &before);
    fs::remove_file(no_public.join("keys/agent.pub")).unwrap();
    check(&no_public, "without a public key");
    let renamed = state(&after, &after);
    fs::remove_file(renamed.join("keys/agent.pub")).unwrap();
    check(&renamed, "renamed");
    check(&state(&after, &after), "done");
}

#[test]
fn the_anchor_leads_to_the_new_key_also_when_the_record_was_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    let old = key(dir.path());
    log.rotate_key(other_key(dir.path(), "new.key")).unwrap();
    fill(&mut log, 300);
    log.wal.trim(log.wal.durable()).unwrap();
    drop(log);
    let report = verify_with(dir.path(), trust(old));
    assert!(report.is_clean(), "{report}");
    assert!(report.first_offset > 1 && report.hand_overs.is_empty());
}

#[test]
fn what_the_old_key_signs_afterwards_is_forged() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    fill(&mut log, 2);
    let old = Arc::new(FileSigner::open(key_file(dir.path())).unwrap());
    let head = log.sealer.head(Class::Telemetry);
    let epoch = log.sealer.epoch();
    log.rotate_key(other_key(dir.path(), "new.key")).unwrap();
    let mut thief = Sealer::new("agent", epoch, old.clone()).resume(Class::Telemetry, head);
    let record = seal(&mut thief, Class::Telemetry, 50, 4, 100);
    log.wal.wait_durable(log.wal.append(record).unwrap()).unwrap();
    drop(log);
    let report = verify_with(dir.path(), trust(old.public_key()));
    assert_eq!(common::kinds(&report), [FindingKind::Forged], "{report}");
    assert!(report.findings[0].detail.contains("had handed over"), "{report}");
}

/// A hand-over of which one byte was changed is none.
#[test]
fn both_keys_sign_the_hand_over() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (other_key(dir.path(), "old.key"), other_key(dir.path(), "new.key"));
    let mut sealer = Sealer::new("agent", amoskys_core::Epoch::default(), old.clone());
    let record = sealer.hand_over(new).unwrap().record;
    let opens = |record: Bytes| Opener::verifying(trust(old.public_key())).open(&record).is_ok();
    assert!(opens(record.clone()));
    for at in 0..record.len() {
        let mut changed = record.to_vec();
        changed[at] ^= 1;
        assert!(!opens(changed.clone().into()), "byte {at}");
        // The old key alone cannot say it either: signed again, the new key's signature does not fit.
        let len = u32::from_le_bytes(record[8..12].try_into().unwrap()) as usize;
        let extension = len - 128;
        if at >= extension && at < len {
            let digest = ring::digest::digest(&ring::digest::SHA256, &changed[..len]);
            let message = [&b"amoskys sealed batch\n"[..], digest.as_ref()].concat();
            changed[len..len + 64].copy_from_slice(&old.sign(&message).unwrap());
            assert!(!opens(changed.into()), "byte {at} signed again");
        }
    }
}

#[test]
fn a_gap_that_the_new_key_signed_before_the_hand_over_is_believed_by_who_trusts_the_old_one() {
    const BUDGET: u64 = 512 << 10;
    let dir = tempfile::tempdir().unwrap();
    let wal = WalOptions::new().budget_bytes(BUDGET).segment_bytes(16 << 10);
    let options = small("agent").when_full(WhenFull::Shed).wal(wal);
    let mut log = Log::open(dir.path(), options).unwrap();
    let first = key(dir.path());
    fill(&mut log, 100);
    let (second, third) = (other_key(dir.path(), "2.key"), other_key(dir.path(), "3.key"));
    log.rotate_key(second).unwrap();
    fill(&mut log, 5);
    log.rotate_key(third.clone()).unwrap();
    while log.wal.used_bytes() <= BUDGET / 8 * 7 {
        fill(&mut log, 3);
    }
    assert!(log.wal.shed().unwrap());
    let (records, damaged) = read_all(&log);
    assert!(damaged.is_empty());
    let headers: Vec<_> = records
        .iter()
        .map(|(_, record)| SealedHeader::parse(record).unwrap())
        .collect();
    let at = |kind| headers.iter().position(|header| header.kind == kind).unwrap();
    let gap = at(RecordKind::Gap);
    assert!(gap < at(RecordKind::HandOver));
    assert_eq!(headers[gap].key, third.public_key().id());
    // In the order of the log, and each by itself: what it takes to follow is in the gap.
    for trusted in [first, third.public_key()] {
        let opener = Opener::verifying(trust(trusted));
        opener.open(&records[gap].1).unwrap();
    }
    let opener = Opener::verifying(trust(first));
    for (offset, record) in &records {
        let opened = opener.open(record);
        assert!(opened.is_ok(), "{offset}: {:?}", opened.err());
    }
    let stranger = other_key(dir.path(), "stranger.key").public_key();
    let opener = Opener::verifying(trust(stranger));
    assert!(records.iter().all(|(_, record)| opener.open(record).is_err()));
    // Of another agent nothing is learned from it.
    let elsewhere = Opener::verifying(TrustMap::new().allow("other", first));
    assert!(elsewhere.open(&records[gap].1).is_err());

    drop(log);
    let report = verify_with(dir.path(), trust(first));
    assert!(report.is_clean(), "{report}");
}
