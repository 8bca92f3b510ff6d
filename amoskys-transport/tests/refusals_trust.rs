//! Whose key, certificate, clock or protocol a bus does not believe: each with a reason, a counter, a log line and an audit
//! entry of its own; and that it follows an agent from one key to the next.

#![cfg(feature = "bus")]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

mod common;
#[path = "common/peer.rs"]
mod peer;
#[path = "common/bus.rs"]
mod site;

use std::sync::Arc;
use std::time::Duration;

use amoskys_core::event::AuditEntry;
use amoskys_core::{Class, Open as _, Payload, RecordFeed, RecordSink as _, Timestamp, Wal as _};
use amoskys_transport::bus::{
    BusOptions, ConnectionError, PublishError, Publisher, PublisherOptions, RefuseReason, SubscribeOptions,
    Subscription,
};
use amoskys_transport::identity::Role;
use amoskys_transport::{
    FileSigner, Log, Opener, PublicKey, RecordKind, SealedHeader, Sealer, Signer as _, TrustMap,
};
use bytes::Bytes;
use peer::{ACK, BATCH, Peer, WELCOME, Witness};
use site::{Agent, PATIENCE, Running, Site, carry, connect_options, of_agents, take, uri};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

struct Stage {
    site: Site,
    bus: Running,
    witness: Witness,
    _guards: (
        metrics::LocalRecorderGuard<'static>,
        tracing::subscriber::DefaultGuard,
    ),
}

impl Stage {
    fn new() -> Self {
        Self::with(|options| options)
    }

    fn with(change: impl FnOnce(BusOptions) -> BusOptions) -> Self {
        let witness = Witness::default();
        // A recorder must outlive its guard; a test's may as well live for ever.
        let recorder = Box::leak(Box::new(witness.clone()));
        let guards = (
            metrics::set_default_local_recorder(recorder),
            tracing::subscriber::set_default(witness.clone()),
        );
        let mut site = Site::new();
        site.know("a");
        Self {
            bus: Running::new(change(site.bus_options())),
            site,
            witness,
            _guards: guards,
        }
    }

    fn agent(&self) -> Agent {
        Agent::open(&self.site.path("a"), "a")
    }

    fn key(&self) -> PublicKey {
        self.site.signer_of("a")
    }

    /// Puts a new key beside the agent's.
    fn put_next(&self) -> PublicKey {
        let path = FileSigner::next_path(&self.site.path("a/keys/agent.key"));
        FileSigner::create(path).unwrap().public_key()
    }

    async fn peer(&self) -> Peer {
        let tls = self.site.client_tls(Role::Agent, "a");
        let mut peer = Peer::connect(self.bus.address, tls).await.unwrap();
        assert_eq!(peer.hello(1, 1, "a").await.0, WELCOME);
        peer
    }

    /// Stops the bus and begins another on its directory, with the trust map as it is in the site now.
    async fn restart(self) -> Self {
        let Self {
            site,
            bus,
            witness,
            _guards,
        } = self;
        bus.stop().await;
        let bus = site.bus();
        Self {
            site,
            bus,
            witness,
            _guards,
        }
    }

