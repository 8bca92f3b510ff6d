//! Keeps who has something to write down from waiting for the disk.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{AuditLog, Entry};

/// Entries that wait for the disk.
const WAITING: usize = 4096;

/// Writes entries on a thread of its own. What was handed in is written before it is dropped.
pub(crate) struct AuditQueue {
    sender: Option<SyncSender<Entry>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    lost: Arc<AtomicU64>,
    handed_in: AtomicU64,
    written: Arc<Written>,
}

/// How many entries were written, or could not be.
#[derive(Default)]
struct Written {
    entries: Mutex<u64>,
    more: Condvar,
}

impl AuditQueue {
    pub(crate) fn new(log: Arc<AuditLog>) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = lost.clone();
        let written = Arc::new(Written::default());
        let told = written.clone();
        let thread = std::thread::Builder::new()
            .name("amoskys-audit".to_owned())
            .spawn(move || write(&log, &receiver, &counted, &told))?;
        Ok(Self {
            sender: Some(sender),
            thread: Mutex::new(Some(thread)),
            lost,
            handed_in: AtomicU64::new(0),
            written,
        })
    }

    /// Hands an entry in. If the disk is far behind, it is counted and left out.
    pub(crate) fn put(&self, entry: Entry) {
        let Some(sender) = &self.sender else { return };
        match sender.try_send(entry) {
            Ok(()) => {
                self.handed_in.fetch_add(1, Ordering::AcqRel);
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
                metrics::counter!("amoskys_audit_lost_total").increment(1);
            }
        }
    }

    /// Waits until what was handed in before is written, but not longer than this. Whether it is.
    pub(crate) fn flush(&self, patience: Duration) -> bool {
        let wanted = self.handed_in.load(Ordering::Acquire);
        let entries = self
            .written
            .entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .written
            .more
            .wait_timeout_while(entries, patience, |entries| *entries < wanted);
        let (entries, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *entries >= wanted
    }
}

fn write(log: &AuditLog, receiver: &Receiver<Entry>, lost: &AtomicU64, written: &Written) {
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
        *written.entries.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        written.more.notify_all();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{AuditKey, AuditOptions};

    #[test]
    fn what_was_handed_in_is_written_when_it_was_flushed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let key = Arc::new(AuditKey::from_bytes(&[7; 32]));
        let log = AuditLog::open(&path, key, AuditOptions::default()).unwrap();
        let queue = AuditQueue::new(Arc::new(log)).unwrap();
        assert!(queue.flush(Duration::ZERO), "there is nothing to wait for");
        for n in 1..=50 {
            queue.put(Entry::new("me", "count", &n.to_string(), "success"));
            if n % 10 == 0 {
                assert!(queue.flush(Duration::from_secs(20)));
                let text = std::fs::read_to_string(&path).unwrap();
                assert_eq!(text.matches("\"action\":\"count\"").count(), n, "{text}");
            }
        }
    }
}
