//! Storage of flows that never moves them.

use std::ops::{Index, IndexMut};

use super::entry::Entry;

/// No flow.
pub(super) const NONE: u32 = u32::MAX;
const CHUNK: usize = 256;

/// Flows by number. It grows in chunks, so that growing never copies what is there, and free places are used
/// again.
#[derive(Default)]
pub(super) struct Slab {
    chunks: Vec<Box<[Entry; CHUNK]>>,
    free: Vec<u32>,
    /// Places that were ever used.
    used: u32,
}

impl Slab {
    /// How many flows there are.
    pub(super) fn len(&self) -> usize {
        self.used as usize - self.free.len()
    }

    /// How many places there ever were.
    pub(super) fn places(&self) -> u32 {
        self.used
    }

    /// A place for a new flow, with whatever was left there.
    pub(super) fn allocate(&mut self) -> u32 {
        if let Some(index) = self.free.pop() {
            return index;
        }
        let index = self.used;
        if index as usize == self.chunks.len() * CHUNK {
            let chunk: Box<[Entry]> = (0..CHUNK).map(|_| Entry::VACANT).collect();
            // It has the right length, so that this costs nothing and is always true.
            self.chunks.extend(<Box<[Entry; CHUNK]>>::try_from(chunk));
            // So that giving places back never allocates.
            self.free.reserve(self.chunks.len() * CHUNK - self.free.len());
        }
        self.used += 1;
        index
    }

    pub(super) fn release(&mut self, index: u32) {
        self.free.push(index);
    }
}

impl Index<u32> for Slab {
    type Output = Entry;

    #[inline]
    fn index(&self, index: u32) -> &Entry {
        &self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }
}

impl IndexMut<u32> for Slab {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut Entry {
        &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }
}
