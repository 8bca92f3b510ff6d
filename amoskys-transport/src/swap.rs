//! A value that many read and one replaces while they do.

use std::sync::{Arc, PoisonError, RwLock};

/// Readers take what is there now, or learn from the number whether it is still what they took.
#[derive(Debug)]
pub(crate) struct Swap<T> {
    value: RwLock<Arc<T>>,
    #[cfg(feature = "bus")]
    number: std::sync::atomic::AtomicU64,
    #[cfg(feature = "bus")]
    changed: tokio::sync::watch::Sender<()>,
}

impl<T> Swap<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            value: RwLock::new(Arc::new(value)),
            #[cfg(feature = "bus")]
            number: Default::default(),
            #[cfg(feature = "bus")]
            changed: tokio::sync::watch::Sender::new(()),
        }
    }

    pub(crate) fn snapshot(&self) -> Arc<T> {
        let value = self.value.read().unwrap_or_else(PoisonError::into_inner);
        value.clone()
    }

    /// Grows with each replacement. Read it before the value that it is to stand for.
    #[cfg(feature = "bus")]
    pub(crate) fn number(&self) -> u64 {
        self.number.load(std::sync::atomic::Ordering::Acquire)
    }

    /// Puts another value in place, and returns the one that was there.
    pub(crate) fn replace(&self, value: T) -> Arc<T> {
        let mut place = self.value.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *place, Arc::new(value));
        #[cfg(feature = "bus")]
        self.number.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
        drop(place);
        #[cfg(feature = "bus")]
        self.changed.send_replace(());
        old
    }

    /// Learns of each replacement from now on.
    #[cfg(feature = "bus")]
    pub(crate) fn changes(&self) -> tokio::sync::watch::Receiver<()> {
        self.changed.subscribe()
    }
}
