use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::batch::{Batch, Position, Tally};
use crate::error::Chain;
use crate::event::{Class, Event};
use crate::id::{EventId, Name, Offset};
use crate::ledger::DropReason;
use crate::seal::{Seal, SealError, Unsealed};
use crate::transform::{Outcome, Transform};
use crate::wal::WalError;

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
    pub(super) shared: Shared,
}

/// Events of one source that are not sealed yet.
pub(super) struct Buffer {
    source: Name,
    collect_stage: String,
    log_stage: String,
    events: VecDeque<Event>,
    position: Option<Position>,
    tally: Tally,
    oldest: Option<Instant>,
    ahead: HashSet<EventId>,
}

impl Buffer {
    pub(super) fn new(source: &str, ahead: HashSet<EventId>) -> Self {
        Self {
            source: source.into(),
            collect_stage: format!("collect/{source}"),
            log_stage: format!("log/{source}"),
            events: VecDeque::new(),
            position: None,
            tally: Tally::default(),
            oldest: None,
            ahead,
        }
    }

    fn has_something(&self) -> bool {
        !self.events.is_empty() || self.position.is_some() || !self.tally.is_empty()
    }
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
        let mut analysis = Buffer::new(analysis::SOURCE, HashSet::new());
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
        let mut received = 0;
        for mut event in batch.events {
            if !buffer.ahead.is_empty() && buffer.ahead.remove(&event.id) {
                continue;
            }
            received += 1;
            match self.transform(&mut event) {
                Outcome::Keep => buffer.events.push_back(event),
                Outcome::Drop(reason) => {
                    self.writer.shared.ledger.received(&buffer.log_stage, 1);
                    self.writer.shared.ledger.dropped(&buffer.log_stage, reason, 1);
                    received -= 1;
                }
            }
        }
        self.writer.shared.ledger.received(&buffer.log_stage, received);
        buffer.tally.add(&batch.tally);
        if batch.position.is_some() {
            buffer.position = batch.position;
        }
        if buffer.oldest.is_none() && buffer.has_something() {
            buffer.oldest = Some(Instant::now());
        }
        while buffer.events.len() >= self.writer.limits.max_events {
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
        while !buffer.events.is_empty() {
            self.seal_front(buffer)?;
        }
        // A tally without events waits for the next ones, in the ledger of this process meanwhile.
        self.enter_tally(buffer);
        buffer.oldest = None;
        Ok(())
    }

    /// Seals the first events of the buffer, up to the first of another class: so the log keeps the order of
    /// the source across classes, wherever batches end. The record that empties the buffer carries the source's
    /// position and, in the ledger, its tally: so after a crash either both are there or neither.
    fn seal_front(&mut self, buffer: &mut Buffer) -> Result<(), WalError> {
        let Some(class) = buffer.events.front().map(|event| event.class) else {
            return Ok(());
        };
        let mut bytes = 0;
        let mut events = Vec::new();
        while let Some(event) = buffer.events.front() {
            bytes += size_hint(event);
            let full = events.len() >= self.writer.limits.max_events || bytes > self.writer.limits.max_bytes;
            if event.class != class || (full && !events.is_empty()) {
                break;
            }
            events.extend(buffer.events.pop_front());
        }
        self.seal(buffer, class, &events, buffer.events.is_empty())?;
        buffer.oldest = if buffer.has_something() {
            Some(Instant::now())
        } else {
            None
        };
        Ok(())
    }

    fn enter_tally(&mut self, buffer: &mut Buffer) {
        let tally = std::mem::take(&mut buffer.tally);
        if tally.is_empty() {
            return;
        }
        let ledger = &self.writer.shared.ledger;
        ledger.received(&buffer.collect_stage, tally.seen());
        ledger.delivered(&buffer.collect_stage, tally.used);
        for (reason, count) in tally.dropped {
            ledger.dropped(&buffer.collect_stage, reason, count);
        }
    }

