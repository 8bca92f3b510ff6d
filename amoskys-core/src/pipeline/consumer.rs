use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::batch::Recorded;
use crate::error::{BoxError, Chain, Remedy};
use crate::id::{Offset, Seq, StreamId};
use crate::ledger::DropReason;
use crate::sink::{BoxSink, Sink, SinkError};
use crate::wal::WalError;

use super::builder::SinkPart;
use super::delivery::{Ahead, Until};
use super::recovery::{Bookmark, LAST_PAUSE, LAST_TRIES};
use super::run::{LogReader, Shared};

/// How much is read from the log at once.
pub(super) const READ_BYTES: usize = 1 << 20;
/// How long a sink may go without a flush while events come.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// The longest pause between two tries of a failing sink.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// What a read of the log gave: records to use, or an offset to go on from.
pub(super) enum Chunk {
    Records(Vec<(Offset, bytes::Bytes)>),
    Skip(Offset),
}

/// Reads a chunk below `limit`, passing over damaged records with a warning.
pub(super) fn read_chunk(log: &LogReader, from: Offset, limit: Offset) -> Result<Chunk, WalError> {
    match log.wal.read(from, READ_BYTES) {
        Ok(mut records) => {
            records.retain(|(offset, _)| *offset < limit);
            Ok(if records.is_empty() {
                Chunk::Skip(limit)
            } else {
                Chunk::Records(records)
            })
        }
        Err(WalError::Damaged { offset, reason }) => {
            tracing::warn!(%offset, reason, "a damaged record of the log is passed over");
            Ok(Chunk::Skip(offset.next()))
        }
        Err(error) => Err(error),
    }
}

/// Feeds one sink from the log.
pub(super) struct Consumer {
    part: SinkPart,
    stage: String,
    reader: usize,
    from: Offset,
    /// How far each stream was met.
    seen: BTreeMap<Arc<StreamId>, Seq>,
    shared: Shared,
}

/// What became of a call to the sink.
enum Answer {
    Done,
    Refused,
    GaveUp,
}

impl Consumer {
    pub(super) fn new(part: SinkPart, reader: usize, from: Offset, shared: Shared) -> Self {
        Self {
            stage: part.stage(),
            part,
            reader,
            from,
            seen: BTreeMap::new(),
            shared,
        }
    }

    /// Runs until the end of the log. Blocks; needs a thread of its own.
    pub(super) fn run(mut self, runtime: &Handle) -> Result<(), BoxError> {
        let mut flushed = Instant::now();
        let mut dirty = false;
        let mut unflushed_bytes = 0;
        // A small log waits for its readers, so they do not wait for the clock.
        let enough_bytes = (self.shared.log.wal.budget_bytes() / 4).max(1);
        loop {
            let ahead = runtime.block_on(async {
                tokio::select! {
                    biased;
                    ahead = self.shared.delivery.ahead(self.from, Until::LogEnd) => Some(ahead),
                    () = self.shared.give_up.triggered() => Some(Ahead::Failed),
                    () = tokio::time::sleep(FLUSH_EVERY), if dirty => None,
                }
            });
            match ahead {
                Some(Ahead::Records(limit)) => {
                    match read_chunk(&self.shared.log, self.from, limit)? {
                        Chunk::Records(records) => {
                            for (offset, record) in records {
                                unflushed_bytes += record.len() as u64;
                                match self.deliver(runtime, &record)? {
                                    Answer::GaveUp => return Ok(()),
                                    Answer::Done | Answer::Refused => self.from = offset.next(),
                                }
                            }
                        }
                        Chunk::Skip(to) => self.from = to,
                    }
                    dirty = true;
                    if flushed.elapsed() < FLUSH_EVERY && unflushed_bytes < enough_bytes {
                        continue;
                    }
                }
                Some(Ahead::End) => {
                    self.flush(runtime, LAST_TRIES)?;
                    return Ok(());
                }
                Some(Ahead::Failed) => return Ok(()),
                None => {}
            }
            let noted = self.flush(runtime, 1)?;
            flushed = Instant::now();
            dirty = !noted;
            unflushed_bytes = 0;
        }
    }

