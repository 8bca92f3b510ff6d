//! Flows that others have metered: NetFlow v5 and v9, and IPFIX.

mod assemble;
mod collector;
mod config;
mod decoder;
mod domain;
mod element;
mod export;
mod record;
mod sampling;
mod sequence;
mod socket;
mod stats;
mod template;
mod v5;
mod worker;

pub use self::collector::{NetflowCollector, NetflowError};
pub use self::config::{NetflowConfig, NetflowConfigError};
pub use self::decoder::{ExportLoss, NetflowDecoder, NetflowHandler};
pub use self::export::{IpfixConfig, IpfixEncoder, IpfixError, IpfixSink};
pub use self::record::{Export, ExportRecord, Field};
pub use self::sampling::SamplingRate;
pub use self::stats::NetflowStats;
