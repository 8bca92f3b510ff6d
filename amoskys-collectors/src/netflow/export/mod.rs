//! Flows sent to other collectors as IPFIX.

mod encoder;
mod sink;

pub use self::encoder::{IpfixConfig, IpfixEncoder};
pub use self::sink::{IpfixError, IpfixSink};
