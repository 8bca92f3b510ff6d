//! Overload: who has to wait, that nobody loses by it, and that an embedder can rearrange it.

#![cfg(all(feature = "bus", feature = "testing"))]
#![allow(clippy::unwrap_used, reason = "a test that fails to set up fails")]

mod common;
#[path = "common/bus.rs"]
mod site;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use amoskys_core::{Class, RecordSource as _, Remedy};
use amoskys_transport::bus::admission::{Admitted, FlowLimit, RateLimit, Rejection, Submission};
use amoskys_transport::bus::{
    BusOptions, ConnectionError, Limits, Publisher, PublisherOptions, Rate, RefuseReason, SubscribeError,
    SubscribeOptions, Subscription,
};
use amoskys_transport::identity::Role;
use amoskys_transport::testing::{Faults, Load, Outcome, SimulatedAgent};
use amoskys_transport::{LogOptions, WalOptions};
use site::{Agent, PATIENCE, Running, Site, assert_clean, carry, take};
use tower::layer::layer_fn;
use tower::{Layer, Service};

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

fn simulated(site: &Site, bus: &Running, name: &str, seed: u64) -> SimulatedAgent {
    let connect = site.connect(bus, Role::Agent, name);
    SimulatedAgent::new(name, Arc::new(site.signer(name)), connect, seed).unwrap()
}

fn load(batch: u64, interval: u64, duration: u64) -> Load {
    Load {
        batch,
        event_bytes: 300,
        interval: Duration::from_millis(interval),
        duration: Duration::from_millis(duration),
        patience: PATIENCE,
        faults: Faults::default(),
    }
}

/// Runs them all; what became of each, and how long 99 of 100 batches of all took at most.
async fn run_all(agents: Vec<SimulatedAgent>, load: Load) -> (Vec<Outcome>, Duration) {
    let tasks = agents.into_iter().map(|mut agent| {
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            let outcome = agent
                .run(load, |latency, _| latencies.push(latency))
                .await
                .unwrap();
            (outcome, latencies)
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let (mut outcomes, mut latencies) = (Vec::new(), Vec::new());
    for task in tasks {
        let (outcome, times) = task.await.unwrap();
        outcomes.push(outcome);
        latencies.extend(times);
    }
    latencies.sort_unstable();
    (outcomes, latencies[latencies.len() * 99 / 100])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_on_eight_connections_does_not_starve_twenty_quiet_agents() {
    const QUIET: usize = 20;
    let mut site = Site::new();
    site.know("flood");
    let names: Vec<_> = (0..QUIET).map(|number| format!("quiet-{number}")).collect();
    for name in &names {
        site.know(name);
    }
    // So little that the log is what everybody waits for.
    let limits = limits(|limits| limits.soft_bytes = 64 << 10);
    let bus = Running::new(site.bus_options().limits(limits));
    let quiet = |seed| -> Vec<_> {
        let agents = names.iter().enumerate();
        agents
            .map(|(number, name)| simulated(&site, &bus, name, seed + number as u64))
            .collect()
    };
    let load_of_quiet = load(5, 100, 1500);
    let (alone, usual) = run_all(quiet(0), load_of_quiet).await;
    let flood: Vec<_> = (0..8)
        .map(|number| simulated(&site, &bus, "flood", 100 + number))
        .collect();
    // Sealing all of that takes time too, which is not the bus's: it has a thread of its own.
    let flooding = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(run_all(flood, load(200, 10, 2500)))
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (beside, longest) = run_all(quiet(200), load_of_quiet).await;
    let flooding = tokio::task::spawn_blocking(move || flooding.join().unwrap());
    let (flood, _) = flooding.await.unwrap();

    let sum = |outcomes: &[Outcome]| outcomes.iter().map(|outcome| outcome.acknowledged).sum::<u64>();
    println!(
        "quiet alone {} events, p99 {usual:?}; beside the flood {} events, p99 {longest:?}; the flood {} events, asked {} \
         times to wait",
        sum(&alone),
        sum(&beside),
        sum(&flood),
        flood.iter().map(|outcome| outcome.retries).sum::<u64>()
    );
    for outcome in alone.iter().chain(&beside).chain(&flood) {
        assert_eq!(outcome.sealed, outcome.acknowledged);
        assert_eq!(outcome.reconnects, 0);
    }
    assert!(sum(&beside) * 10 >= sum(&alone) * 8);
    assert!(flood.iter().any(|outcome| outcome.retries > 0));
    // On two cores that seal, sign and check all of the flood, too.
    assert!(
        longest <= usual * 30 + Duration::from_millis(600),
        "{usual:?} {longest:?}"
    );
    let report = bus.stop().await;
    assert!(report.ledger.unbalanced().is_empty());
    assert_eq!(report.ledger.accounts["bus/flood"].delivered, sum(&flood));
    assert_clean(&site, "bus");
}

/// Counts what goes through it.
#[derive(Clone)]
struct Counting<S>(S, Arc<AtomicUsize>);

impl<S: Service<Submission>> Service<Submission> for Counting<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, submission: Submission) -> S::Future {
        self.1.fetch_add(1, Ordering::Relaxed);
        assert!(
            submission.events() > 0 && submission.agent().as_str() == "a" && !submission.record().is_empty()
        );
        self.0.call(submission)
    }
}

/// Takes no bulk.
#[derive(Clone)]
struct NoBulk<S>(S);

impl<S> Service<Submission> for NoBulk<S>
where
    S: Service<Submission, Response = Admitted, Error = Rejection>,
    S::Future: Send + 'static,
{
    type Response = Admitted;
    type Error = Rejection;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Admitted, Rejection>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, submission: Submission) -> Self::Future {
        if submission.class() == Some(Class::Bulk) {
            let no = Rejection::new(RefuseReason::Other, "no bulk here").retry_after(Duration::from_secs(7));
            return Box::pin(std::future::ready(Err(no)));
        }
        Box::pin(self.0.call(submission))
    }
}

