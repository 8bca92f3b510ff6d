use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::batch::{Batch, Position, Tally};
use crate::error::Chain;
use crate::event::{Class, Event};
use crate::id::Offset;
use crate::ledger::DropReason;
use crate::seal::{Seal, SealError, Unsealed};
use crate::transform::{Outcome, Transform};
use crate::wal::WalError;

use super::buffer::{Buffer, End};
use super::collect::Collected;
use super::run::Shared;
use super::{BatchLimits, analysis};

/// How long to wait before trying a full log again.
const FULL_PAUSE: Duration = Duration::from_millis(5);

/// What analyzers send to the writer.
pub(super) enum FromAnalysis {
    /// Verdicts, as events of class alert.
    Verdicts(Vec<Event>),
    /// Answer with the offset after everything sent so far, once it is in the log.
    Sync(oneshot::Sender<Offset>),
}

/// The one place where events enter the log: transforms, collects into batches, seals, appends.
pub(super) struct Writer {
    pub(super) seal: Box<dyn Seal>,
    pub(super) transforms: Vec<Box<dyn Transform>>,
    pub(super) limits: BatchLimits,
    pub(super) next: Offset,
    /// How far each source has come; sealed into every record, because the log may forget older ones.
    pub(super) positions: BTreeMap<String, Position>,
    pub(super) shared: Shared,
}

impl Writer {
    /// Runs until all collectors and analyzers have ended. Blocks; needs a thread of its own.
    pub(super) fn run(
        mut self,
        runtime: &Handle,
        mut collectors: Vec<Buffer>,
        mut batches: mpsc::Receiver<Collected>,
        mut verdicts: mpsc::Receiver<FromAnalysis>,
    ) -> Result<Offset, WalError> {
        let mut analysis = Buffer::new(analysis::SOURCE, false, HashSet::new(), None);
        let (mut collecting, mut analyzing) = (true, true);
        while collecting || analyzing {
            let due = collectors
                .iter()
                .chain([&analysis])
                .filter_map(|buffer| buffer.oldest)
                .min();
            let due = due.map(|oldest| tokio::time::Instant::from_std(oldest + self.limits.linger));
            let step = runtime.block_on(async {
                let timer = async {
                    match due {
                        Some(due) => tokio::time::sleep_until(due).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    message = verdicts.recv(), if analyzing => Step::Analysis(message),
                    () = timer => Step::Linger,
                    message = batches.recv(), if collecting => Step::Collected(message),
                }
            });
            let mut log = Appending {
                writer: &mut self,
                verdicts: &mut verdicts,
                analysis: &mut analysis,
            };
            match step {
                Step::Collected(Some(Collected { collector, batch })) => {
                    log.take(&mut collectors[collector], batch)?;
                }
                Step::Collected(None) => {
                    collecting = false;
                    for buffer in &mut collectors {
                        log.flush(buffer)?;
                    }
                    log.writer.shared.delivery.end_input(log.writer.next);
                }
                Step::Analysis(Some(message)) => log.take_analysis(message)?,
                Step::Analysis(None) => {
                    analyzing = false;
                    log.flush_analysis()?;
                }
                Step::Linger => {
                    for buffer in &mut collectors {
                        log.flush_due(buffer)?;
                    }
                    log.flush_analysis()?;
                }
            }
        }
        self.shared.delivery.end_log(self.next);
        if self.next.0 > 0 {
            self.shared.log.wal.wait_durable(Offset(self.next.0 - 1))?;
        }
        Ok(self.next)
    }
}

enum Step {
    Collected(Option<Collected>),
    Analysis(Option<FromAnalysis>),
    Linger,
}

/// The writer at work. While a full log holds up telemetry, verdicts still pass, because the analyzers must
/// come on for the log to become emptier.
struct Appending<'a> {
    writer: &'a mut Writer,
    verdicts: &'a mut mpsc::Receiver<FromAnalysis>,
    analysis: &'a mut Buffer,
}

