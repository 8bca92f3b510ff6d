use std::hash::Hash;

use lru::LruCache;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A map of bounded size. When it is full, the entry unused for longest goes, and is counted.
///
/// Which entry goes depends on the calls alone. Iteration is in order of use, never in that of a hash table,
/// so the random keys of the table inside, which protect against chosen collisions, change no result.
#[derive(Debug)]
pub(crate) struct BoundedMap<K: Hash + Eq, V> {
    entries: LruCache<K, V>,
    limit: usize,
    evicted: u64,
}

impl<K: Hash + Eq + Clone, V> BoundedMap<K, V> {
    /// An empty map of at most `limit` entries, at least one. Memory grows with use.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            entries: LruCache::unbounded(),
            limit: limit.max(1),
            evicted: 0,
        }
    }

    /// The entry, which thereby is the last one used.
    pub(crate) fn get(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key)
    }

    /// The entry, without using it.
    pub(crate) fn peek(&self, key: &K) -> Option<&V> {
        self.entries.peek(key)
    }

    /// The entry to change, without using it.
    pub(crate) fn peek_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.peek_mut(key)
    }

    /// The entry unused for longest, without using it.
    pub(crate) fn oldest(&self) -> Option<&V> {
        self.entries.peek_lru().map(|(_, value)| value)
    }

    /// The entry, made if it is not there, as the last one used.
    pub(crate) fn entry(&mut self, key: &K, make: impl FnOnce() -> V) -> &mut V {
        if self.entries.len() >= self.limit && !self.entries.contains(key) {
            self.entries.pop_lru();
            self.evicted = self.evicted.saturating_add(1);
        }
        self.entries.get_or_insert_mut(key.clone(), make)
    }

    /// Takes an entry out.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        self.entries.pop(key)
    }

    /// The values, from the one unused for longest on.
    pub(crate) fn into_values(self) -> impl Iterator<Item = V> {
        let mut entries = self.entries;
        std::iter::from_fn(move || entries.pop_lru().map(|(_, value)| value))
    }

    /// How many entries there may be.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many entries went because the map was full.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }
}

impl<K: Hash + Eq + Serialize, V: Serialize> Serialize for BoundedMap<K, V> {
    /// The limit, the number of evictions, and the entries from the one unused for longest on.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entries: Vec<(&K, &V)> = self.entries.iter().rev().collect();
        (self.limit as u64, self.evicted, entries).serialize(serializer)
    }
}

impl<'de, K, V> Deserialize<'de> for BoundedMap<K, V>
where
    K: Hash + Eq + Clone + DeserializeOwned,
    V: DeserializeOwned,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (limit, evicted, entries) = <(u64, u64, Vec<(K, V)>)>::deserialize(deserializer)?;
        let mut map = Self::new(usize::try_from(limit).unwrap_or(usize::MAX));
        for (key, value) in entries {
            if map.len() >= map.limit {
                return Err(serde::de::Error::custom("more entries than the limit"));
            }
            map.entries.push(key, value);
        }
        map.evicted = evicted;
        Ok(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_what_was_unused_for_longest_and_counts_it() {
        let mut map = BoundedMap::new(2);
        *map.entry(&1, || 0) += 10;
        *map.entry(&2, || 0) += 20;
        map.get(&1);
        *map.entry(&3, || 0) += 30;
        assert!(map.peek(&2).is_none());
        assert_eq!(
            (map.peek(&1), map.peek(&3), map.evicted(), map.len()),
            (Some(&10), Some(&30), 1, 2)
        );
    }

    #[test]
    fn goes_on_after_a_round_trip_as_if_nothing_had_happened() {
        let mut map = BoundedMap::new(3);
        for key in [1_u32, 2, 3, 1, 4] {
            *map.entry(&key, || 0_u64) += u64::from(key);
        }
        let bytes = postcard::to_allocvec(&map).unwrap();
        let mut back: BoundedMap<u32, u64> = postcard::from_bytes(&bytes).unwrap();
        for key in [5_u32, 3, 6] {
            map.entry(&key, || 9);
            back.entry(&key, || 9);
        }
        assert_eq!(
            postcard::to_allocvec(&map).unwrap(),
            postcard::to_allocvec(&back).unwrap()
        );
    }
}
