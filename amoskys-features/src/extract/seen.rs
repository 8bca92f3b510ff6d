use amoskys_core::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

use crate::hash::KeyHash;

/// Keys come from outside, so that the hash is another each time; it decides nothing but where they lie.
type HashSet<K> = std::collections::HashSet<K, foldhash::quality::RandomState>;

/// Remembers keys for a while, in bounded memory: two generations, the older of which is forgotten when the
/// younger is full or old enough. A key is remembered for at least one horizon, unless more keys than the
/// capacity came.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    capacity: usize,
    horizon: Duration,
    young: HashSet<KeyHash>,
    old: HashSet<KeyHash>,
    /// When the young generation began.
    since: Option<Timestamp>,
}

/// The keys, in order, so that equal memories are written alike.
#[derive(Serialize, Deserialize)]
pub(crate) struct SeenState {
    young: Vec<KeyHash>,
    old: Vec<KeyHash>,
    since: Option<Timestamp>,
}

impl Seen {
    pub(crate) fn new(capacity: usize, horizon: Duration) -> Self {
        Self {
            capacity: capacity.max(1),
            horizon,
            young: HashSet::default(),
            old: HashSet::default(),
            since: None,
        }
    }

    /// Remembers a key, and says whether it is new.
    pub(crate) fn is_new(&mut self, key: KeyHash, time: Timestamp) -> bool {
        let since = *self.since.get_or_insert(time);
        if self.young.len() >= self.capacity || time.since(since) >= self.horizon {
            self.old = std::mem::take(&mut self.young);
            self.since = Some(time);
        }
        self.young.insert(key) && !self.old.contains(&key)
    }

    pub(crate) fn state(&self) -> SeenState {
        let sorted = |keys: &HashSet<KeyHash>| {
            let mut keys: Vec<KeyHash> = keys.iter().copied().collect();
            keys.sort_unstable();
            keys
        };
        SeenState {
            young: sorted(&self.young),
            old: sorted(&self.old),
            since: self.since,
        }
    }

    pub(crate) fn restore(&mut self, state: SeenState) {
        self.young = state.young.into_iter().collect();
        self.old = state.old.into_iter().collect();
        self.since = state.since;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_for_a_horizon_within_its_capacity() {
        let at = Timestamp::from_secs;
        let mut seen = Seen::new(100, Duration::from_secs(60));
        assert!(seen.is_new(KeyHash(1), at(0)));
        assert!(!seen.is_new(KeyHash(1), at(59)));
        assert!(
            !seen.is_new(KeyHash(1), at(61)),
            "the older generation still knows it"
        );
        assert!(!seen.is_new(KeyHash(1), at(130)));
        assert!(seen.is_new(KeyHash(2), at(200)));
        assert!(seen.is_new(KeyHash(1), at(300)), "nobody asked for two horizons");
        for n in 0..10_000 {
            seen.is_new(KeyHash(n), at(301));
            assert!(seen.young.len() + seen.old.len() <= 200);
        }
        let mut other = Seen::new(100, Duration::from_secs(60));
        other.restore(seen.state());
        assert_eq!(seen, other);
    }
}
