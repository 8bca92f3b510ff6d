//! A map of bounded size that forgets what was unused for longest.

use std::hash::{BuildHasher, Hash};

use amoskys_core::fetch::fetch;
use foldhash::quality::RandomState;
use hashbrown::HashTable;
use serde::{Deserialize, Serialize};

/// Marks the end of the list.
const NONE: u32 = u32::MAX;

/// A map of bounded size that forgets the entry unused for longest, or nearly, when it is full.
///
/// Using an entry only marks it: to move it to the end of an order each time would touch four entries instead of
/// one. Who is to go is found in the order of coming: an entry that is marked loses its mark and goes to the end
/// instead (the second chance of CLOCK, Corbató 1968). So what was used since the entries before it came is not
/// forgotten before all of them had their turn.
///
/// What it holds and forgets depends on the calls alone, never on the order of a hash table. Entries lie side by
/// side, because closing windows goes over all of them, and stay where they are as long as they are kept.
///
/// An entry may be put to [rest](Self::rest): it is gone then, for all who ask, but comes back as it was left when its key
/// is inserted again. So its memory need not be asked for each time.
pub(crate) struct Lru<K, V> {
    capacity: usize,
    /// Where entries are, each with a part of its key's hash: the keys are there alone, so that what is looked up lies
    /// close together, and that part tells nearly all other keys without a look at them.
    index: HashTable<(u32, u32)>,
    /// A hash that is quick, and different each time, for keys come from outside.
    hasher: RandomState,
    /// `None` where a slot is free.
    slots: Vec<Option<(K, V)>>,
    /// Of each slot, apart from it: a neighbour in a list is changed without its entry being fetched.
    links: Vec<Link>,
    /// Slots without an entry; the last is used next.
    free: Vec<u32>,
    order: List,
    /// Entries at rest, in the order of being put there.
    resting: List,
    /// Where the entry is that was asked for last: often it is asked for again, and need not be looked up.
    latest: u32,
}

/// Entries in an order.
#[derive(Clone, Copy)]
struct List {
    oldest: u32,
    newest: u32,
    len: usize,
}

impl List {
    const EMPTY: Self = Self {
        oldest: NONE,
        newest: NONE,
        len: 0,
    };
}

/// The place of a slot in its list.
#[derive(Clone, Copy)]
struct Link {
    older: u32,
    newer: u32,
    /// It was used since it came, or had its last turn.
    used: bool,
    /// It is at rest.
    rests: bool,
}

impl Link {
    const NEW: Self = Self {
        older: NONE,
        newer: NONE,
        used: false,
        rests: false,
    };
}

/// An [`Lru`] in a form that can be stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LruState<K, V> {
    /// Each entry and whether it was used, in the order of being forgotten.
    entries: Vec<(K, bool, V)>,
}

impl<K, V> LruState<K, V> {
    /// The same entries with other values, unless one cannot be made.
    pub(crate) fn try_map<T, E>(self, mut make: impl FnMut(V) -> Result<T, E>) -> Result<LruState<K, T>, E> {
        let entry = |(key, used, value)| make(value).map(|value| (key, used, value));
        Ok(LruState {
            entries: self.entries.into_iter().map(entry).collect::<Result<_, E>>()?,
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
            index: HashTable::new(),
            hasher: RandomState::default(),
            slots: Vec::new(),
            links: Vec::new(),
            free: Vec::new(),
            order: List::EMPTY,
            resting: List::EMPTY,
            latest: NONE,
        }
    }

    /// The entries as they are, each value in the form `store` gives it.
    pub(crate) fn state<T>(&self, mut store: impl FnMut(&K, &V) -> T) -> LruState<K, T> {
        let entry = |(used, (key, value)): (bool, &(K, V))| (key.clone(), used, store(key, value));
        LruState {
            entries: self.by_age().map(entry).collect(),
        }
    }

    /// Goes on from a state. The capacity stays; what is above it is left out.
    pub(crate) fn restore(&mut self, state: LruState<K, V>) {
        self.clear();
        for (key, used, value) in state.entries {
            let (slot, _, _) = self.get_or_insert_at(&key, || value);
            self.links[slot as usize].used = used;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len
    }

    /// The entry, which is thereby used.
    pub(crate) fn get(&mut self, key: &K) -> Option<&mut V> {
        let slot = self.find(key)?;
        let link = &mut self.links[slot as usize];
        if link.rests {
            return None;
        }
        link.used = true;
        self.slots[slot as usize].as_mut().map(|entry| &mut entry.1)
    }

    /// The entry, without using it.
    pub(crate) fn peek_mut(&mut self, key: &K) -> Option<&mut V> {
        let slot = self.slot(key)?;
        self.at_mut(slot).map(|entry| entry.1)
    }

    /// Where an entry is, at rest or not, without using it.
    pub(crate) fn slot(&self, key: &K) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        let same = |&(other, slot): &(u32, u32)| {
            other == tag(hash)
                && self.slots[slot as usize]
                    .as_ref()
                    .is_some_and(|entry| entry.0 == *key)
        };
        self.index.find(hash, same).map(|found| found.1)
    }

    /// Where an entry probably is, if there is one, without a look at it: to be [expected](Self::expect) there.
    pub(crate) fn probable_slot(&self, key: &K) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        self.index
            .find(hash, |found| found.0 == tag(hash))
            .map(|found| found.1)
    }

