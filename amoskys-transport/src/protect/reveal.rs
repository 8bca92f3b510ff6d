use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use amoskys_core::event::Payload;
use amoskys_core::{Event, Outcome, Transform, TransformError};

use super::{SubjectKeys, cipher};

/// Decrypts events whose keys there are. What cannot be decrypted stays protected, and is counted.
#[derive(Clone)]
pub struct Reveal {
    keys: Arc<dyn SubjectKeys>,
    counts: Arc<RevealCounts>,
}

/// What became of protected events.
#[derive(Debug, Default)]
pub struct RevealCounts {
    revealed: AtomicU64,
    forgotten: AtomicU64,
    unreadable: AtomicU64,
    unreachable: AtomicU64,
}

impl Reveal {
    /// Decrypts with these keys.
    #[must_use]
    pub fn new(keys: Arc<dyn SubjectKeys>) -> Self {
        Self {
            keys,
            counts: Arc::default(),
        }
    }

    /// What became of the events so far. Clones share it.
    #[must_use]
    pub fn counts(&self) -> Arc<RevealCounts> {
        self.counts.clone()
    }

    /// Decrypts an event, if it is protected and its key is there. Says whether it is in the clear now.
    pub fn reveal(&self, event: &mut Event) -> bool {
        let Payload::Protected(protected) = &event.payload else {
            return true;
        };
        let count = match self.keys.key(protected.key) {
            Err(error) => {
                tracing::warn!(%error, "a protected event cannot be read for now");
                &self.counts.unreachable
            }
            Ok(None) => &self.counts.forgotten,
            Ok(Some(key)) => match cipher::open(&key, event.id, protected) {
                None => &self.counts.unreadable,
                Some(inner) => {
                    event.payload = inner.payload;
                    event.unknown = inner.unknown;
                    for (name, value) in inner.attributes {
                        event.attributes.entry(name).or_insert(value);
                    }
                    &self.counts.revealed
                }
            },
        };
        count.fetch_add(1, Ordering::Relaxed);
        !matches!(event.payload, Payload::Protected(_))
    }
}

impl RevealCounts {
    /// Events that were decrypted.
    #[must_use]
    pub fn revealed(&self) -> u64 {
        self.revealed.load(Ordering::Relaxed)
    }

    /// Events whose key is not there: it was forgotten, or never given to this reader.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// Events that are not what was encrypted under the key they name, or of a scheme of a newer version.
    #[must_use]
    pub fn unreadable(&self) -> u64 {
        self.unreadable.load(Ordering::Relaxed)
    }

    /// Events whose key could not be asked for.
    #[must_use]
    pub fn unreachable(&self) -> u64 {
        self.unreachable.load(Ordering::Relaxed)
    }
}

impl Transform for Reveal {
    fn transform(&mut self, event: &mut Event) -> Result<Outcome, TransformError> {
        self.reveal(event);
        Ok(Outcome::Keep)
    }
}

impl fmt::Debug for Reveal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reveal")
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}
