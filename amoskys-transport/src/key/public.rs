use std::fmt;

use pem_rfc7468::LineEnding;
use ring::{digest, signature};

use super::KeyError;

/// An Ed25519 public key (RFC 8032).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

/// Names a public key in sealed batches: the first 8 bytes of its SHA-256.
///
/// It only says which key to try. A signature is believed for the key, not for its name.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 8]);

const PEM_LABEL: &str = "PUBLIC KEY";
/// What a SubjectPublicKeyInfo (RFC 8410) has before the 32 bytes of an Ed25519 key.
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

impl PublicKey {
    /// From its 32 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its short name.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let hash = digest::digest(&digest::SHA256, &self.0);
        let mut id = [0; 8];
        id.copy_from_slice(&hash.as_ref()[..8]);
        KeyId(id)
    }

    /// As PEM SubjectPublicKeyInfo, which OpenSSL and others read.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let der = [&SPKI_PREFIX[..], &self.0].concat();
        // Fails only for labels and lengths that this is not.
        pem_rfc7468::encode_string(PEM_LABEL, LineEnding::LF, &der).unwrap_or_default()
    }

    /// From a file's content: PEM SubjectPublicKeyInfo, or 32 raw bytes.
    ///
    /// # Errors
    ///
    /// [`KeyError::Format`] if it is neither.
    pub fn parse(content: &[u8]) -> Result<Self, KeyError> {
        if let Ok(raw) = <[u8; 32]>::try_from(content) {
            return Ok(Self(raw));
        }
        let wrong = |reason: String| KeyError::Format {
            what: "the public key".to_owned(),
            reason,
        };
        let (label, der) = pem_rfc7468::decode_vec(content).map_err(|error| wrong(error.to_string()))?;
        let key = der
            .strip_prefix(&SPKI_PREFIX[..])
            .and_then(|key| key.try_into().ok());
        match key {
            Some(key) if label == PEM_LABEL => Ok(Self(key)),
            _ => Err(wrong(format!(
                "a PEM block \"{label}\" of {} bytes holds something else",
                der.len()
            ))),
        }
    }

    /// Whether `signature` was made over `message` with the secret key of this one.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        signature::UnparsedPublicKey::new(&signature::ED25519, &self.0)
            .verify(message, signature)
            .is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

impl fmt::Display for KeyId {
    /// 16 lower-case hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}
