//! How long an event takes from its collector to where others can rely on it, while events come at a steady rate.
//!
//! The collector is part of a pipeline with default settings. An event is due at a time that does not depend on how
//! fast the rest is, and carries it; so what has to wait is measured as having waited.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use amoskys_core::pipeline::Pipeline;
use amoskys_core::{
    Batch, Collector, Event, Offset, Open, Payload, RecordFeed, RecordSink, RecordSource, Remedy, Shutdown,
};
use amoskys_transport::bus::{
    PublishError, Publisher, PublisherOptions, Start, SubscribeOptions, Subscription,
};
use amoskys_transport::{Log, LogOptions, Opener};
use bytes::{Bytes, BytesMut};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, timeout};

use crate::batches::{EVENT_BYTES, Random, event};
use crate::round::Failure;
use crate::site::{Site, log_files};

/// Events a second.
pub(crate) const RATE: u64 = 10_000;
/// How often the collector gives events.
const TICK: Duration = Duration::from_millis(1);
/// How often it is asked what is acknowledged.
const LOOK: Duration = Duration::from_micros(200);
/// How long may pass without an event before it is given up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Times from the collector, of each event.
#[derive(Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    /// The time that this part of the events did not exceed.
    pub(crate) fn percentile(&mut self, percent: usize) -> Duration {
        self.0.sort_unstable();
        let last = self.0.len().saturating_sub(1);
        self.0.get(last * percent / 100).copied().unwrap_or_default()
    }

    /// Takes the events of a record that has arrived now.
    fn take(&mut self, begun: Instant, record: &Bytes) -> Result<(), Failure> {
        let now = begun.elapsed();
        for event in Opener::unchecked().open(record)?.events {
            let Payload::Unknown { bytes, .. } = &event.payload else {
                continue;
            };
            let due = bytes.first_chunk::<8>().ok_or("an event is too short")?;
            self.0
                .push(now.saturating_sub(Duration::from_nanos(u64::from_le_bytes(*due))));
        }
        Ok(())
    }
}

/// Sends at [`RATE`] for this long. Returns the times until an agent knows that the bus has it on disk, and until a
/// subscriber has it.
pub(crate) async fn measure(
    site: &Site,
    agent: &str,
    time: Duration,
) -> Result<(Latencies, Latencies), Failure> {
    let begun = Instant::now();
    let count = RATE * time.as_secs();
    let subscriber = SubscribeOptions::new(site.connect("analyzer", site.address)?)
        .start(Start::Latest)
        .agents([agent]);
    let receiving = tokio::spawn(receive(Subscription::new(subscriber), begun, count));
    // It must have begun before the first event comes.
    sleep(Duration::from_millis(500)).await;

    let options = LogOptions::new()
        .agent(agent)
        .key_file(site.credentials(agent).signing_key)
        .wal(log_files());
    let log = Log::open(site.dir.join(agent), options)?;
    let publisher = Publisher::for_log(&log, PublisherOptions::new(site.connect(agent, site.address)?));
    let durable = Arc::new(Mutex::new(Latencies::default()));
    let pipeline = Pipeline::builder()
        .collector(Paced::new(begun, count))
        .log(log)
        .record_sink(Watched {
            publisher,
            begun,
            durable: durable.clone(),
        })
        .build()?;
    let report = pipeline.run(Shutdown::new()).await?;
    if let Some((part, error)) = report.failures.into_iter().next() {
        return Err(format!("{part} failed: {error}").into());
    }
    let received = receiving.await??;
    let durable = std::mem::take(&mut *durable.lock().unwrap_or_else(PoisonError::into_inner));
    if durable.0.len() as u64 != count {
        return Err(format!("{} of {count} events were acknowledged", durable.0.len()).into());
    }
    Ok((durable, received))
}

async fn receive(mut subscription: Subscription, begun: Instant, count: u64) -> Result<Latencies, Failure> {
    let mut latencies = Latencies::default();
    while (latencies.0.len() as u64) < count {
        let records = timeout(PATIENCE, subscription.next_records()).await??;
        for (_, record) in records.unwrap_or_default() {
            latencies.take(begun, &record)?;
        }
    }
    Ok(latencies)
}

/// Gives each event when it is due.
struct Paced {
    begun: Instant,
    first: Duration,
    given: u64,
    count: u64,
    tick: Option<Interval>,
    random: Random,
}

impl Paced {
    fn new(begun: Instant, count: u64) -> Self {
        Self {
            begun,
            first: begun.elapsed(),
            given: 0,
            count,
            tick: None,
            random: Random(0x2545_f491_4f6c_dd1d),
        }
    }

    fn due(&self) -> Duration {
        self.first + Duration::from_nanos(self.given * (1_000_000_000 / RATE))
    }
}

impl Collector for Paced {
    type Error = Infallible;

    fn source(&self) -> &str {
        "paced"
    }

    async fn next_batch(&mut self) -> Result<Option<Batch>, Infallible> {
        if self.given == self.count {
            return Ok(None);
        }
        let tick = self.tick.get_or_insert_with(|| {
            let mut tick = interval(TICK);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            tick
        });
        tick.tick().await;
        let now = self.begun.elapsed();
        let mut events: Vec<Event> = Vec::new();
        while self.given < self.count && self.due() <= now {
            let due = u64::try_from(self.due().as_nanos()).unwrap_or(u64::MAX);
            let mut bytes = BytesMut::from(&due.to_le_bytes()[..]);
            bytes.extend_from_slice(&self.random.bytes(EVENT_BYTES - 8));
            events.push(event(self.given, bytes.freeze()));
            self.given += 1;
        }
        Ok(Some(Batch::of(events)))
    }
}

/// A publisher, and a look at what it has acknowledged.
struct Watched {
    publisher: Publisher,
    begun: Instant,
    durable: Arc<Mutex<Latencies>>,
}

impl RecordSink for Watched {
    type Error = PublishError;

    fn name(&self) -> &str {
        self.publisher.name()
    }

    async fn carry(&mut self, feed: &RecordFeed) -> Result<(), PublishError> {
        let mut seen = feed.acknowledged();
        let result = {
            let mut carrying = std::pin::pin!(self.publisher.carry(feed));
            loop {
                tokio::select! {
                    result = &mut carrying => break result,
                    () = sleep(LOOK) => note(feed, &mut seen, self.begun, &self.durable),
                }
            }
        };
        note(feed, &mut seen, self.begun, &self.durable);
        result
    }

    fn remedy(&self, error: &PublishError) -> Remedy {
        self.publisher.remedy(error)
    }
}

/// Takes the records that were acknowledged since. If one is missing, the number of events in the end tells.
fn note(feed: &RecordFeed, seen: &mut Offset, begun: Instant, durable: &Mutex<Latencies>) {
    let acknowledged = feed.acknowledged();
    while *seen < acknowledged {
        let Ok(records) = feed.read(*seen, 1 << 20) else {
            return;
        };
        let Some((last, _)) = records.last() else { return };
        let next = last.next().min(acknowledged);
        for (_, record) in records.iter().filter(|(offset, _)| *offset < acknowledged) {
            let mut durable = durable.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = durable.take(begun, record) {
                eprintln!("a record cannot be opened: {error}");
            }
        }
        *seen = next;
    }
}
