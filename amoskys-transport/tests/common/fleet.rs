//! A site whose agents are those of the predecessor: certificates with a common name, raw signing keys, a YAML trust map.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use amoskys_core::event::Value;
use amoskys_core::{Event, Open as _, RecordSource as _};
use amoskys_transport::bus::{BusOptions, ConnectOptions, SubscribeOptions, Subscription};
use amoskys_transport::identity::{Credentials, pki};
use amoskys_transport::legacy::{LegacyOptions, LegacyTrust};
use amoskys_transport::{LogOptions, Opener, PublicKey, TrustMap, WalOptions};
use ring::signature::{Ed25519KeyPair, KeyPair as _};

pub(crate) struct Fleet {
    pub(crate) dir: tempfile::TempDir,
}

impl Fleet {
    /// With these agents in the trust map; others have certificates only.
    pub(crate) fn new(agents: &[&str], strangers: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let site = pki::Site::new(dir.path().join("pki"))
            .bus("bus")
            .host("localhost")
            .gateway(true)
            .analyzer("analyzer");
        let all = agents.iter().chain(strangers);
        all.clone()
            .fold(site, |site, name| site.agent(*name))
            .make()
            .unwrap();
        let fleet = Self { dir };
        let mut map = String::from("agents:\n");
        for (number, name) in (1..).zip(all) {
            let seed = [number; 32];
            let key = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
            let public = PublicKey::from_bytes(key.public_key().as_ref().try_into().unwrap());
            std::fs::write(fleet.signing_key(name), seed).unwrap();
            std::fs::write(fleet.path(&format!("pki/{name}.ed25519.pub")), public.to_pem()).unwrap();
            if agents.contains(name) {
                map.push_str(&format!("  {name}: {name}.ed25519.pub\n"));
            }
        }
        std::fs::write(fleet.trust_map(), map).unwrap();
        fleet
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn trust_map(&self) -> PathBuf {
        self.path("pki/trust_map.yaml")
    }

    /// 32 raw bytes.
    pub(crate) fn signing_key(&self, agent: &str) -> PathBuf {
        self.path(&format!("pki/{agent}.ed25519"))
    }

    pub(crate) fn legacy(&self) -> LegacyOptions {
        LegacyOptions::new(LegacyTrust::load(self.trust_map()).unwrap())
    }

    pub(crate) fn bus_options(&self, legacy: LegacyOptions) -> BusOptions {
        let files = Credentials::in_dir(self.path("pki"), "bus");
        let wal = WalOptions::new().budget_bytes(64 << 20).segment_bytes(256 << 10);
        BusOptions::new(
            self.path("bus"),
            files.tls.server_config().unwrap(),
            TrustMap::load(&files.trust).unwrap(),
        )
        .listen(SocketAddr::from(([127, 0, 0, 1], 0)))
        .log(LogOptions::new().wal(wal).key_file(files.signing_key))
        .legacy(legacy)
    }

    /// One whose position the bus keeps.
    pub(crate) fn named_subscription(&self, bus: SocketAddr, name: &str) -> Subscription {
        Subscription::new(self.subscribe(bus).position(name))
    }

    pub(crate) fn subscription(&self, bus: SocketAddr) -> Subscription {
        Subscription::new(self.subscribe(bus))
    }

    fn subscribe(&self, bus: SocketAddr) -> SubscribeOptions {
        let tls = Credentials::in_dir(self.path("pki"), "analyzer")
            .tls
            .client_config()
            .unwrap();
        let connect = ConnectOptions::new(format!("localhost:{}", bus.port()), tls);
        SubscribeOptions::new(connect).agents(["bus-gateway"])
    }

    /// The keys that whoever reads the log of the bus believes.
    pub(crate) fn readers_trust(&self) -> TrustMap {
        TrustMap::load(Credentials::in_dir(self.path("pki"), "bus").trust).unwrap()
    }

    /// Events of the gateway, once there are this many, with their signatures checked.
    pub(crate) async fn events(&self, bus: SocketAddr, count: usize) -> Vec<Event> {
        let mut subscription = self.subscription(bus);
        let opener = Opener::verifying(self.readers_trust());
        let mut events = Vec::new();
        while events.len() < count {
            let records = tokio::time::timeout(Duration::from_secs(20), subscription.next_records());
            for (_, record) in records.await.expect("in time").unwrap().unwrap() {
                let opened = opener.open(&record).unwrap();
                assert_eq!(opened.stream.agent.as_str(), "bus-gateway");
                events.extend(opened.events);
            }
        }
        assert_eq!(events.len(), count);
        events
    }
}

pub(crate) fn text<'a>(event: &'a Event, attribute: &str) -> &'a str {
    match event.attributes.get(attribute) {
        Some(Value::Text(text)) => text,
        other => panic!("{attribute}: {other:?}"),
    }
}
