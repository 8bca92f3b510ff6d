use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use amoskys_core::BoxError;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use super::line::{hex, unhex};
use crate::key::{KeyError, read_secret, write_new};

/// Makes MACs. Implement it for a key that must not be in a file.
pub trait Mac: Send + Sync {
    /// HMAC-SHA-256 of a message of at most 65 KiB. The same message has the same MAC always.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from making one.
    fn mac(&self, message: &[u8]) -> Result<[u8; 32], BoxError>;
}

impl<M: Mac + ?Sized> Mac for Arc<M> {
    fn mac(&self, message: &[u8]) -> Result<[u8; 32], BoxError> {
        (**self).mac(message)
    }
}

/// A key in memory, or from a file: 32 bytes, raw or as 64 hexadecimal digits. The file must belong to its owner alone (no
/// permission for group and others).
pub struct AuditKey(hmac::Key);

/// No key in any of the forms is longer.
const MAX_FILE: u64 = 128;

impl AuditKey {
    /// From its 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// Reads a key.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is open to others, or holds something else.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        let path = path.as_ref();
        let content = read_secret(path, MAX_FILE)?;
        let digits = content.strip_suffix(b"\n").unwrap_or(&content);
        let bytes = <[u8; 32]>::try_from(&content[..]).ok().or_else(|| unhex(digits));
        let bytes = bytes.ok_or_else(|| KeyError::Form {
            path: path.to_owned(),
            wanted: "32 bytes, raw or as 64 hexadecimal digits",
        })?;
        Ok(Self::from_bytes(&bytes))
    }

    /// Reads a key, or draws one, mode 0600, if there is no file.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), or if the file cannot be written.
    pub fn open_or_create(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        let path = path.as_ref();
        match Self::open(path) {
            Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
        let mut bytes = [0; 32];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|error| KeyError::Random { source: error.into() })?;
        let text = format!("{}\n", hex(&bytes));
        match write_new(path, text.as_bytes(), 0o600) {
            Ok(()) => Ok(Self::from_bytes(&bytes)),
            // Somebody else was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::open(path),
            Err(source) => Err(KeyError::Io {
                path: path.to_owned(),
                action: "written",
                source,
            }),
        }
    }
}

impl Mac for AuditKey {
    fn mac(&self, message: &[u8]) -> Result<[u8; 32], BoxError> {
        let mut mac = [0; 32];
        mac.copy_from_slice(hmac::sign(&self.0, message).as_ref());
        Ok(mac)
    }
}

impl fmt::Debug for AuditKey {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuditKey")
    }
}
