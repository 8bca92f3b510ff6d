//! The durable log: segment files for the records, sled for small state beside them.
//!
//! ```text
//! DIR/lock                       held while the log is open
//! DIR/00000000000000000000.seg   records from offset 0 on
//! DIR/00000000000000004711.seg   records from offset 4711 on; the last one is being filled
//! DIR/spare                      zeros, will become the next segment
//! DIR/compact                    will replace a segment of which records are given up
//! DIR/state/                     sled: named values; set aside and begun anew if damaged
//! ```
//!
//! `docs/formats.md` draws the bytes.

pub(crate) mod crypt;
pub(crate) mod format;
pub(crate) mod lock;
mod log_key;
mod mark;
pub(crate) mod segment;
pub(crate) mod walk;

#[cfg(feature = "sled")]
mod commit;
#[cfg(feature = "sled")]
pub(crate) mod compact;
#[cfg(feature = "sled")]
mod expiry;
#[cfg(feature = "sled")]
pub(crate) mod observer;
#[cfg(feature = "sled")]
mod options;
#[cfg(feature = "sled")]
mod read;
#[cfg(feature = "sled")]
mod recover;
#[cfg(feature = "sled")]
mod shared;
#[cfg(feature = "sled")]
mod sled_wal;
#[cfg(feature = "sled")]
mod spare;
#[cfg(feature = "sled")]
mod state;

pub use self::log_key::{FileLogKeys, LogKey, LogKeyId, LogKeys};
#[cfg(feature = "sled")]
pub use self::options::WalOptions;
#[cfg(feature = "sled")]
pub use self::sled_wal::SledWal;
#[cfg(feature = "sled")]
pub(crate) use self::sled_wal::{Known, Loss, create_dir};
