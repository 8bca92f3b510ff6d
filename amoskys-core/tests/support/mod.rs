//! What several tests of the pipeline need.
#![allow(dead_code, reason = "each test uses its part")]

use std::sync::Arc;

use amoskys_core::event::{
    Class, Entity, EventRange, Evidence, Layer, LogRecord, ModelRef, Payload, Value, Verdict, VerdictId,
};
use amoskys_core::ledger::LedgerSnapshot;
use amoskys_core::memory::{MemoryWal, PlainOpen, PlainSeal};
use amoskys_core::{
    Analyzer, AnalyzerError, Digest, Event, EventId, LogParts, Observation, Recorded, Timestamp,
};

/// `count` log lines, one a millisecond, each naming a user.
pub(crate) fn numbered(count: u64) -> Vec<Event> {
    let event = |ordinal: u64| Event {
        id: EventId { origin: 1, ordinal },
        time: Timestamp::from_nanos(1_700_000_000_000_000_000 + ordinal as i64 * 1_000_000),
        device: "host".into(),
        payload: Payload::Log(Box::new(LogRecord {
            message: format!("line {ordinal}"),
            ..LogRecord::default()
        })),
        attributes: [("user".to_owned(), Value::Text("alice".to_owned()))].into(),
        ..Event::default()
    };
    (0..count).map(event).collect()
}

pub(crate) fn ordinals(events: &[Recorded]) -> Vec<u64> {
    events.iter().map(|event| event.event.id.ordinal).collect()
}

/// A plainly sealed log on a log in memory that may hold records already.
pub(crate) fn log_on(wal: &MemoryWal) -> LogParts {
    LogParts {
        wal: Arc::new(wal.clone()),
        seal: Box::new(PlainSeal::resume("agent", wal).expect("resume")),
        open: Arc::new(PlainOpen),
    }
}

pub(crate) fn assert_balanced(ledger: &LedgerSnapshot) {
    assert_eq!(ledger.unbalanced(), Vec::<&str>::new(), "{ledger:#?}");
    for (stage, account) in &ledger.accounts {
        assert_eq!(account.pending, 0, "stage {stage}: {account:?}");
    }
}

/// Draws a verdict after every so many events of telemetry.
#[derive(Debug)]
pub(crate) struct Counting {
    every: u64,
    seen: u64,
}

impl Counting {
    pub(crate) fn every(every: u64) -> Self {
        Self { every, seen: 0 }
    }
}

impl Analyzer for Counting {
    fn model(&self) -> ModelRef {
        let digest = Digest::of_parts([&b"counting"[..], &self.every.to_le_bytes()]);
        ModelRef {
            name: "counting".into(),
            version: "1".into(),
            digest,
        }
    }

    fn observe(
        &mut self,
        observation: Observation<'_>,
        verdicts: &mut Vec<Verdict>,
    ) -> Result<(), AnalyzerError> {
        let Observation::Event(event) = observation else {
            return Ok(());
        };
        // In the stream of alerts the verdicts themselves stand too, so places there depend on timing.
        if event.stream.class != Class::Telemetry {
            return Ok(());
        }
        self.seen += 1;
        if self.seen.is_multiple_of(self.every) {
            let (model, entity) = (self.model(), Entity::Named("host".into()));
            let time = event.event.time;
            verdicts.push(Verdict {
                id: VerdictId::derive(&model.digest, &entity, None, &event.stream, event.seq, time),
                revision: 0,
                time,
                updated: time,
                layer: Layer::Fused,
                entity,
                peers: Vec::new(),
                technique: None,
                title: format!("{} events", self.seen),
                score: 0.9,
                interval: None,
                evidence: vec![Evidence {
                    feature: "seen".into(),
                    value: self.seen as f64,
                    contribution: 2.2,
                }],
                model,
                schema: Digest::default(),
                events: EventRange {
                    stream: (*event.stream).clone(),
                    first: event.seq,
                    last: event.seq,
                },
            });
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<Vec<u8>, AnalyzerError> {
        Ok(self.seen.to_le_bytes().to_vec())
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), AnalyzerError> {
        let refused = |_| AnalyzerError::Snapshot {
            reason: "8 bytes are expected".to_owned(),
            source: None,
        };
        self.seen = u64::from_le_bytes(snapshot.try_into().map_err(refused)?);
        Ok(())
    }
}
