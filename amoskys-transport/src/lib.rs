//! Signed, hash-chained batches and a durable write-ahead log for security telemetry.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod key;
mod log;
mod seal;
pub mod verify;
mod wal;

pub use self::key::{FileSigner, KeyError, KeyId, PublicKey, Signer, TrustMap};
#[cfg(feature = "sled")]
pub use self::log::{Log, LogError, LogOptions};
pub use self::seal::{Check, Compression, Head, Opener, RecordKind, SealedHeader, Sealer};
#[cfg(feature = "sled")]
pub use self::wal::{SledWal, WalOptions};
