//! Tells the log what was decided while events flow: that another model judges, that something is called normal.

use std::convert::Infallible;
use std::time::Duration;

use amoskys_core::event::AuditEntry;
use amoskys_core::{Batch, Class, Collector, Event, EventId, Name, Payload, Timestamp};

/// How often it is asked for what is new.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Whoever decides.
pub(crate) trait Decisions: Send {
    /// What was decided since the last time; `last` if it is not asked again.
    fn take(&mut self, last: bool) -> Vec<AuditEntry>;
}

/// A source of audit events, one for each decision, which is in effect by then.
pub(crate) struct Audit {
    source: &'static str,
    device: Name,
    decisions: Box<dyn Decisions>,
    live: bool,
    waiting: Vec<AuditEntry>,
    origin: u64,
    told: u64,
}

impl Audit {
    /// Without `live` it is asked once.
    pub(crate) fn new(
        source: &'static str,
        device: &str,
        mut decisions: Box<dyn Decisions>,
        live: bool,
    ) -> Self {
        Self {
            source,
            device: device.into(),
            waiting: decisions.take(!live),
            decisions,
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
            source: self.source.into(),
            class: Class::Audit,
            payload: Payload::Audit(Box::new(entry)),
            ..Event::default()
        }
    }
}

impl Collector for Audit {
    type Error = Infallible;

    fn source(&self) -> &str {
        self.source
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
            self.waiting = self.decisions.take(false);
        }
    }

    fn stop(&mut self) -> bool {
        if self.live {
            self.live = false;
            self.waiting.extend(self.decisions.take(true));
        }
        true
    }
}
