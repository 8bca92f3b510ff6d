use std::path::PathBuf;

use amoskys_core::{BoxError, Name, Remedy, WalError};

use crate::key::KeyError;

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The signing key cannot be used.
    #[error(
        "the signing key cannot be used; restore its files from a backup, or, to go on with a new key, move what is left of them aside"
    )]
    Key(#[from] KeyError),
    /// The log's files cannot be opened.
    #[error("the log's files cannot be opened")]
    Wal(#[from] WalError),
    /// The log belongs to another agent.
    #[error("the log in {dir} is that of agent {found}, not of {wanted}; use another directory, or that name", dir = dir.display())]
    Agent {
        /// The directory.
        dir: PathBuf,
        /// Whose log it is.
        found: Name,
        /// Who was to seal.
        wanted: Name,
    },
    /// The log was written by a newer version.
    #[error("{path} has format version {found}, this version reads up to 1; use the newer version, or another directory", path = path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u8,
    },
    /// A file beside the log cannot be read or written.
    #[error("{path} cannot be {action}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The cause.
        source: BoxError,
    },
}

impl LogError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        Remedy::Fatal
    }
}