#[tokio::test]
async fn layers_can_be_put_in_left_out_and_moved() {
    let mut site = Site::new();
    site.know("a");
    let (before, behind) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let admission = {
        let (before, behind) = (before.clone(), behind.clone());
        move |options: BusOptions| {
            let limits = options.limits_handle();
            let (rate, flow) = (RateLimit::new(limits.clone()), FlowLimit::new(limits));
            // The limits in the other order, and what is ours before and behind them.
            options.admission(layer_fn(move |intake| {
                let inner = rate.layer(Counting(intake, behind.clone()));
                Counting(NoBulk(flow.layer(inner)), before.clone())
            }))
        }
    };
    let bus = Running::new(admission(site.bus_options()));
    let mut agent = Agent::open(&site.path("a"), "a");
    agent.collect(10);
    agent.send(&site, &bus).await.unwrap();
    assert_eq!(
        (before.load(Ordering::Relaxed), behind.load(Ordering::Relaxed)),
        (10, 10)
    );
    // Refused by a layer, with a hint that the agent keeps to.
    let record = common::seal(&mut agent.log.sealer, Class::Bulk, 900, 4, 100);
    let at = amoskys_core::Wal::append(&*agent.log.wal, record).unwrap();
    amoskys_core::Wal::wait_durable(&*agent.log.wal, at).unwrap();
    let mut publisher = agent.publisher(&site, &bus);
    use amoskys_core::RecordSink as _;
    let error = publisher.carry(&agent.feed(0)).await.unwrap_err();
    let amoskys_transport::bus::PublishError::Connection(ConnectionError::Refused {
        reason,
        retry_after,
        ..
    }) = &error
    else {
        panic!("{error}");
    };
    assert_eq!(
        (*reason, *retry_after),
        (RefuseReason::Other, Some(Duration::from_secs(7)))
    );
    let amoskys_core::Remedy::RetryAfter(pause) = publisher.remedy(&error) else {
        panic!("{error}");
    };
    assert!(pause >= Duration::from_secs(7), "{pause:?}");
    assert_eq!(
        (before.load(Ordering::Relaxed), behind.load(Ordering::Relaxed)),
        (11, 10)
    );
    assert_eq!(bus.stop().await.ledger.accounts["bus/a"].delivered, 40);
}

#[tokio::test]
async fn rates_of_agents_can_be_changed_while_they_send() {
    let mut site = Site::new();
    site.know("a");
    let slow = limits(|limits| {
        limits.rate = Rate { events: 40, bytes: 0 };
    });
    let bus = Running::new(site.bus_options().limits(slow));
    let mut agent = Agent::open(&site.path("a"), "a");
    agent.collect(200);
    let feed = agent.feed(0);
    let mut publisher = agent.publisher(&site, &bus);
    let begun = Instant::now();
    let changed = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let taken = bus.bus.ledger().snapshot().accounts["bus/a"].delivered;
        bus.bus.set_limits(Limits::default());
        taken
    };
    let (carried, taken) = tokio::join!(carry(&mut publisher, &feed), changed);
    carried.unwrap();
    let allowed = (40.0 * (begun.elapsed().as_secs_f64() + 1.0)) as u64 + 8;
    assert!((4..=allowed.min(799)).contains(&taken), "{taken} of {allowed}");
    // All 800 at that rate would have taken twenty seconds.
    assert!(begun.elapsed() < Duration::from_secs(15));
    assert_eq!(bus.stop().await.ledger.accounts["bus/a"].delivered, 800);
}

