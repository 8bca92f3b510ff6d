//! Watches the list of what is normal while events flow, and tells the log of each change.

use std::convert::Infallible;
use std::time::Duration;

use amoskys_analysis::feedback::SuppressionFile;
use amoskys_core::event::AuditEntry;
use amoskys_core::{Batch, Class, Collector, Event, EventId, Name, Payload, Timestamp};

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A source of audit events: one for each change of the list, which is in effect by then.
pub(crate) struct Watch {
    file: SuppressionFile,
    waiting: Vec<AuditEntry>,
    device: Name,
    live: bool,
    origin: u64,
    told: u64,
}

impl Watch {
    pub(crate) fn new(file: SuppressionFile, waiting: Vec<AuditEntry>, device: &str, live: bool) -> Self {
        Self {
            file,
            waiting,
            device: device.into(),
            live,
            origin: Timestamp::now().nanos().cast_unsigned(),
            told: 0,
        }
    }

    fn event(&mut self, entry: AuditEntry) -> Event {
        let id = EventId {
            origin: self.origin,
            ordinal: self.told,
        };
        self.told += 1;
        Event {
            id,
            time: Timestamp::now(),
            device: self.device.clone(),
            source: self.source().into(),
            class: Class::Audit,
            payload: Payload::Audit(Box::new(entry)),
            ..Event::default()
        }
    }
}

impl Collector for Watch {
    type Error = Infallible;

    fn source(&self) -> &str {
        "feedback"
    }

    /// # Cancel safety
    ///
    /// What is to be told stays here until it is handed over.
    async fn next_batch(&mut self) -> Result<Option<Batch>, Infallible> {
        loop {
            let waiting = std::mem::take(&mut self.waiting);
            if !waiting.is_empty() {
                let events = waiting.into_iter().map(|entry| self.event(entry)).collect();
                return Ok(Some(Batch::of(events)));
            }
            if !self.live {
                return Ok(None);
            }
            tokio::time::sleep(LOOK_EVERY).await;
            self.waiting = self.file.reload();
        }
    }

    fn stop(&mut self) -> bool {
        self.live = false;
        self.waiting.extend(self.file.reload());
        true
    }
}
