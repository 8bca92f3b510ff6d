//! From an agent's log over the bus to a subscriber, over mutual TLS.

#![cfg(feature = "bus")]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

mod common;
#[path = "common/bus.rs"]
mod site;

use amoskys_core::Class;
use amoskys_transport::bus::{Publisher, PublisherOptions, SubscribeOptions, Subscription};
use amoskys_transport::identity::Role;
use site::{Agent, Site, assert_clean, carry, of_agents, take};

#[tokio::test]
async fn what_agents_sealed_arrives_byte_for_byte_and_once() {
    let mut site = Site::new();
    site.know("a");
    site.know("b");
    let bus = site.bus();
    let mut agents = ["a", "b"].map(|name| Agent::open(&site.path(name), name));
    for agent in &mut agents {
        agent.collect(50);
    }
    let (a, b) = tokio::join!(agents[0].send(&site, &bus), agents[1].send(&site, &bus));
    a.unwrap();
    b.unwrap();
    // Again: the bus has it.
    agents[0].send(&site, &bus).await.unwrap();

    for agent in &agents {
        let options =
            SubscribeOptions::new(site.connect(&bus, Role::Analyzer, "analyzer")).agents([&agent.name]);
        let mut subscription = Subscription::new(options);
        assert_eq!(of_agents(take(&mut subscription, 50).await), agent.sealed);
    }
    let options =
        SubscribeOptions::new(site.connect(&bus, Role::Analyzer, "analyzer")).classes([Class::Alert]);
    assert_eq!(take(&mut Subscription::new(options), 20).await.len(), 20);
    // Another agent may know of alerts.
    let options = SubscribeOptions::new(site.connect(&bus, Role::Agent, "b")).classes([Class::Alert]);
    assert_eq!(take(&mut Subscription::new(options), 20).await.len(), 20);

    let ledger = bus.stop().await.ledger;
    assert!(ledger.unbalanced().is_empty());
    assert_eq!(ledger.accounts["bus/a"].delivered, 200);
    assert_eq!(ledger.accounts["bus/b"].delivered, 200);
    assert_clean(&site, "bus");
}

#[tokio::test]
async fn a_limit_on_events_is_kept() {
    let mut site = Site::new();
    site.know("a");
    let bus = site.bus();
    let mut agent = Agent::open(&site.path("a"), "a");
    agent.collect(20);
    let options = PublisherOptions::new(site.connect(&bus, Role::Agent, "a")).send_rate(200);
    let begun = std::time::Instant::now();
    carry(&mut Publisher::for_log(&agent.log, options), &agent.feed(0))
        .await
        .unwrap();
    // 80 events; the last batch need not be waited for.
    assert!(begun.elapsed().as_millis() >= 370, "{:?}", begun.elapsed());
    bus.stop().await;
}

#[tokio::test]
async fn a_slow_subscriber_waits_only_for_itself() {
    let mut site = Site::new();
    site.know("a");
    let bus = site.bus();
    let mut agent = Agent::open(&site.path("a"), "a");
    let subscribe = || {
        let connect = site.connect(&bus, Role::Analyzer, "analyzer");
        Subscription::new(
            SubscribeOptions::new(connect)
                .agents(["a"])
                .window_bytes(64 << 10),
        )
    };
    let (mut slow, mut fast) = (subscribe(), subscribe());
    agent.collect(1);
    agent.send(&site, &bus).await.unwrap();
    assert_eq!(take(&mut slow, 1).await.len(), 1);
    agent.collect(1000);
    agent.send(&site, &bus).await.unwrap();
    assert_eq!(of_agents(take(&mut fast, 1001).await), agent.sealed);
    assert_eq!(of_agents(take(&mut slow, 1000).await), agent.sealed[1..]);
    assert_eq!((slow.lost(), fast.lost()), (0, 0));
    bus.stop().await;
}
