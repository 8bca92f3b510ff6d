//! Event model, traits and pipeline of the Amoskys security telemetry SDK.
//!
//! This crate is what all others build on: the [event model](event), the traits of the parts that move events
//! ([`Collector`], [`Transform`], [`Sink`], [`RecordSink`], [`RecordSource`], [`Analyzer`], [`Extractor`],
//! [`Wal`], [`Seal`]), the
//! [loss ledger](ledger), [configuration](config), and the [`Pipeline`](pipeline::Pipeline) that joins them.
//!
//! It is *not* a collector, a transport or a model: sockets, TLS, databases and machine learning live in the
//! sibling crates, each of which depends on this one and on no other.
//!
//! # Features
//!
//! | feature | default | what it turns on |
//! |---|---|---|
//! | `pipeline` | yes | [`pipeline`]: runs collectors, transforms, log, analyzers and sinks; uses tokio inside |
//! | `conformance` | no | [`conformance`]: test suites for implementers of the traits |
//!
//! Without default features the crate has no async runtime, and compiles in seconds.
//!
//! # Platforms
//!
//! Any platform with the Rust standard library. No privileges are needed.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]

pub mod analyzer;
pub mod batch;
pub mod collector;
pub mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod error;
pub mod event;
pub mod fetch;
pub mod id;
pub mod ledger;
pub mod memory;
#[cfg(feature = "pipeline")]
pub mod pipeline;
pub mod record;
pub mod redact;
pub mod schema;
pub mod seal;
pub mod shutdown;
pub mod sink;
pub mod time;
pub mod transform;
pub mod wal;
pub mod wire;

pub use self::analyzer::{Analyzer, AnalyzerError, BoxExtractor, Extractor, Observation};
pub use self::batch::{Batch, Position, Recorded, Tally};
pub use self::collector::{BoxCollector, Collector};
pub use self::error::{BoxError, Remedy};
pub use self::event::{Class, Event, Payload};
pub use self::id::{Digest, Epoch, EventId, Name, Offset, Seq, StreamId};
pub use self::ledger::{DropReason, Ledger};
pub use self::record::{BoxRecordSink, BoxRecordSource, RecordFeed, RecordSink, RecordSource};
pub use self::schema::{FeatureDef, FeatureSchema, FeatureVector};
pub use self::seal::{LogParts, Open, Opened, ReadLogError, Seal, SealError, Sealed, Unsealed, read_log};
pub use self::shutdown::Shutdown;
pub use self::sink::{BoxSink, Sink};
pub use self::time::Timestamp;
pub use self::transform::{Outcome, Transform, TransformError};
pub use self::wal::{Wal, WalError};
