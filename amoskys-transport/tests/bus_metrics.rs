//! The table of metrics in the documentation of `bus` is that of the code, and a real bus with a real agent shows what it
//! says.

#![cfg(feature = "bus")]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

mod common;
#[path = "common/peer.rs"]
mod peer;
#[path = "common/bus.rs"]
mod site;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amoskys_core::{RecordSink as _, Wal as _};
use amoskys_transport::bus::{Limits, PublisherOptions, Rate};
use amoskys_transport::identity::Role;
use peer::{BATCH, Peer, WELCOME};
use site::{Agent, Running, Site, carry, take};

/// What these metrics are of.
const OURS: [&str; 5] = [
    "amoskys_bus_",
    "amoskys_publisher_",
    "amoskys_subscription_",
    "amoskys_credentials_",
    "amoskys_certificate_",
];

fn is_ours(name: &str) -> bool {
    OURS.iter().any(|begins| name.starts_with(begins))
}

/// The rows of the table: each name with its labels.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let text = include_str!("../src/bus/mod.rs");
    let rows = text
        .lines()
        .filter_map(|line| line.strip_prefix("//! | `amoskys_"));
    rows.map(|row| {
        let (name, rest) = row.split_once('`').unwrap();
        let labels = rest.split('|').nth(1).unwrap();
        let labels = labels
            .split(',')
            .map(|label| label.trim().trim_matches('`').to_owned());
        (
            format!("amoskys_{name}"),
            labels.filter(|label| !label.is_empty()).collect(),
        )
    })
    .collect()
}

fn sources(dir: &Path, text: &mut String) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn the_table_has_every_metric_of_the_code_and_no_other() {
    let mut text = String::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut text);
    let quoted = text.split('"').filter(|word| {
        is_ours(word)
            && word
                .chars()
                .all(|letter| letter.is_ascii_lowercase() || letter == '_')
    });
    let code: BTreeSet<_> = quoted.map(str::to_owned).collect();
    let table: BTreeSet<_> = table().into_keys().collect();
    assert!(code.len() > 20);
    assert_eq!(code, table);
}

/// Gauges and counters with their labels and values.
#[derive(Clone, Default)]
struct Scrape(Arc<Mutex<BTreeMap<Series, Arc<Value>>>>);

/// Name and labels.
type Series = (String, BTreeMap<String, String>);

#[derive(Default)]
struct Value(Mutex<f64>);

impl metrics::CounterFn for Value {
    fn increment(&self, value: u64) {
        *self.0.lock().unwrap() += value as f64;
    }

    fn absolute(&self, value: u64) {
        *self.0.lock().unwrap() = value as f64;
    }
}

impl metrics::GaugeFn for Value {
    fn increment(&self, value: f64) {
        *self.0.lock().unwrap() += value;
    }

    fn decrement(&self, value: f64) {
        *self.0.lock().unwrap() -= value;
    }

    fn set(&self, value: f64) {
        *self.0.lock().unwrap() = value;
    }
}

impl Scrape {
    fn register(&self, key: &metrics::Key) -> Arc<Value> {
        let labels = key
            .labels()
            .map(|label| (label.key().to_owned(), label.value().to_owned()));
        let key = (key.name().to_owned(), labels.collect());
        self.0.lock().unwrap().entry(key).or_default().clone()
    }