    /// The refusal was counted, logged and written down.
    async fn refused(&self, reason: RefuseReason) {
        let name = reason.as_str();
        for _ in 0..500 {
            if self.witness.refused(name) > 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(self.witness.refused(name) > 0, "{name}");
        assert!(self.witness.logged(name), "{name}");
        let is_it = |entry: &AuditEntry| {
            entry.action == "connection.refused" && entry.reason.starts_with(&format!("{name}: "))
        };
        self.wrote(is_it).await;
    }

    /// Waits until the bus has written down such an entry.
    async fn wrote(&self, is_it: impl Fn(&AuditEntry) -> bool) -> AuditEntry {
        let connect = self.site.connect(&self.bus, Role::Analyzer, "analyzer");
        let options = SubscribeOptions::new(connect).classes([Class::Audit]);
        let mut entries = Subscription::new(options);
        loop {
            for (_, record) in take(&mut entries, 1).await {
                let opened = Opener::unchecked().open(&record).unwrap();
                for event in opened.events {
                    match event.payload {
                        Payload::Audit(entry) if is_it(&entry) => return *entry,
                        _ => {}
                    }
                }
            }
        }
    }
}

fn code(reason: RefuseReason) -> u64 {
    RefuseReason::ALL
        .iter()
        .position(|known| *known == reason)
        .unwrap() as u64
}

fn rotate(agent: &mut Agent, stage: &Stage) -> PublicKey {
    let new = stage.put_next();
    let path = FileSigner::next_path(&stage.site.path("a/keys/agent.key"));
    agent
        .log
        .rotate_key(Arc::new(FileSigner::open(path).unwrap()))
        .unwrap();
    assert_eq!(stage.key(), new);
    new
}

#[tokio::test]
async fn a_hand_over_is_followed_by_bus_and_subscriber_also_after_restarts() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    agent.collect(5);
    agent.send(&stage.site, &stage.bus).await.unwrap();
    let old = stage.key();
    let new = rotate(&mut agent, &stage);
    agent.collect(5);
    agent.send(&stage.site, &stage.bus).await.unwrap();
    let entry = stage
        .wrote(|entry| entry.action == "key.handed_over" && entry.actor == "a")
        .await;
    assert!(entry.reason.contains("ed25519 "), "{}", entry.reason);

    // Who asks for alerts only gets the hand-over too.
    let connect = stage.site.connect(&stage.bus, Role::Analyzer, "analyzer");
    let options = SubscribeOptions::new(connect)
        .classes([Class::Alert])
        .agents(["a"]);
    let records = of_agents(take(&mut Subscription::new(options), 3).await);
    let kinds: Vec<_> = records
        .iter()
        .map(|record| SealedHeader::parse(record).unwrap().kind)
        .collect();
    assert_eq!(
        kinds,
        [RecordKind::Batch, RecordKind::HandOver, RecordKind::Batch]
    );
    let opener = Opener::verifying(TrustMap::new().allow("a", old));
    records
        .iter()
        .for_each(|record| drop(opener.open(record).unwrap()));

    let stage = stage.restart().await;
    agent.collect(5);
    agent.send(&stage.site, &stage.bus).await.unwrap();
    let path = stage.site.path("bus");
    stage.bus.stop().await;
    let own = PublicKey::parse(&std::fs::read(path.join("keys/agent.pub")).unwrap()).unwrap();
    for trust in [stage.site.trust.clone(), TrustMap::new().retire("a", old)] {
        let verifier = amoskys_transport::verify::Verifier::new(&path).trust(trust.allow("bus", own));
        let report = verifier.run().unwrap();
        assert!(report.is_clean(), "{report}");
        assert_eq!(report.hand_overs[0].new, new.id().to_string());
    }
}

/// The agent was away while its key changed, and has only the new one: also the gap in its backlog is signed by it.
#[tokio::test]
async fn a_backlog_of_the_old_key_is_taken_from_an_agent_that_has_the_new_one() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    agent.collect(200);
    agent.log.wal.trim(agent.log.wal.durable()).unwrap();
    agent.collect(5);
    rotate(&mut agent, &stage);
    agent.collect(5);
    agent.send(&stage.site, &stage.bus).await.unwrap();
    // And another bus, which has nothing of it, after the hand-over was deleted in the agent's log.
    agent.collect(400);
    agent.send(&stage.site, &stage.bus).await.unwrap();
    agent.log.wal.trim(agent.log.wal.durable()).unwrap();
    drop(agent);
    let Stage { site, bus, .. } = stage;
    bus.stop().await;
    std::fs::remove_dir_all(site.path("bus")).unwrap();
    let bus = site.bus();
    let mut agent = Agent::open(&site.path("a"), "a").numbered_from(10_000);
    assert!(agent.log.wal.first().0 > 210);
    agent.collect(2);
    let feed = RecordFeed::new(agent.log.wal.clone(), agent.log.wal.first());
    feed.end(agent.log.wal.durable());
    carry(&mut agent.publisher(&site, &bus), &feed).await.unwrap();
    bus.stop().await;
}

