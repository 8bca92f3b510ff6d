//! Processes and load of any machine, as far as every system tells: [`HostCollector`].
//!
//! For systems other than Linux; there, `proc` sees more, exactly, for a fraction of the cost. The events are the same, so
//! what reads them need not know which of the two made them. It rests on the library `sysinfo`, which knows Linux, macOS,
//! Windows, FreeBSD and others; tested here on Linux alone.

mod collector;
mod config;
mod worker;

pub use self::collector::HostCollector;
pub use self::config::{HostConfig, HostConfigError, HostError};
