use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::id::Offset;
use crate::record::{Ready, RecordFeed, RecordSink, RecordSource};
use crate::wal::{Wal, WalError};

/// How much is read at once.
const READ_BYTES: usize = 1 << 20;

/// A record sink that appends to another log of the same process.
///
/// Several may append to one log, as agents do to a bus; it does not notice records that come twice.
pub struct LogCarrier {
    name: String,
    to: Arc<dyn Wal>,
}

impl LogCarrier {
    /// Carries into `to`.
    #[must_use]
    pub fn new(name: impl Into<String>, to: Arc<dyn Wal>) -> Self {
        Self {
            name: name.into(),
            to,
        }
    }
}

impl std::fmt::Debug for LogCarrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LogCarrier").field(&self.name).finish()
    }
}

impl RecordSink for LogCarrier {
    type Error = WalError;

    fn name(&self) -> &str {
        &self.name
    }

    async fn carry(&mut self, feed: &RecordFeed) -> Result<(), WalError> {
        let mut from = feed.acknowledged();
        loop {
            match feed.ready(from).await {
                Ready::Records => {}
                Ready::Ended | Ready::Failed => return Ok(()),
            }
            let records = feed.read(from, READ_BYTES)?;
            let mut last = None;
            for (offset, record) in records {
                last = Some(self.to.append(record)?);
                from = offset.next();
            }
            if let Some(last) = last {
                self.to.wait_durable(last)?;
            }
            feed.acknowledge(from);
        }
    }

    fn remedy(&self, error: &WalError) -> crate::Remedy {
        error.remedy()
    }
}

/// A record source that reads another log of the same process, up to where it ends.
pub struct LogSource {
    name: String,
    log: Arc<dyn Wal>,
    from: Offset,
    released: Arc<AtomicU64>,
}

impl LogSource {
    /// Reads `log` from its beginning. It ends where the log ends when it gets there.
    #[must_use]
    pub fn new(name: impl Into<String>, log: Arc<dyn Wal>) -> Self {
        Self {
            name: name.into(),
            from: log.first(),
            log,
            released: Arc::default(),
        }
    }

    /// The offset that was released last, also after the source was handed over; 0 if none was.
    pub fn released(&self) -> impl Fn() -> Offset + Send + Sync + use<> {
        let released = self.released.clone();
        move || Offset(released.load(Ordering::Relaxed))
    }
}

impl std::fmt::Debug for LogSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogSource")
            .field("name", &self.name)
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

impl RecordSource for LogSource {
    type Error = WalError;

    fn name(&self) -> &str {
        &self.name
    }

    async fn resume(&mut self, offset: Offset) -> Result<(), WalError> {
        self.from = offset;
        Ok(())
    }

    async fn next_records(&mut self) -> Result<Option<Vec<(Offset, Bytes)>>, WalError> {
        let records = match self.log.read(self.from, READ_BYTES) {
            Err(WalError::Damaged { offset, .. }) => {
                self.from = offset.next();
                return Ok(Some(Vec::new()));
            }
            records => records?,
        };
        let Some((last, _)) = records.last() else {
            return Ok(None);
        };
        self.from = last.next();
        Ok(Some(records))
    }

    async fn release(&mut self, to: Offset) -> Result<(), WalError> {
        self.released.fetch_max(to.0, Ordering::Relaxed);
        Ok(())
    }
}