#[tokio::test]
async fn a_full_log_is_said_and_publishers_wait_or_are_turned_away() {
    let mut site = Site::new();
    site.know("a");
    let told: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
    let heard = told.clone();
    let wal = WalOptions::new().budget_bytes(512 << 10).segment_bytes(16 << 10);
    let options = site
        .bus_options()
        .log(LogOptions::new().wal(wal))
        .keep_unread(true)
        .watch(move |why| heard.lock().unwrap().push(why.map(str::to_owned)));
    let bus = Running::new(options);
    // Somebody who has not read holds everything back.
    let connect = site.connect(&bus, Role::Analyzer, "analyzer");
    let mut reader = Subscription::new(SubscribeOptions::new(connect).position("reader"));
    take(&mut reader, 1).await;
    let mut agent = Agent::open(&site.path("a"), "a");
    agent.collect(700);
    let options = PublisherOptions::new(site.connect(&bus, Role::Agent, "a"));
    let mut publisher = Publisher::for_log(&agent.log, options);
    let feed = agent.feed(0);
    let said = |what: &dyn Fn(&Option<String>) -> bool| told.lock().unwrap().last().is_some_and(what);
    let until = async |what: &dyn Fn(&Option<String>) -> bool| {
        let begun = Instant::now();
        while !said(what) {
            assert!(begun.elapsed() < PATIENCE, "{:?}", told.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let turned_away = Arc::new(AtomicU64::new(0));
    let working = async {
        until(&|why| why.is_some()).await;
        // Who waits for too long has to go and come again.
        bus.bus.set_limits(limits(|limits| {
            limits.turn_away_after = Some(Duration::from_millis(200));
        }));
        tokio::time::sleep(Duration::from_millis(500)).await;
        bus.bus.set_limits(Limits::default());
        // The reader is done with all it got, again and again, until it has everything.
        let mut records = Vec::new();
        while records.len() < 700 {
            let taken = take(&mut reader, 1).await;
            let last = taken.last().map(|(offset, _)| offset.next());
            records.extend(site::of_agents(taken));
            reader.release(last.unwrap()).await.unwrap();
        }
        records
    };
    let carrying = async {
        use amoskys_core::RecordSink as _;
        loop {
            match publisher.carry(&feed).await {
                Ok(()) => return,
                Err(error) => {
                    turned_away.fetch_add(1, Ordering::Relaxed);
                    assert!(error.to_string().contains("busy"), "{error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    };
    let ((), records) = tokio::time::timeout(PATIENCE * 2, async { tokio::join!(carrying, working) })
        .await
        .expect("in time");
    assert_eq!(records, agent.sealed);
    assert!(turned_away.load(Ordering::Relaxed) > 0);
    until(&|why| why.is_none()).await;
    let told = told.lock().unwrap().clone();
    assert!(told.iter().flatten().any(|why| why.contains("full")), "{told:?}");
    bus.stop().await;
}

#[tokio::test]
async fn a_subscriber_stays_away_as_long_as_the_bus_says() {
    let site = Site::new();
    let limits = limits(|limits| limits.connections_of_one = 1);
    let bus = Running::new(site.bus_options().limits(limits));
    let mut first = site.subscription(&bus);
    // The bus has written down that it was started.
    take(&mut first, 1).await;
    let mut second = site.subscription(&bus);
    let error = second.next_records().await.unwrap_err();
    let SubscribeError::Connection(ConnectionError::Refused {
        reason: RefuseReason::Busy,
        retry_after: Some(told),
        ..
    }) = &error
    else {
        panic!("{error:?}");
    };
    assert!(*told >= Duration::from_secs(1));
    match second.remedy(&error) {
        Remedy::RetryAfter(pause) => assert!(pause >= *told && pause <= *told * 2, "{pause:?}"),
        other => panic!("{other:?}"),
    }
    drop(first);
    bus.stop().await;
}
