use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};

use crate::collector::{BoxCollector, Collector};
use crate::error::{BoxError, Chain};
use crate::id::{Name, Offset};
use crate::ledger::{Ledger, LedgerSnapshot};
use crate::record::{RecordFeed, RecordSink};
use crate::seal::Open;
use crate::shutdown::Shutdown;
use crate::sink::Sink;
use crate::wal::{Wal, WalError};

use super::analysis::{self, Analysis};
use super::buffer::Buffer;
use super::carry::Carrier;
use super::collect::collect;
use super::consumer::Consumer;
use super::delivery::Delivery;
use super::recovery::{Bookmark, Recovery};
use super::writer::Writer;
use super::{Pipeline, exporter};

/// Batches on their way from the collectors to the writer.
const BATCH_QUEUE: usize = 4;
/// Groups of verdicts on their way to the writer.
const VERDICT_QUEUE: usize = 16;
const PUBLISH_EVERY: Duration = Duration::from_secs(1);

/// How a run ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct Report {
    /// The ledger at the end. Pending is what stays in the log for a later run.
    pub ledger: LedgerSnapshot,
    /// Parts that failed for good while the others went on: their names and errors.
    pub failures: Vec<(String, BoxError)>,
    /// Records that could not be opened, of those at the end of the log that were read when the run began.
    pub damaged_records: u64,
    /// The first offset behind the log.
    pub log_end: Offset,
}

/// Why a pipeline could not run. What was durable is safe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// The log failed.
    #[error("the pipeline's log failed")]
    Log(#[source] WalError),
    /// A collector could not go on from where it was. Repair the source, or start with an empty log.
    #[error("collector {collector} cannot resume")]
    Resume {
        /// Name of the collector.
        collector: String,
        /// Its error.
        source: BoxError,
    },
    /// A part of the pipeline itself panicked, which is a defect.
    #[error("the {part} panicked")]
    Panicked {
        /// Which part.
        part: &'static str,
        /// The panic.
        source: BoxError,
    },
}

impl From<WalError> for PipelineError {
    fn from(error: WalError) -> Self {
        Self::Log(error)
    }
}

