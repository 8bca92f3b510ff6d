//! Sealed records on their way between logs: out of one's own into another, and from another to here.
//!
//! Unlike a [`Collector`](crate::Collector) and a [`Sink`](crate::Sink), which deal in events, these deal in records
//! as they lie in the log: sealed, opaque, never encoded anew.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

use crate::error::{BoxError, Remedy};
use crate::id::{Offset, Seq, StreamId};
use crate::ledger::{DropReason, Ledger};
use crate::seal::Open;
use crate::wal::{Wal, WalError};

/// Name of the source under which the keeper of a shared log states its clock: punctuations that tell a reader how
/// much later one record came than another.
pub const CLOCK_SOURCE: &str = "log-clock";

/// Takes records from a log and carries them elsewhere: to a bus, into an archive.
///
/// It reads at its own pace from a [`RecordFeed`] and acknowledges there what is safe on the other side; the log
/// keeps what is not acknowledged.
pub trait RecordSink: Send {
    /// Why carrying failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The name of this sink: its stage in the ledger, and the key its position is stored under.
    fn name(&self) -> &str;

    /// Carries records until the feed has ended and everything in it is acknowledged.
    ///
    /// After an error that may be retried it is called again after a pause, so one call may be one connection.
    ///
    /// # Errors
    ///
    /// If it cannot go on for now, or for good. [`remedy`](Self::remedy) says which.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: what was not acknowledged is read again by the next call.
    fn carry(&mut self, feed: &RecordFeed) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// What to do about an error of this sink. Default: retry after a second.
    fn remedy(&self, error: &Self::Error) -> Remedy {
        let _ = error;
        Remedy::RetryAfter(Duration::from_secs(1))
    }
}

/// Gives records of a log that lies elsewhere, in the order of that log: a subscription to a bus.
pub trait RecordSource: Send {
    /// Why reading failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The name of this source: part of the name its position is stored under.
    fn name(&self) -> &str;

    /// Goes on with the record at `offset`, or the first behind it. Called at most once, before anything else; a
    /// source that is not resumed begins where it was told to when it was made.
    ///
    /// # Errors
    ///
    /// If that cannot be arranged.
    ///
    /// # Cancel safety
    ///
    /// A source whose `resume` was dropped half-way must be dropped too.
    fn resume(&mut self, offset: Offset) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Waits for the next records, with their offsets, which grow but need not be consecutive. `None` means that
    /// there will be no more.
    ///
    /// # Errors
    ///
    /// If the source failed. After an error that may be retried it is called again after a pause, and goes on
    /// behind the last record it gave.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    fn next_records(
        &mut self,
    ) -> impl Future<Output = Result<Option<Vec<(Offset, Bytes)>>, Self::Error>> + Send;

    /// Says that records below `to` will not be asked for again, also after a crash: the other side may forget
    /// them.
    ///
    /// # Errors
    ///
    /// If it could not be said; it will be said again with the next, so nothing is lost by going on.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether it was said.
    fn release(&mut self, to: Offset) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// What to do about an error of this source. Default: retry after a second.
    fn remedy(&self, error: &Self::Error) -> Remedy {
        let _ = error;
        Remedy::RetryAfter(Duration::from_secs(1))
    }
}

/// A log, to a [`RecordSink`]: what is in it, when there is more, and how far it is acknowledged.
///
/// Clones share the acknowledgement.
#[derive(Clone)]
pub struct RecordFeed(Arc<Inner>);

struct Inner {
    wal: Arc<dyn Wal>,
    account: Option<Account>,
    state: Mutex<State>,
}

/// Where the ledger counts what the sink reads.
struct Account {
    ledger: Ledger,
    stage: String,
    open: Arc<dyn Open>,
}

struct State {
    durable: Offset,
    end: Option<Offset>,
    failed: bool,
    acknowledged: Offset,
    /// First offset that was not yet given to the sink.
    given: Offset,
    /// Records given and not acknowledged, in order.
    in_flight: VecDeque<InFlight>,
    /// How far each stream was given, where that is known.
    given_of: BTreeMap<StreamId, Seq>,
    /// Where the last read ended.
    read_to: Offset,
    /// Events that were given, are no longer there, and whose gap was not met yet.
    unexplained: u64,
    wakers: Vec<Waker>,
}

