//! What a pipeline promises: everything collected arrives once and in order, whatever stops in between, and
//! the ledger says so.
#![cfg(feature = "pipeline")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use amoskys_core::config::Config;
use amoskys_core::event::{Class, Payload, Value};
use amoskys_core::memory::{MemoryCollector, MemorySink, MemoryWal, PlainOpen, push};
use amoskys_core::pipeline::{BatchLimits, BuildError, Pipeline, Retention};
use amoskys_core::{Batch, Collector, DropReason, Event, Outcome, Remedy, Sink, Wal};
use amoskys_core::{Recorded, Seq, Shutdown, read_log};

use support::{Counting, assert_balanced, log_on, numbered, ordinals};

#[tokio::test]
async fn delivers_everything_once_and_in_order() {
    let (sink, collected) = MemorySink::new("all");
    let pipeline = Pipeline::builder()
        .collector(MemoryCollector::new("numbers", numbered(5000)))
        .sink(sink)
        .build()
        .expect("build");
    let report = pipeline.run(Shutdown::new()).await.expect("run");
    let events = collected.events();
    assert_eq!(ordinals(&events), (0..5000).collect::<Vec<_>>());
    for (at, event) in events.iter().enumerate() {
        assert_eq!(event.seq, Seq(at as u64));
    }
    assert!(report.failures.is_empty());
    assert_balanced(&report.ledger);
    assert_eq!(report.ledger.accounts["collect/numbers"].delivered, 5000);
    assert_eq!(report.ledger.accounts["log/numbers"].delivered, 5000);
    assert_eq!(report.ledger.accounts["sink/all"].delivered, 5000);
}

#[tokio::test]
async fn transforms_redact_and_drop_before_sealing() {
    let wal = MemoryWal::new(1 << 20);
    let (sink, collected) = MemorySink::new("all");
    let pipeline = Pipeline::builder()
        .collector(MemoryCollector::new("numbers", numbered(100)))
        .transform(|event: &mut Event| {
            event
                .attributes
                .insert("user".to_owned(), Value::Text("redacted".to_owned()));
            Outcome::Keep
        })
        .transform(|event: &mut Event| match event.id.ordinal % 10 {
            0 => Outcome::Drop(DropReason::FILTERED),
            _ => Outcome::Keep,
        })
        .log(log_on(&wal))
        .sink(sink)
        .build()
        .expect("build");
    let report = pipeline.run(Shutdown::new()).await.expect("run");
    let events = collected.events();
    assert_eq!(events.len(), 90);
    let secret = b"alice";
    for event in &events {
        assert_eq!(event.event.attributes["user"], Value::Text("redacted".to_owned()));
    }
    for (_, record) in wal.read(wal.first(), usize::MAX).expect("read") {
        assert!(
            !record.windows(secret.len()).any(|w| w == secret),
            "the log holds what was to be redacted"
        );
    }
    assert_balanced(&report.ledger);
    assert_eq!(
        report.ledger.accounts["log/numbers"].dropped[&DropReason::FILTERED],
        10
    );
}

#[tokio::test]
async fn shutdown_drains_what_was_collected() {
    let shutdown = Shutdown::new();
    let (sink, collected) = MemorySink::new("all");
    let (handle, pushed) = push("host", 1000);
    let pipeline = Pipeline::builder()
        .collector(pushed)
        .sink(sink)
        .build()
        .expect("build");
    let run = tokio::spawn(pipeline.run(shutdown.clone()));
    for event in numbered(500) {
        handle.try_push(event).expect("there is room");
    }
    shutdown.trigger();
    let report = run.await.expect("join").expect("run");
    assert_balanced(&report.ledger);
    assert_eq!(
        ordinals(&collected.events()),
        (0..500).collect::<Vec<_>>(),
        "what was accepted is delivered"
    );
    let refused = handle.try_push(Event::default());
    assert!(refused.is_err(), "a stopped pipeline takes no more");
}

