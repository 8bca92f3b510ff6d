use std::time::Duration;

use tokio::sync::mpsc;

use crate::batch::Batch;
use crate::collector::{BoxCollector, CollectError, Collector};
use crate::error::{Chain, Remedy};
use crate::shutdown::Shutdown;

use super::run::Shared;

/// The longest pause between two tries of a failing collector.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// A source that is to end may fail so often in a row: an interface that is gone has nothing more to give.
const LAST_TRIES: u32 = 3;

/// A batch, and which collector it is from.
pub(super) struct Collected {
    pub(super) collector: usize,
    pub(super) batch: Batch,
}

/// Pulls one collector until it ends, fails for good, or the pipeline is shut down.
pub(super) async fn collect(
    index: usize,
    mut collector: BoxCollector,
    batches: mpsc::Sender<Collected>,
    shutdown: Shutdown,
    shared: Shared,
) -> Result<(), CollectError> {
    let failures = metrics::counter!("amoskys_collector_failures_total",
        "pipeline" => shared.name, "collector" => collector.source().to_owned());
    let mut backoff = Duration::ZERO;
    // First the end that was asked for; then, for a source that still has something, the end of patience.
    let mut until = shutdown;
    let mut stopping = false;
    let mut last_tries = LAST_TRIES;
    loop {
        let next = tokio::select! {
            biased;
            () = until.triggered() => {
                if stopping || !collector.stop() {
                    return Ok(());
                }
                stopping = true;
                backoff = Duration::ZERO;
                until = shared.give_up.clone();
                continue;
            }
            next = collector.next_batch() => next,
        };
        match next {
            Ok(None) => return Ok(()),
            Ok(Some(batch)) => {
                backoff = Duration::ZERO;
                last_tries = LAST_TRIES;
                if batches
                    .send(Collected {
                        collector: index,
                        batch,
                    })
                    .await
                    .is_err()
                {
                    return Ok(());
                }
            }
            Err(error) => {
                failures.increment(1);
                let pause = match collector.remedy(&error) {
                    Remedy::RetryAfter(least) => {
                        last_tries -= u32::from(stopping);
                        if last_tries == 0 {
                            tracing::warn!(collector = collector.source(), error = %Chain(&error), "collector failed at its end");
                            return Ok(());
                        }
                        backoff = (backoff * 2).max(least).min(MAX_BACKOFF.max(least));
                        backoff
                    }
                    // The item at fault is behind it; a short pause keeps a stream of them from spinning.
                    Remedy::Reject => Duration::from_millis(1),
                    Remedy::Fatal => return Err(error),
                };
                tracing::warn!(collector = collector.source(), error = %Chain(&error), ?pause, "collector failed, will try again");
                // Whether time or patience ran out, the next round tells.
                let _ = tokio::time::timeout(pause, until.triggered()).await;
            }
        }
    }
}
