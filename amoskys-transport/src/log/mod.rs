//! A log of sealed batches in a directory, with all that belongs to it.

pub(crate) mod anchor;
pub(crate) mod chain;
pub(crate) mod epoch;
pub(crate) mod heads;
pub(crate) mod trail;

#[cfg(feature = "sled")]
mod error;
#[cfg(feature = "sled")]
pub(crate) mod fork;
#[cfg(feature = "sled")]
pub(crate) mod keeper;
#[cfg(feature = "sled")]
mod open;
#[cfg(feature = "sled")]
mod options;
#[cfg(feature = "sled")]
mod quarantine;
#[cfg(feature = "sled")]
mod reseal;
#[cfg(feature = "sled")]
mod rotate;
#[cfg(feature = "sled")]
pub(crate) mod sieve;

#[cfg(feature = "sled")]
pub use self::error::LogError;
#[cfg(feature = "sled")]
pub use self::open::Log;
#[cfg(feature = "sled")]
pub use self::options::LogOptions;
#[cfg(feature = "sled")]
pub use self::rotate::KeyRotation;

/// The log's own directory in a data directory.
pub(crate) const LOG_DIR: &str = "log";
/// Where keys are, unless the embedder says otherwise.
pub(crate) const KEYS_DIR: &str = "keys";
/// Name of the key file.
pub(crate) const KEY_FILE: &str = "agent.key";
/// Ending of the file beside the key that counts epochs.
pub(crate) const EPOCH_ENDING: &str = "epoch";
