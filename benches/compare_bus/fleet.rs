//! Ours: agents that seal into logs of their own, and publishers that carry these to the bus.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use amoskys_core::{
    Class, Event, Name, Offset, RecordFeed, RecordSink, Remedy, Seal, Unsealed, Wal, WalError,
};
use amoskys_transport::bus::{PublishError, Publisher, PublisherOptions};
use amoskys_transport::{Compression, Log, LogOptions, Sealer, SledWal};
use tokio::task::JoinHandle;

use crate::batches::EVENTS;
use crate::round::{Failure, Round, Stopwatch};
use crate::site::{Site, log_files};

/// Batches of an agent that may be sealed and not acknowledged.
pub(crate) const IN_FLIGHT: u64 = 64;
/// How often an agent looks whether it may go on.
const LOOK: Duration = Duration::from_micros(500);
/// How often an agent's log forgets what is acknowledged, as in a pipeline.
const TRIM: Duration = Duration::from_millis(100);

/// Some agents that do the same.
pub(crate) struct Fleet {
    agents: Vec<Agent>,
}

struct Agent {
    wal: Arc<SledWal>,
    /// Not there while it is used.
    sealer: Option<Sealer>,
    feed: RecordFeed,
    batches: Arc<Vec<Vec<Event>>>,
    carrying: JoinHandle<Result<(), PublishError>>,
}

impl Fleet {
    /// Opens the agents' logs, and connects them.
    pub(crate) fn connect(
        site: &Site,
        names: &[String],
        address: SocketAddr,
        compression: Compression,
        batches: &Arc<Vec<Vec<Event>>>,
    ) -> Result<Self, Failure> {
        let mut agents = Vec::new();
        for name in names {
            let options = LogOptions::new()
                .agent(name.as_str())
                .key_file(site.credentials(name).signing_key)
                .compression(compression)
                .wal(log_files());
            let log = Log::open(site.dir.join(name), options)?;
            let publisher = PublisherOptions::new(site.connect(name, address)?);
            let mut publisher = Publisher::for_log(&log, publisher);
            let feed = RecordFeed::new(log.wal.clone(), Offset(0));
            let carried = feed.clone();
            agents.push(Agent {
                wal: log.wal,
                sealer: Some(log.sealer),
                feed,
                batches: batches.clone(),
                carrying: tokio::spawn(async move { carry(&mut publisher, &carried).await }),
            });
        }
        Ok(Self { agents })
    }

    /// Seals and sends for this long, until all of it is acknowledged.
    pub(crate) async fn run(&mut self, time: Duration) -> Result<Round, Failure> {
        let before = self.agents.iter().map(|agent| agent.feed.acknowledged().0);
        let before: u64 = before.sum();
        let watch = Stopwatch::start();
        let until = Instant::now() + time;
        let mut sealing = Vec::new();
        for agent in &mut self.agents {
            let sealer = agent.sealer.take().ok_or("the round before failed")?;
            let (wal, feed, batches) = (agent.wal.clone(), agent.feed.clone(), agent.batches.clone());
            let seal = move || seal(sealer, &wal, &feed, &batches, until);
            sealing.push(tokio::task::spawn_blocking(seal));
        }
        let mut after = 0;
        for (agent, sealing) in self.agents.iter_mut().zip(sealing) {
            let (sealer, end) = sealing.await??;
            agent.sealer = Some(sealer);
            while agent.feed.acknowledged() < end {
                if agent.carrying.is_finished() {
                    return Err("a publisher has ended".into());
                }
                tokio::time::sleep(LOOK).await;
            }
            after += end.0;
        }
        Ok(watch.stop((after - before) * EVENTS as u64))
    }

    /// Ends the connections.
    pub(crate) async fn end(self) -> Result<(), Failure> {
        for agent in self.agents {
            agent.feed.end(agent.wal.durable());
            agent.carrying.await??;
        }
        Ok(())
    }
}

/// Carries as a pipeline does.
async fn carry(publisher: &mut Publisher, feed: &RecordFeed) -> Result<(), PublishError> {
    while let Err(error) = publisher.carry(feed).await {
        match publisher.remedy(&error) {
            Remedy::RetryAfter(pause) => tokio::time::sleep(pause).await,
            _ => return Err(error),
        }
    }
    Ok(())
}

/// Seals batches in turn. Returns where the log ends.
fn seal(
    mut sealer: Sealer,
    wal: &SledWal,
    feed: &RecordFeed,
    batches: &[Vec<Event>],
    until: Instant,
) -> Result<(Sealer, Offset), Failure> {
    let source = Name::from("bench");
    let mut next = wal.durable();
    let mut trimmed = Instant::now();
    let mut batches = batches.iter().cycle();
    while Instant::now() < until {
        if trimmed.elapsed() >= TRIM {
            wal.trim(feed.acknowledged())?;
            trimmed = Instant::now();
        }
        if next.0 - feed.acknowledged().0 >= IN_FLIGHT {
            std::thread::sleep(LOOK);
            continue;
        }
        let events = batches.next().ok_or("there are no batches")?;
        let sealed = sealer.seal(Unsealed {
            class: Class::Telemetry,
            source: &source,
            events,
            position: None,
            ledger: None,
        })?;
        next = loop {
            match wal.append(sealed.record.clone()) {
                Ok(offset) => break offset.next(),
                Err(WalError::Full { .. }) => std::thread::sleep(LOOK),
                Err(error) => return Err(error.into()),
            }
        };
    }
    Ok((sealer, next))
}