#[tokio::test]
async fn a_full_queue_gives_the_event_back() {
    let (handle, _collector) = push("host", 2);
    handle.try_push(Event::default()).expect("room for one");
    handle.try_push(Event::default()).expect("room for two");
    let third = Event {
        device: "third".into(),
        ..Event::default()
    };
    let refused = handle.try_push(third.clone()).expect_err("no room for three");
    assert_eq!(refused.into_event(), third);
}

/// Fails twice before each batch.
struct Flaky {
    inner: MemoryCollector,
    failures: u32,
}

impl Collector for Flaky {
    type Error = std::io::Error;

    fn source(&self) -> &str {
        self.inner.source()
    }

    async fn next_batch(&mut self) -> Result<Option<Batch>, std::io::Error> {
        self.failures += 1;
        if !self.failures.is_multiple_of(3) {
            return Err(std::io::Error::other("the link is down"));
        }
        Ok(self.inner.next_batch().await.expect("memory does not fail"))
    }

    fn remedy(&self, _: &std::io::Error) -> Remedy {
        Remedy::RetryAfter(Duration::from_millis(1))
    }
}

#[tokio::test]
async fn a_failing_collector_is_tried_again() {
    let (sink, collected) = MemorySink::new("all");
    let collector = Flaky {
        inner: MemoryCollector::new("flaky", numbered(300)),
        failures: 0,
    };
    let pipeline = Pipeline::builder()
        .collector(collector)
        .sink(sink)
        .build()
        .expect("build");
    let report = pipeline.run(Shutdown::new()).await.expect("run");
    assert_eq!(ordinals(&collected.events()), (0..300).collect::<Vec<_>>());
    assert!(report.failures.is_empty());
    assert_balanced(&report.ledger);
}

/// A live source whose interface is gone.
struct Unplugged;

impl Collector for Unplugged {
    type Error = std::io::Error;

    fn source(&self) -> &str {
        "unplugged"
    }

    async fn next_batch(&mut self) -> Result<Option<Batch>, std::io::Error> {
        Err(std::io::Error::other("there is no such interface"))
    }

    fn remedy(&self, _: &std::io::Error) -> Remedy {
        Remedy::RetryAfter(Duration::from_millis(100))
    }

