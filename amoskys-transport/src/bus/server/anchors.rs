//! Signs, again and again, where all streams have come to, so that a log whose end was cut off can be told from a whole
//! one by who has a copy of the bus's log.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use amoskys_core::event::{AuditEntry, AuditOutcome};
use amoskys_core::{Class, Payload, Seq, StreamId};

use super::journal::Journal;
use crate::verify::{HEAD_ACTION, HEADS_SOURCE, head_text};
use crate::wal::segment::lock;

/// Heads in one record.
const IN_RECORD: usize = 512;

/// Writes heads down.
pub(crate) struct Heads {
    interval: Duration,
    written: Instant,
    /// How far the streams were when it was last said.
    told: BTreeMap<StreamId, Seq>,
}

impl Heads {
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            interval,
            written: Instant::now(),
            told: BTreeMap::new(),
        }
    }

    /// Whether it is time again.
    pub(crate) fn is_due(&self) -> bool {
        self.written.elapsed() >= self.interval
    }

    /// Writes down the heads of the streams that have moved since: as far as they are durable.
    pub(crate) fn write(&mut self, journal: &Journal) {
        self.written = Instant::now();
        let own = |stream: &StreamId| stream.agent == *journal.name() && stream.class == Class::Audit;
        let moved: Vec<_> = {
            let keeper = lock(&journal.keeper().0);
            let heads = keeper.heads.0.iter();
            let moved = heads.filter(|(stream, head)| self.told.get(*stream) != Some(&head.next));
            moved.map(|(stream, head)| (stream.clone(), *head)).collect()
        };
        // These records themselves move the bus's own stream.
        if moved.iter().all(|(stream, _)| own(stream)) {
            return;
        }
        for heads in moved.chunks(IN_RECORD) {
            let entries = heads.iter().map(|(stream, head)| {
                let entry = AuditEntry {
                    actor: journal.name().to_string(),
                    action: HEAD_ACTION.to_owned(),
                    object: stream.to_string(),
                    outcome: AuditOutcome::Success,
                    reason: head_text(head.next.0, &head.digest),
                };
                Payload::Audit(Box::new(entry))
            });
            if !journal.batch(HEADS_SOURCE, entries.collect()) {
                // Next time.
                return;
            }
            self.told
                .extend(heads.iter().map(|(stream, head)| (stream.clone(), head.next)));
        }
        metrics::counter!("amoskys_bus_heads_total").increment(moved.len() as u64);
    }
}