impl Pipeline {
    /// Runs until every collector has ended, or `shutdown` is triggered and what is in memory is in the log
    /// and delivered.
    ///
    /// It must be called inside a tokio runtime with time enabled (and whatever else its parts need); sealing,
    /// reading and analysis run on the runtime's threads for blocking work.
    ///
    /// # Errors
    ///
    /// If the log fails or a collector cannot resume. A collector or sink that fails for good does not end the
    /// run: see [`Report::failures`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the collectors at once. What they had handed over is still written in the
    /// background, but sinks are not waited for. Trigger `shutdown` instead.
    pub async fn run(self, shutdown: Shutdown) -> Result<Report, PipelineError> {
        let Self {
            name,
            mut collectors,
            transforms,
            log: parts,
            mut analyzers,
            sinks,
            record_sinks,
            record_source,
            merge,
            ledger,
            ..
        } = self;
        let log = LogReader {
            wal: parts.wal,
            open: parts.open,
        };

        let mut place = analysis::Place::new(merge, &log);
        if !analyzers.is_empty() {
            place.restore(&mut analyzers, &log, record_source.is_none(), &ledger)?;
        }
        // Analyzers that begin anew draw all verdicts again, so all that are there have to be known.
        let all = !analyzers.is_empty() && !place.is_resumed();
        let reading = log.clone();
        let mut recovery = match tokio::task::spawn_blocking(move || Recovery::read(&reading, all)).await {
            Ok(recovery) => recovery?,
            Err(error) => return Err(panicked("recovery", error)),
        };
        let buffers = resume(&mut collectors, &mut recovery, &ledger).await?;

        let mut positions = Vec::new();
        if !analyzers.is_empty() {
            positions.push(match record_source {
                // What it drew since the last checkpoint is drawn again, and recognised by what the log holds.
                Some(_) => place.own.unwrap_or(log.wal.first()),
                None => place.from,
            });
        }
        for part in &sinks {
            let stage = part.stage();
            let bookmark = Bookmark::load(&log, &stage)?;
            positions.push(
                bookmark
                    .as_ref()
                    // An older note may lie before what the log still holds.
                    .map_or(log.wal.first(), |bookmark| bookmark.offset.max(log.wal.first())),
            );
            if let Some(bookmark) = bookmark {
                ledger.set(&stage, bookmark.account);
            }
        }

        let mut feeds = Vec::new();
        for sink in &record_sinks {
            let stage = format!("carry/{}", sink.name());
            let bookmark = Bookmark::load(&log, &stage)?;
            let from = bookmark
                .as_ref()
                .map_or(log.wal.first(), |bookmark| bookmark.offset.max(log.wal.first()));
            positions.push(from);
            if let Some(bookmark) = bookmark {
                // What was on its way and not acknowledged will be received again.
                let mut account = bookmark.account;
                account.received = account
                    .received
                    .saturating_sub(std::mem::take(&mut account.pending));
                ledger.set(&stage, account);
            }
            let (wal, open) = (log.wal.clone(), log.open.clone());
            feeds.push(RecordFeed::counted(wal, from, open, ledger.clone(), stage));
        }

        let shared = Shared {
            delivery: Delivery::new(&log, self.retention, positions.clone()),
            give_up: Shutdown::new(),
            log,
            ledger,
            name,
        };
        feeds
            .iter()
            .cloned()
            .for_each(|feed| shared.delivery.add_feed(feed));
        for buffer in &buffers {
            buffer.hold(&shared.delivery);
        }
        let (to_writer, batches) = mpsc::channel(BATCH_QUEUE);
        let (verdict_sender, verdicts) = mpsc::channel(VERDICT_QUEUE);
        let writer = Writer {
            next: shared.log.wal.durable(),
            positions: std::mem::take(&mut recovery.ledger.positions),
            seal: parts.seal,
            transforms,
            limits: self.limits,
            shared: shared.clone(),
        };
        let mut running = Running {
            shared: shared.clone(),
            parts: Vec::new(),
            helpers: Vec::new(),
        };
        let ended = Shutdown::new();
        running
            .helpers
            .push(tokio::spawn(publish_regularly(shared.clone())));
        running.helpers.push(tokio::spawn(give_up_late(
            shared.give_up.clone(),
            shutdown.clone(),
            ended.clone(),
            self.drain_timeout,
        )));
        let writer = shared.spawn(move |runtime| {
            let delivery = writer.shared.delivery.clone();
            let failing = FailOnDrop(&delivery);
            let end = writer.run(runtime, buffers, batches, verdicts)?;
            std::mem::forget(failing);
            Ok::<_, WalError>(end)
        });
        for (index, collector) in collectors.into_iter().enumerate() {
            let part = format!("collector {}", collector.source());
            let run = collect(
                index,
                collector,
                to_writer.clone(),
                shutdown.clone(),
                shared.clone(),
            );
            running.parts.push((
                part,
                tokio::spawn(async { run.await.map_err(|error| error.source) }),
            ));
        }
        drop(to_writer);

        let mut positions = positions.into_iter().enumerate();
        if !analyzers.is_empty()
            && let Some((reader, from)) = positions.next()
        {
            // Where it begins, the place knows better: what it reads may be another log.
            let _ = from;
            let analysis = Analysis {
                reader,
                analyzers,
                shared: shared.clone(),
                writer: verdict_sender,
                checkpoint_every: self.checkpoint_every,
                watch: self.checkpoint_watch,
                place,
                known: recovery.verdicts,
            };
            let shutdown = shutdown.clone();
            let until_end = self.until_end;
            let run = shared.spawn(move |runtime| match record_source {
                Some(source) => analysis.run_on(source, runtime, &shutdown, until_end),
                None => analysis.run(runtime).map_err(BoxError::from),
            });
            running.parts.push(("analysis".to_owned(), run));
        } else {
            drop(verdict_sender);
        }
        let sink_positions: Vec<_> = positions.by_ref().take(sinks.len()).collect();
        for (part, (reader, from)) in sinks.into_iter().zip(sink_positions) {
            let name = format!("sink {}", part.sink.name());
            let consumer = Consumer::new(part, reader, from, shared.clone());
            let run = shared.spawn(move |runtime| consumer.run(runtime));
            running.parts.push((name, run));
        }

        for ((sink, feed), (reader, _)) in record_sinks.into_iter().zip(feeds).zip(positions) {
            let stage = format!("carry/{}", sink.name());
            let name = format!("record sink {}", sink.name());
            let carrier = Carrier {
                sink,
                feed,
                stage,
                reader,
                shared: shared.clone(),
            };
            running.parts.push((name, tokio::spawn(carrier.run())));
        }

        let written = writer.await;
        ended.trigger();
        let failures = running.join().await;
        exporter::publish(&shared);
        match written {
            Ok(end) => Ok(Report {
                ledger: shared.ledger.snapshot(),
                failures,
                damaged_records: recovery.damaged,
                log_end: end?,
            }),
            Err(error) => Err(panicked("writer", error)),
        }
    }
}

