use std::sync::Arc;

use super::TrustMap;
use crate::swap::Swap;

/// A trust map that can be replaced while it is used. Copies of this handle share it.
///
/// A [`Bus`](crate::bus::Bus) looks at it for each record. An agent or a key that is no longer in it is cut off at once;
/// one that is new may come in at once; nobody else notices.
///
/// ```
/// use amoskys_transport::{PublicKey, SharedTrust, TrustMap};
///
/// let key = PublicKey::from_bytes([7; 32]);
/// let trust = SharedTrust::new(TrustMap::new());
/// let seen_by_the_bus = trust.clone();
/// trust.replace(TrustMap::new().allow("gateway-3", key));
/// assert!(seen_by_the_bus.snapshot().key(&"gateway-3".into(), key.id()).is_some());
/// ```
#[derive(Clone, Debug)]
pub struct SharedTrust {
    map: Arc<Swap<TrustMap>>,
}

impl SharedTrust {
    /// Begins with this map.
    #[must_use]
    pub fn new(trust: TrustMap) -> Self {
        Self {
            map: Arc::new(Swap::new(trust)),
        }
    }

    /// The map as it is now. It stays as it is, also when another takes its place.
    #[must_use]
    pub fn snapshot(&self) -> Arc<TrustMap> {
        self.map.snapshot()
    }

    /// Puts another map in its place, for all who share it. Returns the one that was there.
    pub fn replace(&self, trust: TrustMap) -> Arc<TrustMap> {
        self.map.replace(trust)
    }

    /// Differs once the map has been replaced.
    #[cfg(feature = "bus")]
    pub(crate) fn number(&self) -> u64 {
        self.map.number()
    }

    #[cfg(feature = "bus")]
    pub(crate) fn changes(&self) -> tokio::sync::watch::Receiver<()> {
        self.map.changes()
    }
}

impl Default for SharedTrust {
    /// Trusts nobody, for now.
    fn default() -> Self {
        Self::new(TrustMap::new())
    }
}

impl From<TrustMap> for SharedTrust {
    fn from(trust: TrustMap) -> Self {
        Self::new(trust)
    }
}