    /// Asks for the memory of what is in this slot.
    pub(crate) fn prefetch(&self, slot: u32) {
        if let Some(entry) = self.slots.get(slot as usize) {
            fetch(entry);
        }
        if let Some(link) = self.links.get(slot as usize) {
            fetch(link);
        }
    }

    /// Says that the next key asked for is probably in this slot.
    pub(crate) const fn expect(&mut self, slot: u32) {
        self.latest = slot;
    }

    /// What is in a slot, at rest or not, without using it.
    pub(crate) fn value(&self, slot: u32) -> Option<&V> {
        let entry = self.slots.get(slot as usize)?.as_ref()?;
        Some(&entry.1)
    }

    /// The key of what is in a slot, at rest or not.
    pub(crate) fn key(&self, slot: u32) -> Option<&K> {
        let entry = self.slots.get(slot as usize)?.as_ref()?;
        Some(&entry.0)
    }

    /// The entry in a slot, without using it.
    pub(crate) fn at(&self, slot: u32) -> Option<(&K, &V)> {
        if self.links.get(slot as usize)?.rests {
            return None;
        }
        let entry = self.slots.get(slot as usize)?.as_ref()?;
        Some((&entry.0, &entry.1))
    }

    /// The entry in a slot, without using it.
    pub(crate) fn at_mut(&mut self, slot: u32) -> Option<(&K, &mut V)> {
        if self.links.get(slot as usize)?.rests {
            return None;
        }
        let entry = self.slots.get_mut(slot as usize)?.as_mut()?;
        Some((&entry.0, &mut entry.1))
    }

    /// The entry, which is thereby used, inserted if absent; and the entry that had to go for it.
    pub(crate) fn get_or_insert(&mut self, key: &K, make: impl FnOnce() -> V) -> (&mut V, Option<(K, V)>) {
        let (_, value, evicted) = self.get_or_insert_at(key, make);
        (value, evicted)
    }

    /// As [`get_or_insert`](Self::get_or_insert), and where the entry is: it stays there until it goes.
    #[inline]
    pub(crate) fn get_or_insert_at(
        &mut self,
        key: &K,
        make: impl FnOnce() -> V,
    ) -> (u32, &mut V, Option<(K, V)>) {
        let known = self.find(key);
        // Nearly always. By itself, because an entry that had to go is large, and to hand on that there is none is to copy its room.
        if let Some(slot) = known
            && !self.links[slot as usize].rests
        {
            self.links[slot as usize].used = true;
            let entry = self.slots[slot as usize].get_or_insert_with(|| (key.clone(), make()));
            return (slot, &mut entry.1, None);
        }
        let (slot, evicted) = self.slot_of(key, known);
        let entry = self.slots[slot as usize].get_or_insert_with(|| (key.clone(), make()));
        (slot, &mut entry.1, evicted)
    }

