//! A site for tests: an authority, a bus, agents and subscribers, on real sockets and in real directories.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use amoskys_core::{Class, Offset, RecordFeed, RecordSink, RecordSource, Remedy, Shutdown, Wal};
use amoskys_transport::bus::{
    Bus, BusError, BusOptions, BusReport, ConnectOptions, PublishError, Publisher, PublisherOptions,
    SubscribeOptions, Subscription,
};
use amoskys_transport::identity::{Identity, Role};
use amoskys_transport::{FileSigner, Log, LogOptions, PublicKey, Signer as _, TrustMap, WalOptions};
use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::task::JoinHandle;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Certificates of one authority, and a directory for everything.
pub(crate) struct Site {
    ca: CertifiedIssuer<'static, KeyPair>,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) trust: TrustMap,
}

impl Site {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self {
            ca: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap(),
            dir: tempfile::tempdir().unwrap(),
            trust: TrustMap::new(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.ca.der().to_vec())).unwrap();
        roots
    }

    fn certificate(
        &self,
        uri: Option<String>,
        valid: Option<(i32, i32)>,
    ) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let mut params =
            CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        if let Some(uri) = uri {
            params
                .subject_alt_names
                .push(SanType::URI(uri.as_str().try_into().unwrap()));
        }
        if let Some((from, to)) = valid {
            params.not_before = rcgen::date_time_ymd(from, 1, 1);
            params.not_after = rcgen::date_time_ymd(to, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.ca).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        (vec![certificate.der().clone()], key)
    }

    pub(crate) fn server_tls(&self, role: Role, name: &str) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()), provider.clone()).build();
        let (chain, key) = self.certificate(Some(uri(role, name)), None);
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier.unwrap())
            .with_single_cert(chain, key);
        Arc::new(config.unwrap())
    }

    pub(crate) fn client_tls(&self, role: Role, name: &str) -> Arc<ClientConfig> {
        self.client_tls_with(Some(uri(role, name)), false, self)
    }

    /// A client that trusts `trusted`, with a certificate of this authority.
    pub(crate) fn client_tls_with(
        &self,
        uri: Option<String>,
        expired: bool,
        trusted: &Self,
    ) -> Arc<ClientConfig> {
        self.client_tls_between(uri, expired.then_some((2020, 2021)), trusted)
    }

    /// A client whose certificate is valid from the beginning of a year to that of another.
    pub(crate) fn client_tls_between(
        &self,
        uri: Option<String>,
        valid: Option<(i32, i32)>,
        trusted: &Self,
    ) -> Arc<ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (chain, key) = self.certificate(uri, valid);
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(trusted.roots())
            .with_client_auth_cert(chain, key);
        Arc::new(config.unwrap())
    }

    pub(crate) fn client_tls_without_certificate(&self) -> Arc<ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        Arc::new(config)
    }

    /// Signs as an agent does.
    pub(crate) fn signer(&self, agent: &str) -> FileSigner {
        FileSigner::open(self.path(agent).join("keys/agent.key")).unwrap()
    }

    /// The key others know an agent by.
    pub(crate) fn signer_of(&self, agent: &str) -> PublicKey {
        self.signer(agent).public_key()
    }

    /// The signing key of an agent, drawn if there is none, and trusted by buses opened later.
    pub(crate) fn know(&mut self, agent: &str) -> PublicKey {
        let dir = self.path(agent).join("keys");
        std::fs::create_dir_all(&dir).unwrap();
        let key = FileSigner::open_or_create(dir.join("agent.key"))
            .unwrap()
            .public_key();
        self.trust.insert(agent.into(), key);
        key
    }

    pub(crate) fn bus_options(&self) -> BusOptions {
        self.bus_options_with(self.server_tls(Role::Bus, "bus"))
    }

    pub(crate) fn bus_options_with(&self, tls: Arc<ServerConfig>) -> BusOptions {
        let wal = WalOptions::new().budget_bytes(64 << 20).segment_bytes(64 << 10);
        BusOptions::new(self.path("bus"), tls, self.trust.clone())
            .listen(SocketAddr::from(([127, 0, 0, 1], 0)))
            .log(LogOptions::new().wal(wal))
    }

    pub(crate) fn bus(&self) -> Running {
        Running::new(self.bus_options())
    }

    pub(crate) fn connect(&self, bus: &Running, role: Role, name: &str) -> ConnectOptions {
        connect_options(bus.address, self.client_tls(role, name))
    }

    pub(crate) fn subscription(&self, bus: &Running) -> Subscription {
        Subscription::new(SubscribeOptions::new(self.connect(
            bus,
            Role::Analyzer,
            "analyzer",
        )))
    }
}

pub(crate) fn connect_options(address: SocketAddr, tls: Arc<ClientConfig>) -> ConnectOptions {
    ConnectOptions::new(format!("localhost:{}", address.port()), tls)
        .retry(Duration::from_millis(10), Duration::from_millis(100))
}

pub(crate) fn uri(role: Role, name: &str) -> String {
    Identity {
        role,
        name: name.into(),
    }
    .to_uri()
}