/// A record that was given and not acknowledged.
struct InFlight {
    offset: Offset,
    /// Events in it, or missing by it.
    events: u64,
    /// The log gave them up, and a gap will be acknowledged in their place.
    lost: Option<DropReason>,
}

/// What a [`RecordFeed`] has to say about an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// There are records to read.
    Records,
    /// There is nothing more, and nothing will come.
    Ended,
    /// The log has failed.
    Failed,
}

impl RecordFeed {
    /// A feed of a log. Everything below `acknowledged` is safe on the other side already.
    #[must_use]
    pub fn new(wal: Arc<dyn Wal>, acknowledged: Offset) -> Self {
        Self::build(wal, acknowledged, None)
    }

    /// The same, with the sink's events counted in a stage of a ledger: received when they are read first,
    /// delivered when they are acknowledged.
    #[must_use]
    pub fn counted(
        wal: Arc<dyn Wal>,
        acknowledged: Offset,
        open: Arc<dyn Open>,
        ledger: Ledger,
        stage: impl Into<String>,
    ) -> Self {
        let account = Account {
            ledger,
            stage: stage.into(),
            open,
        };
        Self::build(wal, acknowledged, Some(account))
    }

    fn build(wal: Arc<dyn Wal>, acknowledged: Offset, account: Option<Account>) -> Self {
        let acknowledged = acknowledged.max(wal.first());
        let inner = Arc::new(Inner {
            state: Mutex::new(State {
                durable: wal.durable(),
                end: None,
                failed: false,
                acknowledged,
                given: acknowledged,
                in_flight: VecDeque::new(),
                given_of: BTreeMap::new(),
                read_to: acknowledged,
                unexplained: 0,
                wakers: Vec::new(),
            }),
            wal,
            account,
        });
        // The log outlives the feed, so it must not keep it alive.
        let weak = Arc::downgrade(&inner);
        inner.wal.on_durable(Box::new(move |durable| {
            if let Some(inner) = weak.upgrade() {
                inner.change(|state| state.durable = state.durable.max(durable));
            }
        }));
        let durable = inner.wal.durable();
        inner.change(|state| state.durable = state.durable.max(durable));
        Self(inner)
    }

    /// The oldest offset that can be read. Records between it and [`acknowledged`](Self::acknowledged) may be
    /// read too, for a receiver that lost them.
    #[must_use]
    pub fn first(&self) -> Offset {
        self.0.wal.first()
    }

    /// The first offset that is not yet durable here; nothing from there on may be carried.
    #[must_use]
    pub fn durable(&self) -> Offset {
        self.0.lock().durable
    }

