//! Certificates, CRLs and the trust map are replaced while a bus and its agents run: who is not believed any more is cut off,
//! who is new is let in, and nobody else notices.

#![cfg(all(feature = "bus", feature = "pki"))]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

mod common;
#[path = "common/peer.rs"]
mod peer;
#[path = "common/bus.rs"]
mod site;

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use amoskys_core::event::AuditEntry;
use amoskys_core::{RecordSink as _, RecordSource as _, Shutdown, Wal as _};
use amoskys_transport::TrustMap;
use amoskys_transport::bus::{
    BusOptions, ConnectOptions, ConnectionError, PublishError, Publisher, PublisherOptions, RefuseReason,
    SubscribeError, SubscribeOptions, Subscription,
};
use amoskys_transport::identity::pki::{Authority, Request};
use amoskys_transport::identity::{
    Credentials, Identity, ReloadError, Reloader, Role, SharedTls, TlsError, TlsFiles, Validity,
};
use peer::Witness;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use site::{Agent, PATIENCE, Running, Site};
use tokio::task::JoinHandle;

const DAY: Duration = Duration::from_secs(86_400);
const AGENTS: [&str; 3] = ["honest", "a", "b"];

/// As `Site`, with certificates in files.
struct Stage {
    site: Site,
    authority: Authority,
    reloader: Reloader,
    bus: Running,
    witness: Witness,
    _guards: (
        metrics::LocalRecorderGuard<'static>,
        tracing::subscriber::DefaultGuard,
    ),
}

impl Stage {
    fn new() -> Self {
        let witness = Witness::default();
        // A recorder must outlive its guard; a test's may as well live for ever.
        let recorder = Box::leak(Box::new(witness.clone()));
        let guards = (
            metrics::set_default_local_recorder(recorder),
            tracing::subscriber::set_default(witness.clone()),
        );
        let mut site = Site::new();
        let authority = Authority::create(3650 * DAY).unwrap();
        let dir = site.path("certs");
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("ca.pem"), authority.certificate_pem()).unwrap();
        for agent in AGENTS {
            site.know(agent);
            install(&dir, &authority, Role::Agent, agent);
        }
        install(&dir, &authority, Role::Bus, "bus");
        install(&dir, &authority, Role::Analyzer, "analyzer");
        site.trust.save(dir.join("trust")).unwrap();
        let reloader = Reloader::open(&Credentials::in_dir(&dir, "bus")).unwrap();
        let options = BusOptions::new(site.path("bus"), reloader.tls(), reloader.trust().clone())
            .listen(SocketAddr::from(([127, 0, 0, 1], 0)));
        Self {
            bus: Running::new(options),
            site,
            authority,
            reloader,
            witness,
            _guards: guards,
        }
    }

    fn dir(&self) -> std::path::PathBuf {
        self.site.path("certs")
    }

    fn trust(&self, agents: &[&str]) {
        let mut trust = TrustMap::new();
        for (agent, keys) in self.site.trust.iter() {
            if agents.contains(&agent.as_str()) {
                keys.iter().for_each(|key| trust.insert(agent.clone(), *key));
            }
        }
        trust.save(self.dir().join("trust")).unwrap();
    }

    fn certificate(&self, name: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.dir().join(format!("{name}.pem"))).unwrap()
    }

    fn revoke(&self, names: &[&str]) {
        let revoked: Vec<_> = names.iter().map(|name| self.certificate(name)).collect();
        let list = self.authority.revoke(&revoked, DAY).unwrap();
        std::fs::write(self.dir().join("crl.pem"), list).unwrap();
    }

    /// An agent that collects and publishes until it is stopped.
    fn live(&self, name: &str) -> Live {
        let tls = SharedTls::load(&TlsFiles::in_dir(self.dir(), name)).unwrap();
        self.live_with(name, &tls)
    }

    fn live_with(&self, name: &str, tls: &SharedTls) -> Live {
        Live::begin(&self.site, self.bus.address, name, tls)
    }

    fn connect(&self, tls: &SharedTls) -> ConnectOptions {
        connect(self.bus.address, tls)
    }

    /// The bus has counted and logged refusals of this kind, and written it down.
    async fn refused(self, reason: RefuseReason, actor: &str) {
        assert!(self.witness.refused(reason.as_str()) > 0);
        assert!(self.witness.logged(reason.as_str()));
        assert!(
            audited(&self, reason, actor).await,
            "{reason} of {actor} is not written down"
        );
        self.bus.stop().await;
    }
}

