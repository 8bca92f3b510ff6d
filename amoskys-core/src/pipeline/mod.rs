//! The pipeline: collectors, transforms, log, analyzers and sinks, joined.
//!
//! ```text
//! Collector ─► tally ─► Transform… ─► Seal ─► Wal ─┬─► Analyzer… ─► verdicts ─► Seal ─► Wal
//! Collector ─►                                     ├─► Sink
//!                                                  └─► Sink
//! ```
//!
//! A [`RecordSink`](crate::RecordSink) carries what is in the log to another one, as it is; a
//! [`RecordSource`](crate::RecordSource) gives the analyzers the records of another log instead of the pipeline's own.
//! So one process collects and carries, another analyzes, by the same parts.
//!
//! Everything behind the log reads from the log, at its own pace, from its own stored position. So a slow sink
//! holds up nobody, an analyzer sees only what is durable, and after a crash each goes on where it was. Every
//! queue is bounded; a full log holds up the collectors.
//!
//! # What a crash costs
//!
//! A collector that can be resumed goes on after the last durable event: nothing is lost and nothing doubled.
//! What one that cannot be resumed held in memory is entered in the ledger as dropped, reason `crash`.
//! Analyzers go on from their last checkpoint, or read the log again from its beginning; verdicts that are
//! already in the log are recognised by their ids and not written twice. Sinks see events since their last
//! flush again.
//!
//! # Metrics
//!
//! Through the `metrics` facade; each carries the label `pipeline`, so that several pipelines in one process do
//! not collide.
//!
//! | name | kind | labels | meaning |
//! |---|---|---|---|
//! | `amoskys_received_total` | counter | `stage` | items that came into a stage |
//! | `amoskys_delivered_total` | counter | `stage` | items that left it as they should |
//! | `amoskys_dropped_total` | counter | `stage`, `reason` | items given up, by reason |
//! | `amoskys_pending` | gauge | `stage` | items inside a stage |
//! | `amoskys_log_used_bytes` | gauge | | bytes of the log in use |
//! | `amoskys_log_durable_offset` | gauge | | first offset of the log that is not yet durable |
//! | `amoskys_collector_failures_total` | counter | `collector` | errors of a collector |
//! | `amoskys_sink_failures_total` | counter | `sink` | errors of a sink |
//! | `amoskys_verdicts_total` | counter | | verdicts written to the log |
//! | `amoskys_checkpoint_failures_total` | counter | | states of the analysis that could not be kept |
//! | `amoskys_unkept_records_total` | counter | | records that a full log forgot though a restart of the analysis would need them |
//! | `amoskys_bookmark_failures_total` | counter | `stage` | notes of how far a sink or carrier has come that could not be kept |
//! | `amoskys_carrier_failures_total` | counter | `carrier` | errors of a record sink or record source |
//! | `amoskys_apart_total` | counter | | events shown by a timeline of their agent's own, because of its clock |
//!
//! Stages are `collect/SOURCE` in the source's own unit (packets, lines), and in events `log/SOURCE`, `analysis`,
//! `sink/NAME` and, for record sinks, `carry/NAME`.

mod analysis;
mod buffer;
mod builder;
mod carry;
mod collect;
mod consumer;
mod delivery;
mod exporter;
mod merge;
mod recovery;
mod run;
mod writer;

pub use self::builder::{BatchLimits, BuildError, Pipeline, PipelineBuilder, Retention};
pub use self::merge::MergeOptions;
pub use self::run::{PipelineError, Report};