    fn deliver(&mut self, runtime: &Handle, record: &bytes::Bytes) -> Result<Answer, BoxError> {
        let open = &self.shared.log.open;
        if let (Some(wanted), Some(class)) = (self.part.class, open.class(record))
            && wanted != class
        {
            return Ok(Answer::Done);
        }
        let opened = match open.open(record) {
            Ok(opened) => opened,
            Err(error) => {
                let sink = self.part.sink.name();
                tracing::warn!(error = %Chain(&error), sink, "a record cannot be opened and is passed over");
                return Ok(Answer::Done);
            }
        };
        if self
            .part
            .class
            .is_some_and(|wanted| wanted != opened.stream.class)
        {
            return Ok(Answer::Done);
        }
        let seen = self.seen.entry(opened.stream.clone()).or_insert(opened.first);
        let before = seen.0.saturating_sub(opened.first.0);
        *seen = (*seen).max(Seq(opened.last.0.saturating_add(1)));
        if let Some((lost, reason)) = opened.given_up() {
            // What it was given before the log gave it up is counted already.
            let lost = lost.saturating_sub(before);
            self.shared.ledger.received(&self.stage, lost);
            self.shared.ledger.dropped(&self.stage, reason, lost);
        }
        if opened.events.is_empty() {
            return Ok(Answer::Done);
        }
        let events: Vec<Recorded> = opened.into_recorded().collect();
        let count = events.len() as u64;
        let answer = self.call(runtime, async |sink: &mut BoxSink| sink.write(&events).await)?;
        // An event that a sink did not take before the end was not received either: a later run gives it again.
        let ledger = &self.shared.ledger;
        match answer {
            Answer::Done => {
                ledger.received(&self.stage, count);
                ledger.delivered(&self.stage, count);
            }
            Answer::Refused => {
                ledger.received(&self.stage, count);
                ledger.dropped(&self.stage, DropReason::REJECTED, count);
            }
            Answer::GaveUp => {}
        }
        Ok(answer)
    }

    /// Whether it was noted how far the sink has come.
    fn flush(&mut self, runtime: &Handle, tries: u32) -> Result<bool, BoxError> {
        if let Answer::GaveUp = self.call(runtime, async |sink: &mut BoxSink| sink.flush().await)? {
            return Ok(true);
        }
        let account = self
            .shared
            .ledger
            .snapshot()
            .accounts
            .remove(&self.stage)
            .unwrap_or_default();
        let place = Bookmark {
            offset: self.from,
            account,
        };
        for left in (0..tries).rev() {
            if place.note(&self.shared, &self.stage, self.reader)? {
                return Ok(true);
            }
            if left > 0 {
                runtime.block_on(tokio::time::sleep(LAST_PAUSE));
            }
        }
        Ok(false)
    }

    /// Calls the sink until it succeeds, refuses for good, or the pipeline waits no longer.
    fn call(
        &mut self,
        runtime: &Handle,
        mut call: impl AsyncFnMut(&mut BoxSink) -> Result<(), SinkError>,
    ) -> Result<Answer, BoxError> {
        let Self {
            part: SinkPart { sink, .. },
            shared,
            ..
        } = self;
        let mut backoff = Duration::ZERO;
        loop {
            let result = runtime.block_on(async {
                tokio::select! {
                    biased;
                    result = call(sink) => Some(result),
                    () = shared.give_up.triggered() => None,
                }
            });
            let Some(result) = result else {
                return Ok(Answer::GaveUp);
            };
            let Err(error) = result else {
                return Ok(Answer::Done);
            };
            metrics::counter!("amoskys_sink_failures_total",
                "pipeline" => shared.name.clone(), "sink" => sink.name().to_owned())
            .increment(1);
            match sink.remedy(&error) {
                Remedy::RetryAfter(least) => {
                    backoff = (backoff * 2).max(least).min(MAX_BACKOFF.max(least));
                    tracing::warn!(sink = sink.name(), error = %Chain(&error), ?backoff, "sink failed, will try again");
                    let give_up = shared.give_up.triggered();
                    // Whether time or patience ran out, the next call tells.
                    let _ = runtime.block_on(async { tokio::time::timeout(backoff, give_up).await });
                }
                Remedy::Reject => return Ok(Answer::Refused),
                Remedy::Fatal => return Err(error.source),
            }
        }
    }
}
