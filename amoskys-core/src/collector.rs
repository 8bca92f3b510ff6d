//! Where events come from.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::batch::{Batch, Position};
use crate::error::{BoxError, Remedy};

/// A source of events, pulled by whoever runs it.
///
/// Not asking for the next batch is the backpressure: a source that can wait, waits; one that cannot (a kernel
/// ring, a UDP socket) drops, counts what it dropped, and says so in the next batch's
/// [`tally`](crate::Batch::tally).
///
/// # Protocol
///
/// 1. [`resume`](Self::resume) is called at most once, before anything else, with the position of the last
///    batch that became durable in an earlier run. A source that starts afresh is not resumed.
/// 2. [`next_batch`](Self::next_batch) is called until it returns `None` or a fatal error. Events are numbered
///    so that an event read again has the id it had before.
/// 3. After an error that may be retried, `next_batch` is called again after a pause.
pub trait Collector: Send {
    /// Why reading failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The name of this source: what its events carry in [`Event::source`](crate::Event::source), and the key
    /// its position is stored under. Two collectors of one pipeline have different names.
    fn source(&self) -> &str;

    /// Whether what was read before a crash can be read again, with the same event ids: true for a file, false
    /// for a live source. Default: false.
    ///
    /// What a source that is not replayable held in memory at a crash is entered in the ledger as lost.
    fn is_replayable(&self) -> bool {
        false
    }

    /// Goes on after `position`, as if the batches up to it had just been returned.
    ///
    /// The default ignores the position: right for a live source, which cannot go back.
    ///
    /// # Errors
    ///
    /// If the position is not one of this source, or what it points to is gone.
    ///
    /// # Cancel safety
    ///
    /// A collector whose `resume` was dropped half-way must be dropped too.
    fn resume(&mut self, position: &Position) -> impl Future<Output = Result<(), Self::Error>> + Send {
        let _ = position;
        async { Ok(()) }
    }

    /// Waits for the next batch; `None` means the source has ended for good.
    ///
    /// A batch may be empty of events and still carry a position or a tally.
    ///
    /// # Errors
    ///
    /// If the source failed. [`remedy`](Self::remedy) says what may help.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: unread data stays in the source or in `self`.
    fn next_batch(&mut self) -> impl Future<Output = Result<Option<Batch>, Self::Error>> + Send;

    /// Asks a live source to come to an end: true if `next_batch` will now hand over what is still in memory,
    /// and then `None`; false if there is nothing worth waiting for, and the collector may be dropped.
    ///
    /// A pipeline calls it when it is shut down. Default: false.
    fn stop(&mut self) -> bool {
        false
    }

    /// What to do about an error of this collector. Default: retry after a second.
    fn remedy(&self, error: &Self::Error) -> Remedy {
        let _ = error;
        Remedy::RetryAfter(Duration::from_secs(1))
    }
}

/// Any collector, for pipelines assembled at run time. One allocation per call, not per event.
pub struct BoxCollector(Box<dyn ErasedCollector>);

impl BoxCollector {
    /// Boxes a collector.
    pub fn new(collector: impl Collector + 'static) -> Self {
        Self(Box::new(collector))
    }
}

impl std::fmt::Debug for BoxCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("BoxCollector").field(&self.0.source()).finish()
    }
}

/// An error of a boxed collector: the collector's own error, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("collector {collector} failed")]
pub struct CollectError {
    /// Name of the collector.
    pub collector: String,
    /// What to do.
    pub remedy: Remedy,
    /// The collector's own error.
    pub source: BoxError,
}

impl Collector for BoxCollector {
    type Error = CollectError;

    fn source(&self) -> &str {
        self.0.source()
    }

    fn is_replayable(&self) -> bool {
        self.0.is_replayable()
    }

    async fn resume(&mut self, position: &Position) -> Result<(), CollectError> {
        self.0.resume(position).await
    }

    async fn next_batch(&mut self) -> Result<Option<Batch>, CollectError> {
        self.0.next_batch().await
    }

    fn stop(&mut self) -> bool {
        self.0.stop()
    }

    fn remedy(&self, error: &CollectError) -> Remedy {
        error.remedy
    }
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

trait ErasedCollector: Send {
    fn source(&self) -> &str;
    fn is_replayable(&self) -> bool;
    fn resume<'a>(&'a mut self, position: &'a Position) -> BoxFuture<'a, Result<(), CollectError>>;
    fn next_batch(&mut self) -> BoxFuture<'_, Result<Option<Batch>, CollectError>>;
    fn stop(&mut self) -> bool;
}

impl<C: Collector> ErasedCollector for C {
    fn source(&self) -> &str {
        Collector::source(self)
    }

    fn is_replayable(&self) -> bool {
        Collector::is_replayable(self)
    }

    fn resume<'a>(&'a mut self, position: &'a Position) -> BoxFuture<'a, Result<(), CollectError>> {
        Box::pin(async move {
            let result = Collector::resume(self, position).await;
            result.map_err(|error| erase(self, error))
        })
    }

    fn next_batch(&mut self) -> BoxFuture<'_, Result<Option<Batch>, CollectError>> {
        Box::pin(async move {
            let result = Collector::next_batch(self).await;
            result.map_err(|error| erase(self, error))
        })
    }

    fn stop(&mut self) -> bool {
        Collector::stop(self)
    }
}

fn erase<C: Collector>(collector: &C, error: C::Error) -> CollectError {
    CollectError {
        collector: collector.source().to_owned(),
        remedy: collector.remedy(&error),
        source: Box::new(error),
    }
}
