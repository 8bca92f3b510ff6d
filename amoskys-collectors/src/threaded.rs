//! A source that works on a thread of its own, from the first batch that is asked for.

use std::fmt;

use amoskys_core::Batch;
use tokio::sync::mpsc;

/// Before there is a thread, while there is one, and after it.
pub(crate) enum Threaded<W, E> {
    Ready(Box<W>),
    Running(mpsc::Receiver<Result<Batch, E>>),
    Ended,
}

impl<W, E> Threaded<W, E> {
    pub(crate) fn ready(worker: W) -> Self {
        Self::Ready(Box::new(worker))
    }

    /// What has to be given a thread now, once. Who cannot give it one leaves the source ended.
    pub(crate) fn begin(&mut self) -> Option<W> {
        match std::mem::replace(self, Self::Ended) {
            Self::Ready(worker) => Some(*worker),
            other => {
                *self = other;
                None
            }
        }
    }

    /// The next batch of the thread; it ends with an error. Cancel safe.
    pub(crate) async fn next_batch(&mut self) -> Result<Option<Batch>, E> {
        let Self::Running(batches) = self else {
            return Ok(None);
        };
        let batch = batches.recv().await.transpose();
        if !matches!(batch, Ok(Some(_))) {
            *self = Self::Ended;
        }
        batch
    }
}

impl<W, E> fmt::Debug for Threaded<W, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready(_) => "Ready",
            Self::Running(_) => "Running",
            Self::Ended => "Ended",
        })
    }
}
