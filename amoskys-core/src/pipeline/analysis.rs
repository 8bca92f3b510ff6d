use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::analyzer::{Analyzer, AnalyzerError, Observation};
use crate::error::{BoxError, Chain, Remedy};
use crate::event::{Class, Event, Payload, Verdict, VerdictId};
use crate::id::{EventId, Name, Offset};
use crate::ledger::{DropReason, Ledger};
use crate::record::{BoxRecordSource, CarryError, RecordSource};
use crate::shutdown::Shutdown;
use crate::wal::WalError;

use super::consumer::{Chunk, read_chunk};
use super::delivery::{Ahead, Until};
use super::merge::{Merge, MergeOptions};
use super::recovery::{Bookmark, LAST_PAUSE, LAST_TRIES};
use super::run::{LogReader, Shared};
use super::writer::FromAnalysis;

/// The source that verdicts are sealed under.
pub(super) const SOURCE: &str = "analysis";
/// Stage of the ledger, and name of the checkpoint beside the log.
pub(super) const STAGE: &str = "analysis";

/// How long a record source is waited for before it is looked whether a checkpoint is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Takes the reason why a checkpoint could not be kept, or `None` when one was.
pub(super) type CheckpointWatch = Box<dyn Fn(Option<&str>) + Send + Sync>;

/// Shows a log to the analyzers, and sends their verdicts to the writer.
pub(super) struct Analysis {
    pub(super) reader: usize,
    pub(super) analyzers: Vec<Box<dyn Analyzer>>,
    pub(super) shared: Shared,
    pub(super) writer: mpsc::Sender<FromAnalysis>,
    pub(super) checkpoint_every: Duration,
    /// Told what becomes of checkpoints.
    pub(super) watch: Option<CheckpointWatch>,
    pub(super) place: Place,
    /// Verdicts that are in the log already, with their highest revision.
    pub(super) known: BTreeMap<VerdictId, u32>,
}

/// How far the analysis has come.
pub(super) struct Place {
    merge: Merge,
    /// The next record to be read.
    pub(super) from: Offset,
    /// Whether it goes on from a checkpoint.
    resumed: bool,
    /// Where the own log ended when the last checkpoint was made, if that is not the log that is read.
    pub(super) own: Option<Offset>,
}

impl Place {
    pub(super) fn new(options: MergeOptions, log: &LogReader) -> Self {
        Self {
            merge: Merge::new(options),
            from: log.wal.first(),
            resumed: false,
            own: None,
        }
    }

    /// Whether it goes on from a checkpoint.
    pub(super) fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Brings the analyzers back to their last checkpoint, and the place with them. Without one, or if it is not one
    /// of these analyzers, everything begins at the beginning. `is_own` says that the log it is kept in is the one that is read.
    pub(super) fn restore(
        &mut self,
        analyzers: &mut [Box<dyn Analyzer>],
        log: &LogReader,
        is_own: bool,
        ledger: &Ledger,
    ) -> Result<(), WalError> {
        let Some(kept) = log.wal.load(STAGE)?.filter(|_| !analyzers.is_empty()) else {
            return Ok(());
        };
        match decode(analyzers, &mut self.merge, &kept) {
            Ok((bookmark, own)) => {
                ledger.set(STAGE, bookmark.account);
                (self.from, self.own, self.resumed) = (bookmark.offset, Some(own), true);
                if is_own && bookmark.offset < log.wal.first() {
                    tracing::warn!(
                        checkpoint = bookmark.offset.0,
                        first = log.wal.first().0,
                        "the log no longer holds what followed the analyzers' checkpoint; they go on with its first record"
                    );
                }
            }
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "the analyzers' checkpoint is not used; the log is read from its beginning");
            }
        }
        Ok(())
    }
}

