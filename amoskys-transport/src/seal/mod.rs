//! Sealed records: events of one stream, encoded once, chained to the record before and signed.
//!
//! A record is a signed header, the signature, and the payload, whose digest stands in the header. So the chain
//! can be followed and the signatures checked by headers alone, also where a payload was erased. `docs/formats.md`
//! draws the bytes.
//!
//! # Newer versions
//!
//! What this version does with a record of a newer one: parts of the header it does not know are passed over,
//! unless marked as critical; then, and if the kind or the compression is new, the record can still be stored,
//! chained, verified and passed on, but opening it fails with [`SealError::Version`]. Of a record with another
//! layout, or of a class this version does not know, nothing is read.
//!
//! [`SealError::Version`]: amoskys_core::SealError::Version

mod compress;
pub(crate) mod hand_over;
pub(crate) mod header;
pub(crate) mod keyring;
pub(crate) mod opener;
mod sealer;
#[cfg(test)]
mod tests;

pub use self::compress::Compression;
pub use self::header::{RecordKind, SealedHeader};
pub(crate) use self::keyring::Keyring;
#[cfg(feature = "bus")]
pub(crate) use self::keyring::Learned;
pub use self::opener::{Check, Opener};
#[cfg(feature = "sled")]
pub(crate) use self::sealer::Rotation;
#[cfg(any(feature = "sled", test))]
pub(crate) use self::sealer::seal_gap;
pub use self::sealer::{Head, Sealer};
