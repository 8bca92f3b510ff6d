//! The order of keys, kept so that it need not be found again at each slide.

use std::hash::Hash;

use crate::lru::Lru;

/// Marks a slot whose place is not known.
const NONE: u32 = u32::MAX;
/// Where fewer than one of so many entities are to be put in order, they are sorted by themselves.
const FEW: usize = 8;

/// Entities in the order of their keys.
///
/// Nearly the same entities hand out windows at each slide. To sort their keys each time would cost more than most else that
/// is done for a window, the more so as each key has to be fetched; here each entity has a place in the order of all, and
/// those asked for are marked there. Entities that come are sorted among themselves and then merged in.
pub(super) struct Order<K> {
    /// All keys in order, each with its slot. Some may have gone since: then the slot has another place, or none.
    sorted: Vec<(K, u32)>,
    /// The place of each slot in it.
    places: Vec<u32>,
    /// Slots whose key came since; some are listed twice, or have lost it again.
    came: Vec<u32>,
    /// A bit for each place.
    marked: Vec<u64>,
    /// Room for sorting.
    room: Vec<(K, u32)>,
}

impl<K> Default for Order<K> {
    fn default() -> Self {
        Self {
            sorted: Vec::new(),
            places: Vec::new(),
            came: Vec::new(),
            marked: Vec::new(),
            room: Vec::new(),
        }
    }
}

impl<K: Clone + Eq + Hash + Ord> Order<K> {
    /// Another key is in this slot now.
    pub(super) fn insert(&mut self, slot: u32) {
        let at = slot as usize;
        if at >= self.places.len() {
            self.places.resize(at + 1, NONE);
        }
        self.places[at] = NONE;
        if self.came.len() > self.places.len() {
            // The order was not asked for in long: nothing is worth keeping but which slots there are.
            self.sorted.clear();
            self.places.fill(NONE);
            self.came.clear();
            self.came.extend(0..self.places.len() as u32);
        } else {
            self.came.push(slot);
        }
    }

    /// Forgets all keys.
    pub(super) fn clear(&mut self) {
        self.sorted.clear();
        self.places.clear();
        self.came.clear();
    }

    /// Puts slots in the order of the keys they hold, each once. Those that hold none are left out, or not.
    pub(super) fn sort<V>(&mut self, slots: &mut Vec<u32>, entities: &Lru<K, V>) {
        if slots.len() < self.places.len() / FEW {
            self.room.clear();
            let keyed = slots
                .iter()
                .filter_map(|&slot| Some((entities.key(slot)?.clone(), slot)));
            self.room.extend(keyed);
            self.room.sort_unstable();
            self.room.dedup_by_key(|keyed| keyed.1);
            slots.clear();
            slots.extend(self.room.drain(..).map(|keyed| keyed.1));
            return;
        }
        if !self.came.is_empty() {
            self.take_in(entities);
        }
        self.marked.clear();
        self.marked.resize(self.sorted.len().div_ceil(64), 0);
        for &slot in &*slots {
            let place = self.places.get(slot as usize).map_or(NONE, |&place| place) as usize;
            if let Some(word) = self.marked.get_mut(place / 64) {
                *word |= 1 << (place % 64);
            }
        }
        slots.clear();
        for (word, sorted) in self.marked.iter().zip(self.sorted.chunks(64)) {
            let mut left = *word;
            while left != 0 {
                if let Some(keyed) = sorted.get(left.trailing_zeros() as usize) {
                    slots.push(keyed.1);
                }
                left &= left - 1;
            }
        }
    }

    /// Gives those a place that came, and takes it from those that went.
    fn take_in<V>(&mut self, entities: &Lru<K, V>) {
        let mut came: Vec<(K, u32)> = self
            .came
            .drain(..)
            .filter_map(|slot| Some((entities.key(slot)?.clone(), slot)))
            .collect();
        came.sort_unstable();
        came.dedup_by_key(|keyed| keyed.1);
        let mut came = came.into_iter().peekable();
        let mut merged = Vec::with_capacity(self.sorted.len() + came.len());
        let places = &self.places;
        let stay = (0_u32..).zip(self.sorted.drain(..));
        for (_, keyed) in stay.filter(|(place, keyed)| places.get(keyed.1 as usize) == Some(place)) {
            while let Some(before) = came.next_if(|one| one.0 < keyed.0) {
                merged.push(before);
            }
            merged.push(keyed);
        }
        merged.extend(came);
        self.sorted = merged;
        for (place, keyed) in (0..).zip(&self.sorted) {
            if let Some(at) = self.places.get_mut(keyed.1 as usize) {
                *at = place;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whoever came and went, and however many are asked for, they come out by their keys.
        #[test]
        fn slots_come_out_by_their_keys(calls in proptest::collection::vec((0_u8..8, any::<u16>(), 0_usize..40), 0..120)) {
            let mut entities = Lru::new(30);
            let mut order = Order::default();
            for (call, key, count) in calls {
                let key = key % 97;
                match call {
                    0 => drop(entities.remove(&key)),
                    1 => {
                        if let Some(slot) = entities.slot(&key) {
                            entities.rest(slot);
                        }
                    }
                    2 => entities.release(),
                    3 if count == 0 => {
                        entities.clear();
                        order.clear();
                    }
                    3..6 => {
                        let mut came = false;
                        let (slot, ..) = entities.get_or_insert_at(&key, || came = true);
                        if came {
                            order.insert(slot);
                        }
                    }
                    _ => {
                        let known: Vec<u32> = entities.iter_at().map(|(slot, ..)| slot).collect();
                        let mut slots: Vec<u32> = known.iter().rev().take(count).copied().collect();
                        // Some are listed twice.
                        slots.extend(known.iter().rev().take(count / 3));
                        let mut expected: Vec<u16> = slots.iter().filter_map(|&slot| entities.key(slot).copied()).collect();
                        expected.sort_unstable();
                        expected.dedup();
                        order.sort(&mut slots, &entities);
                        let found: Vec<u16> = slots.iter().filter_map(|&slot| entities.key(slot).copied()).collect();
                        prop_assert_eq!(found, expected);
                    }
                }
                prop_assert!(order.came.len() <= order.places.len() + 1);
            }
        }
    }
}
