//! Two logs of one agent that went different ways: a copied directory, a restored backup, a deleted log.

#![cfg(feature = "bus")]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

mod common;
#[path = "common/bus.rs"]
mod site;

use std::collections::BTreeMap;
use std::path::Path;

use amoskys_core::{Class, Epoch, EventId, Open as _, Payload, Shutdown};
use amoskys_transport::bus::{PublishError, Publisher, PublisherOptions};
use amoskys_transport::identity::Role;
use amoskys_transport::{Opener, SealedHeader};
use bytes::Bytes;
use common::copy_dir;
use site::{Agent, Running, Site, assert_clean, carry, take};

/// All there is in the bus's log.
async fn everything(site: &Site, bus: &Running) -> Vec<Bytes> {
    let mut subscription = site.subscription(bus);
    let end = bus.bus.durable();
    let mut records = Vec::new();
    loop {
        for (offset, record) in take(&mut subscription, 1).await {
            records.push(record);
            if offset.next() >= end {
                return records;
            }
        }
    }
}

/// How often each event of the test is there, and the epochs of agent `a` in order.
fn events(records: &[Bytes]) -> (BTreeMap<EventId, u32>, Vec<Epoch>) {
    let (mut ids, mut epochs) = (BTreeMap::new(), Vec::new());
    for record in records {
        let opened = Opener::unchecked().open(record).unwrap();
        if opened.stream.agent.as_str() == "a" {
            epochs.push(opened.stream.epoch);
        }
        for event in opened.events.iter().filter(|event| event.id.origin == 7) {
            *ids.entry(event.id).or_default() += 1;
        }
    }
    epochs.dedup();
    (ids, epochs)
}

/// What audit entries say, as `ACTOR ACTION`.
fn audits(records: &[Bytes]) -> Vec<String> {
    let mut out = Vec::new();
    for record in records {
        let opened = Opener::unchecked().open(record).unwrap();
        for event in opened.events {
            if let Payload::Audit(entry) = event.payload {
                let by = opened.stream.agent.as_str();
                out.push(format!("{by} {}", entry.action));
            }
        }
    }
    out
}

#[track_caller]
fn assert_once(ids: &BTreeMap<EventId, u32>, ranges: &[std::ops::Range<u64>]) {
    let expected = ranges.iter().cloned().flatten().map(|ordinal| {
        let id = EventId { origin: 7, ordinal };
        (id, 1)
    });
    let expected: BTreeMap<_, _> = expected.collect();
    assert_eq!(ids, &expected);
}

/// Sends; if the log has to be opened again, does that and sends again.
async fn send_and_follow(site: &Site, bus: &Running, dir: &Path, agent: Agent) -> Agent {
    let shutdown = Shutdown::new();
    let options =
        PublisherOptions::new(site.connect(bus, Role::Agent, &agent.name)).on_fork(shutdown.clone());
    let error = carry(&mut Publisher::for_log(&agent.log, options), &agent.feed(0))
        .await
        .unwrap_err();
    assert!(matches!(error, PublishError::Fork { .. }), "{error}");
    assert!(shutdown.is_triggered());
    let name = agent.name.clone();
    drop(agent);
    let agent = Agent::open(dir, &name);
    agent.send(site, bus).await.unwrap();
    agent
}

#[tokio::test]
async fn of_two_copies_of_an_agent_both_go_on_and_nothing_is_lost() {
    let mut site = Site::new();
    site.know("a");
    let bus = site.bus();
    let mut agent = Agent::open(&site.path("a"), "a");
    agent.collect(20);
    agent.send(&site, &bus).await.unwrap();
    drop(agent);
    let copy_path = site.path("copy");
    copy_dir(&site.path("a"), &copy_path);

    let mut first = Agent::open(&site.path("a"), "a").numbered_from(1000);
    let mut copy = Agent::open(&copy_path, "a").numbered_from(2000);
    let epoch = first.log.epoch();
    assert_eq!(copy.log.epoch(), epoch);
    first.collect(10);
    first.send(&site, &bus).await.unwrap();
    copy.collect(12);
    let copy = send_and_follow(&site, &bus, &copy_path, copy).await;
    assert_eq!(copy.log.epoch().counter, epoch.counter + 1);
    // Both go on, as if nothing had been.
    first.collect(5);
    first.send(&site, &bus).await.unwrap();
    let mut copy = copy.numbered_from(3000);
    copy.collect(5);
    copy.send(&site, &bus).await.unwrap();

    let records = everything(&site, &bus).await;
    let (ids, epochs) = events(&records);
    assert_once(&ids, &[0..80, 1000..1060, 2000..2048, 3000..3020]);
    assert_eq!(epochs.len(), 4, "{epochs:?}");
    let audits = audits(&records);
    assert!(audits.contains(&"a agent.new_epoch".to_owned()), "{audits:?}");
    assert!(audits.contains(&"bus agent.new_epoch".to_owned()), "{audits:?}");
    drop((first, copy));
    bus.stop().await;
    assert_clean(&site, "bus");
    for dir in ["a", "copy"] {
        common::assert_clean(&site.path(dir));
    }
}

