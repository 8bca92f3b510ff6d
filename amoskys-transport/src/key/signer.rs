use std::sync::Arc;

use amoskys_core::BoxError;

use super::PublicKey;

/// Signs. Implement it for keys that must not be in a file: a TPM, a PKCS#11 token, a service.
///
/// One signature is made for each sealed batch, so a signer that takes a millisecond is fast enough for a thousand
/// batches a second.
pub trait Signer: Send + Sync {
    /// The public key of what [`sign`](Self::sign) signs with. Always the same.
    fn public_key(&self) -> PublicKey;

    /// The Ed25519 signature (RFC 8032, not prehashed) of a message of at most 100 bytes.
    ///
    /// # Errors
    ///
    /// Whatever keeps the signer from signing.
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], BoxError>;
}

impl<S: Signer + ?Sized> Signer for Arc<S> {
    fn public_key(&self) -> PublicKey {
        (**self).public_key()
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], BoxError> {
        (**self).sign(message)
    }
}