impl Appending<'_> {
    fn take(&mut self, buffer: &mut Buffer, batch: Batch) -> Result<(), WalError> {
        let mut events = batch.events;
        if !buffer.ahead.is_empty() {
            events.retain(|event| !buffer.ahead.remove(&event.id));
        }
        self.writer
            .shared
            .ledger
            .received(&buffer.log_stage, events.len() as u64);
        if !self.writer.transforms.is_empty() {
            events.retain_mut(|event| match self.transform(event) {
                Outcome::Keep => true,
                Outcome::Drop(reason) => {
                    self.writer.shared.ledger.dropped(&buffer.log_stage, reason, 1);
                    false
                }
            });
        }
        buffer.push(events, batch.position, &batch.tally);
        while buffer.len() >= self.writer.limits.max_events {
            self.seal_front(buffer)?;
        }
        Ok(())
    }

    fn transform(&mut self, event: &mut Event) -> Outcome {
        for transform in &mut self.writer.transforms {
            match transform.transform(event) {
                Ok(Outcome::Keep) => {}
                Ok(drop) => return drop,
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "an event is dropped because a transform failed");
                    return Outcome::Drop(DropReason::TRANSFORM_FAILED);
                }
            }
        }
        Outcome::Keep
    }

    fn flush_due(&mut self, buffer: &mut Buffer) -> Result<(), WalError> {
        match buffer.oldest {
            Some(oldest) if oldest.elapsed() >= self.writer.limits.linger => self.flush(buffer),
            _ => Ok(()),
        }
    }

    fn flush(&mut self, buffer: &mut Buffer) -> Result<(), WalError> {
        while buffer.len() > 0 {
            self.seal_front(buffer)?;
        }
        buffer.enter_rest(&self.writer.shared.ledger);
        Ok(())
    }

    fn seal_front(&mut self, buffer: &mut Buffer) -> Result<(), WalError> {
        match buffer.next_chunk(&self.writer.limits) {
            Some(chunk) => self.seal(buffer, chunk.class, &chunk.events, chunk.end),
            None => Ok(()),
        }
    }

    /// Seals events into one record. It carries the source's position and, in the ledger, the source's tally, if
    /// a batch of the source ends here: so after a crash either all of that is there or nothing.
    fn seal(
        &mut self,
        buffer: &mut Buffer,
        class: Class,
        events: &[Event],
        mut end: Option<End>,
    ) -> Result<(), WalError> {
        // First of all, because verdicts may be sealed while this waits.
        self.wait_for_room(class)?;
        if let Some(end) = &mut end {
            buffer.enter(end, &self.writer.shared.ledger);
        }
        let position = end.as_ref().and_then(|end| end.position.as_ref());
        let count = events.len() as u64;
        let mut ledger = self.writer.shared.ledger.snapshot();
        let account = ledger.accounts.entry(buffer.log_stage.clone()).or_default();
        account.delivered += count;
        account.pending = account.pending.wrapping_sub(count);
        ledger.positions.clone_from(&self.writer.positions);
        if let Some(position) = position {
            ledger
                .positions
                .insert(buffer.source.to_string(), position.clone());
        }
        let sealed = self.writer.seal.seal(Unsealed {
            class,
            source: &buffer.source,
            events,
            position,
            ledger: Some(&ledger),
        });
        match sealed {
            Ok(sealed) => {
                let offset = self.append(sealed.record)?;
                self.writer.shared.ledger.delivered(&buffer.log_stage, count);
                buffer.sealed(offset, position.is_some(), &self.writer.shared.delivery);
                self.writer.positions = ledger.positions;
                Ok(())
            }
            Err(SealError::Batch { .. }) if events.len() > 1 => {
                let (front, back) = events.split_at(events.len() / 2);
                self.seal(buffer, class, front, None)?;
                self.seal(buffer, class, back, end)
            }
            Err(error @ SealError::Sign { .. }) => Err(WalError::Failed {
                action: "was sealing a batch",
                source: Box::new(error),
            }),
            Err(error) => {
                tracing::warn!(error = %Chain(&error), count, "events are dropped because they cannot be sealed");
                let ledger = &self.writer.shared.ledger;
                ledger.dropped(&buffer.log_stage, DropReason::SEAL_FAILED, count);
                if let Some(end) = end {
                    buffer.give_back(end);
                }
                Ok(())
            }
        }
    }

    /// Waits while the log has no room but the reserve kept for alerts and audit. Nothing is sealed before
    /// there is room, because what is sealed must go into the log.
    fn wait_for_room(&mut self, class: Class) -> Result<(), WalError> {
        if !class.may_be_shed() {
            return Ok(());
        }
        let budget = self.writer.shared.log.wal.budget_bytes();
        let reserve = (budget / 8).min(4 << 20);
        let room = budget - reserve;
        let mut told = false;
        while self.writer.shared.log.wal.used_bytes() > room && !self.writer.shared.give_up.is_triggered() {
            if !told {
                tracing::warn!(
                    budget,
                    "the log is full; collectors wait until its readers have come on"
                );
                told = true;
            }
            self.serve_readers()?;
        }
        Ok(())
    }

    fn append(&mut self, record: bytes::Bytes) -> Result<Offset, WalError> {
        loop {
            match self.writer.shared.log.wal.append(record.clone()) {
                Ok(offset) => {
                    self.writer.next = offset.next();
                    return Ok(offset);
                }
                Err(error @ WalError::Full { .. }) => {
                    if self.writer.shared.give_up.is_triggered() {
                        return Err(error);
                    }
                    if !self.make_room()? {
                        std::thread::sleep(FULL_PAUSE);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// While telemetry waits: makes room, and lets verdicts pass.
    fn serve_readers(&mut self) -> Result<(), WalError> {
        let made = self.make_room()?;
        match self.verdicts.try_recv() {
            Ok(message) => self.take_analysis(message)?,
            Err(_) if made => {}
            Err(_) => std::thread::sleep(FULL_PAUSE),
        }
        Ok(())
    }

    /// Lets the log forget what every reader has dealt with, or, if that is nothing, shed what its policy allows. Whether
    /// something was shed.
    fn make_room(&mut self) -> Result<bool, WalError> {
        let Shared { delivery, log, .. } = &self.writer.shared;
        let first = log.wal.first();
        let needed = delivery.make_room(log)?;
        if needed > 0 {
            metrics::counter!("amoskys_unkept_records_total", "pipeline" => self.writer.shared.name.clone())
                .increment(needed);
            tracing::error!(
                records = needed,
                "the log is full, and the analyzers' state cannot be kept: records were forgotten that a restart of the analysis would need"
            );
        }
        if log.wal.first() > first {
            return Ok(false);
        }
        log.wal.shed()
    }

    fn take_analysis(&mut self, message: FromAnalysis) -> Result<(), WalError> {
        match message {
            FromAnalysis::Verdicts(events) => {
                self.writer
                    .shared
                    .ledger
                    .received(&self.analysis.log_stage, events.len() as u64);
                self.analysis.push(events, None, &Tally::default());
                Ok(())
            }
            FromAnalysis::Sync(answer) => {
                self.flush_analysis()?;
                // The asker may be gone; then nobody needs the answer.
                let _ = answer.send(self.writer.next);
                Ok(())
            }
        }
    }

    fn flush_analysis(&mut self) -> Result<(), WalError> {
        let mut buffer = std::mem::replace(
            self.analysis,
            Buffer::new(analysis::SOURCE, false, HashSet::new(), None),
        );
        self.flush(&mut buffer)
    }
}
