use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How far a collector has read its files. Clones share it, so a progress bar may keep one.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    read: AtomicU64,
    total: AtomicU64,
    packets: AtomicU64,
}

impl Progress {
    /// Bytes read of all files together.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.0.read.load(Ordering::Relaxed)
    }

    /// Size of all files together; 0 for a live source.
    #[must_use]
    pub fn bytes_total(&self) -> u64 {
        self.0.total.load(Ordering::Relaxed)
    }

    /// Packets read.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.0.packets.load(Ordering::Relaxed)
    }

    pub(crate) fn set_total(&self, bytes: u64) {
        self.0.total.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, bytes: u64, packets: u64) {
        self.0.read.store(bytes, Ordering::Relaxed);
        self.0.packets.store(packets, Ordering::Relaxed);
    }
}
