//! The encrypted log of a bus of the first version, and what it has signed about streams: readable for ever.
#![cfg(feature = "bus")]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

mod common;
#[path = "common/bus.rs"]
mod site;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use amoskys_core::Open;
use amoskys_transport::verify::{Anchors, Report, SeenVerdict, Verifier};
use amoskys_transport::{
    FileLogKeys, Log, LogOptions, Opener, PublicKey, RecordKind, SealedHeader, TrustMap, WalOptions,
};
use common::{copy_dir, fill, read_all, segments};
use site::{Agent, Running, Site};

const FIXTURE: &str = "tests/fixtures/v1-bus";
/// The signing key of the bus and the key of its log, which are no secrets.
const SEED: [u8; 32] = [7; 32];
const LOG_KEY: &str = "0909090909090909090909090909090909090909090909090909090909090909\n";

fn put(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// The bus's options for its log, with the keys put where they belong.
fn options(dir: &Path) -> LogOptions {
    put(&dir.join("keys/agent.key"), &SEED);
    put(&dir.join("log.keys"), LOG_KEY.as_bytes());
    let wal = WalOptions::new().budget_bytes(1 << 20).segment_bytes(4 << 10);
    LogOptions::new()
        .agent("bus")
        .wal(wal)
        .log_key_file(dir.join("log.keys"))
}

/// Writes the fixture of today's format. It is in the repository; run this only when a new version gets its own.
#[tokio::test]
#[ignore = "writes into the source tree"]
async fn write_bus_fixture() {
    let mut site = Site::new();
    site.know("a");
    let dir = site.path("bus");
    let bus = Running::new(
        site.bus_options()
            .log(options(&dir))
            .heads_interval(Duration::from_millis(300)),
    );
    let mut agent = Agent::open(&site.path("a"), "a");
    for _ in 0..3 {
        agent.collect(5);
        agent.send(&site, &bus).await.unwrap();
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    bus.stop().await;
    let (keys, own) = (open_keys(&dir), public(&dir));
    let target = PathBuf::from(FIXTURE);
    let _ = fs::remove_dir_all(&target);
    fs::create_dir_all(target.join("log")).unwrap();
    fs::create_dir_all(target.join("keys")).unwrap();
    let heads = Anchors::new(&dir).key(own).log_keys(keys);
    heads.export(target.join("heads")).unwrap();
    site.trust
        .clone()
        .allow("bus", own)
        .save(target.join("trust"))
        .unwrap();
    let files = segments(&dir)
        .into_iter()
        .chain(["log/anchor", "keys/agent.pub", "keys/agent.epoch"].map(|file| dir.join(file)));
    for file in files {
        fs::copy(&file, target.join(file.strip_prefix(&dir).unwrap())).unwrap();
    }
}

fn open_keys(dir: &Path) -> Arc<FileLogKeys> {
    Arc::new(FileLogKeys::open(dir.join("log.keys")).unwrap())
}

fn public(dir: &Path) -> PublicKey {
    PublicKey::parse(&fs::read(dir.join("keys/agent.pub")).unwrap()).unwrap()
}

fn assert_whole(report: &Report) {
    assert!(report.is_clean() && report.locked_records == 0, "{report}");
    let seen = report.seen.as_ref().unwrap();
    assert_eq!((seen.not_believed, seen.unreadable), (0, 0), "{report}");
    // Telemetry and alerts of the agent; of the bus's own streams, what was there when it signed.
    let of_agent = seen
        .streams
        .iter()
        .filter(|stream| stream.stream.starts_with("a/"));
    let of_agent: Vec<_> = of_agent.map(|stream| (stream.next, stream.heads)).collect();
    assert_eq!(of_agent, [(12, 3), (48, 3)], "{report}");
    let agree = |verdict| matches!(verdict, SeenVerdict::Agrees);
    assert!(
        seen.streams.iter().all(|stream| agree(stream.verdict)),
        "{report}"
    );
}

#[test]
fn the_encrypted_log_of_a_bus_and_what_it_has_signed_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    copy_dir(Path::new(FIXTURE), dir);
    let options = options(dir);
    let (keys, own) = (open_keys(dir), public(dir));
    let trust = TrustMap::load(dir.join("trust")).unwrap();
    assert_eq!(trust.iter().count(), 2);
    for anchors in [
        Anchors::new(dir).key(own).log_keys(keys.clone()),
        Anchors::new(dir.join("heads")).key(own),
    ] {
        let seen = anchors.read().unwrap();
        let verifier = Verifier::new(dir).trust(trust.clone()).log_keys(keys.clone());
        assert_whole(&verifier.anchors(seen).run().unwrap());
    }
    let mut log = Log::open(dir, options.trust(trust.clone())).unwrap();
    let opener = Opener::verifying(trust.clone());
    let (records, damaged) = read_all(&log);
    assert!(damaged.is_empty());
    let (mut events, mut ledgers) = (Vec::new(), 0);
    for (_, record) in &records {
        assert_eq!(SealedHeader::parse(record).unwrap().kind, RecordKind::Batch);
        let opened = opener.open(record).unwrap();
        ledgers += usize::from(opened.ledger.is_some());
        if opened.stream.agent.as_str() == "a" {
            let class = opened.stream.class;
            events.extend(opened.events.into_iter().map(|event| (event, class)));
        }
    }
    assert!(ledgers > 0);
    assert_eq!(events.len(), 60);
    for (event, class) in events {
        assert_eq!(event, common::event(event.id.ordinal, class, 200));
    }
    fill(&mut log, 10);
    drop(log);
    let report = Verifier::new(dir).trust(trust).log_keys(keys).run().unwrap();
    assert!(report.is_clean() && report.locked_records == 0, "{report}");
}
