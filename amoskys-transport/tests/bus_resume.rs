//! Going on where it was: after restarts of either side, with a log that has lost something, with a bus that has lost
//! everything.

#![cfg(feature = "bus")]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

mod common;
#[path = "common/bus.rs"]
mod site;

use std::time::Duration;

use amoskys_core::event::GapReason;
use amoskys_core::{Class, Offset, Open as _, Opened, Payload, RecordSource as _, Wal as _};
use amoskys_transport::Opener;
use amoskys_transport::bus::{Start, SubscribeOptions, Subscription};
use amoskys_transport::identity::Role;
use bytes::Bytes;
use common::{segments, stored_records};
use site::{Agent, Running, Site, assert_clean, carry, of_agents, take};

/// What of the agent `a` is in the bus's log, opened.
async fn of_a(site: &Site, bus: &Running, count: usize) -> Vec<Opened> {
    let options = SubscribeOptions::new(site.connect(bus, Role::Analyzer, "analyzer")).agents(["a"]);
    let records = take(&mut Subscription::new(options), count).await;
    let opened = records
        .iter()
        .map(|(_, record)| Opener::unchecked().open(record).unwrap());
    opened.collect()
}

/// Checks that each stream is whole: batches and gaps follow each other without a hole.
#[track_caller]
fn assert_seamless(records: &[Opened], events: u64) -> Vec<(Class, GapReason, u64)> {
    let (mut gaps, mut total) = (Vec::new(), 0);
    for class in [Class::Telemetry, Class::Alert] {
        let mut next = 0;
        for opened in records.iter().filter(|opened| opened.stream.class == class) {
            assert_eq!(opened.first.0, next, "{class}");
            next = opened.last.0 + 1;
            if let Some(gap) = &opened.gap {
                gaps.push((class, gap.reason, opened.last.0 - opened.first.0 + 1));
            }
        }
        total += next;
    }
    assert_eq!(total, events);
    gaps
}

fn restart(site: &Site, bus: &Running) -> impl FnOnce() -> Running + use<> {
    let (address, options) = (bus.address, site.bus_options());
    move || Running::new(options.listen(address))
}

#[tokio::test]
async fn a_bus_that_lost_its_log_gets_what_is_left_and_a_signed_gap_for_the_rest() {
    let mut site = Site::new();
    site.know("a");
    let bus = site.bus();
    let mut agent = Agent::open(&site.path("a"), "a");
    agent.collect(60);
    agent.send(&site, &bus).await.unwrap();
    agent.log.wal.trim(Offset(30)).unwrap();
    let mut old = site.subscription(&bus);
    let last_seen = take(&mut old, 60).await.last().unwrap().0;

    let again = restart(&site, &bus);
    bus.stop().await;
    std::fs::remove_dir_all(site.path("bus/log")).unwrap();
    let bus = again();
    // All of it was acknowledged once.
    let feed = agent.feed(60);
    carry(&mut agent.publisher(&site, &bus), &feed).await.unwrap();
    let records = of_a(&site, &bus, 32).await;
    let gaps = assert_seamless(&records, 240);
    assert_eq!(
        gaps,
        [
            (Class::Telemetry, GapReason::LogLost, 96),
            (Class::Alert, GapReason::LogLost, 24)
        ]
    );
    let kept: Vec<_> = agent.sealed[30..].to_vec();
    let mut fresh = site.subscription(&bus);
    let sent = of_agents(take(&mut fresh, 36).await);
    assert!(kept.iter().all(|record| sent.contains(record)));

    // Who read the lost log goes on with the new one, whose offsets are above.
    let next = take(&mut old, 5).await;
    assert!(next[0].0 > last_seen);
    assert!(old.lost() > 0);
    // And on it goes.
    agent.collect(10);
    let feed = agent.feed(60);
    carry(&mut agent.publisher(&site, &bus), &feed).await.unwrap();
    assert_seamless(&of_a(&site, &bus, 42).await, 280);
    bus.stop().await;
    assert_clean(&site, "bus");
}

#[tokio::test]
async fn a_bus_that_lost_its_log_hears_of_streams_that_are_gone_altogether() {
    let mut site = Site::new();
    site.know("a");
    let bus = site.bus();
    let mut agent = Agent::open(&site.path("a"), "a");
    agent.collect(20);
    agent.log.wal.trim(Offset(20)).unwrap();
    assert_eq!(agent.log.wal.first(), Offset(20));
    let feed = agent.feed(20);
    carry(&mut agent.publisher(&site, &bus), &feed).await.unwrap();
    let gaps = assert_seamless(&of_a(&site, &bus, 2).await, 80);
    assert_eq!(gaps.len(), 2);
    let report = bus.stop().await;
    assert_eq!(
        report
            .ledger
            .accounts
            .get("bus/a")
            .map_or(0, |account| account.received),
        0
    );
    assert_clean(&site, "bus");
}

