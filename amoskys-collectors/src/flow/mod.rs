//! Flows from packets: the meter, its records as CSV and JSON, and the collector for pipelines.

mod clock;
mod columns;
mod config;
mod entry;
mod extra;
mod held;
mod index;
mod key;
mod meter;
mod moments;
mod recency;
mod rows;
mod slab;
mod snapshot;
mod stats;
mod tcp_track;
mod wheel;

pub use self::config::{FlowConfig, FlowConfigError, MAX_SEQUENCE_LENGTH};
pub use self::meter::{FlowHandler, FlowMeter};
pub use self::rows::{RowFormat, RowWriter};
pub use self::stats::MeterStats;
