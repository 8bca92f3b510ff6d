//! Keeps who has something to write down from waiting for the disk.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::{AuditLog, Entry};

/// Entries that wait for the disk.
const WAITING: usize = 4096;

/// Writes entries on a thread of its own. What was handed in is written before it is dropped.
pub(crate) struct AuditQueue {
    sender: Option<SyncSender<Entry>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    lost: Arc<AtomicU64>,
}

impl AuditQueue {
    pub(crate) fn new(log: Arc<AuditLog>) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = lost.clone();
        let thread = std::thread::Builder::new()
            .name("amoskys-audit".to_owned())
            .spawn(move || write(&log, &receiver, &counted))?;
        Ok(Self {
            sender: Some(sender),
            thread: Mutex::new(Some(thread)),
            lost,
        })
    }

    /// Hands an entry in. If the disk is far behind, it is counted and left out.
    pub(crate) fn put(&self, entry: Entry) {
        let Some(sender) = &self.sender else { return };
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = sender.try_send(entry) {
            self.lost.fetch_add(1, Ordering::Relaxed);
            metrics::counter!("amoskys_audit_lost_total").increment(1);
        }
    }
}

fn write(log: &AuditLog, receiver: &Receiver<Entry>, lost: &AtomicU64) {
    while let Ok(entry) = receiver.recv() {
        let missing = lost.swap(0, Ordering::Relaxed);
        if missing > 0 {
            let text = format!("{missing} entries could not be written");
            let said = Entry::new("audit", "audit.entries_lost", "audit", "failure").reason(&text);
            if log.append(&said).is_err() {
                lost.fetch_add(missing, Ordering::Relaxed);
            }
        }
        if let Err(error) = log.append(&entry) {
            lost.fetch_add(1, Ordering::Relaxed);
            metrics::counter!("amoskys_audit_lost_total").increment(1);
            tracing::error!(log = %log.path().display(), error = %amoskys_core::error::Chain(&error), "an entry could not be written");
        }
    }
}

impl Drop for AuditQueue {
    fn drop(&mut self) {
        self.sender = None;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for AuditQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuditQueue")
    }
}