#[tokio::test]
async fn a_key_that_was_handed_over_signs_nothing_new() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    agent.collect(3);
    let old = Arc::new(stage.site.signer("a"));
    let (epoch, head) = (agent.log.sealer.epoch(), agent.log.sealer.head(Class::Telemetry));
    rotate(&mut agent, &stage);
    agent.send(&stage.site, &stage.bus).await.unwrap();
    let mut thief = Sealer::new("a", epoch, old.clone()).resume(Class::Telemetry, head);
    let record = common::seal(&mut thief, Class::Telemetry, 900, 4, 100);
    let mut peer = stage.peer().await;
    // What is there may come again, whoever signed it.
    peer.send(BATCH, &agent.sealed[0]).await;
    assert_eq!(peer.receive().await.unwrap().0, ACK);
    peer.send(BATCH, &record).await;
    assert_eq!(peer.refusal().await.0, code(RefuseReason::KeyRetired));
    stage.refused(RefuseReason::KeyRetired).await;
    // Nor can it hand over once more.
    let other = Arc::new(FileSigner::create(stage.site.path("other.key")).unwrap());
    let mut thief = Sealer::new("a", epoch, old).resume(Class::Audit, agent.log.sealer.head(Class::Audit));
    let record = thief.hand_over(other.clone()).unwrap().record;
    let mut peer = stage.peer().await;
    peer.send(BATCH, &record).await;
    assert_eq!(peer.refusal().await.0, code(RefuseReason::KeyRetired));
    let record = common::seal(&mut thief, Class::Audit, 900, 4, 100);
    let mut peer = stage.peer().await;
    peer.send(BATCH, &record).await;
    assert_eq!(peer.refusal().await.0, code(RefuseReason::UnknownKey));
    agent.collect(3);
    agent.send(&stage.site, &stage.bus).await.unwrap();
    stage.bus.stop().await;
}