#[tokio::test]
async fn what_is_damaged_in_the_log_is_a_gap_at_the_bus() {
    let mut site = Site::new();
    site.know("a");
    let mut agent = Agent::open(&site.path("a"), "a");
    agent.collect(40);
    drop(agent);
    let damage = |site: &Site, segment: usize, record: usize| {
        let path = &segments(&site.path("a"))[segment];
        let mut bytes = std::fs::read(path).unwrap();
        let (at, len) = stored_records(&bytes)[record];
        bytes[at + len / 2] ^= 0x10;
        std::fs::write(path, bytes).unwrap();
    };
    // Found when the log is opened, and only when it is sent.
    damage(&site, 0, 3);
    let agent = Agent::open(&site.path("a"), "a");
    damage(&site, 1, 2);
    let bus = site.bus();
    let feed = agent.feed(0);
    carry(&mut agent.publisher(&site, &bus), &feed).await.unwrap();
    assert_eq!(feed.acknowledged(), agent.log.wal.durable());
    let gaps = assert_seamless(&of_a(&site, &bus, 40).await, 160);
    assert_eq!(gaps.len(), 2, "{gaps:?}");
    assert!(
        gaps.iter()
            .all(|(_, reason, events)| (*reason, *events) == (GapReason::Quarantined, 4))
    );
    bus.stop().await;
    assert_clean(&site, "bus");
}

#[tokio::test]
async fn a_bus_that_comes_and_goes_gets_and_gives_everything_once() {
    let mut site = Site::new();
    site.know("a");
    let mut bus = site.bus();
    let mut agent = Agent::open(&site.path("a"), "a");
    let mut publisher = agent.publisher(&site, &bus);
    let options = SubscribeOptions::new(site.connect(&bus, Role::Analyzer, "analyzer")).agents(["a"]);
    let mut subscription = Subscription::new(options);
    let feed = amoskys_core::RecordFeed::new(agent.log.wal.clone(), Offset(0));
    let sending = {
        let feed = feed.clone();
        tokio::spawn(async move { carry(&mut publisher, &feed).await })
    };
    let reading = tokio::spawn(async move { of_agents(take(&mut subscription, 200).await) });
    for _ in 0..5 {
        agent.collect(20);
        tokio::time::sleep(Duration::from_millis(20)).await;
        let again = restart(&site, &bus);
        bus.stop().await;
        agent.collect(20);
        bus = again();
    }
    feed.end(agent.log.wal.durable());
    sending.await.unwrap().unwrap();
    assert_eq!(feed.acknowledged(), Offset(200));
    assert_eq!(reading.await.unwrap(), agent.sealed);
    let report = bus.stop().await;
    let account = &report.ledger.accounts["bus/a"];
    assert_eq!(account.delivered, 800);
    assert!(account.is_balanced());
    assert_clean(&site, "bus");
}

#[tokio::test]
async fn subscriptions_begin_where_they_are_told_and_positions_are_kept() {
    let mut site = Site::new();
    site.know("a");
    let bus = site.bus();
    let mut agent = Agent::open(&site.path("a"), "a");
    agent.collect(20);
    agent.send(&site, &bus).await.unwrap();
    let subscribe = |bus: &Running, change: &dyn Fn(SubscribeOptions) -> SubscribeOptions| {
        let options = SubscribeOptions::new(site.connect(bus, Role::Analyzer, "analyzer")).agents(["a"]);
        Subscription::new(change(options))
    };
    let mut named = subscribe(&bus, &|options| options.position("tide"));
    let first = take(&mut named, 20).await;
    named.release(first[7].0.next()).await.unwrap();
    // Someone else's position of the same name is another.
    let mut other = {
        let connect = site.connect(&bus, Role::Analyzer, "other");
        Subscription::new(SubscribeOptions::new(connect).agents(["a"]).position("tide"))
    };
    assert_eq!(take(&mut other, 20).await, first);
    let mut at = subscribe(&bus, &|options| options.start(Start::At(first[12].0)));
    assert_eq!(take(&mut at, 8).await, first[12..]);
    let mut resumed = subscribe(&bus, &|options| options);
    resumed.resume(first[15].0).await.unwrap();
    assert_eq!(take(&mut resumed, 5).await, first[15..]);
    let mut latest = subscribe(&bus, &|options| options.start(Start::Latest));
    let waiting = tokio::time::timeout(Duration::from_millis(300), latest.next_records());
    assert!(waiting.await.is_err(), "there is nothing new");
    drop(named);
    // Commits are on their way.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let again = restart(&site, &bus);
    bus.stop().await;
    let bus = again();
    let mut named = subscribe(&bus, &|options| options.position("tide"));
    assert_eq!(take(&mut named, 12).await, first[8..]);
    agent.collect(1);
    agent.send(&site, &bus).await.unwrap();
    let new = take(&mut latest, 1).await;
    assert_eq!(new[0].1, agent.sealed[20]);
    bus.stop().await;
}

#[tokio::test]
async fn the_clock_of_the_bus_stands_between_the_records() {
    let mut site = Site::new();
    site.know("a");
    let bus = site.bus();
    let mut agent = Agent::open(&site.path("a"), "a");
    let mut subscription = {
        let connect = site.connect(&bus, Role::Analyzer, "analyzer");
        Subscription::new(
            SubscribeOptions::new(connect)
                .agents(["bus"])
                .classes([Class::Telemetry]),
        )
    };
    agent.collect(1);
    agent.send(&site, &bus).await.unwrap();
    let records = take(&mut subscription, 2).await;
    let times: Vec<_> = records
        .iter()
        .map(|(_, record): &(Offset, Bytes)| {
            let opened = Opener::unchecked().open(record).unwrap();
            assert!(matches!(opened.events[0].payload, Payload::Punctuation(_)));
            let ledger = opened.ledger.unwrap();
            assert_eq!(ledger.accounts["bus/a"].delivered, 4);
            opened.events[0].time
        })
        .collect();
    assert!(times[1].nanos() - times[0].nanos() >= 900_000_000);
    bus.stop().await;
}