/// Whether the bus's own stream says so.
async fn audited(stage: &Stage, reason: RefuseReason, actor: &str) -> bool {
    let beginning = format!("{reason}: ");
    wrote(stage, |entry| {
        entry.actor == actor && entry.reason.starts_with(&beginning)
    })
    .await
}

async fn wrote(stage: &Stage, is_it: impl Fn(&AuditEntry) -> bool) -> bool {
    use amoskys_core::{Class, Open as _, Payload};
    let tls = SharedTls::load(&TlsFiles::in_dir(stage.dir(), "analyzer")).unwrap();
    let options = SubscribeOptions::new(stage.connect(&tls)).classes([Class::Audit]);
    let mut subscription = Subscription::new(options);
    let opener = amoskys_transport::Opener::unchecked();
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        let records = tokio::time::timeout(Duration::from_secs(1), subscription.next_records()).await;
        let Ok(Ok(Some(records))) = records else { continue };
        for (_, record) in records {
            for event in opener.open(&record).unwrap().events {
                if let Payload::Audit(entry) = event.payload
                    && is_it(&entry)
                {
                    return true;
                }
            }
        }
    }
    false
}

fn connect(address: SocketAddr, tls: &SharedTls) -> ConnectOptions {
    ConnectOptions::new(format!("localhost:{}", address.port()), tls)
        .retry(Duration::from_millis(10), Duration::from_millis(50))
}

fn install(dir: &Path, authority: &Authority, role: Role, name: &str) {
    install_with(dir, authority, role, name, |request| request);
}

fn install_with(
    dir: &Path,
    authority: &Authority,
    role: Role,
    name: &str,
    change: impl FnOnce(Request) -> Request,
) {
    let identity = Identity {
        role,
        name: name.into(),
    };
    let request = Request::new(identity, DAY).host("localhost").host("127.0.0.1");
    let issued = authority.issue(&change(request)).unwrap();
    let files = TlsFiles::in_dir(dir, name);
    std::fs::write(files.certificate_file(), issued.certificate_pem).unwrap();
    std::fs::write(files.key_file(), issued.key_pem).unwrap();
    std::fs::set_permissions(files.key_file(), Permissions::from_mode(0o600)).unwrap();
}

/// What became of an agent's connections.
#[derive(Default)]
struct Story {
    welcomed: AtomicUsize,
    told: Mutex<Vec<String>>,
    refused: Mutex<Vec<RefuseReason>>,
    untrusted: AtomicUsize,
    delivered: AtomicUsize,
}