#[tokio::test]
async fn a_retired_key_signs_nothing_new_and_a_removed_one_takes_its_successors_along() {
    let mut stage = Stage::new();
    let mut agent = stage.agent();
    agent.collect(3);
    agent.send(&stage.site, &stage.bus).await.unwrap();
    let old = stage.key();
    stage.site.trust = TrustMap::new().retire("a", old);
    let stage = stage.restart().await;
    agent.collect(1);
    let mut peer = stage.peer().await;
    peer.send(BATCH, &agent.sealed[2]).await;
    assert_eq!(peer.receive().await.unwrap().0, ACK);
    peer.send(BATCH, &agent.sealed[3]).await;
    assert_eq!(peer.refusal().await.0, code(RefuseReason::KeyRetired));
    stage.refused(RefuseReason::KeyRetired).await;

    // Trusted again it hands over; then its line is enough for its successor, retired too.
    let mut stage = stage;
    stage.site.trust = TrustMap::new().allow("a", old);
    let mut stage = stage.restart().await;
    rotate(&mut agent, &stage);
    agent.send(&stage.site, &stage.bus).await.unwrap();
    stage.site.trust = TrustMap::new().retire("a", old);
    let mut stage = stage.restart().await;
    agent.collect(1);
    agent.send(&stage.site, &stage.bus).await.unwrap();
    let stranger = FileSigner::create(stage.site.path("stranger.key"))
        .unwrap()
        .public_key();
    stage.site.trust = TrustMap::new().allow("a", stranger);
    let stage = stage.restart().await;
    agent.collect(1);
    let mut peer = stage.peer().await;
    peer.send(BATCH, agent.sealed.last().unwrap()).await;
    assert_eq!(peer.refusal().await.0, code(RefuseReason::UnknownKey));
    stage.refused(RefuseReason::UnknownKey).await;
    stage.bus.stop().await;
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_yet() {
    let stage = Stage::new();
    let tls = stage
        .site
        .client_tls_between(Some(uri(Role::Agent, "a")), Some((2090, 2091)), &stage.site);
    let agent = stage.agent();
    let options = PublisherOptions::new(connect_options(stage.bus.address, tls));
    let result = Publisher::for_log(&agent.log, options)
        .carry(&agent.feed(0))
        .await;
    assert!(matches!(
        result,
        Err(PublishError::Connection(ConnectionError::Refused { .. }))
    ));
    stage.refused(RefuseReason::CertificateNotYetValid).await;
    stage.bus.stop().await;
}

/// The bus learns of it only by the alert of a client that goes away; which is worth an entry, as somebody may pose as a bus.
#[tokio::test]
async fn a_bus_of_another_name() {
    let stage = Stage::new();
    let connect = connect_options(stage.bus.address, stage.site.client_tls(Role::Agent, "a"));
    let connect = connect.server_name("elsewhere.example");
    let agent = Agent::open(&stage.site.path("lost"), "a");
    let mut publisher = Publisher::for_log(&agent.log, PublisherOptions::new(connect));
    let error = tokio::time::timeout(PATIENCE, publisher.carry(&agent.feed(0)))
        .await
        .unwrap()
        .unwrap_err();
    let untrusted = matches!(
        &error,
        PublishError::Connection(ConnectionError::Untrusted { .. })
    );
    assert!(untrusted, "{error:?}");
    stage.refused(RefuseReason::Distrusted).await;
    stage.bus.stop().await;
}

#[tokio::test]
async fn a_client_of_an_older_tls() {
    let stage = Stage::new();
    // A ClientHello of TLS 1.2 (RFC 5246, section 7.4.1.2): no extension says that it knows 1.3.
    let suites = [0xc0, 0x2b, 0xc0, 0x2f];
    let extensions = [
        0x00, 0x0a, 0x00, 0x04, 0x00, 0x02, 0x00, 0x17, // the group secp256r1
        0x00, 0x0b, 0x00, 0x02, 0x01, 0x00, // uncompressed points
        0x00, 0x0d, 0x00, 0x04, 0x00, 0x02, 0x04, 0x03, // ECDSA with SHA-256
    ];
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 4]);
    body.extend(suites);
    body.extend([1, 0, 0, extensions.len() as u8]);
    body.extend(extensions);
    let mut hello = vec![22, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8];
    hello.extend(body);
    let mut tcp = tokio::net::TcpStream::connect(stage.bus.address).await.unwrap();
    tcp.write_all(&hello).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, tcp.read_to_end(&mut answer))
        .await
        .unwrap();
    // A fatal alert: protocol_version.
    assert_eq!((answer[0], &answer[5..7]), (21, &[2, 70][..]));
    stage.refused(RefuseReason::Downgrade).await;
    stage.bus.stop().await;
}

#[tokio::test]
async fn an_older_version_of_the_protocol() {
    let stage = Stage::new();
    let tls = stage.site.client_tls(Role::Agent, "a");
    let mut peer = Peer::connect(stage.bus.address, tls).await.unwrap();
    assert_eq!(peer.hello(0, 1, "a").await.0, peer::REFUSE);
    stage.refused(RefuseReason::Version).await;
    stage.bus.stop().await;
}

#[tokio::test]
async fn a_record_of_another_stream() {
    let mut stage = Stage::new();
    stage.site.know("b");
    let mut other = Agent::open(&stage.site.path("b"), "b");
    other.collect(1);
    let mut peer = stage.peer().await;
    peer.send(BATCH, &other.sealed[0]).await;
    assert_eq!(peer.refusal().await.0, code(RefuseReason::WrongStream));
    stage.refused(RefuseReason::WrongStream).await;
    // Put into another stream of its own agent, its signature does not fit any more.
    let mut agent = stage.agent();
    agent.collect(1);
    let mut record = agent.sealed[0].to_vec();
    record[7] = 2;
    let mut peer = stage.peer().await;
    peer.send(BATCH, &record).await;
    assert_eq!(peer.refusal().await.0, code(RefuseReason::Signature));
    stage.bus.stop().await;
}

