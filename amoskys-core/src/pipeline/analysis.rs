use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::analyzer::{Analyzer, AnalyzerError, Observation};
use crate::error::Chain;
use crate::event::{Class, Event, Payload, Verdict, VerdictId};
use crate::id::{EventId, Name, Offset};
use crate::ledger::{DropReason, Ledger};
use crate::wal::WalError;

use super::consumer::{Chunk, read_chunk};
use super::delivery::{Ahead, Until};
use super::recovery::Bookmark;
use super::run::{LogReader, Shared};
use super::writer::FromAnalysis;

/// The source that verdicts are sealed under.
pub(super) const SOURCE: &str = "analysis";
/// Stage of the ledger, and name of the checkpoint beside the log.
pub(super) const STAGE: &str = "analysis";

/// Shows the log to the analyzers, and sends their verdicts to the writer.
pub(super) struct Analysis {
    pub(super) reader: usize,
    pub(super) analyzers: Vec<Box<dyn Analyzer>>,
    pub(super) shared: Shared,
    pub(super) writer: mpsc::Sender<FromAnalysis>,
    pub(super) checkpoint_every: Duration,
    pub(super) from: Offset,
    /// Verdicts that are in the log already, with their highest revision.
    pub(super) known: BTreeMap<VerdictId, u32>,
}

impl Analysis {
    /// Runs until the end of the input. Blocks; needs a thread of its own.
    pub(super) fn run(mut self, runtime: &Handle) -> Result<(), WalError> {
        let mut checkpointed = Instant::now();
        let mut backlog = 0;
        let enough = (self.shared.log.wal.budget_bytes() / 4).max(1);
        loop {
            match runtime.block_on(self.shared.delivery.ahead(self.from, Until::InputEnd)) {
                Ahead::Records(limit) => match read_chunk(&self.shared.log, self.from, limit)? {
                    Chunk::Records(records) => {
                        for (offset, record) in records {
                            backlog += record.len() as u64;
                            self.show(runtime, &record);
                            self.from = offset.next();
                        }
                    }
                    Chunk::Skip(to) => self.from = to,
                },
                Ahead::End => return self.checkpoint(runtime, true),
                Ahead::Failed => return Ok(()),
            }
            // The log cannot forget what lies behind the last checkpoint, so a filling log asks for one too.
            if checkpointed.elapsed() >= self.checkpoint_every || backlog >= enough {
                self.checkpoint(runtime, false)?;
                checkpointed = Instant::now();
                backlog = 0;
            }
        }
    }

    fn show(&mut self, runtime: &Handle, record: &bytes::Bytes) {
        let opened = match self.shared.log.open.open(record) {
            Ok(opened) => opened,
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "a record cannot be opened and is not analyzed");
                return;
            }
        };
        if opened.source.as_str() == SOURCE {
            return;
        }
        let count = opened.events.len() as u64;
        self.shared.ledger.received(STAGE, count);
        let mut refused = 0;
        let mut verdicts = Vec::new();
        for event in opened.into_recorded() {
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
        self.shared.ledger.dropped(STAGE, DropReason::REJECTED, refused);
        self.shared.ledger.delivered(STAGE, count - refused);
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

    /// Keeps the analyzers' state, once every verdict drawn so far is durable.
    fn checkpoint(&mut self, runtime: &Handle, input_ended: bool) -> Result<(), WalError> {
        let (answer, answered) = oneshot::channel();
        if runtime
            .block_on(self.writer.send(FromAnalysis::Sync(answer)))
            .is_err()
        {
            return Ok(());
        }
        let Ok(end) = runtime.block_on(answered) else {
            return Ok(());
        };
        if end.0 > 0 {
            self.shared.log.wal.wait_durable(Offset(end.0 - 1))?;
        }
        if input_ended {
            // What follows the input are verdicts of our own.
            self.from = end.max(self.from);
        }
        let account = self
            .shared
            .ledger
            .snapshot()
            .accounts
            .remove(STAGE)
            .unwrap_or_default();
        let bookmark = Bookmark {
            offset: self.from,
            account,
        };
        match encode(&self.analyzers, &bookmark) {
            Ok(state) => {
                self.shared.log.wal.store(STAGE, &state)?;
                self.shared
                    .delivery
                    .advance(&self.shared.log, self.reader, self.from)
            }
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "the analyzers' state cannot be kept; after a restart the log is read again");
                Ok(())
            }
        }
    }
}

/// Brings the analyzers back to their last checkpoint. Gives the offset to go on from; the beginning of the
/// log, if there is no checkpoint or it is not one of these analyzers.
pub(super) fn restore(
    analyzers: &mut [Box<dyn Analyzer>],
    log: &LogReader,
    ledger: &Ledger,
) -> Result<Offset, WalError> {
    let first = log.wal.first();
    let Some(kept) = log.wal.load(STAGE)?.filter(|_| !analyzers.is_empty()) else {
        return Ok(first);
    };
    match decode(analyzers, &kept) {
        Ok(bookmark) => {
            ledger.set(STAGE, bookmark.account);
            Ok(bookmark.offset.max(first))
        }
        Err(error) => {
            tracing::warn!(error = %Chain(&error), "the analyzers' checkpoint is not used; the log is read from its beginning");
            Ok(first)
        }
    }
}

/// The bookmark and its length, then for each analyzer its model's digest, the length of its state, and the
/// state. It is one value, so that place and state cannot come apart.
fn encode(analyzers: &[Box<dyn Analyzer>], bookmark: &Bookmark) -> Result<Vec<u8>, AnalyzerError> {
    let place = bookmark.encode(STAGE);
    let mut bytes = (place.len() as u64).to_le_bytes().to_vec();
    bytes.extend(place);
    for analyzer in analyzers {
        let state = analyzer.snapshot()?;
        bytes.extend_from_slice(&analyzer.model().digest.0);
        bytes.extend_from_slice(&(state.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&state);
    }
    Ok(bytes)
}

fn decode(analyzers: &mut [Box<dyn Analyzer>], mut bytes: &[u8]) -> Result<Bookmark, AnalyzerError> {
    let unusable = |reason: &str| AnalyzerError::Snapshot {
        reason: reason.to_owned(),
        source: None,
    };
    let bookmark = take_part(&mut bytes)
        .and_then(|place| Bookmark::decode(place, STAGE))
        .ok_or_else(|| unusable("its place cannot be read"))?;
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
    Ok(bookmark)
}

/// Takes a part preceded by its length off the front.
fn take_part<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, behind) = bytes.split_first_chunk::<8>()?;
    let (part, behind) = behind.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    *bytes = behind;
    Some(part)
}
