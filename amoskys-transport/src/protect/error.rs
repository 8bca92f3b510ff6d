use std::path::PathBuf;

use amoskys_core::{BoxError, Remedy};

/// Why data cannot be protected, or a key not be forgotten.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtectError {
    /// The key file cannot be read or written.
    #[error("{path} cannot be {action}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The cause.
        source: std::io::Error,
    },
    /// Others than the owner may read or write the key file.
    #[error("{path} has mode {mode:04o}, so that others can read the keys in it; make it 0600, and consider them known to others", path = path.display())]
    LooseMode {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The key file is damaged. Nothing was changed.
    #[error("{path} is damaged at byte {byte}: {reason}; restore it from a backup, or, to give up all keys in it, move it aside", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        byte: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// The key file was written by a newer version.
    #[error("{path} has format version {found}, this version reads up to 1; use the newer version", path = path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u16,
    },
    /// Another process, or another value in this one, has the key file open.
    #[error("{path} is in use by another process, or opened twice by this one; close that first", path = path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// There are as many subjects as allowed.
    #[error("there are keys of {limit} subjects already, which is the limit; forget some, or raise it")]
    Full {
        /// The limit.
        limit: usize,
    },
    /// The settings cannot be used.
    #[error("{setting}: {reason}")]
    Settings {
        /// Which of them.
        setting: &'static str,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// No random numbers could be drawn.
    #[error("no random numbers could be drawn")]
    Random,
    /// An earlier write to the key file failed, so that it is not known what it holds. Open it again.
    #[error("an earlier write to {path} failed; open it again", path = path.display())]
    Failed {
        /// The file.
        path: PathBuf,
    },
    /// A store of keys other than the file failed.
    #[error("the keys cannot be reached")]
    Store(#[source] BoxError),
}

impl ProtectError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Full { .. } => Remedy::Reject,
            Self::Store(_) => Remedy::RetryAfter(std::time::Duration::from_secs(1)),
            _ => Remedy::Fatal,
        }
    }
}
