//! What the killed processes do.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use amoskys_core::{
    Class, EventId, Name, Offset, RecordFeed, RecordSink, Remedy, Seal, Shutdown, Unsealed, Wal, WalError,
};
use amoskys_transport::bus::{Bus, BusOptions, ConnectOptions, Publisher, PublisherOptions};
use amoskys_transport::identity::Credentials;
use amoskys_transport::testing::Random;
use amoskys_transport::{Log, LogOptions, TrustMap, WalOptions};

use crate::member::Heads;
use crate::{AGENT, Failure};

/// The classes of the agent's two streams.
pub(crate) const CLASSES: [Class; 2] = [Class::Telemetry, Class::Alert];
/// Records that may be in the log without being acknowledged.
const IN_FLIGHT: u64 = 512;
/// Acknowledged records that the agent keeps.
const KEPT: u64 = 256;

pub(crate) fn options(dir: &Path, name: &str) -> (Credentials, LogOptions) {
    let files = Credentials::in_dir(dir.join("pki"), name);
    // Small, so that a little load makes many segments, and deletes many.
    let wal = WalOptions::new().budget_bytes(64 << 20).segment_bytes(64 << 10);
    let log = LogOptions::new()
        .agent(name)
        .wal(wal)
        .key_file(&files.signing_key);
    (files, log)
}

/// How far a log has the agent's streams.
fn heads(log: &Log) -> Heads {
    let heads = log.heads();
    CLASSES.map(|class| {
        let own = |stream: &amoskys_core::StreamId| stream.agent.as_str() == AGENT && stream.class == class;
        let mut of_class = heads.iter().filter(|(stream, _)| own(stream));
        of_class.next_back().map_or(0, |(_, head)| head.next.0)
    })
}

fn say(word: &str, heads: Heads) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{word} {} {}", heads[0], heads[1])
}

/// Triggered when the parent closes the input, or is no more.
fn stop_at_end_of_input() -> Shutdown {
    let stop = Shutdown::new();
    let told = stop.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        told.trigger();
    });
    stop
}

/// The bus, until the end of the input.
pub(crate) async fn bus(dir: &Path, port: u16) -> Result<(), Failure> {
    let stop = stop_at_end_of_input();
    let (files, log) = options(dir, "bus");
    let data = dir.join("bus");
    // What is there after a crash, before anyone sends again.
    say("opened", heads(&Log::open(&data, log.clone())?))?;
    let options = BusOptions::new(data, files.tls.server_config()?, TrustMap::load(&files.trust)?)
        .listen(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .log(log)
        .retain_bytes(2 << 20)
        .keep_unread(true);
    let bus = Bus::open(options)?;
    writeln!(std::io::stdout(), "port {}", bus.local_addr().port())?;
    bus.serve(stop).await?;
    Ok(())
}

/// The agent: seals and publishes without a pause, until the end of the input.
pub(crate) async fn agent(dir: &Path, port: u16) -> Result<(), Failure> {
    let stop = stop_at_end_of_input();
    let (files, options) = options(dir, AGENT);
    let log = Log::open(dir.join(AGENT), options)?;
    say("opened", heads(&log))?;
    let connect = ConnectOptions::new(format!("localhost:{port}"), files.tls.client_config()?)
        .retry(Duration::from_millis(5), Duration::from_millis(50));
    let mut publisher = Publisher::for_log(&log, PublisherOptions::new(connect));
    let feed = RecordFeed::new(log.wal.clone(), Offset(0));
    let carried = feed.clone();
    let sealing = tokio::task::spawn_blocking(move || seal(log, &carried, &stop));
    let carrying = async {
        while let Err(error) = publisher.carry(&feed).await {
            match publisher.remedy(&error) {
                Remedy::RetryAfter(pause) => tokio::time::sleep(pause).await,
                _ => return Err(Failure::from(error)),
            }
        }
        Ok(())
    };
    let sealed = async { sealing.await? };
    tokio::try_join!(carrying, sealed)?;
    Ok(())
}

/// Fills the log, and says what is durable in it and what the bus has acknowledged.
fn seal(mut log: Log, feed: &RecordFeed, stop: &Shutdown) -> Result<(), Failure> {
    let (mut random, source) = (Random::new(log.wal.durable().0), Name::from("random"));
    // Offsets behind which the streams were so far, not acknowledged yet.
    let mut waiting = VecDeque::from([(log.wal.durable(), heads(&log))]);
    loop {
        let acknowledged = feed.acknowledged();
        let mut news = None;
        while let Some(&(offset, heads)) = waiting.front()
            && offset <= acknowledged
        {
            waiting.pop_front();
            news = Some(heads);
        }
        if let Some(heads) = news {
            say("acknowledged", heads)?;
        }
        let end = log.wal.durable();
        if stop.is_triggered() {
            feed.end(end);
            if waiting.is_empty() {
                return Ok(());
            }
        }
        if stop.is_triggered() || end.0 - acknowledged.0 > IN_FLIGHT {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        log.wal.trim(Offset(acknowledged.0.saturating_sub(KEPT)))?;
        // Some alone, some several to a commit.
        let mut last = None;
        for _ in 0..=random.below(4) {
            let class = CLASSES[usize::from(random.below(3) == 0)];
            let next = log.sealer.head(class).next.0;
            let id = |ordinal| EventId { origin: 1, ordinal };
            let events: Vec<_> = (next..next + 1 + random.below(8))
                .map(|ordinal| {
                    let len = random.below(150) as usize;
                    random.event(id(ordinal), class, len)
                })
                .collect();
            let sealed = log.sealer.seal(Unsealed {
                class,
                source: &source,
                events: &events,
                position: None,
                ledger: None,
            })?;
            last = Some(loop {
                match log.wal.append(sealed.record.clone()) {
                    Ok(offset) => break offset,
                    Err(WalError::Full { .. }) => std::thread::sleep(Duration::from_millis(1)),
                    Err(error) => return Err(error.into()),
                }
            });
        }
        if let Some(last) = last {
            log.wal.wait_durable(last)?;
            let heads = CLASSES.map(|class| log.sealer.head(class).next.0);
            say("durable", heads)?;
            waiting.push_back((last.next(), heads));
        }
    }
}
