use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::error::Chain;
use crate::id::Offset;
use crate::record::RecordFeed;
use crate::wal::WalError;

use super::Retention;
use super::recovery::note_from;
use super::run::LogReader;

/// What the readers of the log share: how far it is durable, where it ends, and how far each has come.
pub(super) struct Delivery {
    retention: Retention,
    state: Mutex<State>,
    changed: Notify,
    /// What record sinks read; they have to be told of the end too.
    feeds: Mutex<Vec<RecordFeed>>,
}

/// Name of the note of what no reader needs any more.
const DEALT_WITH: &str = "dealt with";

struct State {
    durable: Offset,
    /// All input is in the log below this offset; set once the collectors have ended.
    input_end: Option<Offset>,
    /// Everything is in the log below this offset; set once the analyzers have ended too.
    log_end: Option<Offset>,
    failed: bool,
    /// Position of each reader: records below it are dealt with.
    readers: Vec<Offset>,
    /// Positions that readers have come to and could not keep: their restart needs what lies between.
    unkept: BTreeMap<usize, Offset>,
    /// Notes that could not be kept when that was tried last.
    failing: BTreeSet<String>,
    /// The last record. A restart learns from it how far the sources had come.
    last: Offset,
    /// The first record of each source that a restart needs to know what is ahead of the source's position.
    unpositioned: BTreeMap<String, Offset>,
}

impl State {
    /// The first record that a restart needs to know how far the sources had come.
    fn needed_by_sources(&self) -> Offset {
        let unpositioned = self.unpositioned.values().copied().min();
        unpositioned.unwrap_or(self.last).min(self.last)
    }
}

/// How far a reader may go for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ahead {
    /// Records below this offset may be read.
    Records(Offset),
    /// There is nothing more, and nothing will come.
    End,
    /// The log has failed.
    Failed,
}

/// Which end a reader waits for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    InputEnd,
    LogEnd,
}

impl Delivery {
    pub(super) fn new(log: &LogReader, retention: Retention, positions: Vec<Offset>) -> Arc<Self> {
        let delivery = Arc::new(Self {
            retention,
            state: Mutex::new(State {
                durable: log.wal.durable(),
                input_end: None,
                log_end: None,
                failed: false,
                readers: positions,
                unkept: BTreeMap::new(),
                failing: BTreeSet::new(),
                last: Offset(log.wal.durable().0.saturating_sub(1)),
                unpositioned: BTreeMap::new(),
            }),
            changed: Notify::new(),
            feeds: Mutex::default(),
        });
        // The log outlives the pipeline if the caller keeps it, so it must not keep the pipeline alive.
        let weak = Arc::downgrade(&delivery);
        log.wal.on_durable(Box::new(move |durable| {
            if let Some(delivery) = weak.upgrade() {
                delivery.change(|state| state.durable = state.durable.max(durable));
            }
        }));
        let durable = log.wal.durable();
        delivery.change(|state| state.durable = state.durable.max(durable));
        delivery
    }

    pub(super) fn end_input(&self, at: Offset) {
        self.change(|state| state.input_end = Some(at));
    }

    pub(super) fn end_log(&self, at: Offset) {
        self.change(|state| state.log_end = Some(at));
        self.feeds().iter().for_each(|feed| feed.end(at));
    }

    pub(super) fn fail(&self) {
        self.change(|state| state.failed = true);
        self.feeds().iter().for_each(RecordFeed::fail);
    }

    pub(super) fn add_feed(&self, feed: RecordFeed) {
        self.feeds().push(feed);
    }

