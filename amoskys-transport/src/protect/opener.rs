use std::fmt;
use std::sync::Arc;

use amoskys_core::seal::Opened;
use amoskys_core::{Class, Open, SealError, Seq, StreamId};
use bytes::Bytes;

use super::Reveal;

/// Opens records with another opener, and decrypts the events in them: for a pipeline that analyses what is in a log.
pub struct RevealingOpener {
    inner: Arc<dyn Open>,
    reveal: Reveal,
}

impl RevealingOpener {
    /// Decrypts what this opener opens.
    pub fn new(inner: Arc<dyn Open>, reveal: Reveal) -> Self {
        Self { inner, reveal }
    }
}

impl Open for RevealingOpener {
    fn open(&self, record: &Bytes) -> Result<Opened, SealError> {
        let mut opened = self.inner.open(record)?;
        for event in &mut opened.events {
            self.reveal.reveal(event);
        }
        Ok(opened)
    }

    fn class(&self, record: &Bytes) -> Option<Class> {
        self.inner.class(record)
    }

    fn events(&self, record: &Bytes) -> Option<u64> {
        self.inner.events(record)
    }

    fn place(&self, record: &Bytes) -> Option<(StreamId, Seq, u64)> {
        self.inner.place(record)
    }
}

impl fmt::Debug for RevealingOpener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevealingOpener")
            .field("reveal", &self.reveal)
            .finish_non_exhaustive()
    }
}