    /// Takes an entry out.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let slot = self.slot(key)?;
        if self.links[slot as usize].rests {
            return None;
        }
        self.take(slot).map(|entry| entry.1)
    }

    /// Puts the entry in a slot to rest.
    pub(crate) fn rest(&mut self, slot: u32) {
        if self.at(slot).is_some() {
            self.unlink(slot);
            let link = &mut self.links[slot as usize];
            (link.rests, link.used) = (true, false);
            self.append(slot);
        }
    }

    /// The entry that has been at rest for longest.
    pub(crate) fn rested(&self) -> Option<&V> {
        self.value(self.resting.oldest)
    }

    /// Forgets the entry that has been at rest for longest.
    pub(crate) fn release(&mut self) {
        if self.resting.oldest != NONE {
            self.take(self.resting.oldest);
        }
    }

    /// Takes the entry unused for longest out.
    pub(crate) fn pop_oldest(&mut self) -> Option<(K, V)> {
        let slot = self.settle()?;
        self.take(slot)
    }

    /// The entry unused for longest, or nearly.
    pub(crate) fn oldest(&mut self) -> Option<(&K, &V)> {
        let slot = self.settle()?;
        self.at(slot)
    }

    pub(crate) fn clear(&mut self) {
        self.index.clear();
        self.slots.clear();
        self.links.clear();
        self.free.clear();
        (self.order, self.resting) = (List::EMPTY, List::EMPTY);
    }

    /// All entries in an order without meaning, but always the same after the same calls.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.iter_at().map(|(_, key, value)| (key, value))
    }

    /// All entries with where they are.
    pub(crate) fn iter_at(&self) -> impl Iterator<Item = (u32, &K, &V)> {
        // The capacity is below `NONE`, so the number fits.
        let slots = self.slots.iter().zip(&self.links);
        (0..).zip(slots).filter_map(|(slot, (place, link))| {
            let (key, value) = place.as_ref().filter(|_| !link.rests)?;
            Some((slot, key, value))
        })
    }

    /// Where an entry is, by a look at the one before if it is the same.
    fn find(&mut self, key: &K) -> Option<u32> {
        let latest = self.slots.get(self.latest as usize);
        if latest.is_some_and(|place| place.as_ref().is_some_and(|entry| entry.0 == *key)) {
            return Some(self.latest);
        }
        let slot = self.slot(key)?;
        self.latest = slot;
        Some(slot)
    }

    /// The slot of a key that is at rest where it is `known`, or a free one; and the entry that had to go for it.
    fn slot_of(&mut self, key: &K, known: Option<u32>) -> (u32, Option<(K, V)>) {
        let evicted = if self.order.len >= self.capacity {
            self.pop_oldest()
        } else {
            None
        };
        if let Some(slot) = known {
            self.unlink(slot);
            self.links[slot as usize].rests = false;
            self.append(slot);
            return (slot, evicted);
        }
        if self.index.len() >= self.capacity {
            self.release();
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.links.push(Link::NEW);
            u32::try_from(self.slots.len() - 1).unwrap_or(NONE)
        });
        let (slots, hasher) = (&self.slots, &self.hasher);
        let again = |&(_, slot): &(u32, u32)| {
            let entry = slots[slot as usize].as_ref();
            entry.map_or(0, |entry| hasher.hash_one(&entry.0))
        };
        let hash = hasher.hash_one(key);
        self.index.insert_unique(hash, (tag(hash), slot), again);
        self.append(slot);
        self.latest = slot;
        (slot, evicted)
    }

    /// Entries and whether they were used, the one that has its turn next first.
    fn by_age(&self) -> impl Iterator<Item = (bool, &(K, V))> {
        let mut at = self.order.oldest;
        std::iter::from_fn(move || {
            let (entry, link) = (self.slots.get(at as usize)?, self.links.get(at as usize)?);
            at = link.newer;
            Some((link.used, entry.as_ref()?))
        })
    }

    /// Gives used entries their second chance, until the first in the order is one that was not.
    fn settle(&mut self) -> Option<u32> {
        loop {
            let slot = self.order.oldest;
            let link = self.links.get_mut(slot as usize)?;
            if !std::mem::take(&mut link.used) {
                return Some(slot);
            }
            self.unlink(slot);
            self.append(slot);
        }
    }

    /// Puts a slot at the end of its list.
    fn append(&mut self, slot: u32) {
        let rests = self.links[slot as usize].rests;
        let list = if rests { &mut self.resting } else { &mut self.order };
        let before = std::mem::replace(&mut list.newest, slot);
        list.len += 1;
        match self.links.get_mut(before as usize) {
            Some(link) => link.newer = slot,
            None => list.oldest = slot,
        }
        let link = &mut self.links[slot as usize];
        (link.older, link.newer) = (before, NONE);
    }

    /// Takes a slot out of its list.
    fn unlink(&mut self, slot: u32) {
        let Link {
            older, newer, rests, ..
        } = self.links[slot as usize];
        let list = if rests { &mut self.resting } else { &mut self.order };
        list.len -= 1;
        match self.links.get_mut(older as usize) {
            Some(link) => link.newer = newer,
            None => list.oldest = newer,
        }
        match self.links.get_mut(newer as usize) {
            Some(link) => link.older = older,
            None => list.newest = older,
        }
    }

    fn take(&mut self, slot: u32) -> Option<(K, V)> {
        let hash = self.hasher.hash_one(&self.slots.get(slot as usize)?.as_ref()?.0);
        if let Ok(found) = self.index.find_entry(hash, |other| other.1 == slot) {
            found.remove();
        }
        self.unlink(slot);
        self.free.push(slot);
        self.links[slot as usize] = Link::NEW;
        let taken = self.slots[slot as usize].take();
        if self.index.is_empty() {
            // Nobody holds a slot any more.
            self.slots.clear();
            self.links.clear();
            self.free.clear();
        }
        taken
    }
}

