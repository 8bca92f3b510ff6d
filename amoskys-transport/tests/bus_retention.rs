//! What a bus deletes, and whom it tells.

#![cfg(feature = "bus")]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

mod common;
#[path = "common/bus.rs"]
mod site;

use std::time::Duration;

use amoskys_core::{Class, Open as _, Payload, RecordSource as _};
use amoskys_transport::bus::{BusOptions, SubscribeOptions, Subscription};
use amoskys_transport::identity::Role;
use amoskys_transport::{LogOptions, Opener, WalOptions};
use site::{Agent, Running, Site, assert_clean, take};

const BUDGET: u64 = 1 << 20;

fn small(options: BusOptions) -> BusOptions {
    options.log(LogOptions::new().wal(WalOptions::new().budget_bytes(BUDGET).segment_bytes(64 << 10)))
}

fn named(site: &Site, bus: &Running) -> Subscription {
    let connect = site.connect(bus, Role::Analyzer, "analyzer");
    Subscription::new(SubscribeOptions::new(connect).agents(["a"]).position("slow"))
}

/// A site whose bus holds 1 MiB, and an agent with `batches` batches of about 1.2 KiB.
fn stage(change: impl FnOnce(BusOptions) -> BusOptions, batches: u64) -> (Site, Running, Agent) {
    let mut site = Site::new();
    site.know("a");
    let bus = Running::new(change(small(site.bus_options())));
    let mut agent = Agent::open(&site.path("a"), "a");
    agent.collect(batches);
    (site, bus, agent)
}

#[tokio::test]
async fn a_named_subscriber_that_is_too_slow_is_told_what_it_lost() {
    let (site, bus, mut agent) = stage(|options| options, 20);
    agent.send(&site, &bus).await.unwrap();
    let mut slow = named(&site, &bus);
    let first = take(&mut slow, 20).await;
    slow.release(first[10].0).await.unwrap();
    drop(slow);
    tokio::time::sleep(Duration::from_millis(50)).await;

    agent.collect(1500);
    agent.send(&site, &bus).await.unwrap();
    let mut slow = named(&site, &bus);
    let next = take(&mut slow, 1).await;
    assert!(next[0].0 > first[19].0);
    assert_eq!(slow.lost(), next[0].0.0 - first[10].0.0);

    // The bus has signed what was deleted.
    let mut audit = {
        let connect = site.connect(&bus, Role::Analyzer, "analyzer");
        Subscription::new(
            SubscribeOptions::new(connect)
                .agents(["bus"])
                .classes([Class::Audit]),
        )
    };
    let records = take(&mut audit, 1).await;
    let told = records.iter().any(|(_, record)| {
        let opened = Opener::unchecked().open(record).unwrap();
        matches!(&opened.events[0].payload, Payload::Audit(entry)
            if entry.action == "retention.unread_deleted"
                && entry.object == "analyzer analyzer/slow"
                && entry.reason.contains("a/telemetry@"))
    });
    assert!(told, "{}", records.len());
    let report = bus.stop().await;
    assert_eq!(report.ledger.accounts["bus/a"].delivered, 4 * 1520);
    assert_clean(&site, "bus");
}

#[tokio::test]
async fn a_bus_that_keeps_what_is_unread_lets_agents_wait() {
    let (site, bus, agent) = stage(|options| options.keep_unread(true), 1500);
    let mut slow = named(&site, &bus);
    let (site, bus, agent) = {
        let waiting = tokio::time::timeout(Duration::from_millis(50), slow.next_records()).await;
        assert!(waiting.is_err(), "there is nothing yet");
        (site, bus, agent)
    };
    let (feed, mut publisher) = (agent.feed(0), agent.publisher(&site, &bus));
    let sending = {
        let feed = feed.clone();
        tokio::spawn(async move { site::carry(&mut publisher, &feed).await })
    };
    tokio::time::sleep(Duration::from_millis(1000)).await;
    assert!(!sending.is_finished());
    let stuck = feed.acknowledged();
    assert!(stuck.0 > 300 && stuck.0 < 1200, "{stuck}");
    // Reading makes room, and only what is released is deleted.
    let mut got = Vec::new();
    while got.len() < 1500 {
        got.extend(take(&mut slow, 1).await);
        slow.release(got.last().unwrap().0.next()).await.unwrap();
    }
    sending.await.unwrap().unwrap();
    let records: Vec<_> = got.into_iter().map(|(_, record)| record).collect();
    assert_eq!(records, agent.sealed);
    assert_eq!(slow.lost(), 0);
    drop(slow);
    bus.stop().await;
    assert_clean(&site, "bus");
}

#[tokio::test]
async fn without_named_subscribers_the_oldest_make_room_and_age_counts() {
    let (site, bus, mut agent) = stage(|options| options.retain_age(Duration::from_millis(700)), 2000);
    agent.send(&site, &bus).await.unwrap();
    let first = take(&mut site.subscription(&bus), 1).await[0].0;
    assert!(first.0 > 1000, "{first}");
    // So that the ledger is written once more, and segments end behind it.
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(1000)).await;
        agent.collect(60);
        agent.send(&site, &bus).await.unwrap();
    }
    let first = take(&mut site.subscription(&bus), 1).await[0].0;
    assert!(first.0 > 1950, "{first}");
    let report = bus.stop().await;
    assert_eq!(report.ledger.accounts["bus/a"].delivered, 4 * 2180);
    assert_clean(&site, "bus");
}