    /// The first offset that is not acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> Offset {
        self.0.lock().acknowledged
    }

    /// Waits until there are records at `from` or behind, or there never will be.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn ready(&self, from: Offset) -> Ready {
        poll_fn(|cx| {
            let mut state = self.0.lock();
            if state.failed {
                return Poll::Ready(Ready::Failed);
            }
            let limit = state.end.map_or(state.durable, |end| end.min(state.durable));
            if from < limit {
                return Poll::Ready(Ready::Records);
            }
            if state.end.is_some_and(|end| from >= end) {
                return Poll::Ready(Ready::Ended);
            }
            if !state.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                state.wakers.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// Reads records from `from` on, in order, about `max_bytes` of them but at least one; none at the end. Blocks
    /// on the disk.
    ///
    /// # Errors
    ///
    /// As [`Wal::read`]: after [`WalError::Damaged`], reading may go on behind it.
    pub fn read(&self, from: Offset, max_bytes: usize) -> Result<Vec<(Offset, Bytes)>, WalError> {
        let mut records = self.0.wal.read(from, max_bytes)?;
        let end = self.0.lock().end;
        records.retain(|(offset, _)| end.is_none_or(|end| *offset < end));
        if let Some(account) = &self.0.account {
            account.count(&mut self.0.lock(), from, &records);
        }
        if let Some((last, _)) = records.last() {
            let mut state = self.0.lock();
            state.given = state.given.max(last.next());
            state.read_to = last.next();
        }
        Ok(records)
    }

    /// Says that records below `to` are safe on the other side.
    pub fn acknowledge(&self, to: Offset) {
        let (mut delivered, mut lost) = (0, Vec::new());
        {
            let mut state = self.0.lock();
            if to <= state.acknowledged {
                return;
            }
            state.acknowledged = to;
            let settled = state.in_flight.partition_point(|record| record.offset < to);
            for record in state.in_flight.drain(..settled) {
                match record.lost {
                    None => delivered += record.events,
                    Some(reason) => lost.push((reason, record.events)),
                }
            }
        }
        if let Some(account) = &self.0.account {
            account.ledger.delivered(&account.stage, delivered);
            for (reason, events) in lost {
                account.ledger.dropped(&account.stage, reason, events);
            }
        }
    }

    /// Says that the log ends at `at`: nothing from there on is carried.
    pub fn end(&self, at: Offset) {
        self.0.change(|state| state.end = Some(at));
    }

    /// Says that the log has failed.
    pub fn fail(&self) {
        self.0.change(|state| state.failed = true);
    }
}

impl Account {
    /// Counts what is given for the first time, and finds out what the log gave up since it was given.
    fn count(&self, state: &mut State, from: Offset, records: &[(Offset, Bytes)]) {
        let Some((last, _)) = records.last() else { return };
        if from != state.read_to {
            state.unexplained = 0;
        }
        let again = state.in_flight.partition_point(|record| record.offset < from)
            ..state.in_flight.partition_point(|record| record.offset <= *last);
        for record in state.in_flight.range_mut(again) {
            let there = records.binary_search_by_key(&record.offset, |(offset, _)| *offset);
            let there = there.ok().map(|at| self.given_up(&records[at].1));
            match (there, &record.lost) {
                (Some(None), _) | (Some(Some(_)), Some(_)) => continue,
                (Some(Some((_, reason))), None) => {
                    record.lost = Some(reason);
                    continue;
                }
                (None, None) => record.lost = Some(DropReason::SHED),
                (None, Some(_)) => {}
            }
            state.unexplained += record.events;
        }
        for (offset, record) in records {
            let is_new = *offset >= state.given;
            let (events, lost) = match self.open.events(record) {
                Some(events) if events > 0 => (events, None),
                _ => match self.given_up(record) {
                    Some((events, reason)) => (events, Some(reason)),
                    None => continue,
                },
            };
            let mut new = events;
            let place = is_new.then(|| self.open.place(record)).flatten();
            if let Some((stream, first, count)) = place {
                let given = state.given_of.entry(stream).or_insert(first);
                if lost.is_some() {
                    // What it was given before the log gave it up is counted already.
                    new -= given.0.saturating_sub(first.0).min(new);
                }
                *given = (*given).max(Seq(first.0.saturating_add(count)));
            } else if lost.is_some() {
                let known = state.in_flight.binary_search_by_key(offset, |known| known.offset);
                let known = known.ok().and_then(|at| state.in_flight.get(at));
                new -= known.map_or(0, |known| known.events).min(new);
                let explained = new.min(state.unexplained);
                state.unexplained -= explained;
                new -= explained;
            }
            if is_new && new > 0 {
                self.ledger.received(&self.stage, new);
                state.in_flight.push_back(InFlight {
                    offset: *offset,
                    events: new,
                    lost,
                });
            }
        }
    }

    fn given_up(&self, record: &Bytes) -> Option<(u64, DropReason)> {
        match self.open.events(record) {
            Some(0) | None => self.open.open(record).ok()?.given_up(),
            Some(_) => None,
        }
    }
}

impl fmt::Debug for RecordFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock();
        f.debug_struct("RecordFeed")
            .field("durable", &state.durable)
            .field("acknowledged", &state.acknowledged)
            .field("end", &state.end)
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn change(&self, change: impl FnOnce(&mut State)) {
        let wakers = {
            let mut state = self.lock();
            change(&mut state);
            std::mem::take(&mut state.wakers)
        };
        for waker in wakers {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Any record sink, for pipelines assembled at run time.
pub struct BoxRecordSink(Box<dyn ErasedSink>);

impl BoxRecordSink {
    /// Boxes a record sink.
    pub fn new(sink: impl RecordSink + 'static) -> Self {
        Self(Box::new(sink))
    }
}

impl fmt::Debug for BoxRecordSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BoxRecordSink").field(&self.0.name()).finish()
    }
}

/// Any record source, for pipelines assembled at run time.
pub struct BoxRecordSource(Box<dyn ErasedSource>);

impl BoxRecordSource {
    /// Boxes a record source.
    pub fn new(source: impl RecordSource + 'static) -> Self {
        Self(Box::new(source))
    }
}

impl fmt::Debug for BoxRecordSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BoxRecordSource").field(&self.0.name()).finish()
    }
}

