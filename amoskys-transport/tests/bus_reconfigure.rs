//! Changed settings of a bus come into use while it runs: all of them or none, and no connection notices.

#![cfg(all(feature = "bus", feature = "pki", feature = "testing"))]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use amoskys_core::config::Config;
use amoskys_core::{Class, Open as _, Payload, RecordSource as _, Shutdown};
use amoskys_transport::bus::{
    Bus, BusOptions, ConnectOptions, Limits, Rate, ReconfigureError, Reconfigurer, SubscribeOptions,
    Subscription,
};
use amoskys_transport::identity::{Credentials, Reloader, pki};
use amoskys_transport::testing::{Faults, Load, SimulatedAgent};
use amoskys_transport::{FileSigner, LogOptions, Opener, TrustMap};

const PATIENCE: Duration = Duration::from_secs(20);

/// A running bus with its settings in a file, and an agent that goes on sending.
struct Stage {
    dir: tempfile::TempDir,
    bus: Arc<Bus>,
    reconfigurer: Reconfigurer,
}

impl Stage {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certificates = dir.path().join("pki");
        pki::Site::new(&certificates)
            .bus("bus")
            .host("localhost")
            .agent("a")
            .analyzer("analyzer")
            .make()
            .unwrap();
        let stage = |settings: &str| write(dir.path(), settings);
        stage("");
        let config = load(dir.path()).unwrap();
        let files = Credentials::in_dir(&certificates, "bus");
        let credentials = Reloader::open(&files).unwrap();
        let options = BusOptions::new(&config.log.path, credentials.tls(), credentials.trust().clone())
            .listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .limits(Limits::of_settings(&config.bus).unwrap())
            .log(LogOptions::from(&config).key_file(&files.signing_key));
        let bus = Arc::new(Bus::open(options).unwrap());
        Self {
            reconfigurer: Reconfigurer::new(bus.clone(), credentials, config),
            dir,
            bus,
        }
    }

    fn certificates(&self) -> PathBuf {
        self.dir.path().join("pki")
    }

    /// Writes the file anew, and has it taken into use.
    fn change(&self, settings: &str) -> Result<String, ReconfigureError> {
        write(self.dir.path(), settings);
        let done = self.reconfigurer.apply(load(self.dir.path()));
        done.map(|done| done.to_string())
    }

    fn connect(&self, name: &str) -> ConnectOptions {
        let files = Credentials::in_dir(self.certificates(), name);
        let address = format!("localhost:{}", self.bus.local_addr().port());
        ConnectOptions::new(address, files.tls.client_config().unwrap())
    }
}

fn write(dir: &Path, settings: &str) {
    let (certificates, log) = (dir.join("pki"), dir.join("log"));
    let budget = match settings.contains("a=9000") {
        true => "1GiB",
        false => "64MiB",
    };
    let text = format!(
        "log:\n  path: {}\n  budget_bytes: {budget}\nbus:\n  cert_dir: {}\n{settings}",
        log.display(),
        certificates.display()
    );
    std::fs::write(dir.join("bus.yaml"), text).unwrap();
}

