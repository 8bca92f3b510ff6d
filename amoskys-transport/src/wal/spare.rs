//! Prepares the next segment file while the present one is being filled.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::segment::{SPARE_FILE, lock, prepare_spare};

/// A file of zeros in the making.
#[derive(Debug)]
pub(crate) struct Spare {
    path: PathBuf,
    bytes: u64,
    cancel: Arc<AtomicBool>,
    worker: Mutex<Worker>,
}

#[derive(Debug)]
enum Worker {
    Idle,
    Running(JoinHandle<bool>),
}

impl Spare {
    pub(crate) fn new(dir: &Path, bytes: u64) -> Self {
        let cancel = Arc::new(AtomicBool::new(false));
        Self {
            path: dir.join(SPARE_FILE),
            bytes,
            cancel,
            worker: Mutex::new(Worker::Idle),
        }
    }

    /// Begins to prepare a file, unless that is under way. Failing to is no error: the next segment then
    /// begins without.
    pub(crate) fn begin(&self) {
        let mut worker = lock(&self.worker);
        if !matches!(*worker, Worker::Idle) {
            return;
        }
        let (path, bytes, cancel) = (self.path.clone(), self.bytes, self.cancel.clone());
        let work = move || match prepare_spare(&path, bytes, &cancel) {
            Ok(true) => true,
            Ok(false) => false,
            Err(error) => {
                tracing::debug!(%error, "the next segment could not be prepared");
                let _ = std::fs::remove_file(&path);
                false
            }
        };
        if let Ok(handle) = std::thread::Builder::new()
            .name("amoskys-wal-spare".to_owned())
            .spawn(work)
        {
            *worker = Worker::Running(handle);
        }
    }

    /// The file and its size, if it is ready.
    pub(crate) fn take(&self) -> Option<(&Path, u64)> {
        let mut worker = lock(&self.worker);
        if !matches!(&*worker, Worker::Running(handle) if handle.is_finished()) {
            return None;
        }
        let Worker::Running(handle) = std::mem::replace(&mut *worker, Worker::Idle) else {
            return None;
        };
        handle
            .join()
            .unwrap_or(false)
            .then_some((self.path.as_path(), self.bytes))
    }

    /// Stops preparing and removes what there is.
    pub(crate) fn discard(&self) {
        self.cancel.store(true, Ordering::Relaxed);
        if let Worker::Running(handle) = std::mem::replace(&mut *lock(&self.worker), Worker::Idle) {
            let _ = handle.join();
        }
        let _ = std::fs::remove_file(&self.path);
    }
}