    fn feeds(&self) -> MutexGuard<'_, Vec<RecordFeed>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is a record at `from`, or the end is reached.
    pub(super) async fn ahead(&self, from: Offset, until: Until) -> Ahead {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let state = self.lock();
                if state.failed {
                    return Ahead::Failed;
                }
                let end = match until {
                    Until::InputEnd => state.input_end,
                    Until::LogEnd => state.log_end,
                };
                let limit = end.map_or(state.durable, |end| end.min(state.durable));
                if from < limit {
                    return Ahead::Records(limit);
                }
                if end.is_some_and(|end| from >= end) {
                    return Ahead::End;
                }
            }
            changed.await;
        }
    }

    /// Notes that `reader` has dealt with everything below `to`, and lets the log forget what all have.
    pub(super) fn advance(&self, log: &LogReader, reader: usize, to: Offset) -> Result<(), WalError> {
        {
            let mut state = self.lock();
            state.readers[reader] = to;
            state.unkept.remove(&reader);
        }
        if let Some(from) = self.dealt_with() {
            if let Err(error) = note_from(log, from) {
                // A restart reads more than it needs to, so that must stay. The next time is another try.
                if self.begins_to_fail(DEALT_WITH) {
                    tracing::warn!(error = %Chain(&error), "how far the log was dealt with cannot be noted");
                }
                return Ok(());
            }
            self.succeeds(DEALT_WITH);
        }
        match self.retention {
            Retention::Consumed => self.trim(log),
            Retention::UntilFull => Ok(()),
        }
    }

    /// A note of this name cannot be kept. Whether that is news: the disk may stay full for hours, and it is tried ten times a
    /// second.
    pub(super) fn begins_to_fail(&self, name: &str) -> bool {
        self.lock().failing.insert(name.to_owned())
    }

    /// A note of this name was kept.
    pub(super) fn succeeds(&self, name: &str) {
        if self.lock().failing.remove(name) {
            tracing::info!(stage = name, "notes are kept again");
        }
    }

    /// Notes what a restart will need of the log: the last record, and those of `source` from `unpositioned` on.
    pub(super) fn needed(&self, source: &str, unpositioned: Option<Offset>, last: Offset) {
        let mut state = self.lock();
        state.last = state.last.max(last);
        match unpositioned {
            Some(from) => drop(state.unpositioned.insert(source.to_owned(), from)),
            None => drop(state.unpositioned.remove(source)),
        }
    }

    /// Notes that `reader` has dealt with everything below `to` and could not keep that: its restart needs the log from where it
    /// was before.
    pub(super) fn unkept(&self, reader: usize, to: Offset) {
        self.lock().unkept.insert(reader, to);
    }

    /// Makes room in a full log: forgets the older half of what every reader has dealt with. If that is nothing, it forgets what
    /// was dealt with but could not be kept; what cannot be stored is not to stop what comes. Gives how many records were
    /// forgotten that a restart would need.
    pub(super) fn make_room(&self, log: &LogReader) -> Result<u64, WalError> {
        let first = log.wal.first().0;
        let half = |to: Offset| Offset(first + (to.0 - first).div_ceil(2));
        if let Some(to) = self.dealt_with().filter(|to| to.0 > first) {
            log.wal.trim(half(to))?;
            return Ok(0);
        }
        let Some(to) = self.dealt_with_unkept().filter(|to| to.0 > first) else {
            return Ok(0);
        };
        log.wal.trim(half(to))?;
        Ok(log.wal.first().0.saturating_sub(first))
    }

    fn trim(&self, log: &LogReader) -> Result<(), WalError> {
        self.dealt_with().map_or(Ok(()), |to| log.wal.trim(to))
    }

    fn dealt_with(&self) -> Option<Offset> {
        let state = self.lock();
        let dealt_with = state.readers.iter().copied().min()?;
        Some(dealt_with.min(state.needed_by_sources()))
    }

    /// The same without regard to what a restart of readers would need.
    fn dealt_with_unkept(&self) -> Option<Offset> {
        let state = self.lock();
        let reached =
            |(reader, kept): (usize, &Offset)| state.unkept.get(&reader).map_or(*kept, |to| *to.max(kept));
        let dealt_with = state.readers.iter().enumerate().map(reached).min()?;
        Some(dealt_with.min(state.needed_by_sources()))
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
