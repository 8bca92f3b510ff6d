use std::path::PathBuf;

use amoskys_core::{BoxError, Name, Remedy, WalError};

use crate::key::{KeyError, KeyId};

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The signing key cannot be used.
    #[error(
        "the signing key cannot be used; restore its files from a backup, or, to go on with a new key, move what is left of them aside"
    )]
    Key(#[from] KeyError),
    /// The log's streams were handed over to another signing key, which is not there.
    #[error("the log in {dir} was handed over to signing key {key}, and this is key {found}, which may sign nothing more; put that one in its place", dir = dir.display())]
    HandedOver {
        /// The directory.
        dir: PathBuf,
        /// The key that signs from now on.
        key: KeyId,
        /// The key that was given.
        found: KeyId,
    },
    /// The key was not changed, because the log did not take the hand-over.
    #[error("the streams of the log could not be handed over to another signing key")]
    HandOver(#[source] BoxError),
    /// The key to encrypt the log with cannot be used.
    #[error("the key that the log is encrypted with cannot be used; restore its file from a backup")]
    LogKey(#[source] KeyError),
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
