//! What tests and examples need of captures: their events, as a sensor would record them.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use amoskys_collectors::flow::FlowCollector;
use amoskys_core::event::Verdict;
use amoskys_core::{Class, Collector, Epoch, Recorded, Seq, StreamId};

/// Shows all events of a capture file, numbered in one stream.
pub(crate) fn show_events(
    file: impl AsRef<Path>,
    mut look: impl FnMut(&Recorded),
) -> Result<(), Box<dyn Error>> {
    let stream = StreamId {
        agent: "sensor".into(),
        epoch: Epoch::default(),
        class: Class::Telemetry,
    };
    let stream = Arc::new(stream);
    let mut collector = FlowCollector::from_files([file])?;
    let mut next = 0;
    tokio::runtime::Builder::new_current_thread()
        .build()?
        .block_on(async {
            while let Some(batch) = collector.next_batch().await? {
                for event in batch.events {
                    look(&Recorded {
                        timeline: 0,
                        stream: stream.clone(),
                        seq: Seq(next),
                        event,
                    });
                    next += 1;
                }
            }
            Ok(())
        })
}

/// The latest revision of each verdict, in order of time.
pub(crate) fn latest(verdicts: Vec<Verdict>) -> Vec<Verdict> {
    let mut latest: Vec<Verdict> = Vec::new();
    for verdict in verdicts {
        match latest.iter_mut().find(|known| known.id == verdict.id) {
            Some(known) => *known = verdict,
            None => latest.push(verdict),
        }
    }
    latest.sort_by_key(|verdict| (verdict.time, verdict.id));
    latest
}