/// What the parts of a running pipeline have in common.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) name: String,
    pub(super) log: LogReader,
    pub(super) delivery: Arc<Delivery>,
    pub(super) ledger: Ledger,
    /// Triggered when the caller will wait no longer.
    pub(super) give_up: Shutdown,
}

impl Shared {
    /// Runs `work` on a thread for blocking work, with the runtime it may wait on.
    fn spawn<T: Send + 'static>(&self, work: impl FnOnce(&Handle) -> T + Send + 'static) -> JoinHandle<T> {
        let runtime = Handle::current();
        tokio::task::spawn_blocking(move || work(&runtime))
    }
}

/// The log, to those that read it.
#[derive(Clone)]
pub(super) struct LogReader {
    pub(super) wal: Arc<dyn Wal>,
    pub(super) open: Arc<dyn Open>,
}

/// Resumes the collectors where an earlier run left them, and the ledger with them.
async fn resume(
    collectors: &mut [BoxCollector],
    recovery: &mut Recovery,
    ledger: &Ledger,
) -> Result<Vec<Buffer>, PipelineError> {
    let mut read_again = BTreeSet::new();
    let mut buffers = Vec::new();
    for collector in collectors {
        let mut source = recovery
            .sources
            .remove(&Name::from(collector.source()))
            .unwrap_or_default();
        if let Some(position) = &source.position {
            collector
                .resume(position)
                .await
                .map_err(|error| PipelineError::Resume {
                    collector: error.collector,
                    source: error.source,
                })?;
        }
        if collector.is_replayable() {
            read_again.insert(collector.source().to_owned());
        } else {
            source.ahead.clear();
            source.unpositioned = None;
        }
        let replayable = collector.is_replayable();
        buffers.push(Buffer::new(
            collector.source(),
            replayable,
            source.ahead,
            source.unpositioned,
        ));
    }
    recovery.settle(ledger, &read_again);
    Ok(buffers)
}

/// The parts at work. Dropped before they are joined, it stops them.
struct Running {
    shared: Shared,
    parts: Vec<(String, JoinHandle<Result<(), BoxError>>)>,
    helpers: Vec<JoinHandle<()>>,
}

impl Running {
    async fn join(mut self) -> Vec<(String, BoxError)> {
        let mut failures = Vec::new();
        for (part, handle) in &mut self.parts {
            let error = match handle.await {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error,
                Err(error) => Box::new(error),
            };
            tracing::error!(part, error = %Chain(&*error), "a part of the pipeline failed");
            failures.push((std::mem::take(part), error));
        }
        self.parts.clear();
        failures
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for handle in &self.helpers {
            handle.abort();
        }
        if !self.parts.is_empty() {
            self.shared.give_up.trigger();
        }
        for (_, handle) in &self.parts {
            handle.abort();
        }
    }
}

/// Tells the readers of the log that it has failed, unless forgotten.
struct FailOnDrop<'a>(&'a Delivery);

impl Drop for FailOnDrop<'_> {
    fn drop(&mut self) {
        self.0.fail();
    }
}

async fn publish_regularly(shared: Shared) {
    let mut interval = tokio::time::interval(PUBLISH_EVERY);
    loop {
        interval.tick().await;
        exporter::publish(&shared);
    }
}

/// Gives up a while after the end was asked for, or after the input has ended.
async fn give_up_late(give_up: Shutdown, shutdown: Shutdown, ended: Shutdown, after: Duration) {
    tokio::select! {
        () = shutdown.triggered() => {}
        () = ended.triggered() => {}
    }
    tokio::time::sleep(after).await;
    tracing::warn!(
        ?after,
        "not everything was delivered in time; the rest stays in the log"
    );
    give_up.trigger();
}

fn panicked(part: &'static str, error: JoinError) -> PipelineError {
    PipelineError::Panicked {
        part,
        source: Box::new(error),
    }
}
