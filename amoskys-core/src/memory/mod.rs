//! Parts that live in memory, or in one process: for tests of embedders, for pipelines without a log, and for hosts that push.

mod collector;
mod push;
mod records;
mod seal;
mod sink;
mod wal;

pub use self::collector::MemoryCollector;
pub use self::push::{PushCollector, PushError, PushHandle, push};
pub use self::records::{LogCarrier, LogSource};
pub use self::seal::{PlainOpen, PlainSeal};
pub use self::sink::{Collected, MemorySink};
pub use self::wal::MemoryWal;
