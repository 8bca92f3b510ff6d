//! One process at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use amoskys_core::WalError;

/// Name of the lock file. It is empty and stays.
pub(crate) const LOCK_FILE: &str = "lock";

/// Held while a log is open. The kernel releases it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct DirLock {
    _file: File,
}

impl DirLock {
    /// Takes the lock of a log directory.
    pub(crate) fn take(dir: &Path) -> Result<Self, WalError> {
        let path = dir.join(LOCK_FILE);
        let open = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path);
        let file = open.map_err(|error| cannot(format!("{} cannot be written", path.display()), error))?;
        // The verifier holds a shared lock for a moment to see whether the log is in use, and a process killed
        // just now may still be going away.
        let deadline = Instant::now() + Duration::from_millis(300);
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => {
                    let reason = format!(
                        "{} is in use by another process, or opened twice by this one; close that first",
                        dir.display()
                    );
                    return Err(WalError::Open { reason, source: None });
                }
                Err(TryLockError::Error(error)) => {
                    return Err(cannot(format!("{} cannot be locked", path.display()), error));
                }
            }
        }
    }

    /// Whether someone has the log in this directory open, as far as can be seen.
    pub(crate) fn is_taken(dir: &Path) -> bool {
        let Ok(file) = File::open(dir.join(LOCK_FILE)) else {
            return false;
        };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }
}

pub(crate) fn cannot(reason: String, error: std::io::Error) -> WalError {
    WalError::Open {
        reason,
        source: Some(Box::new(error)),
    }
}
