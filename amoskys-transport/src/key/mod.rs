//! Signing keys: who may sign, and whose signature is believed.

mod error;
mod file;
mod public;
mod signer;
mod trust;

pub use self::error::KeyError;
pub use self::file::FileSigner;
pub(crate) use self::file::is_canonical_secret;
pub use self::public::{KeyId, PublicKey};
pub use self::signer::Signer;
pub use self::trust::TrustMap;
