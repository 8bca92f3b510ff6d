//! A map of bounded size that forgets what was unused for longest.

use std::collections::HashMap;
use std::hash::Hash;

use serde::{Deserialize, Serialize};

/// Marks the end of the list.
const NONE: u32 = u32::MAX;

/// A map of bounded size that forgets the entry unused for longest, or nearly, when it is full.
///
/// An entry moves to the new end of the order when it is used, unless it has moved within the last quarter of the
/// capacity: to move it at each use would touch four entries instead of one. So an entry is not forgotten before
/// entries of at least three quarters of the capacity have been used after it.
///
/// What it holds and forgets depends on the calls alone, never on the order of a hash table. Entries lie side by
/// side, because closing windows goes over all of them, and stay where they are as long as they are kept.
pub(crate) struct Lru<K, V> {
    capacity: usize,
    index: HashMap<K, u32>,
    slots: Vec<Slot<K, V>>,
    /// Slots without an entry; the last is used next.
    free: Vec<u32>,
    oldest: u32,
    newest: u32,
    /// Counts insertions and moves.
    clock: u64,
}

struct Slot<K, V> {
    /// `None` while the slot is free.
    entry: Option<(K, V)>,
    older: u32,
    newer: u32,
    /// When it was inserted or moved last.
    moved: u64,
}

/// An [`Lru`] in a form that can be stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LruState<K, V> {
    /// Each entry with the time it moved last, in the order of being forgotten.
    entries: Vec<(K, u64, V)>,
    clock: u64,
}

impl<K, V> LruState<K, V> {
    /// The same entries with other values, unless one cannot be made.
    pub(crate) fn try_map<T, E>(self, mut make: impl FnMut(V) -> Result<T, E>) -> Result<LruState<K, T>, E> {
        let entry = |(key, moved, value)| make(value).map(|value| (key, moved, value));
        Ok(LruState {
            entries: self.entries.into_iter().map(entry).collect::<Result<_, E>>()?,
            clock: self.clock,
        })
    }
}

impl<K, V, E> LruState<K, Result<V, E>> {
    /// The entries, unless a value is an error.
    pub(crate) fn transpose(self) -> Result<LruState<K, V>, E> {
        self.try_map(|value| value)
    }
}