impl Analysis {
    /// Reads the pipeline's own log, until the end of the input. Blocks; needs a thread of its own.
    pub(super) fn run(mut self, runtime: &Handle) -> Result<(), WalError> {
        let mut checkpointed = Instant::now();
        let mut backlog = 0;
        self.tell(None);
        let enough = (self.shared.log.wal.budget_bytes() / 4).max(1);
        self.place.from = self.place.from.max(self.shared.log.wal.first());
        loop {
            let from = self.place.from;
            match runtime.block_on(self.shared.delivery.ahead(from, Until::InputEnd)) {
                Ahead::Records(limit) => match read_chunk(&self.shared.log, from, limit)? {
                    Chunk::Records(records) => {
                        for (offset, record) in records {
                            backlog += record.len() as u64;
                            self.take(runtime, offset, &record);
                        }
                    }
                    Chunk::Skip(to) => self.pass(to),
                },
                Ahead::End => return self.checkpoint(runtime, true).map(drop),
                Ahead::Failed => return Ok(()),
            }
            // The log cannot forget what lies behind the last checkpoint, so a filling log asks for one too.
            if checkpointed.elapsed() >= self.checkpoint_every || backlog >= enough {
                let to = self.checkpoint(runtime, false)?;
                if let Some((to, _)) = to {
                    self.shared.delivery.advance(&self.shared.log, self.reader, to)?;
                } else {
                    self.shared
                        .delivery
                        .unkept(self.reader, self.place.merge.resume_at());
                }
                checkpointed = Instant::now();
                backlog = 0;
            }
        }
    }

    /// Reads another log, until the shutdown or the end of its input. Blocks; needs a thread of its own.
    pub(super) fn run_on(
        mut self,
        mut source: BoxRecordSource,
        runtime: &Handle,
        shutdown: &Shutdown,
        until_end: bool,
    ) -> Result<(), BoxError> {
        let mut checkpointed = Instant::now();
        let mut resumed = !self.place.resumed;
        self.tell(None);
        loop {
            let step = runtime.block_on(async {
                let next = async {
                    if !resumed {
                        source.resume(self.place.from).await?;
                        resumed = true;
                    }
                    source.next_records().await
                };
                tokio::select! {
                    biased;
                    () = shutdown.triggered() => Next::Stop,
                    result = next => Next::Records(result),
                    () = tokio::time::sleep(LOOK_EVERY) => Next::Look,
                }
            });
            let stop = match step {
                Next::Records(Ok(Some(records))) => {
                    for (offset, record) in records {
                        self.take(runtime, offset, &record);
                    }
                    until_end && self.place.merge.has_ended()
                }
                Next::Records(Ok(None)) | Next::Stop => true,
                Next::Records(Err(error)) => {
                    self.source_failed(runtime, shutdown, &source, error)?;
                    false
                }
                // The end may have come before a restart.
                Next::Look => until_end && self.place.merge.has_ended(),
            };
            if stop || checkpointed.elapsed() >= self.checkpoint_every {
                if let Some((to, own)) = self.checkpoint(runtime, false)? {
                    self.shared.delivery.advance(&self.shared.log, self.reader, own)?;
                    if to.0 > 0 {
                        let release = runtime.block_on(source.release(to));
                        if let Err(error) = release {
                            tracing::warn!(error = %Chain(&error), "what was read could not be released");
                        }
                    }
                } else {
                    // Verdicts that were drawn since then would be drawn again, under the same ids.
                    let own = self.shared.log.wal.durable();
                    self.shared.delivery.unkept(self.reader, own);
                }
                checkpointed = Instant::now();
            }
            if stop {
                return Ok(());
            }
        }
    }

    fn source_failed(
        &self,
        runtime: &Handle,
        shutdown: &Shutdown,
        source: &BoxRecordSource,
        error: CarryError,
    ) -> Result<(), BoxError> {
        metrics::counter!("amoskys_carrier_failures_total",
            "pipeline" => self.shared.name.clone(), "carrier" => source.name().to_owned())
        .increment(1);
        let Remedy::RetryAfter(pause) = source.remedy(&error) else {
            return Err(error.source);
        };
        tracing::warn!(source = source.name(), error = %Chain(&error), ?pause, "records cannot be read for now, will try again");
        // Whether time or patience ran out, the next step tells.
        let _ = runtime.block_on(async { tokio::time::timeout(pause, shutdown.triggered()).await });
        Ok(())
    }

    fn pass(&mut self, to: Offset) {
        self.place.from = to;
        self.place.merge.pass(to);
    }

