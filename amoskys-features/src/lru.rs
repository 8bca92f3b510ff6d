//! A map of bounded size that forgets what was unused for longest.

use std::collections::HashMap;
use std::hash::Hash;

/// Marks the end of the list.
const NONE: u32 = u32::MAX;

/// A map of bounded size that forgets the entry unused for longest when it is full.
///
/// What it holds and forgets depends on the calls alone, never on the order of a hash table. Entries lie side by
/// side, because closing windows goes over all of them.
pub(crate) struct Lru<K, V> {
    capacity: usize,
    index: HashMap<K, u32>,
    slots: Vec<Slot<K, V>>,
    oldest: u32,
    newest: u32,
}

struct Slot<K, V> {
    key: K,
    value: V,
    older: u32,
    newer: u32,
}

impl<K: Clone + Eq + Hash, V> Lru<K, V> {
    /// An empty map of at most `capacity` entries, at least one.
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(1, NONE as usize - 1);
        Self {
            capacity,
            index: HashMap::new(),
            slots: Vec::new(),
            oldest: NONE,
            newest: NONE,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The entry, which thereby becomes the newest.
    pub(crate) fn get(&mut self, key: &K) -> Option<&mut V> {
        let slot = *self.index.get(key)?;
        self.renew(slot);
        Some(&mut self.slots[slot as usize].value)
    }

    /// The entry, inserted if absent, as the newest; and the entry that had to go for it.
    pub(crate) fn get_or_insert(&mut self, key: &K, make: impl FnOnce() -> V) -> (&mut V, Option<(K, V)>) {
        if let Some(&slot) = self.index.get(key) {
            self.renew(slot);
            return (&mut self.slots[slot as usize].value, None);
        }
        let evicted = if self.slots.len() >= self.capacity {
            self.pop_oldest()
        } else {
            None
        };
        // The capacity is below `NONE`, so the number fits.
        let slot = u32::try_from(self.slots.len()).unwrap_or(NONE);
        self.slots.push(Slot {
            key: key.clone(),
            value: make(),
            older: NONE,
            newer: NONE,
        });
        self.index.insert(key.clone(), slot);
        self.append(slot);
        (&mut self.slots[slot as usize].value, evicted)
    }

    /// Takes an entry out.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let slot = self.index.remove(key)?;
        Some(self.take(slot).1)
    }

    /// Takes the entry unused for longest out.
    pub(crate) fn pop_oldest(&mut self) -> Option<(K, V)> {
        let slot = self.slots.get(self.oldest as usize)?;
        self.index.remove(&slot.key);
        Some(self.take(self.oldest))
    }

    pub(crate) fn clear(&mut self) {
        self.index.clear();
        self.slots.clear();
        (self.oldest, self.newest) = (NONE, NONE);
    }

    /// All entries in an order without meaning, but always the same after the same calls.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.slots.iter().map(|slot| (&slot.key, &slot.value))
    }

    /// All entries, unused for longest first.
    pub(crate) fn iter_by_age(&self) -> impl Iterator<Item = (&K, &V)> {
        let mut at = self.oldest;
        std::iter::from_fn(move || {
            let slot = self.slots.get(at as usize)?;
            at = slot.newer;
            Some((&slot.key, &slot.value))
        })
    }

    /// Changes an entry without making it newer.
    pub(crate) fn peek_mut(&mut self, key: &K) -> Option<&mut V> {
        let slot = *self.index.get(key)?;
        Some(&mut self.slots[slot as usize].value)
    }

    fn renew(&mut self, slot: u32) {
        if self.newest != slot {
            self.unlink(slot);
            self.append(slot);
        }
    }

    fn append(&mut self, slot: u32) {
        let before = self.newest;
        let entry = &mut self.slots[slot as usize];
        (entry.older, entry.newer) = (before, NONE);
        match self.slots.get_mut(before as usize) {
            Some(entry) => entry.newer = slot,
            None => self.oldest = slot,
        }
        self.newest = slot;
    }

    fn unlink(&mut self, slot: u32) {
        let Slot { older, newer, .. } = self.slots[slot as usize];
        match self.slots.get_mut(older as usize) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
        match self.slots.get_mut(newer as usize) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
    }

    /// Takes a slot out; the last slot moves into its place.
    fn take(&mut self, slot: u32) -> (K, V) {
        self.unlink(slot);
        let taken = self.slots.swap_remove(slot as usize);
        if let Some(moved) = self.slots.get(slot as usize) {
            let (older, newer) = (moved.older, moved.newer);
            if let Some(place) = self.index.get_mut(&moved.key) {
                *place = slot;
            }
            match self.slots.get_mut(older as usize) {
                Some(entry) => entry.newer = slot,
                None => self.oldest = slot,
            }
            match self.slots.get_mut(newer as usize) {
                Some(entry) => entry.older = slot,
                None => self.newest = slot,
            }
        }
        (taken.key, taken.value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The map behaves like a list kept in order of use.
        #[test]
        fn behaves_like_a_list(capacity in 1_usize..6, calls in proptest::collection::vec((0_u8..3, 0_u8..9), 0..200)) {
            let mut map = Lru::new(capacity);
            let mut list: Vec<(u8, u32)> = Vec::new();
            for (number, (call, key)) in calls.into_iter().enumerate() {
                let number = u32::try_from(number).unwrap();
                let at = list.iter().position(|(k, _)| *k == key);
                match call {
                    0 => {
                        let (value, evicted) = map.get_or_insert(&key, || number);
                        let found = *value;
                        let entry = at.map_or((key, number), |at| list.remove(at));
                        prop_assert_eq!(found, entry.1);
                        let gone = (at.is_none() && list.len() == capacity).then(|| list.remove(0));
                        prop_assert_eq!(evicted, gone);
                        list.push(entry);
                    }
                    1 => {
                        prop_assert_eq!(map.remove(&key), at.map(|at| list.remove(at).1));
                    }
                    _ => {
                        let expected = at.map(|at| list.remove(at));
                        list.extend(expected);
                        prop_assert_eq!(map.get(&key).copied(), expected.map(|entry| entry.1));
                    }
                }
                let by_age: Vec<_> = map.iter_by_age().map(|(k, v)| (*k, *v)).collect();
                prop_assert_eq!(&by_age, &list);
                prop_assert_eq!(map.len(), list.len());
            }
        }
    }
}