    /// The sum over all with this name and these labels.
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let all = self.0.lock().unwrap();
        let found = all.iter().filter(|((known, of), _)| {
            known == name
                && labels
                    .iter()
                    .all(|(key, value)| of.get(*key).is_some_and(|of| of == value))
        });
        let values: Vec<_> = found.map(|(_, value)| *value.0.lock().unwrap()).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    async fn until(&self, name: &str, labels: &[(&str, &str)], is_so: impl Fn(f64) -> bool) {
        for _ in 0..1000 {
            if self.value(name, labels).is_some_and(&is_so) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{name} {labels:?} is {:?}", self.value(name, labels));
    }
}

impl metrics::Recorder for Scrape {
    fn describe_counter(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_gauge(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_histogram(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}

    fn register_counter(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        metrics::Counter::from_arc(self.register(key))
    }

    fn register_gauge(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        metrics::Gauge::from_arc(self.register(key))
    }

    fn register_histogram(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}

#[tokio::test]
async fn a_bus_and_an_agent_show_what_the_table_says() {
    let scrape = Scrape::default();
    // A recorder must outlive its guard; a test's may as well live for ever.
    let _guard = metrics::set_default_local_recorder(Box::leak(Box::new(scrape.clone())));
    let mut site = Site::new();
    site.know("a");
    site.know("b");
    let mut limits = Limits::default();
    limits.rates.insert(
        "a".into(),
        Rate {
            events: 100,
            bytes: 0,
        },
    );
    let bus = Running::new(site.bus_options().limits(limits));

    // A backlog, and its end: more than is saved up in a second, so that the agent is asked to wait.
    let mut agent = Agent::open(&site.path("a"), "a");
    agent.collect(60);
    let unreachable = site.connect(&bus, Role::Agent, "a").server_name("elsewhere");
    let mut lost = amoskys_transport::bus::Publisher::for_log(&agent.log, PublisherOptions::new(unreachable));
    lost.carry(&agent.feed(0)).await.unwrap_err();
    let of_bus = &[("publisher", "bus")];
    let backlog = scrape.value("amoskys_publisher_backlog_bytes", of_bus).unwrap();
    let sealed: usize = agent.sealed.iter().map(bytes::Bytes::len).sum();
    assert!(backlog >= sealed as f64, "{backlog} of {sealed}");
    // Records of tests are sealed now.
    tokio::time::sleep(Duration::from_millis(50)).await;
    lost.carry(&agent.feed(0)).await.unwrap_err();
    let age = scrape.value("amoskys_publisher_backlog_seconds", of_bus).unwrap();
    assert!((0.05..600.0).contains(&age), "{age}");
    let feed = agent.feed(0);
    carry(&mut agent.publisher(&site, &bus), &feed).await.unwrap();
    assert_eq!(scrape.value("amoskys_publisher_backlog_bytes", of_bus), Some(0.0));
    assert_eq!(
        scrape.value("amoskys_publisher_backlog_seconds", of_bus),
        Some(0.0)
    );
    assert_eq!(
        scrape.value("amoskys_publisher_events_total", of_bus),
        Some(240.0)
    );
    assert_eq!(
        scrape.value("amoskys_publisher_connections_lost_total", of_bus),
        Some(2.0)
    );
    assert_eq!(
        scrape.value("amoskys_bus_events_total", &[("agent", "a")]),
        Some(240.0)
    );
    let asked = scrape.value("amoskys_bus_retries_total", &[("agent", "a"), ("reason", "rate")]);
    assert!(asked.unwrap() >= 1.0);
    scrape
        .until("amoskys_publisher_retries_total", of_bus, |count| count >= 1.0)
        .await;

    // What its log no longer has, and the bus never had.
    let mut forgetful = Agent::open(&site.path("b"), "b");
    forgetful.collect(200);
    let half = forgetful.log.wal.durable().0 / 2;
    forgetful.log.wal.trim(amoskys_core::Offset(half)).unwrap();
    let gone = forgetful.log.wal.first().0 * 4;
    assert!(gone > 0);
    let feed = forgetful.feed(forgetful.log.wal.first().0);
    carry(&mut forgetful.publisher(&site, &bus), &feed).await.unwrap();
    let missing = scrape.value("amoskys_bus_missing_events_total", &[("agent", "b")]);
    assert_eq!(missing, Some(gone as f64));

    // One that is refused again and again.
    for _ in 0..6 {
        let mut peer = Peer::connect(bus.address, site.client_tls(Role::Agent, "a"))
            .await
            .unwrap();
        if peer.hello(1, 1, "a").await.0 == WELCOME {
            peer.send(BATCH, b"no record").await;
            peer.refusal().await;
        }
    }
    assert!(
        scrape
            .value("amoskys_bus_penalties_total", &[("agent", "a")])
            .unwrap()
            >= 1.0
    );
    assert!(
        scrape
            .value("amoskys_bus_refused_total", &[("reason", "malformed")])
            .unwrap()
            >= 4.0
    );
    scrape
        .until("amoskys_bus_kept_out", &[("kind", "agent")], |count| count >= 1.0)
        .await;

    // Records again: counted, and not stored.
    let mut reader = site.subscription(&bus);
    take(&mut reader, 1).await;
    scrape
        .until("amoskys_bus_connections", &[("bus", "bus")], |count| count >= 1.0)
        .await;
    scrape
        .until("amoskys_bus_log_used_bytes", &[], |bytes| bytes > 0.0)
        .await;
    assert_eq!(
        scrape.value("amoskys_bus_log_budget_bytes", &[]),
        Some(f64::from(64 << 20))
    );
    for name in [
        "amoskys_bus_strangers",
        "amoskys_bus_in_flight_bytes",
        "amoskys_bus_durable_lag_seconds",
        "amoskys_bus_log_durable_offset",
        "amoskys_bus_duplicates_total",
        "amoskys_bus_subscriber_lost_records_total",
    ] {
        assert!(scrape.value(name, &[]).is_some(), "{name}");
    }
    drop(reader);
    bus.stop().await;

    let table = table();
    for ((name, labels), _) in scrape
        .0
        .lock()
        .unwrap()
        .iter()
        .filter(|((name, _), _)| is_ours(name))
    {
        let labels: BTreeSet<_> = labels.keys().cloned().collect();
        assert_eq!(table.get(name), Some(&labels), "{name}");
    }
}
