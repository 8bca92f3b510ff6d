use std::pin::pin;
use std::time::Duration;

use crate::error::{BoxError, Chain, Remedy};
use crate::id::Offset;
use crate::record::{BoxRecordSink, RecordFeed, RecordSink};
use crate::wal::WalError;

use super::recovery::Bookmark;
use super::run::Shared;

/// How often what was acknowledged is written down, and the log may forget it.
const NOTE_EVERY: Duration = Duration::from_millis(100);

/// Drives one record sink.
pub(super) struct Carrier {
    pub(super) sink: BoxRecordSink,
    pub(super) feed: RecordFeed,
    pub(super) stage: String,
    pub(super) reader: usize,
    pub(super) shared: Shared,
}

impl Carrier {
    /// Runs until everything in the log is acknowledged, or the pipeline waits no longer.
    pub(super) async fn run(mut self) -> Result<(), BoxError> {
        let mut noted = self.feed.acknowledged();
        let outcome = loop {
            let result = {
                let mut carrying = pin!(self.sink.carry(&self.feed));
                loop {
                    tokio::select! {
                        biased;
                        result = &mut carrying => break Some(result),
                        () = self.shared.give_up.triggered() => break None,
                        () = tokio::time::sleep(NOTE_EVERY) => {}
                    }
                    note(&self.feed, &self.shared, &self.stage, self.reader, &mut noted)?;
                }
            };
            let error = match result {
                None | Some(Ok(())) => break Ok(()),
                Some(Err(error)) => error,
            };
            let name = self.sink.name().to_owned();
            metrics::counter!("amoskys_carrier_failures_total",
                "pipeline" => self.shared.name.clone(), "carrier" => name.clone())
            .increment(1);
            match self.sink.remedy(&error) {
                Remedy::RetryAfter(pause) => {
                    // Not doubled: what waits on a network knows better how patient to be.
                    tracing::warn!(carrier = name, error = %Chain(&error), ?pause, "records cannot be carried for now, will try again");
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.shared.give_up.triggered() => break Ok(()),
                    }
                }
                Remedy::Reject | Remedy::Fatal => break Err(error.source),
            }
        };
        note(&self.feed, &self.shared, &self.stage, self.reader, &mut noted)?;
        outcome
    }
}

/// Writes down how far the feed is acknowledged, if it has come on.
fn note(
    feed: &RecordFeed,
    shared: &Shared,
    stage: &str,
    reader: usize,
    noted: &mut Offset,
) -> Result<(), WalError> {
    let acknowledged = feed.acknowledged();
    if acknowledged == *noted {
        return Ok(());
    }
    let account = shared
        .ledger
        .snapshot()
        .accounts
        .remove(stage)
        .unwrap_or_default();
    let place = Bookmark {
        offset: acknowledged,
        account,
    };
    place.store(&shared.log, stage)?;
    shared.delivery.advance(&shared.log, reader, acknowledged)?;
    *noted = acknowledged;
    Ok(())
}
