//! What a bus does not take: each with its own reason, counter and log line, and without disturbing anyone else.

#![cfg(feature = "bus")]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

mod common;
#[path = "common/peer.rs"]
mod peer;
#[path = "common/bus.rs"]
mod site;

use std::time::Duration;

use amoskys_core::{Class, Open as _, Payload, RecordSink as _, RecordSource as _};
use amoskys_transport::bus::{
    BusOptions, ConnectOptions, ConnectionError, PublishError, Publisher, PublisherOptions, RefuseReason,
    SubscribeOptions, Subscription,
};
use amoskys_transport::identity::Role;
use amoskys_transport::{Log, LogOptions, Opener, Sealer};
use bytes::Bytes;
use peer::{ACK, BATCH, Peer, SUBSCRIBE, WELCOME, Witness};
use site::{Agent, Running, Site, assert_clean, carry, connect_options, take, uri};

/// A site with a bus, a witness of what it says, an honest agent, and an agent `a` that misbehaves.
struct Stage {
    site: Site,
    bus: Running,
    witness: Witness,
    honest: Agent,
    /// Seals for agent `a`, with the key the bus trusts.
    sealer: Sealer,
    _log: Log,
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
        site.know("honest");
        let bus = Running::new(change(site.bus_options()));
        let honest = Agent::open(&site.path("honest"), "honest");
        let log = Agent::open(&site.path("a"), "a").log;
        let sealer = Log::open(
            site.path("sealer"),
            LogOptions::new()
                .agent("a")
                .key_file(site.path("a/keys/agent.key")),
        );
        Self {
            site,
            bus,
            witness,
            honest,
            sealer: sealer.unwrap().sealer,
            _log: log,
            _guards: guards,
        }
    }

    fn seal(&mut self, from: u64) -> Bytes {
        common::seal(&mut self.sealer, Class::Telemetry, from, 4, 200)
    }

    /// A client that has said hello as agent `a`.
    async fn agent(&self) -> Peer {
        let mut peer = self.peer().await;
        assert_eq!(peer.hello(1, 1, "a").await.0, WELCOME);
        peer
    }

    async fn peer(&self) -> Peer {
        let tls = self.site.client_tls(Role::Agent, "a");
        Peer::connect(self.bus.address, tls).await.unwrap()
    }

    /// The bus has counted and logged one refusal, and serves the honest agent.
    async fn settle(mut self, reason: RefuseReason) {
        let name = reason.as_str();
        for _ in 0..200 {
            if self.witness.refused(name) > 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(self.witness.refused(name), 1, "{name}");
        assert!(self.witness.logged(name), "{name}");
        self.honest.collect(10);
        self.honest.send(&self.site, &self.bus).await.unwrap();
        let report = self.bus.stop().await;
        assert!(report.ledger.unbalanced().is_empty());
        assert_eq!(report.ledger.accounts["bus/honest"].delivered, 40);
        assert_clean(&self.site, "bus");
    }
}

fn code(reason: RefuseReason) -> u64 {
    RefuseReason::ALL
        .iter()
        .position(|known| *known == reason)
        .unwrap() as u64
}

/// What a publisher with these TLS settings is told.
async fn told(stage: &Stage, tls: std::sync::Arc<rustls::ClientConfig>) -> ConnectionError {
    let options = PublisherOptions::new(connect_options(stage.bus.address, tls));
    let agent = Agent::open(&stage.site.path("told"), "a");
    let mut publisher = Publisher::for_log(&agent.log, options);
    let result = tokio::time::timeout(Duration::from_secs(10), publisher.carry(&agent.feed(0))).await;
    match result.unwrap().unwrap_err() {
        PublishError::Connection(error) => error,
        error => panic!("{error}"),
    }
}