#[tokio::test]
async fn a_restored_backup_goes_on_in_a_new_epoch() {
    let mut site = Site::new();
    site.know("a");
    let bus = site.bus();
    let mut agent = Agent::open(&site.path("a"), "a");
    agent.collect(20);
    agent.send(&site, &bus).await.unwrap();
    // Not sent when the backup is made.
    agent.collect(3);
    drop(agent);
    let backup = site.path("backup");
    copy_dir(&site.path("a"), &backup);
    let mut agent = Agent::open(&site.path("a"), "a").numbered_from(1000);
    agent.collect(30);
    agent.send(&site, &bus).await.unwrap();
    drop(agent);

    // Without a new record, with fewer and with more than there were.
    for (at, more) in [0, 4, 60].into_iter().enumerate() {
        let dir = site.path(&format!("restored-{more}"));
        copy_dir(&backup, &dir);
        let from = 2000 + 1000 * at as u64;
        let mut restored = Agent::open(&dir, "a").numbered_from(from);
        restored.collect(more);
        drop(send_and_follow(&site, &bus, &dir, restored).await);
        common::assert_clean(&dir);
    }
    let records = everything(&site, &bus).await;
    let (ids, _) = events(&records);
    assert_once(&ids, &[0..92, 1000..1120, 3000..3016, 4000..4240]);
    bus.stop().await;
    assert_clean(&site, "bus");
}

#[tokio::test]
async fn a_deleted_log_is_followed_by_a_new_epoch_that_is_written_down() {
    let mut site = Site::new();
    site.know("a");
    let bus = site.bus();
    let mut agent = Agent::open(&site.path("a"), "a");
    agent.collect(20);
    agent.send(&site, &bus).await.unwrap();
    drop(agent);
    std::fs::remove_dir_all(site.path("a").join("log")).unwrap();
    let mut agent = Agent::open(&site.path("a"), "a").numbered_from(1000);
    agent.collect(20);
    agent.send(&site, &bus).await.unwrap();
    let records = everything(&site, &bus).await;
    let (ids, epochs) = events(&records);
    assert_once(&ids, &[0..80, 1000..1080]);
    assert_eq!(
        epochs.iter().map(|epoch| epoch.counter).collect::<Vec<_>>(),
        [0, 1]
    );
    let audits = audits(&records);
    assert_eq!(
        audits
            .iter()
            .filter(|entry| *entry == "bus agent.new_epoch")
            .count(),
        1
    );
    bus.stop().await;
}

#[tokio::test]
async fn interrupted_anywhere_a_new_epoch_is_finished_and_nothing_is_sealed_twice() {
    let mut site = Site::new();
    site.know("a");
    let bus = site.bus();
    let mut agent = Agent::open(&site.path("a"), "a");
    agent.collect(10);
    agent.send(&site, &bus).await.unwrap();
    drop(agent);
    let copy = site.path("copy");
    copy_dir(&site.path("a"), &copy);
    let mut agent = Agent::open(&site.path("a"), "a").numbered_from(1000);
    agent.collect(3);
    agent.send(&site, &bus).await.unwrap();
    let mut forked = Agent::open(&copy, "a").numbered_from(2000);
    forked.collect(12);
    let error = forked.send(&site, &bus).await.unwrap_err();
    assert!(matches!(error, PublishError::Fork { .. }), "{error}");
    drop(forked);
    bus.stop().await;

    let whole = site.path("whole");
    copy_dir(&copy, &whole);
    let log = Agent::open(&whole, "a").log;
    let new = log.epoch();
    let (expected, damaged) = common::read_all(&log);
    assert!(damaged.is_empty());
    let of_new = |record: &Bytes| SealedHeader::parse(record).unwrap().stream.epoch == new;
    let old = expected.iter().filter(|(_, record)| !of_new(record)).count();
    assert_eq!(expected.len() - old, 13);
    drop(log);

    let mut note = std::fs::read_to_string(copy.join("log/fork")).unwrap();
    note.truncate(note.trim_end().rfind('\n').unwrap() + 1);
    note.push_str(&format!("new {new}\n"));
    note.push_str(&format!("{:08x}\n", crc32fast::hash(note.as_bytes())));
    for kept in 0..=13 {
        // As a crash would leave it: some of the new records are there.
        let dir = site.path(&format!("cut-{kept}"));
        copy_dir(&copy, &dir);
        std::fs::write(dir.join("log/fork"), &note).unwrap();
        {
            use amoskys_core::Wal as _;
            let wal = amoskys_transport::SledWal::open(
                dir.join("log"),
                amoskys_transport::WalOptions::new()
                    .budget_bytes(16 << 20)
                    .segment_bytes(16 << 10),
            )
            .unwrap();
            for (_, record) in &expected[old..old + kept] {
                let offset = wal.append(record.clone()).unwrap();
                wal.wait_durable(offset).unwrap();
            }
        }
        let log = Agent::open(&dir, "a").log;
        assert_eq!(log.epoch(), new, "kept {kept}");
        let (found, _) = common::read_all(&log);
        let ids = |records: &[(amoskys_core::Offset, Bytes)]| -> Vec<(Class, u64, Vec<EventId>)> {
            let opened = records
                .iter()
                .map(|(_, record)| Opener::unchecked().open(record).unwrap());
            opened
                .map(|opened| {
                    let ids = opened.events.iter().map(|event| event.id).collect();
                    (opened.stream.class, opened.first.0, ids)
                })
                .collect()
        };
        assert_eq!(ids(&found), ids(&expected), "kept {kept}");
        assert!(!dir.join("log/fork").exists());
        drop(log);
        // Opened once more, nothing happens.
        assert_eq!(
            common::read_all(&Agent::open(&dir, "a").log).0.len(),
            expected.len()
        );
        common::assert_clean(&dir);
    }
}