    fn seal(
        &mut self,
        buffer: &mut Buffer,
        class: Class,
        events: &[Event],
        empties: bool,
    ) -> Result<(), WalError> {
        if empties {
            self.enter_tally(buffer);
        }
        let count = events.len() as u64;
        let mut ledger = self.writer.shared.ledger.snapshot();
        let account = ledger.accounts.entry(buffer.log_stage.clone()).or_default();
        account.delivered += count;
        account.pending = account.pending.wrapping_sub(count);
        self.wait_for_room(class)?;
        let sealed = self.writer.seal.seal(Unsealed {
            class,
            source: &buffer.source,
            events,
            position: buffer.position.as_ref().filter(|_| empties),
            ledger: Some(&ledger),
        });
        match sealed {
            Ok(sealed) => {
                self.append(sealed.record)?;
                self.writer.shared.ledger.delivered(&buffer.log_stage, count);
                if empties {
                    buffer.position = None;
                }
                Ok(())
            }
            Err(SealError::Batch { .. }) if events.len() > 1 => {
                let (front, back) = events.split_at(events.len() / 2);
                self.seal(buffer, class, front, false)?;
                self.seal(buffer, class, back, empties)
            }
            Err(error @ SealError::Sign { .. }) => Err(WalError::Failed {
                action: "was sealing a batch",
                source: Box::new(error),
            }),
            Err(error) => {
                tracing::warn!(error = %Chain(&error), count, "events are dropped because they cannot be sealed");
                self.writer
                    .shared
                    .ledger
                    .dropped(&buffer.log_stage, DropReason::SEAL_FAILED, count);
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

    fn append(&mut self, record: bytes::Bytes) -> Result<(), WalError> {
        loop {
            match self.writer.shared.log.wal.append(record.clone()) {
                Ok(offset) => {
                    self.writer.next = offset.next();
                    return Ok(());
                }
                Err(error @ WalError::Full { .. }) => {
                    if self.writer.shared.give_up.is_triggered() {
                        return Err(error);
                    }
                    self.writer.shared.delivery.make_room(&self.writer.shared.log)?;
                    std::thread::sleep(FULL_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// While telemetry waits: makes room, and lets verdicts pass.
    fn serve_readers(&mut self) -> Result<(), WalError> {
        self.writer.shared.delivery.make_room(&self.writer.shared.log)?;
        match self.verdicts.try_recv() {
            Ok(message) => self.take_analysis(message)?,
            Err(_) => std::thread::sleep(FULL_PAUSE),
        }
        Ok(())
    }

    fn take_analysis(&mut self, message: FromAnalysis) -> Result<(), WalError> {
        match message {
            FromAnalysis::Verdicts(events) => {
                self.writer
                    .shared
                    .ledger
                    .received(&self.analysis.log_stage, events.len() as u64);
                self.analysis.events.extend(events);
                if self.analysis.oldest.is_none() {
                    self.analysis.oldest = Some(Instant::now());
                }
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
        let mut buffer = std::mem::replace(self.analysis, Buffer::new(analysis::SOURCE, HashSet::new()));
        self.flush(&mut buffer)
    }
}

/// A rough size of an event when encoded, to end a batch before it grows too large.
fn size_hint(event: &Event) -> usize {
    use crate::event::Payload;
    let payload = match &event.payload {
        Payload::Flow(flow) => 400 + 8 * flow.sequence.len(),
        Payload::Log(log) => log.message.len(),
        Payload::Unknown { bytes, .. } => bytes.len(),
        Payload::Syscall(calls) => 2 * calls.numbers.len(),
        Payload::Process(process) => process.arguments.iter().map(String::len).sum(),
        _ => 128,
    };
    let attributes = event.attributes.keys().map(|key| key.len() + 16).sum::<usize>();
    64 + payload + attributes + event.unknown.event.len() + event.unknown.payload.len()
}