    /// Takes in a record, and shows what is in order now.
    fn take(&mut self, runtime: &Handle, offset: Offset, record: &bytes::Bytes) {
        let opened = match self.shared.log.open.open(record) {
            Ok(opened) => opened,
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "a record cannot be opened and is not analyzed");
                return self.pass(offset.next());
            }
        };
        if opened.source.as_str() == SOURCE {
            return self.pass(offset.next());
        }
        self.place.from = offset.next();
        let before = self.place.merge.counts;
        self.place.merge.push(offset, opened);
        let (mut shown, mut refused) = (0, 0);
        let mut verdicts = Vec::new();
        while let Some(event) = self.place.merge.pop() {
            shown += 1;
            let mut used = true;
            for analyzer in &mut self.analyzers {
                if let Err(error) = analyzer.observe(Observation::Event(&event), &mut verdicts) {
                    tracing::debug!(error = %Chain(&error), "an analyzer cannot use an event");
                    used = false;
                }
            }
            refused += u64::from(!used);
            if !verdicts.is_empty() {
                self.send(runtime, &event.event.device, &mut verdicts);
            }
        }
        let counts = self.place.merge.counts;
        let (late, missing) = (counts.late - before.late, counts.missing - before.missing);
        let ledger = &self.shared.ledger;
        ledger.received(STAGE, shown + late + missing);
        for (reason, count) in [
            (DropReason::REJECTED, refused),
            (DropReason::LATE, late),
            (DropReason::MISSING, missing),
        ] {
            ledger.dropped(STAGE, reason, count);
        }
        ledger.delivered(STAGE, shown - refused);
        if counts.apart > before.apart {
            metrics::counter!("amoskys_apart_total", "pipeline" => self.shared.name.clone())
                .increment(counts.apart - before.apart);
        }
    }

    fn send(&mut self, runtime: &Handle, device: &Name, verdicts: &mut Vec<Verdict>) {
        let mut events = Vec::new();
        for verdict in verdicts.drain(..) {
            if self
                .known
                .get(&verdict.id)
                .is_some_and(|known| *known >= verdict.revision)
            {
                continue;
            }
            self.known.insert(verdict.id, verdict.revision);
            let mut origin = [0; 8];
            origin.copy_from_slice(&verdict.id.0[..8]);
            events.push(Event {
                id: EventId {
                    origin: u64::from_be_bytes(origin),
                    ordinal: u64::from(verdict.revision),
                },
                time: verdict.updated,
                device: device.clone(),
                source: SOURCE.into(),
                class: Class::Alert,
                payload: Payload::Verdict(Box::new(verdict)),
                ..Event::default()
            });
        }
        if !events.is_empty() {
            // If the writer is gone, the log has failed, and the next wait says so.
            let _ = runtime.block_on(self.writer.send(FromAnalysis::Verdicts(events)));
        }
    }

    /// Keeps the analyzers' state, once every verdict drawn so far is durable. Gives the first record that is still
    /// needed, and where the own log ends; `None` if nothing could be kept, which is told and counted: the analysis goes
    /// on, the log keeps what a restart would need, and the next checkpoint is another try.
    ///
    /// # Errors
    ///
    /// If the log itself has failed.
    fn checkpoint(
        &mut self,
        runtime: &Handle,
        input_ended: bool,
    ) -> Result<Option<(Offset, Offset)>, WalError> {
        let (answer, answered) = oneshot::channel();
        if runtime
            .block_on(self.writer.send(FromAnalysis::Sync(answer)))
            .is_err()
        {
            return Ok(None);
        }
        let Ok(end) = runtime.block_on(answered) else {
            return Ok(None);
        };
        if end.0 > 0 {
            self.shared.log.wal.wait_durable(Offset(end.0 - 1))?;
        }
        if input_ended {
            // What follows the input are verdicts of our own.
            self.pass(end.max(self.place.from));
        }
        let account = self
            .shared
            .ledger
            .snapshot()
            .accounts
            .remove(STAGE)
            .unwrap_or_default();
        let bookmark = Bookmark {
            offset: self.place.merge.resume_at(),
            account,
        };
        let tries = if input_ended { LAST_TRIES } else { 1 };
        for left in (0..tries).rev() {
            match self.keep(&bookmark, end) {
                Ok(()) => {
                    self.tell(None);
                    let to = bookmark.offset;
                    if input_ended {
                        self.shared.delivery.advance(&self.shared.log, self.reader, to)?;
                    }
                    return Ok(Some((to, end)));
                }
                Err(error) => {
                    metrics::counter!("amoskys_checkpoint_failures_total", "pipeline" => self.shared.name.clone())
                        .increment(1);
                    let why = Chain(&*error).to_string();
                    tracing::warn!(
                        error = why,
                        "the analyzers' state cannot be kept; a restart would read the log again from the checkpoint before"
                    );
                    self.tell(Some(&why));
                }
            }
            if left > 0 {
                runtime.block_on(tokio::time::sleep(LAST_PAUSE));
            }
        }
        Ok(None)
    }

    fn tell(&self, failure: Option<&str>) {
        if let Some(watch) = &self.watch {
            watch(failure);
        }
    }

    fn keep(&self, bookmark: &Bookmark, end: Offset) -> Result<(), BoxError> {
        let state = encode(&self.analyzers, &self.place.merge, bookmark, end)?;
        let wal = &self.shared.log.wal;
        wal.store(STAGE, &state)?;
        // Before anything is forgotten that only an older checkpoint needs.
        Ok(wal.sync()?)
    }
}