fn load(dir: &Path) -> Result<Config, amoskys_core::config::ConfigErrors> {
    let loaded = Config::loader().file(dir.join("bus.yaml")).load();
    loaded.map(|loaded| loaded.config)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_come_into_use_as_a_whole_or_not_at_all() {
    let stage = Stage::new();
    let shutdown = Shutdown::new();
    let serving = {
        let (bus, shutdown) = (stage.bus.clone(), shutdown.clone());
        tokio::spawn(async move { bus.serve(shutdown).await })
    };
    let signer = Arc::new(FileSigner::open(stage.certificates().join("a.sign")).unwrap());
    let mut agent = SimulatedAgent::new("a", signer, stage.connect("a"), 1).unwrap();
    let sending = tokio::spawn(async move {
        let load = Load {
            batch: 2,
            event_bytes: 50,
            interval: Duration::from_millis(10),
            duration: Duration::from_secs(3),
            patience: PATIENCE,
            faults: Faults::default(),
        };
        agent.run(load, |_, _| {}).await.unwrap()
    });
    tokio::time::sleep(Duration::from_millis(300)).await;

    let done = stage
        .change(
            "  agent_rate: 5000\n  agent_rates: a=9000/10000000\n  retention: 7d\n  retain_bytes: 500MiB\n  keep_unread: true\n  max_connections: 50\n",
        )
        .unwrap();
    for part in [
        "bus.agent_rate: 5000 instead of 0",
        "bus.agent_rates: a=9000/10000000 instead of not set",
        "bus.retention: 7d instead of not set",
        "bus.retain_bytes: 500MiB instead of not set",
        "bus.keep_unread: true instead of false",
        "bus.max_connections: 50 instead of 1024",
        "log.budget_bytes: 1GiB instead of 64MiB",
        "certificates as before",
    ] {
        assert!(done.contains(part), "{done}");
    }
    let of_a = Rate {
        events: 9000,
        bytes: 10_000_000,
    };
    assert_eq!(stage.bus.limits().rate_of(&"a".into()), of_a);
    assert_eq!(stage.bus.retention().age, Some(Duration::from_secs(7 * 86_400)));
    assert_eq!(stage.bus.retention().bytes, Some(500 << 20));
    assert!(stage.bus.retention().keep_unread);

    // With anything wrong, nothing of it is taken.
    let (limits, retention) = (stage.bus.limits(), stage.bus.retention());
    let good = "  agent_rate: 7\n  retention: 1d\n";
    let trust = stage.certificates().join("trust");
    let trusted = std::fs::read_to_string(&trust).unwrap();
    let refuse = |settings: &str, says: &str| {
        let error = stage.change(&format!("{good}{settings}")).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(
            (stage.bus.limits(), stage.bus.retention()),
            (limits.clone(), retention)
        );
        error
    };
    refuse("  agent_rate: many\n", "agent_rate");
    refuse("  no_such_key: 1\n", "no_such_key");
    refuse("  agent_rates: a\n", "AGENT=EVENTS");
    refuse("  soft_bytes: 1GiB\n", "bus.hard_bytes");
    refuse(
        "audit:\n  files: 3\n",
        "audit.files can only be changed by a restart",
    );
    let error = refuse("  server_port: 1234\nhealth:\n  port: 9100\n", "restart");
    assert!(matches!(
        &error,
        ReconfigureError::NeedsRestart { settings } if settings.as_slice() == ["bus.server_port", "health.port"]
    ));
    std::fs::write(&trust, "a ed25519 nonsense\n").unwrap();
    refuse("", "trust");
    std::fs::write(&trust, "").unwrap();
    refuse("", "trust");
    std::fs::write(&trust, &trusted).unwrap();
    let (key, wrong) = (
        stage.certificates().join("bus.key"),
        stage.certificates().join("a.key"),
    );
    let own = std::fs::read(&key).unwrap();
    std::fs::write(&key, std::fs::read(wrong).unwrap()).unwrap();
    refuse("", "bus.key");
    std::fs::write(&key, own).unwrap();

    // Put right, all of it comes, with a new trust map.
    let other = FileSigner::open(stage.certificates().join("analyzer.sign")).unwrap();
    use amoskys_transport::Signer as _;
    let more = TrustMap::load(&trust).unwrap().allow("b", other.public_key());
    more.save(&trust).unwrap();
    let done = stage.change(good).unwrap();
    assert!(done.contains("trust map others"), "{done}");
    assert_eq!(stage.bus.limits().rate.events, 7);
    assert!(stage.bus.limits().rates.is_empty());
    stage.change("").unwrap();

    let outcome = sending.await.unwrap();
    assert_eq!((outcome.sealed, outcome.reconnects), (outcome.acknowledged, 0));
    let decisions = audited(&stage, 11).await;
    assert_eq!(decisions.iter().filter(|done| **done).count(), 3, "{decisions:?}");
    shutdown.trigger();
    serving.await.unwrap().unwrap();
}

/// Whether each reconfiguration that was written down was a success.
async fn audited(stage: &Stage, count: usize) -> Vec<bool> {
    let options = SubscribeOptions::new(stage.connect("analyzer"))
        .classes([Class::Audit])
        .agents(["bus"]);
    let mut subscription = Subscription::new(options);
    let mut found = Vec::new();
    let reading = async {
        while found.len() < count {
            for (_, record) in subscription.next_records().await.unwrap().unwrap() {
                for event in Opener::unchecked().open(&record).unwrap().events {
                    if let Payload::Audit(entry) = &event.payload
                        && entry.action == "bus.reconfigured"
                    {
                        found.push(entry.outcome == amoskys_core::event::AuditOutcome::Success);
                    }
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("in time");
    found
}
