use super::run::Shared;

/// Publishes the ledger and the state of the log as metrics.
///
/// Counters are set, not added to, so that metrics and ledger cannot drift apart.
#[expect(
    clippy::cast_precision_loss,
    reason = "gauges are floats; 53 bits are enough for them"
)]
pub(super) fn publish(shared: &Shared) {
    let Shared {
        name: pipeline, log, ..
    } = shared;
    let ledger = shared.ledger.snapshot();
    for (stage, account) in &ledger.accounts {
        let labels = [("pipeline", pipeline.to_owned()), ("stage", stage.clone())];
        metrics::counter!("amoskys_received_total", &labels).absolute(account.received);
        metrics::counter!("amoskys_delivered_total", &labels).absolute(account.delivered);
        metrics::gauge!("amoskys_pending", &labels).set(account.pending as f64);
        for (reason, count) in &account.dropped {
            metrics::counter!("amoskys_dropped_total", "pipeline" => pipeline.to_owned(),
                "stage" => stage.clone(), "reason" => reason.as_str().to_owned())
            .absolute(*count);
        }
    }
    if let Some(verdicts) = ledger.accounts.get("log/analysis") {
        metrics::counter!("amoskys_verdicts_total", "pipeline" => pipeline.to_owned())
            .absolute(verdicts.delivered);
    }
    metrics::gauge!("amoskys_log_used_bytes", "pipeline" => pipeline.to_owned())
        .set(log.wal.used_bytes() as f64);
    metrics::gauge!("amoskys_log_durable_offset", "pipeline" => pipeline.to_owned())
        .set(log.wal.durable().0 as f64);
}