fn reason(error: &ConnectionError) -> RefuseReason {
    match error {
        ConnectionError::Refused { reason, .. } => *reason,
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority() {
    let stage = Stage::new();
    let tls = Site::new().client_tls_with(Some(uri(Role::Agent, "a")), false, &stage.site);
    assert_eq!(reason(&told(&stage, tls).await), RefuseReason::UnknownAuthority);
    stage.settle(RefuseReason::UnknownAuthority).await;
}

#[tokio::test]
async fn an_expired_certificate() {
    let stage = Stage::new();
    let tls = stage
        .site
        .client_tls_with(Some(uri(Role::Agent, "a")), true, &stage.site);
    assert_eq!(reason(&told(&stage, tls).await), RefuseReason::CertificateExpired);
    stage.settle(RefuseReason::CertificateExpired).await;
}

#[tokio::test]
async fn no_certificate() {
    let stage = Stage::new();
    let tls = stage.site.client_tls_without_certificate();
    assert_eq!(reason(&told(&stage, tls).await), RefuseReason::NoCertificate);
    stage.settle(RefuseReason::NoCertificate).await;
}

#[tokio::test]
async fn a_certificate_that_names_nobody() {
    let stage = Stage::new();
    let tls = stage.site.client_tls_with(None, false, &stage.site);
    assert_eq!(reason(&told(&stage, tls).await), RefuseReason::Identity);
    stage.settle(RefuseReason::Identity).await;
}

#[tokio::test]
async fn the_wrong_name() {
    let stage = Stage::new();
    let tls = stage.site.client_tls(Role::Agent, "honest");
    assert_eq!(reason(&told(&stage, tls).await), RefuseReason::AgentMismatch);
    stage.settle(RefuseReason::AgentMismatch).await;
}

#[tokio::test]
async fn an_unknown_agent() {
    let stage = Stage::new();
    let tls = stage.site.client_tls(Role::Agent, "stranger");
    let mut peer = Peer::connect(stage.bus.address, tls).await.unwrap();
    assert_eq!(peer.hello(1, 1, "stranger").await.0, peer::REFUSE);
    drop(peer);
    stage.settle(RefuseReason::UnknownAgent).await;
}

#[tokio::test]
async fn an_agent_that_wants_to_read_more_than_alerts() {
    let stage = Stage::new();
    let connect = stage.site.connect(&stage.bus, Role::Agent, "a");
    let options = SubscribeOptions::new(connect).classes([Class::Alert, Class::Telemetry]);
    Subscription::new(options).next_records().await.unwrap_err();
    stage.settle(RefuseReason::Role).await;
}

#[tokio::test]
async fn another_version_of_the_protocol() {
    let stage = Stage::new();
    let mut peer = stage.peer().await;
    assert_eq!(peer.hello(2, 1, "a").await.0, peer::REFUSE);
    drop(peer);
    stage.settle(RefuseReason::Version).await;
}

#[tokio::test]
async fn a_record_signed_with_the_wrong_key() {
    let stage = Stage::new();
    let mut other = Log::open(stage.site.path("other"), LogOptions::new().agent("a")).unwrap();
    let record = common::seal(&mut other.sealer, Class::Telemetry, 0, 4, 100);
    let mut peer = stage.agent().await;
    peer.send(BATCH, &record).await;
    assert_eq!(peer.refusal().await.0, code(RefuseReason::UnknownKey));
    stage.settle(RefuseReason::UnknownKey).await;
}

#[tokio::test]
async fn a_record_of_another_agent() {
    let mut stage = Stage::new();
    let record = common::seal(&mut stage.honest.log.sealer, Class::Bulk, 900, 4, 100);
    let mut peer = stage.agent().await;
    peer.send(BATCH, &record).await;
    assert_eq!(peer.refusal().await.0, code(RefuseReason::WrongStream));
    // It was sealed, and goes nowhere.
    stage.honest = {
        let Stage { site, .. } = &stage;
        let path = site.path("honest");
        let fresh = site.path("elsewhere");
        drop(std::mem::replace(
            &mut stage.honest,
            Agent::open(&fresh, "honest"),
        ));
        Agent::open(&path, "honest")
    };
    stage.settle(RefuseReason::WrongStream).await;
}

#[tokio::test]
async fn an_altered_byte_of_the_header_and_of_the_payload() {
    for (place, expected) in [(60, RefuseReason::Signature), (usize::MAX, RefuseReason::Payload)] {
        let mut stage = Stage::new();
        let mut record = stage.seal(0).to_vec();
        let place = place.min(record.len() - 1);
        record[place] ^= 1;
        let mut peer = stage.agent().await;
        peer.send(BATCH, &record).await;
        assert_eq!(peer.refusal().await.0, code(expected));
        stage.settle(expected).await;
    }
}

#[tokio::test]
async fn something_that_is_no_record() {
    let stage = Stage::new();
    let mut peer = stage.agent().await;
    peer.send(BATCH, b"hello").await;
    assert_eq!(peer.refusal().await.0, code(RefuseReason::Malformed));
    stage.settle(RefuseReason::Malformed).await;
}

#[tokio::test]
async fn a_record_before_its_time_and_the_bus_says_what_it_expects() {
    let mut stage = Stage::new();
    let (first, _skipped, third) = (stage.seal(0), stage.seal(4), stage.seal(8));
    let mut peer = stage.agent().await;
    peer.send(BATCH, &first).await;
    peer.send(BATCH, &third).await;
    assert_eq!(peer.refusal().await, (code(RefuseReason::Ahead), Some(4)));
    stage.settle(RefuseReason::Ahead).await;
}

#[tokio::test]
async fn another_record_of_the_same_number() {
    let mut stage = Stage::new();
    let first = stage.seal(0);
    let mut again = Sealer::new(
        "a",
        stage.sealer.epoch(),
        std::sync::Arc::new(stage.site.signer("a")),
    );
    let other = common::seal(&mut again, Class::Telemetry, 500, 4, 200);
    let mut peer = stage.agent().await;
    peer.send(BATCH, &first).await;
    peer.send(BATCH, &other).await;
    assert_eq!(peer.refusal().await, (code(RefuseReason::Fork), Some(4)));
    // The first of them stays.
    let records = take(&mut stage.site.subscription(&stage.bus), 3).await;
    assert!(records.iter().any(|(_, record)| *record == first));
    stage.settle(RefuseReason::Fork).await;
}

#[tokio::test]
async fn a_repeated_record_is_acknowledged_counted_and_not_stored() {
    let mut stage = Stage::new();
    let records = [stage.seal(0), stage.seal(4)];
    let mut peer = stage.agent().await;
    for record in records.iter().chain(&records).chain(&records[..1]) {
        peer.send(BATCH, record).await;
    }
    let mut acks = 0;
    // All of it is acknowledged: what may be sent grows by all that was.
    let total: usize = 5 * records[0].len();
    loop {
        let (kind, body) = peer.receive().await.unwrap();
        assert_eq!(kind, ACK);
        acks += 1;
        let Some(peer::Field::Number(credit)) = peer::fields(&body).remove(&2) else {
            panic!("no credit")
        };
        if credit >= (8 << 20) + total as u64 {
            break;
        }
        assert!(acks < 5);
    }
    drop(peer);
    let report = stage.bus.stop().await;
    let account = &report.ledger.accounts["bus/a"];
    assert_eq!(
        (account.received, account.delivered, account.dropped_total()),
        (20, 8, 12)
    );
    assert!(account.is_balanced());
    assert_clean(&stage.site, "bus");
}

#[tokio::test]
async fn a_record_so_old_that_it_is_forgotten() {
    let mut stage = Stage::new();
    let records: Vec<_> = (0..70).map(|n| stage.seal(4 * n)).collect();
    let mut peer = stage.agent().await;
    for record in &records {
        peer.send(BATCH, record).await;
    }
    peer.send(BATCH, &records[0]).await;
    assert_eq!(peer.refusal().await, (code(RefuseReason::Behind), Some(280)));
    // Who plays back what he has recorded is written down.
    let mut subscription = stage.site.subscription(&stage.bus);
    let mut is_written = false;
    while !is_written {
        is_written = take(&mut subscription, 1).await.iter().any(|(_, record)| {
            let events = Opener::unchecked().open(record).unwrap().events;
            events.iter().any(|event| {
                matches!(&event.payload, Payload::Audit(entry)
                    if entry.action == "connection.refused" && entry.reason.starts_with("behind: "))
            })
        });
    }
    stage.settle(RefuseReason::Behind).await;
}

#[tokio::test]
async fn what_is_no_frame() {
    let header = |len: u32, kind: u8| [&len.to_le_bytes()[..], &[kind]].concat();
    // Unknown, empty, too large for a first frame; and too large for any.
    for bytes in [header(1, 99), header(0, 1), header(65 << 10, 1)] {
        let stage = Stage::new();
        let mut peer = stage.peer().await;
        peer.send_raw(&bytes).await;
        assert_eq!(peer.refusal().await.0, code(RefuseReason::Protocol));
        stage.settle(RefuseReason::Protocol).await;
    }
    for (kind, body) in [(SUBSCRIBE, &b""[..]), (BATCH, b"")] {
        let stage = Stage::new();
        let mut peer = stage.agent().await;
        match body {
            b"" if kind == BATCH => peer.send_raw(&header(41 << 20, BATCH)).await,
            body => peer.send(kind, body).await,
        }
        assert_eq!(peer.refusal().await.0, code(RefuseReason::Protocol));
        stage.settle(RefuseReason::Protocol).await;
    }
}

#[tokio::test]
async fn who_says_nothing() {
    let stage = Stage::with(|options| options.idle_timeout(Duration::from_millis(100)));
    let peer = stage.agent().await;
    assert_eq!(peer.refusal().await.0, code(RefuseReason::Idle));
    stage.settle(RefuseReason::Idle).await;
}

#[tokio::test]
async fn one_connection_too_many() {
    let stage = Stage::with(|options| options.max_connections(1));
    let peer = stage.agent().await;
    let tls = stage.site.client_tls(Role::Agent, "a");
    // Either the handshake fails, or what follows.
    if let Ok(mut second) = Peer::connect(stage.bus.address, tls).await {
        assert!(second.receive().await.is_err());
    }
    drop(peer);
    tokio::time::sleep(Duration::from_millis(100)).await;
    stage.settle(RefuseReason::Busy).await;
}

#[tokio::test]
async fn a_bus_that_is_none_or_of_another_authority_or_name_is_not_trusted() {
    // Lines of a thread that nobody listens to would be taken for of no interest to the others.
    let _listening = tracing::subscriber::set_default(Witness::default());
    let mut site = Site::new();
    site.know("a");
    let agent_as_bus = Running::new(site.bus_options_with(site.server_tls(Role::Agent, "b")));
    let mut agent = Agent::open(&site.path("a"), "a");
    agent.collect(3);
    let other = Site::new();
    let tls = site.client_tls(Role::Agent, "a");
    let address = format!("localhost:{}", agent_as_bus.address.port());
    let cases = [
        ConnectOptions::new(address.clone(), tls.clone()),
        ConnectOptions::new(
            address.clone(),
            site.client_tls_with(Some(uri(Role::Agent, "a")), false, &other),
        ),
        ConnectOptions::new(address, tls).server_name("elsewhere.example"),
    ];
    for options in cases {
        let mut publisher = Publisher::for_log(&agent.log, PublisherOptions::new(options));
        let error = publisher.carry(&agent.feed(0)).await.unwrap_err();
        assert!(
            matches!(error, PublishError::Connection(ConnectionError::Untrusted { .. })),
            "{error:?}"
        );
    }
    let nowhere = ConnectOptions::new("localhost", site.client_tls(Role::Agent, "a"));
    let mut publisher = Publisher::for_log(&agent.log, PublisherOptions::new(nowhere));
    let error = carry(&mut publisher, &agent.feed(0)).await.unwrap_err();
    assert!(matches!(
        error,
        PublishError::Connection(ConnectionError::Address { .. })
    ));
    agent_as_bus.stop().await;
}
