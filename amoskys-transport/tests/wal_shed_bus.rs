//! An agent that cannot reach the bus sheds, and sends signed gaps once it can: every alert arrives once, and the ledger
//! accounts for each event.
#![cfg(feature = "bus")]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

mod common;
#[path = "common/bus.rs"]
mod site;

use std::collections::BTreeMap;
use std::time::Duration;

use amoskys_core::config::WhenFull;
use amoskys_core::event::GapReason;
use amoskys_core::memory::MemoryCollector;
use amoskys_core::pipeline::{BatchLimits, Pipeline};
use amoskys_core::{Class, DropReason, Event, Open as _, Shutdown, Wal as _};
use amoskys_transport::bus::{Publisher, PublisherOptions, SubscribeOptions, Subscription};
use amoskys_transport::identity::Role;
use amoskys_transport::{Log, LogOptions, Opener, WalOptions};
use site::{PATIENCE, Running, Site, assert_clean, connect_options, take};

const EVENTS: u64 = 9000;

fn events() -> Vec<Event> {
    let class = |n: u64| match n % 10 {
        9 => Class::Alert,
        _ => Class::Telemetry,
    };
    (0..EVENTS).map(|n| common::event(n, class(n), 200)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_shed_while_the_bus_was_away_is_a_gap_there_and_every_alert_comes_once() {
    let mut site = Site::new();
    site.know("a");
    // An address where nobody listens for now.
    let bus = site.bus();
    let address = bus.address;
    bus.stop().await;

    let wal = WalOptions::new().budget_bytes(1 << 20).segment_bytes(16 << 10);
    let options = LogOptions::new().agent("a").when_full(WhenFull::Shed).wal(wal);
    let log = Log::open(site.path("a"), options).unwrap();
    let wal = log.wal.clone();
    let tls = site.client_tls(Role::Agent, "a");
    let publisher = Publisher::for_log(&log, PublisherOptions::new(connect_options(address, tls)));
    let pipeline = Pipeline::builder()
        .collector(MemoryCollector::new("numbers", events()))
        .limits(BatchLimits {
            max_events: 8,
            ..BatchLimits::default()
        })
        .log(log)
        .record_sink(publisher)
        .build()
        .unwrap();
    let running = tokio::spawn(pipeline.run(Shutdown::new()));
    // Until everything was collected, though not all of it fits: about two thirds are shed.
    let collected = async {
        let mut before = (0, 0);
        let mut still = 0;
        while still < 20 {
            tokio::time::sleep(Duration::from_millis(25)).await;
            let now = (wal.durable().0, wal.used_bytes());
            still = if now == before && now.0 > 1000 {
                still + 1
            } else {
                0
            };
            before = now;
        }
    };
    tokio::time::timeout(PATIENCE * 2, collected).await.unwrap();
    assert!(wal.used_bytes() <= 1 << 20);

    let bus = Running::new(site.bus_options().listen(address));
    let report = tokio::time::timeout(PATIENCE, running)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert!(report.ledger.unbalanced().is_empty(), "{}", report.ledger);
    let log_stage = &report.ledger.accounts["log/numbers"];
    assert_eq!((log_stage.received, log_stage.delivered), (EVENTS, EVENTS));

    // What the bus has of each stream: events and gaps, without a hole.
    let connect = site.connect(&bus, Role::Analyzer, "analyzer");
    let mut subscription = Subscription::new(SubscribeOptions::new(connect).agents(["a"]));
    let (mut there, mut missing) = (BTreeMap::<Class, u64>::new(), 0);
    let mut next = BTreeMap::<Class, u64>::new();
    let (mut told, alerts) = (0, EVENTS / 10);
    while told < EVENTS {
        for (_, record) in take(&mut subscription, 1).await {
            let opened = Opener::unchecked().open(&record).unwrap();
            let class = opened.stream.class;
            let next = next.entry(class).or_default();
            assert_eq!(opened.first.0, *next, "{class}");
            told += opened.last.0 + 1 - *next;
            *next = opened.last.0 + 1;
            match opened.gap {
                None => *there.entry(class).or_default() += opened.events.len() as u64,
                Some(gap) => {
                    assert_eq!((gap.reason, class), (GapReason::Shed, Class::Telemetry));
                    missing += opened.last.0 - opened.first.0 + 1;
                }
            }
        }
    }
    assert_eq!(there[&Class::Alert], alerts);
    assert!(missing > EVENTS / 4, "{missing}");
    assert_eq!(there[&Class::Telemetry] + missing, EVENTS - alerts);
    // The same, as the ledger has it: each event once.
    let carried = &report.ledger.accounts["carry/bus"];
    let shed = carried.dropped.get(&DropReason::SHED).copied().unwrap_or(0);
    assert_eq!(
        (carried.received, carried.delivered, shed, carried.pending),
        (EVENTS, EVENTS - missing, missing, 0),
        "{}",
        report.ledger
    );
    bus.stop().await;
    assert_clean(&site, "bus");
    let report = common::assert_clean(&site.path("a"));
    assert!(report.gaps.iter().all(|gap| gap.reason == "shed"), "{report}");
}
