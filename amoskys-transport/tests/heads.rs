//! A bus signs where all streams have come to: what was cut off a log, its anchor included, or rewritten by who has the
//! agent's key, shows in comparison.

#![cfg(feature = "bus")]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

mod common;
#[path = "common/bus.rs"]
mod site;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use amoskys_core::{Class, Open as _, Wal as _};
use amoskys_transport::verify::{Anchors, FindingKind, Report, SeenVerdict, Verifier, VerifyError};
use amoskys_transport::{
    FileLogKeys, FileSigner, Log, LogOptions, Opener, PublicKey, SealedHeader, Sealer, Signer as _,
};
use common::{copy_dir, kinds};
use site::{Agent, Running, Site};

fn public(dir: &Path) -> PublicKey {
    PublicKey::parse(&std::fs::read(dir.join("keys/agent.pub")).unwrap()).unwrap()
}

/// Compares an agent's log with what a bus, or a file, says of it.
fn compare(log: &Path, bus: &Path, key: PublicKey) -> Report {
    let seen = Anchors::new(bus).key(key).read().unwrap();
    Verifier::new(log).anchors(seen).run().unwrap()
}

fn verdicts(report: &Report) -> Vec<SeenVerdict> {
    let streams = &report.seen.as_ref().unwrap().streams;
    streams.iter().map(|stream| stream.verdict).collect()
}