/// An error of a boxed record sink or source: its own error, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{part} failed")]
pub struct CarryError {
    /// Name of the sink or source.
    pub part: String,
    /// What to do.
    pub remedy: Remedy,
    /// Its own error.
    pub source: BoxError,
}

impl RecordSink for BoxRecordSink {
    type Error = CarryError;

    fn name(&self) -> &str {
        self.0.name()
    }

    async fn carry(&mut self, feed: &RecordFeed) -> Result<(), CarryError> {
        self.0.carry(feed).await
    }

    fn remedy(&self, error: &CarryError) -> Remedy {
        error.remedy
    }
}

impl RecordSource for BoxRecordSource {
    type Error = CarryError;

    fn name(&self) -> &str {
        self.0.name()
    }

    async fn resume(&mut self, offset: Offset) -> Result<(), CarryError> {
        self.0.resume(offset).await
    }

    async fn next_records(&mut self) -> Result<Option<Vec<(Offset, Bytes)>>, CarryError> {
        self.0.next_records().await
    }

    async fn release(&mut self, to: Offset) -> Result<(), CarryError> {
        self.0.release(to).await
    }

    fn remedy(&self, error: &CarryError) -> Remedy {
        error.remedy
    }
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, CarryError>> + Send + 'a>>;

trait ErasedSink: Send {
    fn name(&self) -> &str;
    fn carry<'a>(&'a mut self, feed: &'a RecordFeed) -> BoxFuture<'a, ()>;
}

impl<S: RecordSink> ErasedSink for S {
    fn name(&self) -> &str {
        RecordSink::name(self)
    }

    fn carry<'a>(&'a mut self, feed: &'a RecordFeed) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let result = RecordSink::carry(self, feed).await;
            result.map_err(|error| CarryError {
                part: RecordSink::name(self).to_owned(),
                remedy: RecordSink::remedy(self, &error),
                source: Box::new(error),
            })
        })
    }
}

trait ErasedSource: Send {
    fn name(&self) -> &str;
    fn resume(&mut self, offset: Offset) -> BoxFuture<'_, ()>;
    fn next_records(&mut self) -> BoxFuture<'_, Option<Vec<(Offset, Bytes)>>>;
    fn release(&mut self, to: Offset) -> BoxFuture<'_, ()>;
}

impl<S: RecordSource> ErasedSource for S {
    fn name(&self) -> &str {
        RecordSource::name(self)
    }

    fn resume(&mut self, offset: Offset) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let result = RecordSource::resume(self, offset).await;
            result.map_err(|error| erase(self, error))
        })
    }

    fn next_records(&mut self) -> BoxFuture<'_, Option<Vec<(Offset, Bytes)>>> {
        Box::pin(async move {
            let result = RecordSource::next_records(self).await;
            result.map_err(|error| erase(self, error))
        })
    }

    fn release(&mut self, to: Offset) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let result = RecordSource::release(self, to).await;
            result.map_err(|error| erase(self, error))
        })
    }
}

fn erase<S: RecordSource>(source: &S, error: S::Error) -> CarryError {
    CarryError {
        part: RecordSource::name(source).to_owned(),
        remedy: RecordSource::remedy(source, &error),
        source: Box::new(error),
    }
}