impl<K: Clone + Eq + Hash, V> Lru<K, V> {
    /// An empty map of at most `capacity` entries, at least one.
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(1, NONE as usize - 1);
        Self {
            capacity,
            index: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            oldest: NONE,
            newest: NONE,
            clock: 0,
        }
    }

    /// The entries as they are, each value in the form `store` gives it.
    pub(crate) fn state<T>(&self, mut store: impl FnMut(&K, &V) -> T) -> LruState<K, T> {
        let entry = |(moved, (key, value)): (u64, &(K, V))| (key.clone(), moved, store(key, value));
        LruState {
            entries: self.by_age().map(entry).collect(),
            clock: self.clock,
        }
    }

    /// Goes on from a state. The capacity stays; what is above it is left out.
    pub(crate) fn restore(&mut self, state: LruState<K, V>) {
        self.clear();
        for (key, moved, value) in state.entries {
            self.clock = moved;
            self.get_or_insert(&key, || value);
            if let Some(slot) = self.slots.get_mut(self.newest as usize) {
                slot.moved = moved;
            }
        }
        self.clock = state.clock;
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// The entry, which is thereby used.
    pub(crate) fn get(&mut self, key: &K) -> Option<&mut V> {
        let slot = *self.index.get(key)?;
        self.renew(slot);
        self.value(slot)
    }

    /// The entry, without using it.
    pub(crate) fn peek_mut(&mut self, key: &K) -> Option<&mut V> {
        let slot = *self.index.get(key)?;
        self.value(slot)
    }

    /// The entry in a slot, without using it.
    pub(crate) fn at(&self, slot: u32) -> Option<(&K, &V)> {
        let entry = self.slots.get(slot as usize)?.entry.as_ref()?;
        Some((&entry.0, &entry.1))
    }

    /// The entry in a slot, without using it.
    pub(crate) fn at_mut(&mut self, slot: u32) -> Option<(&K, &mut V)> {
        let entry = self.slots.get_mut(slot as usize)?.entry.as_mut()?;
        Some((&entry.0, &mut entry.1))
    }

    /// The entry, which is thereby used, inserted if absent; and the entry that had to go for it.
    pub(crate) fn get_or_insert(&mut self, key: &K, make: impl FnOnce() -> V) -> (&mut V, Option<(K, V)>) {
        let (slot, evicted) = self.slot_of(key);
        let entry = self.slots[slot as usize]
            .entry
            .get_or_insert_with(|| (key.clone(), make()));
        (&mut entry.1, evicted)
    }

    /// As [`get_or_insert`](Self::get_or_insert), and where the entry is: it stays there until it goes.
    pub(crate) fn get_or_insert_at(
        &mut self,
        key: &K,
        make: impl FnOnce() -> V,
    ) -> (u32, &mut V, Option<(K, V)>) {
        let (slot, evicted) = self.slot_of(key);
        let entry = self.slots[slot as usize]
            .entry
            .get_or_insert_with(|| (key.clone(), make()));
        (slot, &mut entry.1, evicted)
    }

    /// Takes an entry out.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let slot = self.index.remove(key)?;
        self.take(slot).map(|entry| entry.1)
    }

    /// Takes the entry unused for longest out.
    pub(crate) fn pop_oldest(&mut self) -> Option<(K, V)> {
        let slot = self.oldest;
        let key = &self.slots.get(slot as usize)?.entry.as_ref()?.0;
        self.index.remove(key);
        self.take(slot)
    }

    /// The entry unused for longest, or nearly.
    pub(crate) fn oldest(&self) -> Option<(&K, &V)> {
        self.at(self.oldest)
    }

    pub(crate) fn clear(&mut self) {
        self.index.clear();
        self.slots.clear();
        self.free.clear();
        (self.oldest, self.newest, self.clock) = (NONE, NONE, 0);
    }

    /// All entries in an order without meaning, but always the same after the same calls.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.iter_at().map(|(_, key, value)| (key, value))
    }

    /// All entries with where they are.
    pub(crate) fn iter_at(&self) -> impl Iterator<Item = (u32, &K, &V)> {
        // The capacity is below `NONE`, so the number fits.
        (0..).zip(&self.slots).filter_map(|(slot, place)| {
            let (key, value) = place.entry.as_ref()?;
            Some((slot, key, value))
        })
    }

    fn value(&mut self, slot: u32) -> Option<&mut V> {
        self.slots[slot as usize].entry.as_mut().map(|entry| &mut entry.1)
    }

    /// The slot of a key, which is thereby used; a free one if there is none, and the entry that had to go for it.
    fn slot_of(&mut self, key: &K) -> (u32, Option<(K, V)>) {
        if let Some(&slot) = self.index.get(key) {
            self.renew(slot);
            return (slot, None);
        }
        let evicted = if self.index.len() >= self.capacity {
            self.pop_oldest()
        } else {
            None
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                entry: None,
                older: NONE,
                newer: NONE,
                moved: 0,
            });
            u32::try_from(self.slots.len() - 1).unwrap_or(NONE)
        });
        self.index.insert(key.clone(), slot);
        self.append(slot);
        (slot, evicted)
    }

    /// Entries with the time they moved last, the one to be forgotten next first.
    fn by_age(&self) -> impl Iterator<Item = (u64, &(K, V))> {
        let mut at = self.oldest;
        std::iter::from_fn(move || {
            let slot = self.slots.get(at as usize)?;
            at = slot.newer;
            Some((slot.moved, slot.entry.as_ref()?))
        })
    }

    fn renew(&mut self, slot: u32) {
        let recent = (self.capacity / 4) as u64;
        if self.newest != slot && self.clock.wrapping_sub(self.slots[slot as usize].moved) >= recent {
            self.unlink(slot);
            self.append(slot);
        }
    }

    fn append(&mut self, slot: u32) {
        let before = self.newest;
        self.clock = self.clock.wrapping_add(1);
        let entry = &mut self.slots[slot as usize];
        (entry.older, entry.newer, entry.moved) = (before, NONE, self.clock);
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

    fn take(&mut self, slot: u32) -> Option<(K, V)> {
        self.unlink(slot);
        self.free.push(slot);
        let taken = self.slots[slot as usize].entry.take();
        if self.index.is_empty() {
            // Nobody holds a slot any more.
            self.slots.clear();
            self.free.clear();
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The map behaves like a list kept by the same rule, also across storing and restoring.
        #[test]
        fn behaves_like_a_list(
            capacity in 1_usize..14,
            calls in proptest::collection::vec((0_u8..4, 0_u8..18), 0..300),
        ) {
            let mut map = Lru::new(capacity);
            let (mut list, mut clock): (Vec<(u8, u32, u64)>, u64) = (Vec::new(), 0);
            for (number, (call, key)) in calls.into_iter().enumerate() {
                let number = u32::try_from(number).unwrap();
                let at = list.iter().position(|entry| entry.0 == key);
                let mut using = |list: &mut Vec<(u8, u32, u64)>, at: usize| {
                    let last = at + 1 == list.len();
                    if !last && clock - list[at].2 >= capacity as u64 / 4 {
                        clock += 1;
                        let entry = list.remove(at);
                        list.push((entry.0, entry.1, clock));
                    }
                };
                match call {
                    0 => {
                        let (value, evicted) = map.get_or_insert(&key, || number);
                        let found = *value;
                        if let Some(at) = at {
                            prop_assert_eq!((found, evicted), (list[at].1, None));
                            using(&mut list, at);
                        } else {
                            let gone = (list.len() == capacity).then(|| list.remove(0));
                            prop_assert_eq!((found, evicted), (number, gone.map(|entry| (entry.0, entry.1))));
                            clock += 1;
                            list.push((key, number, clock));
                        }
                    }
                    1 => prop_assert_eq!(map.remove(&key), at.map(|at| list.remove(at).1)),
                    2 => {
                        prop_assert_eq!(map.get(&key).copied(), at.map(|at| list[at].1));
                        if let Some(at) = at {
                            using(&mut list, at);
                        }
                    }
                    _ => {
                        let state = map.state(|_, value| *value);
                        map = Lru::new(capacity);
                        map.restore(state);
                    }
                }
                let by_age: Vec<_> = map.by_age().map(|(moved, &(key, value))| (key, value, moved)).collect();
                prop_assert_eq!(&by_age, &list);
                prop_assert_eq!((map.len(), map.clock), (list.len(), clock));
            }
        }
    }

    #[test]
    fn what_is_in_use_is_kept() {
        let mut map = Lru::new(100);
        for n in 1..10_000_u32 {
            map.get_or_insert(&n, || ());
            map.get_or_insert(&0, || ());
            assert!(
                map.peek_mut(&n.saturating_sub(74)).is_some(),
                "used 74 entries ago"
            );
        }
        assert_eq!(map.len(), 100);
    }
}
