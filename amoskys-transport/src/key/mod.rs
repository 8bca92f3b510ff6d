//! Signing keys: who may sign, and whose signature is believed.

mod error;
mod file;
mod public;
mod secret_file;
mod signer;
mod trust;
mod trust_file;
mod trust_shared;

pub use self::error::KeyError;
pub use self::file::FileSigner;
pub(crate) use self::file::is_canonical_secret;
pub(crate) use self::file::write_new;
pub use self::public::{KeyId, PublicKey};
pub(crate) use self::secret_file::{loose_mode, read_secret};
pub use self::signer::Signer;
pub use self::trust::TrustMap;
pub use self::trust_file::TrustError;
#[cfg(feature = "pki")]
pub(crate) use self::trust_file::replace_file;
pub use self::trust_shared::SharedTrust;
