use std::io;
use std::path::PathBuf;

use amoskys_core::{BoxError, Remedy};

use crate::key::KeyError;

/// Why an audit log cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// A file cannot be read or written.
    #[error("{path} cannot be {action}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The key cannot be used.
    #[error("the key of the audit log cannot be used")]
    Key(#[from] KeyError),
    /// No MAC could be made.
    #[error("a line of the audit log could not be authenticated")]
    Mac(#[source] BoxError),
    /// Another process writes the log.
    #[error("{path} is written by another process; end that one, or use another file", path = path.display())]
    InUse {
        /// The log.
        path: PathBuf,
    },
    /// There is no such log.
    #[error("there is no audit log at {path}", path = path.display())]
    NoLog {
        /// Where it was looked for.
        path: PathBuf,
    },
}

impl AuditError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        Remedy::Fatal
    }
}