struct Live {
    story: Arc<Story>,
    stop: Arc<AtomicBool>,
    /// It collects nothing.
    quiet: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Live {
    fn begin(site: &Site, address: SocketAddr, name: &str, tls: &SharedTls) -> Self {
        let story = Arc::new(Story::default());
        let stop = Arc::new(AtomicBool::new(false));
        let quiet = Arc::new(AtomicBool::new(false));
        let mut agent = Agent::open(&site.path(name), name);
        let seen = story.clone();
        let connect = connect(address, tls).watch(move |failure| match failure {
            None => {
                seen.welcomed.fetch_add(1, Ordering::SeqCst);
            }
            Some(failure) => seen.told.lock().unwrap().push(failure.to_owned()),
        });
        let mut publisher = Publisher::for_log(&agent.log, PublisherOptions::new(connect));
        let feed = agent.feed_open();
        let (seen, ending, silent) = (story.clone(), stop.clone(), quiet.clone());
        let task = tokio::spawn(async move {
            let carrying = async {
                while let Err(error) = publisher.carry(&feed).await {
                    match error {
                        PublishError::Connection(ConnectionError::Refused { reason, .. }) => {
                            seen.refused.lock().unwrap().push(reason);
                        }
                        PublishError::Connection(ConnectionError::Untrusted { .. }) => {
                            seen.untrusted.fetch_add(1, Ordering::SeqCst);
                        }
                        PublishError::Connection(_) => {}
                        error => panic!("{error}"),
                    }
                    tokio::time::sleep(Duration::from_millis(30)).await;
                }
            };
            let collecting = async {
                while !ending.load(Ordering::SeqCst) {
                    if !silent.load(Ordering::SeqCst) {
                        agent.collect(1);
                    }
                    let done = feed.acknowledged().0 as usize;
                    seen.delivered.store(done, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                feed.end(agent.log.wal.durable());
            };
            tokio::join!(carrying, collecting);
        });
        Self {
            story,
            stop,
            quiet,
            task,
        }
    }

    /// Until something more of it has arrived.
    async fn goes_on(&self) {
        let before = self.story.delivered.load(Ordering::SeqCst);
        until("an agent goes on", PATIENCE, || {
            self.story.delivered.load(Ordering::SeqCst) > before + 2
        })
        .await;
    }

    fn was_refused(&self, reason: RefuseReason) -> bool {
        self.story.refused.lock().unwrap().contains(&reason)
    }

    async fn cut_off(&self, reason: RefuseReason) {
        let within = Duration::from_secs(1);
        until(reason.as_str(), within, || self.was_refused(reason)).await;
    }

    /// One connection carried everything.
    async fn undisturbed(mut self) {
        self.goes_on().await;
        self.stop.store(true, Ordering::SeqCst);
        tokio::time::timeout(PATIENCE, &mut self.task)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(*self.story.told.lock().unwrap(), Vec::<String>::new());
        assert_eq!(self.story.welcomed.load(Ordering::SeqCst), 1);
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.task.abort();
    }
}

async fn until(what: &str, within: Duration, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < within, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_agent_taken_out_of_the_trust_map_is_cut_off_and_can_come_back() {
    let stage = Stage::new();
    let (honest, a) = (stage.live("honest"), stage.live("a"));
    honest.goes_on().await;
    a.goes_on().await;
    stage.trust(&["honest", "b"]);
    assert!(stage.reloader.reload().unwrap().trust);
    a.cut_off(RefuseReason::UnknownAgent).await;
    honest.goes_on().await;
    stage.trust(&AGENTS);
    assert!(stage.reloader.reload().unwrap().trust);
    a.goes_on().await;
    honest.undisturbed().await;
    let replaced = |entry: &AuditEntry| {
        entry.action == "trust.replaced"
            && entry.reason.contains("removed: ")
            && entry.reason.ends_with(" of a")
    };
    assert!(wrote(&stage, replaced).await);
    stage.refused(RefuseReason::UnknownAgent, "agent a").await;
}

#[tokio::test]
async fn an_agent_whose_key_is_retired_is_cut_off_though_it_says_nothing() {
    let stage = Stage::new();
    let (honest, a) = (stage.live("honest"), stage.live("a"));
    a.goes_on().await;
    let mut trust = TrustMap::load(stage.dir().join("trust")).unwrap();
    trust.insert("a".into(), stage.site.signer_of("b"));
    stage.reloader.trust().replace(trust.clone());
    a.goes_on().await;
    honest.goes_on().await;
    let mut other = TrustMap::new().allow("a", stage.site.signer_of("b"));
    for (agent, keys) in trust.iter().filter(|(agent, _)| agent.as_str() != "a") {
        keys.iter().for_each(|key| other.insert(agent.clone(), *key));
    }
    // It stays connected, and has nothing to say.
    a.quiet.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(200)).await;
    stage.reloader.trust().replace(other);
    a.cut_off(RefuseReason::KeyRetired).await;
    honest.undisturbed().await;
    stage.refused(RefuseReason::KeyRetired, "agent a").await;
}

#[tokio::test]
async fn a_revoked_certificate_is_cut_off_and_refused_from_then_on() {
    let stage = Stage::new();
    let (honest, a) = (stage.live("honest"), stage.live("a"));
    honest.goes_on().await;
    a.goes_on().await;
    stage.revoke(&["a"]);
    assert!(stage.reloader.reload().unwrap().tls);
    a.cut_off(RefuseReason::CertificateRevoked).await;
    // Told at the handshake, it knows what to do.
    until("refused at the handshake", PATIENCE, || {
        a.story
            .told
            .lock()
            .unwrap()
            .iter()
            .any(|told| told.contains("needs a new one"))
    })
    .await;
    drop(a);
    honest.undisturbed().await;
    assert!(wrote(&stage, |entry| entry.action == "certificates.replaced").await);
    stage.refused(RefuseReason::CertificateRevoked, "agent a").await;
}

#[tokio::test]
async fn clients_leave_a_bus_whose_certificate_is_revoked_and_come_back_for_a_new_one() {
    let stage = Stage::new();
    let files = TlsFiles::in_dir(stage.dir(), "honest");
    let client = Reloader::open_tls(&files).unwrap();
    let honest = stage.live_with("honest", client.tls());
    let analyzer = Reloader::open_tls(&TlsFiles::in_dir(stage.dir(), "analyzer")).unwrap();
    let mut subscription = Subscription::new(SubscribeOptions::new(stage.connect(analyzer.tls())));
    tokio::time::timeout(PATIENCE, subscription.next_records())
        .await
        .unwrap()
        .unwrap();
    honest.goes_on().await;
    // The agents hear of it first.
    stage.revoke(&["bus"]);
    client.reload().unwrap();
    analyzer.reload().unwrap();
    until("the agent leaves", Duration::from_secs(1), || {
        honest.story.untrusted.load(Ordering::SeqCst) > 0
    })
    .await;
    let left = async {
        loop {
            match subscription.next_records().await {
                Err(SubscribeError::Connection(ConnectionError::Untrusted { .. })) => return,
                result => drop(result.unwrap()),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(1), left).await.unwrap();
    install(&stage.dir(), &stage.authority, Role::Bus, "bus");
    stage.reloader.reload().unwrap();
    honest.goes_on().await;
    stage.bus.stop().await;
}

#[tokio::test]
async fn new_certificates_of_both_sides_are_used_for_new_connections_only() {
    let stage = Stage::new();
    let files = TlsFiles::in_dir(stage.dir(), "honest");
    let client = Reloader::open_tls(&files).unwrap();
    let honest = stage.live_with("honest", client.tls());
    honest.goes_on().await;
    let (old_bus, old_agent) = (stage.certificate("bus"), stage.certificate("honest"));
    install(&stage.dir(), &stage.authority, Role::Bus, "bus");
    install(&stage.dir(), &stage.authority, Role::Agent, "honest");
    assert!(stage.reloader.reload().unwrap().tls);
    assert!(client.reload().unwrap().tls);
    assert!(!client.reload().unwrap().tls, "nothing is new");
    honest.goes_on().await;
    assert_ne!(
        (&old_bus, &old_agent),
        (&stage.certificate("bus"), &stage.certificate("honest"))
    );
    assert_eq!(served(&stage, client.tls()).await, stage.certificate("bus"));
    honest.undisturbed().await;
    stage.bus.stop().await;
}

/// What the bus shows who connects now.
async fn served(stage: &Stage, tls: &SharedTls) -> CertificateDer<'static> {
    let tcp = tokio::net::TcpStream::connect(stage.bus.address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(tls.client_config());
    let name = "localhost".try_into().unwrap();
    let connection = connector.connect(name, tcp).await.unwrap();
    connection.get_ref().1.peer_certificates().unwrap()[0].clone()
}

#[tokio::test]
async fn authorities_change_without_a_day_on_which_nobody_is_believed() {
    let stage = Stage::new();
    let dir = stage.dir();
    let next = Authority::create(3650 * DAY).unwrap();
    let both = stage.authority.certificate_pem() + &next.certificate_pem();
    std::fs::write(dir.join("ca.pem"), both).unwrap();
    install(&dir, &next, Role::Agent, "honest");
    stage.reloader.reload().unwrap();
    let (honest, a) = (stage.live("honest"), stage.live("a"));
    honest.goes_on().await;
    a.goes_on().await;
    // The old authority goes; who has a certificate of it goes with it.
    std::fs::write(dir.join("ca.pem"), next.certificate_pem()).unwrap();
    install(&dir, &next, Role::Bus, "bus");
    install(&dir, &next, Role::Analyzer, "analyzer");
    stage.reloader.reload().unwrap();
    a.cut_off(RefuseReason::UnknownAuthority).await;
    drop(a);
    honest.undisturbed().await;
    stage.refused(RefuseReason::UnknownAuthority, "agent a").await;
}

#[tokio::test]
async fn what_cannot_be_used_changes_nothing() {
    let stage = Stage::new();
    let dir = stage.dir();
    let honest = stage.live("honest");
    honest.goes_on().await;
    stage.revoke(&["b"]);
    stage.reloader.reload().unwrap();
    let path = |name: &str| dir.join(name);
    let whole = |name: &str| std::fs::read(path(name)).unwrap();
    let refused = |name: &str, content: &[u8]| {
        let before = whole(name);
        let shown = stage.reloader.tls().server_config();
        let trust = stage.reloader.trust().snapshot();
        std::fs::write(path(name), content).unwrap();
        let error = stage.reloader.reload().expect_err(name);
        assert!(error.to_string().contains(name), "{name}: {error}");
        assert!(
            Arc::ptr_eq(&shown, &stage.reloader.tls().server_config()),
            "{name}"
        );
        assert!(Arc::ptr_eq(&trust, &stage.reloader.trust().snapshot()), "{name}");
        std::fs::write(path(name), before).unwrap();
        error
    };
    for name in ["bus.pem", "bus.key", "ca.pem", "crl.pem", "trust"] {
        let content = whole(name);
        refused(name, &[]);
        for part in [10, content.len() / 3, content.len() / 2, content.len() - 30] {
            refused(name, &content[..part]);
        }
    }
    let error = refused("trust", b"# nobody\n");
    assert!(matches!(error, ReloadError::NobodyTrusted { .. }), "{error}");
    let error = refused("bus.key", &whole("a.key"));
    assert!(
        matches!(error, ReloadError::Tls(TlsError::Mismatch { .. })),
        "{error}"
    );
    // A list that is whole, and of another with the name of the authority.
    let mut forged = whole("crl.pem");
    let at = forged.len() - 60;
    forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
    let error = refused("crl.pem", &forged);
    assert!(matches!(error, ReloadError::Tls(TlsError::Crl { .. })), "{error}");
    std::fs::remove_file(path("crl.pem")).unwrap();
    let error = stage.reloader.reload().unwrap_err();
    assert!(matches!(error, ReloadError::CrlGone { .. }), "{error}");
    stage.revoke(&["b"]);

    // Certificates that are whole, and wrong here.
    let keep = (whole("bus.pem"), whole("bus.key"));
    let now = std::time::SystemTime::now();
    let long_ago = Validity {
        not_before: now - 3 * DAY,
        not_after: now - 2 * DAY,
    };
    install_with(&dir, &stage.authority, Role::Bus, "bus", |request| {
        request.validity(long_ago)
    });
    let error = stage.reloader.reload().unwrap_err();
    assert!(matches!(error, ReloadError::NotValidNow { .. }), "{error}");
    std::fs::write(path("bus.pem"), whole("a.pem")).unwrap();
    std::fs::write(path("bus.key"), whole("a.key")).unwrap();
    let error = stage.reloader.reload().unwrap_err();
    assert!(matches!(error, ReloadError::Identity { .. }), "{error}");
    std::fs::write(path("bus.pem"), keep.0).unwrap();
    std::fs::write(path("bus.key"), keep.1).unwrap();
    stage.reloader.reload().unwrap();
    honest.undisturbed().await;
    stage.bus.stop().await;
}

#[tokio::test]
async fn files_are_watched() {
    let stage = Stage::new();
    let (honest, a) = (stage.live("honest"), stage.live("a"));
    let shutdown = Shutdown::new();
    let (reloader, stop) = (stage.reloader.clone(), shutdown.clone());
    let watching = tokio::spawn(async move { reloader.watch(Duration::from_millis(50), stop).await });
    honest.goes_on().await;
    a.goes_on().await;
    let count = |result: &str| {
        stage
            .witness
            .count(&format!("amoskys_credentials_reloads_total result={result}"))
    };
    // Half a file, then, while it is complained about once, the whole of it.
    let whole = std::fs::read(stage.dir().join("trust")).unwrap();
    std::fs::write(stage.dir().join("trust"), &whole[..whole.len() - 20]).unwrap();
    until("it is complained about", PATIENCE, || count("failed") == 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((count("failed"), count("ok")), (1, 0));
    a.goes_on().await;
    stage.trust(&["honest", "b"]);
    a.cut_off(RefuseReason::UnknownAgent).await;
    assert_eq!((count("failed"), count("ok")), (1, 1));
    honest.undisturbed().await;
    shutdown.trigger();
    tokio::time::timeout(PATIENCE, watching).await.unwrap().unwrap();
    stage.bus.stop().await;
}