/// The part of a hash that is kept beside a place: bits that do not choose where in the table that is.
fn tag(hash: u64) -> u32 {
    (hash >> 24) as u32
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
            calls in proptest::collection::vec((0_u8..6, 0_u8..18), 0..300),
        ) {
            let mut map = Lru::new(capacity);
            let mut list: Vec<(u8, u32, bool)> = Vec::new();
            // What those had that were put to rest.
            let mut rested = std::collections::BTreeMap::new();
            for (number, (call, key)) in calls.into_iter().enumerate() {
                let number = u32::try_from(number).unwrap();
                let at = list.iter().position(|entry| entry.0 == key);
                match call {
                    0 => {
                        let (value, evicted) = map.get_or_insert(&key, || number);
                        let found = *value;
                        if let Some(at) = at {
                            prop_assert_eq!((found, evicted), (list[at].1, None));
                            list[at].2 = true;
                        } else {
                            let gone = (list.len() == capacity).then(|| {
                                while list[0].2 {
                                    let entry = list.remove(0);
                                    list.push((entry.0, entry.1, false));
                                }
                                list.remove(0)
                            });
                            let before = rested.remove(&key);
                            prop_assert!(found == number || Some(found) == before);
                            prop_assert_eq!(evicted, gone.map(|entry| (entry.0, entry.1)));
                            list.push((key, found, false));
                        }
                    }
                    1 => prop_assert_eq!(map.remove(&key), at.map(|at| list.remove(at).1)),
                    3 => {
                        // Who is at rest has gone, for all who ask.
                        let slot = map.slot(&key).filter(|_| at.is_some());
                        if let (Some(at), Some(slot)) = (at, slot) {
                            if let Some(value) = map.peek_mut(&key) {
                                *value = number;
                            }
                            map.rest(slot);
                            list.remove(at);
                            rested.insert(key, number);
                            prop_assert!(map.rested().is_some());
                        }
                    }
                    4 => map.release(),
                    2 => {
                        prop_assert_eq!(map.get(&key).copied(), at.map(|at| list[at].1));
                        if let Some(at) = at {
                            list[at].2 = true;
                        }
                    }
                    _ => {
                        let state = map.state(|_, value| *value);
                        map = Lru::new(capacity);
                        map.restore(state);
                    }
                }
                let by_age: Vec<_> = map.by_age().map(|(used, &(key, value))| (key, value, used)).collect();
                prop_assert_eq!(&by_age, &list);
                prop_assert_eq!(map.len(), list.len());
                prop_assert!(map.index.len() <= capacity && map.index.len() == map.order.len + map.resting.len);
                let all: Vec<_> = map.iter_at().map(|(slot, key, _)| map.at(slot).map(|entry| entry.0) == Some(key)).collect();
                prop_assert!(all.len() == list.len() && all.iter().all(|found| *found));
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
