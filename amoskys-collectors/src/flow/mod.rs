//! Flows from packets: the meter, its records as CSV and JSON, and the collector for pipelines.

mod batcher;
mod clock;
mod collector;
mod columns;
mod config;
mod entry;
mod extra;
mod held;
mod index;
mod key;
mod meter;
mod moments;
mod position;
mod progress;
mod recency;
mod rows;
mod slab;
mod snapshot;
mod stats;
mod table;
mod tcp_track;
mod wheel;
mod worker;

pub use self::collector::{FlowCollector, FlowError};
pub use self::config::{FlowConfig, FlowConfigError, MAX_SEQUENCE_LENGTH};
pub use self::meter::{FlowHandler, FlowMeter};
pub use self::progress::Progress;
pub use self::rows::{RowFormat, RowWriter, UnknownFormat};
pub use self::stats::MeterStats;
pub use crate::capture::{LiveConfig, LiveError};
