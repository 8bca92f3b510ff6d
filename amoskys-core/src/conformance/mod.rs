//! Test suites for implementers of the traits, one call each.
//!
//! Each suite checks what the trait's documentation promises, on an implementation you give it, and panics with
//! an explanation where a promise is not kept. Call it from a test:
//!
//! ```
//! use amoskys_core::conformance;
//! use amoskys_core::memory::MemoryWal;
//!
//! let wal = MemoryWal::new(1 << 20);
//! // The closure opens the same log again each time it is called.
//! conformance::wal(|| wal.clone());
//! ```

mod analyzer;
mod collector;
mod events;
mod seal;
mod sink;
mod transform;
mod wal;

pub use self::analyzer::{analyzer, extractor};
pub use self::collector::collector;
pub use self::events::{recorded, sample_events};
pub use self::seal::seal;
pub use self::sink::sink;
pub use self::transform::transform;
pub use self::wal::{wal, wal_budget};
