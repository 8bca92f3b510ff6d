//! Finds a flow by its key: an open-addressing table of hashes and flow numbers.

use amoskys_core::fetch::fetch_lines;

use super::slab::NONE;

#[derive(Clone, Copy)]
struct Place {
    hash: u32,
    flow: u32,
}

const EMPTY: Place = Place { hash: 0, flow: NONE };

/// Linear probing, deletion by shifting back, so that the table never needs cleaning up. It doubles when it is
/// half full; hashes are kept, so doubling does not touch the flows.
pub(super) struct FlowIndex {
    places: Box<[Place]>,
    mask: u32,
    len: usize,
}

impl FlowIndex {
    pub(super) fn new() -> Self {
        let places = vec![EMPTY; 1024].into_boxed_slice();
        Self {
            mask: 1023,
            places,
            len: 0,
        }
    }

    /// The flow with this hash for which `is_it` holds.
    #[inline]
    pub(super) fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut at = hash & self.mask;
        loop {
            let place = self.places[at as usize];
            if place.flow == NONE {
                return None;
            }
            if place.hash == hash && is_it(place.flow) {
                return Some(place.flow);
            }
            at = (at + 1) & self.mask;
        }
    }

    /// Asks for the memory where a search for the hash begins.
    #[inline]
    pub(super) fn fetch(&self, hash: u32) {
        fetch_lines(&self.places[(hash & self.mask) as usize], 1);
    }

    /// Adds a flow that is not in the table.
    pub(super) fn insert(&mut self, hash: u32, flow: u32) {
        if (self.len + 1) * 2 > self.places.len() {
            self.double();
        }
        self.len += 1;
        self.put(Place { hash, flow });
    }

    /// Removes a flow.
    pub(super) fn remove(&mut self, hash: u32, flow: u32) {
        let mut hole = hash & self.mask;
        loop {
            match self.places[hole as usize].flow {
                NONE => return,
                found if found == flow => break,
                _ => hole = (hole + 1) & self.mask,
            }
        }
        self.len -= 1;
        // Those after the hole move up, unless that would put them before the place they belong to.
        let mut at = hole;
        loop {
            at = (at + 1) & self.mask;
            let place = self.places[at as usize];
            if place.flow == NONE {
                break;
            }
            let home = place.hash & self.mask;
            let from_home = at.wrapping_sub(home) & self.mask;
            let from_hole = at.wrapping_sub(hole) & self.mask;
            if from_home >= from_hole {
                self.places[hole as usize] = place;
                hole = at;
            }
        }
        self.places[hole as usize] = EMPTY;
    }

    fn put(&mut self, new: Place) {
        let mut at = new.hash & self.mask;
        while self.places[at as usize].flow != NONE {
            at = (at + 1) & self.mask;
        }
        self.places[at as usize] = new;
    }

    #[cold]
    fn double(&mut self) {
        let larger = vec![EMPTY; self.places.len() * 2].into_boxed_slice();
        let old = std::mem::replace(&mut self.places, larger);
        self.mask = self.mask << 1 | 1;
        for place in old.iter().filter(|place| place.flow != NONE) {
            self.put(*place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Against a model, with hashes that collide often.
        #[test]
        fn behaves_like_a_map(steps in prop::collection::vec((any::<bool>(), 0_u32..40, 0_u32..6000), 1..4000)) {
            let mut index = FlowIndex::new();
            let mut model = BTreeMap::new();
            for (insert, hash, flow) in steps {
                let hash = hash.wrapping_mul(0x4000_0001);
                let known = model.get(&flow).copied();
                match (insert, known) {
                    (true, None) => {
                        index.insert(hash, flow);
                        model.insert(flow, hash);
                    }
                    (false, Some(hash)) => {
                        index.remove(hash, flow);
                        model.remove(&flow);
                    }
                    _ => {}
                }
            }
            for flow in 0..6000 {
                let found = model.get(&flow).map(|hash| index.find(*hash, |other| other == flow));
                prop_assert_eq!(found, model.get(&flow).map(|_| Some(flow)));
            }
            prop_assert_eq!(index.len, model.len());
        }
    }
}