    fn stop(&mut self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_source_that_cannot_be_reached_does_not_hold_up_the_end() {
    let shutdown = Shutdown::new();
    let (sink, _) = MemorySink::new("all");
    let pipeline = Pipeline::builder().collector(Unplugged).sink(sink);
    let run = tokio::spawn(pipeline.build().expect("build").run(shutdown.clone()));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let begun = std::time::Instant::now();
    shutdown.trigger();
    let report = run.await.expect("join").expect("run");
    // Patience is 30 s.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(report.failures.is_empty());
    assert_balanced(&report.ledger);
}

/// Ends for good at its first call.
struct Broken;

impl Collector for Broken {
    type Error = std::io::Error;

    fn source(&self) -> &str {
        "broken"
    }

    async fn next_batch(&mut self) -> Result<Option<Batch>, std::io::Error> {
        Err(std::io::Error::other("no such device"))
    }

    fn remedy(&self, _: &std::io::Error) -> Remedy {
        Remedy::Fatal
    }
}

#[tokio::test]
async fn a_broken_collector_stops_nobody_else() {
    let (sink, collected) = MemorySink::new("all");
    let pipeline = Pipeline::builder()
        .collector(Broken)
        .collector(MemoryCollector::new("numbers", numbered(300)))
        .sink(sink)
        .build()
        .expect("build");
    let report = pipeline.run(Shutdown::new()).await.expect("run");
    assert_eq!(collected.events().len(), 300);
    assert_eq!(report.failures.len(), 1);
    assert_eq!(report.failures[0].0, "collector broken");
}

/// Fails a few times, then takes everything; or fails for good.
struct FlakySink {
    inner: MemorySink,
    name: &'static str,
    left: Arc<AtomicU32>,
    remedy: Remedy,
}

impl Sink for FlakySink {
    type Error = std::io::Error;

    fn name(&self) -> &str {
        self.name
    }

    async fn write(&mut self, events: &[Recorded]) -> Result<(), std::io::Error> {
        let failing = |left: u32| left.checked_sub(1);
        if self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, failing)
            .is_ok()
        {
            return Err(std::io::Error::other("the disk is full"));
        }
        self.inner.write(events).await.expect("memory does not fail");
        Ok(())
    }

    fn remedy(&self, _: &std::io::Error) -> Remedy {
        self.remedy
    }
}

#[tokio::test]
async fn a_failing_sink_is_tried_again_and_disturbs_nobody() {
    let (good, good_events) = MemorySink::new("good");
    let (inner, flaky_events) = MemorySink::new("inner");
    let remedy = Remedy::RetryAfter(Duration::from_millis(1));
    let flaky = FlakySink {
        inner,
        name: "flaky",
        left: Arc::new(AtomicU32::new(5)),
        remedy,
    };
    let (inner, _) = MemorySink::new("inner");
    let broken = FlakySink {
        inner,
        name: "broken",
        left: Arc::new(AtomicU32::new(u32::MAX)),
        remedy: Remedy::Fatal,
    };
    let pipeline = Pipeline::builder()
        .collector(MemoryCollector::new("numbers", numbered(2000)))
        .sink(good)
        .sink(flaky)
        .sink(broken)
        .build()
        .expect("build");
    let report = pipeline.run(Shutdown::new()).await.expect("run");
    assert_eq!(ordinals(&good_events.events()), (0..2000).collect::<Vec<_>>());
    assert_eq!(ordinals(&flaky_events.events()), (0..2000).collect::<Vec<_>>());
    assert_eq!(report.failures.len(), 1);
    assert_eq!(report.failures[0].0, "sink broken");
    assert_balanced(&report.ledger);
}

#[tokio::test]
async fn a_sink_may_refuse_events_and_they_are_counted() {
    let (inner, taken) = MemorySink::new("inner");
    let picky = FlakySink {
        inner,
        name: "picky",
        left: Arc::new(AtomicU32::new(1)),
        remedy: Remedy::Reject,
    };
    let pipeline = Pipeline::builder()
        .collector(MemoryCollector::new("numbers", numbered(100)).batch_events(100))
        .limits(BatchLimits {
            max_events: 10,
            ..BatchLimits::default()
        })
        .sink(picky)
        .build()
        .expect("build");
    let report = pipeline.run(Shutdown::new()).await.expect("run");
    assert_eq!(taken.events().len(), 90);
    assert_eq!(
        report.ledger.accounts["sink/picky"].dropped[&DropReason::REJECTED],
        10
    );
    assert_balanced(&report.ledger);
}

#[tokio::test]
async fn settings_of_batches_decide_how_many_events_a_record_holds() {
    let wal = MemoryWal::new(1 << 20);
    let settings = Config::loader().set("batch.max_events", "10");
    let config = settings.load().expect("settings").config;
    let pipeline = Pipeline::builder()
        .collector(MemoryCollector::new("numbers", numbered(100)).batch_events(100))
        .limits(BatchLimits::from(&config.batch))
        .retention(Retention::UntilFull)
        .log(log_on(&wal))
        .build()
        .expect("build");
    pipeline.run(Shutdown::new()).await.expect("run");
    let records = read_log(&wal, &PlainOpen).map(|opened| opened.expect("a record").1);
    let telemetry = records.filter(|opened| opened.stream.class == Class::Telemetry);
    let sizes: Vec<usize> = telemetry.map(|opened| opened.events.len()).collect();
    assert_eq!(sizes, [10; 10]);
    assert_eq!(
        BatchLimits::from(&Config::default().batch),
        BatchLimits::default()
    );
}

#[tokio::test]
async fn a_small_log_holds_up_the_collectors_and_loses_nothing() {
    let wal = MemoryWal::new(64 << 10);
    let (sink, collected) = MemorySink::new("all");
    let pipeline = Pipeline::builder()
        .collector(MemoryCollector::new("numbers", numbered(20_000)))
        .limits(BatchLimits {
            max_events: 50,
            ..BatchLimits::default()
        })
        .log(log_on(&wal))
        .analyzer(Counting::every(100))
        .sink(sink)
        .build()
        .expect("build");
    let run = tokio::time::timeout(Duration::from_secs(60), pipeline.run(Shutdown::new()));
    let report = run
        .await
        .expect("a full log must not stop for ever")
        .expect("run");
    let events = collected.events();
    let telemetry: Vec<Recorded> = events
        .iter()
        .filter(|event| event.stream.class == Class::Telemetry)
        .cloned()
        .collect();
    assert_eq!(ordinals(&telemetry), (0..20_000).collect::<Vec<_>>());
    assert_eq!(
        events.len() - telemetry.len(),
        200,
        "one verdict for each hundred events"
    );
    assert!(wal.used_bytes() <= 64 << 10);
    assert_balanced(&report.ledger);
}

#[tokio::test]
async fn verdicts_are_events_of_class_alert() {
    let (all, _) = MemorySink::new("all");
    let (alerts, collected) = MemorySink::new("alerts");
    let pipeline = Pipeline::builder()
        .collector(MemoryCollector::new("numbers", numbered(1000)))
        .analyzer(Counting::every(100))
        .sink(all)
        .sink_of(Class::Alert, alerts)
        .build()
        .expect("build");
    let report = pipeline.run(Shutdown::new()).await.expect("run");
    let verdicts = collected.events();
    assert_eq!(verdicts.len(), 10);
    for (at, verdict) in verdicts.iter().enumerate() {
        assert_eq!(verdict.seq, Seq(at as u64));
        assert!(matches!(&verdict.event.payload, Payload::Verdict(v) if v.score > 0.7));
    }
    assert_eq!(report.ledger.accounts["analysis"].delivered, 1000);
    assert_eq!(report.ledger.accounts["sink/all"].delivered, 1010);
    assert_balanced(&report.ledger);
}

#[tokio::test]
async fn two_pipelines_in_one_process_do_not_meet() {
    let run = |name: &'static str, count: u64| async move {
        let (sink, collected) = MemorySink::new("all");
        let pipeline = Pipeline::builder()
            .name(name)
            .collector(MemoryCollector::new("numbers", numbered(count)))
            .sink(sink)
            .build()
            .expect("build");
        let report = pipeline.run(Shutdown::new()).await.expect("run");
        assert_balanced(&report.ledger);
        assert_eq!(report.ledger.accounts["sink/all"].delivered, count);
        assert_eq!(collected.events().len() as u64, count);
    };
    tokio::join!(run("one", 1500), run("two", 2500));
}

#[test]
fn what_cannot_run_is_refused_before_it_starts() {
    assert_eq!(Pipeline::builder().build().err(), Some(BuildError::NoCollector));
    let twice = Pipeline::builder()
        .collector(MemoryCollector::new("same", vec![]))
        .collector(MemoryCollector::new("same", vec![]))
        .build();
    assert_eq!(
        twice.err(),
        Some(BuildError::Name {
            kind: "collector",
            name: "same".to_owned()
        })
    );
    let reserved = Pipeline::builder()
        .collector(MemoryCollector::new("analysis", vec![]))
        .build();
    assert!(matches!(reserved, Err(BuildError::Name { .. })));
    let limit = Pipeline::builder()
        .collector(MemoryCollector::new("one", vec![]))
        .limits(BatchLimits {
            max_bytes: (16 << 20) + 1,
            ..BatchLimits::default()
        })
        .build();
    assert!(matches!(limit, Err(BuildError::Limit { key: "max_bytes", .. })));
}