#[tokio::test]
async fn a_log_that_was_cut_off_or_rewritten_differs_from_what_the_bus_has_seen() {
    let mut site = Site::new();
    site.know("a");
    site.know("b");
    let bus = Running::new(site.bus_options().heads_interval(Duration::from_millis(300)));
    let other = {
        let mut other = Agent::open(&site.path("b"), "b");
        other.collect(3);
        other.send(&site, &bus).await.unwrap();
        other
    };
    let mut agent = Agent::open(&site.path("a"), "a");
    agent.collect(10);
    agent.send(&site, &bus).await.unwrap();
    let early = site.path("early");
    drop(agent);
    copy_dir(&site.path("a"), &early);
    // The bus has said how far it is; then more comes.
    tokio::time::sleep(Duration::from_millis(700)).await;
    let mut agent = Agent::open(&site.path("a"), "a").numbered_from(40);
    agent.collect(10);
    agent.send(&site, &bus).await.unwrap();
    // An agent behind the bus is nothing wrong, and one that the bus has not all of neither.
    bus.stop().await;
    agent.collect(2);
    drop((agent, other));
    let (log, bus) = (site.path("a"), site.path("bus"));
    let key = public(&bus);
    let report = compare(&log, &bus, key);
    assert!(report.is_clean(), "{report}");
    assert_eq!(verdicts(&report), [SeenVerdict::Agrees; 2]);
    let streams = &report.seen.as_ref().unwrap().streams;
    assert!(
        streams
            .iter()
            .all(|stream| stream.heads >= 2 && stream.agree == stream.heads),
        "{report}"
    );

    // The log as it was before, with the anchor of then: by itself it is whole.
    common::assert_clean(&early);
    let report = compare(&early, &bus, key);
    assert_eq!(kinds(&report), [FindingKind::Truncated], "{report}");
    assert_eq!(verdicts(&report), [SeenVerdict::CutOff; 2]);
    assert!(report.to_string().contains("cut off"), "{report}");
    // From there on it is written anew, with the right key.
    let mut again = Agent::open(&early, "a").numbered_from(5_000);
    again.collect(14);
    drop(again);
    common::assert_clean(&early);
    let report = compare(&early, &bus, key);
    assert_eq!(kinds(&report), [FindingKind::Rewritten], "{report}");
    assert_eq!(verdicts(&report), [SeenVerdict::Rewritten; 2]);

    // An exported file says the same; one that was changed says nothing.
    let file = site.path("heads");
    let exported = Anchors::new(&bus).key(key).export(&file).unwrap();
    assert!(exported >= 2);
    assert_eq!(compare(&log, &file, key).seen.unwrap().streams.len(), 2);
    assert_eq!(kinds(&compare(&early, &file, key)), [FindingKind::Rewritten]);
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 5;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let seen = compare(&log, &file, key).seen.unwrap();
    assert_eq!((seen.not_believed, seen.records), (1, exported - 1));
    let stranger = FileSigner::create(site.path("stranger.key"))
        .unwrap()
        .public_key();
    let report = compare(&early, &bus, stranger);
    assert!(report.seen.unwrap().streams.is_empty());
    assert!(Anchors::new(&file).read().is_err(), "whom to believe is not said");

    // The log of the bus itself, against what was exported of it.
    let export = site.path("heads2");
    Anchors::new(&bus).key(key).export(&export).unwrap();
    let trust = site.trust.clone().allow("bus", key);
    let verify_bus = |dir: &Path| {
        let seen = Anchors::new(&export).key(key).read().unwrap();
        Verifier::new(dir)
            .trust(trust.clone())
            .anchors(seen)
            .run()
            .unwrap()
    };
    let report = verify_bus(&bus);
    assert!(report.is_clean(), "{report}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["schema"], "amoskys.verify/1");
    assert_eq!(json["seen"]["streams"][0]["verdict"], "agrees");
}

#[tokio::test]
async fn nothing_is_said_when_nothing_has_moved_and_records_are_bounded() {
    let mut site = Site::new();
    let signer = Arc::new(FileSigner::create(site.path("many.key")).unwrap());
    for n in 0..700 {
        site.trust
            .insert(format!("agent-{n}").as_str().into(), signer.public_key());
    }
    // A bus that has streams of many agents.
    let mut log = Log::open(site.path("bus"), LogOptions::new().agent("bus")).unwrap();
    for n in 0..700 {
        let agent = format!("agent-{n}");
        let mut sealer = Sealer::new(agent.as_str(), log.epoch(), signer.clone());
        let record = common::seal(&mut sealer, Class::Telemetry, 0, 1, 20);
        log.wal.append(record).unwrap();
    }
    log.wal.wait_durable(amoskys_core::Offset(699)).unwrap();
    drop(log);
    let bus = Running::new(site.bus_options().heads_interval(Duration::from_millis(250)));
    tokio::time::sleep(Duration::from_millis(1500)).await;
    bus.stop().await;
    log = Log::open(site.path("bus"), LogOptions::new().agent("bus")).unwrap();
    let mut sizes = Vec::new();
    for (_, record) in common::read_all(&log).0 {
        let header = SealedHeader::parse(&record).unwrap();
        if header.stream.agent.as_str() == "bus" {
            let opened = Opener::unchecked().open(&record).unwrap();
            if opened.source.as_str() == "bus/heads" {
                sizes.push(opened.events.len());
            }
        }
    }
    // All once; the bus's own stream has moved when it stops, but nothing else.
    assert_eq!(sizes[0], 512);
    assert!(sizes[1] >= 188 && sizes.len() == 2, "{sizes:?}");
}

#[tokio::test]
async fn a_class_that_is_missing_as_a_whole_was_cut_off_and_an_encrypted_log_of_a_bus_bears_witness_too() {
    let mut site = Site::new();
    site.know("a");
    let keys = FileLogKeys::create(site.path("bus.log-key")).unwrap();
    let options = LogOptions::new().log_key_file(site.path("bus.log-key"));
    let bus = Running::new(
        site.bus_options()
            .log(options)
            .heads_interval(Duration::from_secs(60)),
    );
    let mut agent = Agent::open(&site.path("a"), "a");
    agent.collect(3);
    drop(agent);
    let early = site.path("early");
    copy_dir(&site.path("a"), &early);
    // The fifth batch is an alert.
    let mut agent = Agent::open(&site.path("a"), "a").numbered_from(12);
    agent.collect(5);
    agent.send(&site, &bus).await.unwrap();
    bus.stop().await;
    drop(agent);

    let (log, bus) = (site.path("a"), site.path("bus"));
    let key = public(&bus);
    let sealed = Anchors::new(&bus).key(key);
    // Without its key, the log of the bus says nothing, and that is said.
    assert!(matches!(
        sealed.read(),
        Err(VerifyError::Locked { records: 1.., .. })
    ));
    assert!(sealed.export(site.path("nothing")).is_err());
    let other = FileLogKeys::create(site.path("other.log-key")).unwrap();
    let with_other = sealed.clone().log_keys(Arc::new(other));
    assert!(matches!(with_other.read(), Err(VerifyError::Locked { .. })));
    let opened = sealed.log_keys(Arc::new(keys));
    let compare = |log: &Path| {
        let seen = opened.read().unwrap();
        Verifier::new(log).anchors(seen).run().unwrap()
    };
    let report = compare(&log);
    assert!(report.is_clean(), "{report}");
    assert_eq!(verdicts(&report), [SeenVerdict::Agrees; 2]);
    // Of the alerts it has nothing, but of their epoch.
    let report = compare(&early);
    assert_eq!(verdicts(&report), [SeenVerdict::CutOff; 2], "{report}");
    assert_eq!(kinds(&report), [FindingKind::Truncated], "{report}");
    assert!(report.to_string().contains("nothing of this"), "{report}");
    // Of a log that was begun anew it has not even that.
    let anew = site.path("anew");
    std::fs::create_dir_all(anew.join("keys")).unwrap();
    for file in ["agent.key", "agent.pub"] {
        std::fs::copy(log.join("keys").join(file), anew.join("keys").join(file)).unwrap();
    }
    let mut agent = Agent::open(&anew, "a");
    agent.collect(1);
    drop(agent);
    assert_eq!(verdicts(&compare(&anew)), [SeenVerdict::Absent; 2]);
    // What is exported can be read by anybody.
    let file = site.path("heads");
    assert!(opened.export(&file).unwrap() > 0);
    let seen = Anchors::new(&file).key(key).read().unwrap();
    let report = Verifier::new(&early).anchors(seen).run().unwrap();
    assert_eq!(verdicts(&report), [SeenVerdict::CutOff; 2], "{report}");
}