/// Sets the time at which a record was sealed, and signs it again: as a wrong clock would have had it.
fn sealed_at(record: &Bytes, signer: &FileSigner, time: Timestamp) -> Bytes {
    let len = u32::from_le_bytes(record[8..12].try_into().unwrap()) as usize;
    let mut bytes = record.to_vec();
    bytes[80..88].copy_from_slice(&time.nanos().to_le_bytes());
    let digest = ring::digest::digest(&ring::digest::SHA256, &bytes[..len]);
    let message = [&b"amoskys sealed batch\n"[..], digest.as_ref()].concat();
    bytes[len..len + 64].copy_from_slice(&signer.sign(&message).unwrap());
    bytes.into()
}

const HOUR: i64 = 3_600_000_000_000;

#[tokio::test]
async fn a_clock_far_ahead_loses_no_event() {
    let stage = Stage::with(|options| options.clock_ahead(Duration::from_secs(2 * 3600)));
    let mut agent = stage.agent();
    let signer = stage.site.signer("a");
    let now = Timestamp::now().nanos();
    // An hour ahead and years behind are taken.
    let mut records = Vec::new();
    for (from, ahead) in [(0, HOUR), (4, -70_000 * HOUR), (8, 3 * HOUR), (12, 3 * HOUR)] {
        let record = common::seal(&mut agent.log.sealer, Class::Telemetry, from, 4, 100);
        // Of the chain, the last digest has to be that of the changed record.
        let record = sealed_at(&record, &signer, Timestamp::from_nanos(now + ahead));
        let digest = SealedHeader::parse(&record).unwrap().digest;
        let sealer = Sealer::new("a", agent.log.sealer.epoch(), Arc::new(stage.site.signer("a")));
        let next = amoskys_core::Seq(from + 4);
        agent.log.sealer = sealer.resume(Class::Telemetry, amoskys_transport::Head { next, digest });
        let offset = agent.log.wal.append(record.clone()).unwrap();
        agent.log.wal.wait_durable(offset).unwrap();
        records.push(record);
    }
    let mut peer = stage.peer().await;
    for record in &records[..2] {
        peer.send(BATCH, record).await;
    }
    peer.send(BATCH, &records[2]).await;
    assert_eq!(peer.refusal().await, (code(RefuseReason::Clock), Some(8)));
    stage.refused(RefuseReason::Clock).await;

    // Now that the clock is right, the agent finds out, and seals again what the bus did not take.
    let error = agent.send(&stage.site, &stage.bus).await.unwrap_err();
    assert!(matches!(error, PublishError::Fork { .. }), "{error}");
    drop(agent);
    let agent = Agent::open(&stage.site.path("a"), "a");
    agent.send(&stage.site, &stage.bus).await.unwrap();
    let report = stage.bus.stop().await;
    // Sixteen events, and the entry that says what happened.
    assert_eq!(report.ledger.accounts["bus/a"].delivered, 17);
    let mut log = Log::open(
        stage.site.path("bus"),
        amoskys_transport::LogOptions::new().agent("bus"),
    )
    .unwrap();
    let mut ordinals = Vec::new();
    for (_, record) in common::read_all(&log).0 {
        let opened = log.opener.open(&record).unwrap();
        if opened.stream.agent.as_str() == "a" && opened.stream.class == Class::Telemetry {
            ordinals.extend(opened.events.iter().map(|event| event.id.ordinal));
        }
    }
    assert_eq!(ordinals, (0..16).collect::<Vec<_>>());
    let _ = &mut log;
}