enum Next {
    Records(Result<Option<Vec<(Offset, bytes::Bytes)>>, CarryError>),
    Stop,
    Look,
}

/// The end of the own log, the bookmark and the state of the merge, each of the two after its length; then for each
/// analyzer its model's digest, the length of its state, and the state. It is one value, so that place and state
/// cannot come apart.
fn encode(
    analyzers: &[Box<dyn Analyzer>],
    merge: &Merge,
    bookmark: &Bookmark,
    own: Offset,
) -> Result<Vec<u8>, AnalyzerError> {
    let mut bytes = own.0.to_le_bytes().to_vec();
    for part in [bookmark.encode(STAGE), merge.snapshot()] {
        bytes.extend((part.len() as u64).to_le_bytes());
        bytes.extend(part);
    }
    for analyzer in analyzers {
        let state = analyzer.snapshot()?;
        bytes.extend_from_slice(&analyzer.model().digest.0);
        bytes.extend_from_slice(&(state.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&state);
    }
    Ok(bytes)
}

fn decode(
    analyzers: &mut [Box<dyn Analyzer>],
    merge: &mut Merge,
    mut bytes: &[u8],
) -> Result<(Bookmark, Offset), AnalyzerError> {
    let unusable = |reason: &str| AnalyzerError::Snapshot {
        reason: reason.to_owned(),
        source: None,
    };
    let (own, behind) = bytes
        .split_first_chunk::<8>()
        .ok_or_else(|| unusable("it is cut off"))?;
    let own = Offset(u64::from_le_bytes(*own));
    bytes = behind;
    let bookmark = take_part(&mut bytes)
        .and_then(|place| Bookmark::decode(place, STAGE))
        .ok_or_else(|| unusable("its place cannot be read"))?;
    let merged = take_part(&mut bytes).ok_or_else(|| unusable("it is cut off"))?;
    let mut states = Vec::new();
    for analyzer in &*analyzers {
        let (digest, behind) = bytes
            .split_first_chunk::<32>()
            .ok_or_else(|| unusable("there were fewer analyzers then"))?;
        if *digest != analyzer.model().digest.0 {
            return Err(unusable("it is of another model"));
        }
        bytes = behind;
        states.push(take_part(&mut bytes).ok_or_else(|| unusable("it is cut off"))?);
    }
    if !bytes.is_empty() {
        return Err(unusable("there were more analyzers then"));
    }
    // All or none: an analyzer that goes on from a state while another begins afresh would disagree with it.
    let fresh = analyzers
        .iter()
        .map(|analyzer| analyzer.snapshot())
        .collect::<Result<Vec<_>, _>>()?;
    for at in 0..analyzers.len() {
        if let Err(error) = analyzers[at].restore(states[at]) {
            for (analyzer, state) in analyzers[..at].iter_mut().zip(&fresh) {
                analyzer.restore(state)?;
            }
            return Err(error);
        }
    }
    if !merge.restore(merged) {
        for (analyzer, state) in analyzers.iter_mut().zip(&fresh) {
            analyzer.restore(state)?;
        }
        return Err(unusable("how far the streams had come cannot be read"));
    }
    Ok((bookmark, own))
}

/// Takes a part preceded by its length off the front.
fn take_part<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, behind) = bytes.split_first_chunk::<8>()?;
    let (part, behind) = behind.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    *bytes = behind;
    Some(part)
}
