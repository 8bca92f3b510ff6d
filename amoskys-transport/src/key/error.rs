use std::path::PathBuf;

use amoskys_core::{BoxError, Remedy};

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("{path} cannot be {action}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The cause.
        source: std::io::Error,
    },
    /// Others than the owner may read or write the secret key.
    #[error("{path} has mode {mode:04o}, so that others can read the secret key; make it 0600, and consider the key known to others", path = path.display())]
    LooseMode {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// There is a key already, which is not overwritten.
    #[error("{path} exists already", path = path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// It is no Ed25519 key in a form that is understood.
    #[error("{what} is not an Ed25519 key: {reason}")]
    Format {
        /// What was read.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file holds no key.
    #[error("{path} holds no key: it should be {wanted}", path = path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        wanted: &'static str,
    },
    /// It holds no keys to encrypt a log with.
    #[error("{path} holds no log keys: {reason}", path = path.display())]
    LogKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The public key beside a secret key is not its public key: one of them was altered or replaced.
    #[error("{public} does not belong to {secret}; restore the one that was altered, or remove {public} if the secret key is right", public = public.display(), secret = secret.display())]
    Mismatch {
        /// File of the secret key.
        secret: PathBuf,
        /// File of the public key.
        public: PathBuf,
    },
    /// No random numbers could be had.
    #[error("a key could not be drawn")]
    Random {
        /// The cause.
        source: BoxError,
    },
}

impl KeyError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        Remedy::Fatal
    }
}
