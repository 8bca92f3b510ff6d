use std::pin::pin;
use std::time::Duration;

use crate::error::{BoxError, Chain, Remedy};
use crate::id::Offset;
use crate::record::{BoxRecordSink, RecordFeed, RecordSink};
use crate::wal::WalError;

use super::recovery::{Bookmark, LAST_PAUSE, LAST_TRIES};
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
    pub(super) async fn run(self) -> Result<(), BoxError> {
        let Self {
            mut sink,
            feed,
            stage,
            reader,
            shared,
        } = self;
        let mut notes = Notes {
            noted: feed.acknowledged(),
            feed: &feed,
            stage: &stage,
            reader,
            shared: &shared,
        };
        let outcome = loop {
            let result = {
                let mut carrying = pin!(sink.carry(&feed));
                loop {
                    tokio::select! {
                        biased;
                        result = &mut carrying => break Some(result),
                        () = shared.give_up.triggered() => break None,
                        () = tokio::time::sleep(NOTE_EVERY) => {}
                    }
                    notes.write()?;
                }
            };
            let error = match result {
                None | Some(Ok(())) => break Ok(()),
                Some(Err(error)) => error,
            };
            let name = sink.name().to_owned();
            metrics::counter!("amoskys_carrier_failures_total",
                "pipeline" => shared.name.clone(), "carrier" => name.clone())
            .increment(1);
            match sink.remedy(&error) {
                Remedy::RetryAfter(pause) => {
                    // Not doubled: what waits on a network knows better how patient to be.
                    tracing::warn!(carrier = name, error = %Chain(&error), ?pause, "records cannot be carried for now, will try again");
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = shared.give_up.triggered() => break Ok(()),
                    }
                }
                Remedy::Reject | Remedy::Fatal => break Err(error.source),
            }
        };
        for left in (0..LAST_TRIES).rev() {
            if notes.write()? {
                break;
            }
            if left > 0 {
                tokio::time::sleep(LAST_PAUSE).await;
            }
        }
        outcome
    }
}

/// How far the feed was acknowledged when that was last written down.
struct Notes<'a> {
    noted: Offset,
    feed: &'a RecordFeed,
    stage: &'a str,
    reader: usize,
    shared: &'a Shared,
}

impl Notes<'_> {
    /// Writes down how far the feed is acknowledged, if it has come on. Whether that is written down.
    fn write(&mut self) -> Result<bool, WalError> {
        let offset = self.feed.acknowledged();
        if offset == self.noted {
            return Ok(true);
        }
        let account = self
            .shared
            .ledger
            .snapshot()
            .accounts
            .remove(self.stage)
            .unwrap_or_default();
        let is_noted = Bookmark { offset, account }.note(self.shared, self.stage, self.reader)?;
        if is_noted {
            self.noted = offset;
        }
        Ok(is_noted)
    }
}