/// A bus that is being served.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) bus: Arc<Bus>,
    shutdown: Shutdown,
    task: JoinHandle<Result<BusReport, BusError>>,
}

impl Running {
    pub(crate) fn new(options: BusOptions) -> Self {
        let bus = Arc::new(Bus::open(options).unwrap());
        let shutdown = Shutdown::new();
        let (served, stop) = (bus.clone(), shutdown.clone());
        Self {
            address: bus.local_addr(),
            task: tokio::spawn(async move { served.serve(stop).await }),
            bus,
            shutdown,
        }
    }

    pub(crate) async fn stop(self) -> BusReport {
        self.shutdown.trigger();
        let report = tokio::time::timeout(PATIENCE, self.task)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        drop(self.bus);
        report
    }
}

/// An agent: its log, and what it has not sent yet.
pub(crate) struct Agent {
    pub(crate) name: String,
    pub(crate) log: Log,
    pub(crate) sealed: Vec<Bytes>,
    next: u64,
}

impl Agent {
    pub(crate) fn open(dir: &Path, name: &str) -> Self {
        let wal = WalOptions::new().budget_bytes(16 << 20).segment_bytes(16 << 10);
        Self {
            name: name.to_owned(),
            log: Log::open(dir, LogOptions::new().agent(name).wal(wal)).unwrap(),
            sealed: Vec::new(),
            next: 0,
        }
    }

    /// Puts batches into the log, every fifth of them alerts, and waits until they are durable.
    pub(crate) fn collect(&mut self, batches: u64) {
        let mut last = None;
        for batch in 0..batches {
            let class = if batch % 5 == 4 {
                Class::Alert
            } else {
                Class::Telemetry
            };
            let record = crate::common::seal(&mut self.log.sealer, class, self.next, 4, 200);
            self.next += 4;
            self.sealed.push(record.clone());
            last = Some(self.log.wal.append(record).unwrap());
        }
        if let Some(last) = last {
            self.log.wal.wait_durable(last).unwrap();
        }
    }

    pub(crate) fn numbered_from(mut self, next: u64) -> Self {
        self.next = next;
        self
    }

    pub(crate) fn feed(&self, acknowledged: u64) -> RecordFeed {
        let feed = RecordFeed::new(self.log.wal.clone(), Offset(acknowledged));
        feed.end(self.log.wal.durable());
        feed
    }

    /// A feed that goes on until it is ended.
    pub(crate) fn feed_open(&self) -> RecordFeed {
        RecordFeed::new(self.log.wal.clone(), Offset(0))
    }

    pub(crate) fn publisher(&self, site: &Site, bus: &Running) -> Publisher {
        Publisher::for_log(
            &self.log,
            PublisherOptions::new(site.connect(bus, Role::Agent, &self.name)),
        )
    }

    /// Sends all that is in the log.
    pub(crate) async fn send(&self, site: &Site, bus: &Running) -> Result<(), PublishError> {
        let feed = self.feed(0);
        let sent = carry(&mut self.publisher(site, bus), &feed).await;
        if sent.is_ok() {
            assert_eq!(feed.acknowledged(), self.log.wal.durable());
        }
        sent
    }
}

/// The log of a bus is whole, and everything in it is signed by who may sign it.
#[track_caller]
pub(crate) fn assert_clean(site: &Site, dir: &str) {
    let path = site.path(dir);
    let own = PublicKey::parse(&std::fs::read(path.join("keys/agent.pub")).unwrap()).unwrap();
    let trust = site.trust.clone().allow(dir, own);
    let report = amoskys_transport::verify::Verifier::new(path)
        .trust(trust)
        .run()
        .unwrap();
    assert!(report.is_clean(), "{report}");
}

/// Carries until it is done or cannot be.
pub(crate) async fn carry(publisher: &mut Publisher, feed: &RecordFeed) -> Result<(), PublishError> {
    let carrying = async {
        loop {
            match publisher.carry(feed).await {
                Ok(()) => return Ok(()),
                Err(error) => match publisher.remedy(&error) {
                    Remedy::RetryAfter(pause) => tokio::time::sleep(pause).await,
                    _ => return Err(error),
                },
            }
        }
    };
    tokio::time::timeout(PATIENCE, carrying).await.expect("in time")
}

/// Reads `count` records.
pub(crate) async fn take(source: &mut Subscription, count: usize) -> Vec<(Offset, Bytes)> {
    let mut taken = Vec::new();
    let reading = async {
        while taken.len() < count {
            match source.next_records().await {
                Ok(Some(records)) => taken.extend(records),
                Ok(None) => break,
                Err(error) => match source.remedy(&error) {
                    Remedy::RetryAfter(pause) => tokio::time::sleep(pause).await,
                    _ => panic!("{error}"),
                },
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("in time");
    taken
}

/// Everything that agents sent, in the order of the bus's log.
pub(crate) fn of_agents(records: Vec<(Offset, Bytes)>) -> Vec<Bytes> {
    let mut out = Vec::new();
    for (_, record) in records {
        let header = amoskys_transport::SealedHeader::parse(&record).unwrap();
        if header.stream.agent.as_str() != "bus" {
            out.push(record);
        }
    }
    out
}
