//! Where events go.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::batch::Recorded;
use crate::error::{BoxError, Remedy};

/// A destination of events.
///
/// Delivery is at least once: after a crash, events since the last successful [`flush`](Self::flush) are
/// written again, in the same order and with the same stream and sequence number. A sink that must not write
/// twice compares [`Recorded::stream`] and [`Recorded::seq`], or the id of a verdict.
pub trait Sink: Send {
    /// Why writing failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The name of this sink: the key its position is stored under. Two sinks of one pipeline have different
    /// names.
    fn name(&self) -> &str;

    /// Takes events, in log order. They need not be safe before [`flush`](Self::flush) returns.
    ///
    /// # Errors
    ///
    /// If nothing of the batch, or an unknown part of it, was taken: the same batch is written again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave part of the batch written; writing it again is safe as described above.
    fn write(&mut self, events: &[Recorded]) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Makes everything taken so far safe. After it returns, the log may forget those events.
    ///
    /// The default does nothing: right for a sink whose `write` is already final.
    ///
    /// # Errors
    ///
    /// If it is not known to be safe.
    ///
    /// # Cancel safety
    ///
    /// May have happened; safe to repeat.
    fn flush(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        async { Ok(()) }
    }

    /// What to do about an error of this sink. Default: retry after a second.
    fn remedy(&self, error: &Self::Error) -> Remedy {
        let _ = error;
        Remedy::RetryAfter(Duration::from_secs(1))
    }
}

/// Any sink, for pipelines assembled at run time. One allocation per call, not per event.
pub struct BoxSink(Box<dyn ErasedSink>);

impl BoxSink {
    /// Boxes a sink.
    pub fn new(sink: impl Sink + 'static) -> Self {
        Self(Box::new(sink))
    }
}

impl std::fmt::Debug for BoxSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("BoxSink").field(&self.0.name()).finish()
    }
}

/// An error of a boxed sink: the sink's own error, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("sink {sink} failed")]
pub struct SinkError {
    /// Name of the sink.
    pub sink: String,
    /// What to do.
    pub remedy: Remedy,
    /// The sink's own error.
    pub source: BoxError,
}

impl Sink for BoxSink {
    type Error = SinkError;

    fn name(&self) -> &str {
        self.0.name()
    }

    async fn write(&mut self, events: &[Recorded]) -> Result<(), SinkError> {
        self.0.write(events).await
    }

    async fn flush(&mut self) -> Result<(), SinkError> {
        self.0.flush().await
    }

    fn remedy(&self, error: &SinkError) -> Remedy {
        error.remedy
    }
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

trait ErasedSink: Send {
    fn name(&self) -> &str;
    fn write<'a>(&'a mut self, events: &'a [Recorded]) -> BoxFuture<'a, Result<(), SinkError>>;
    fn flush(&mut self) -> BoxFuture<'_, Result<(), SinkError>>;
}

impl<S: Sink> ErasedSink for S {
    fn name(&self) -> &str {
        Sink::name(self)
    }

    fn write<'a>(&'a mut self, events: &'a [Recorded]) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            let result = Sink::write(self, events).await;
            result.map_err(|error| erase(self, error))
        })
    }

    fn flush(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            let result = Sink::flush(self).await;
            result.map_err(|error| erase(self, error))
        })
    }
}

fn erase<S: Sink>(sink: &S, error: S::Error) -> SinkError {
    SinkError {
        sink: sink.name().to_owned(),
        remedy: sink.remedy(&error),
        source: Box::new(error),
    }
}
