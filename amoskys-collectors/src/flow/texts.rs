//! Short texts of flows, in blocks that are used again: most flows have none, and few have long ones.

use super::slab::NONE;

const BLOCK_BYTES: usize = 60;
const CHUNK: usize = 1024;

#[derive(Clone, Copy)]
struct Block {
    next: u32,
    bytes: [u8; BLOCK_BYTES],
}

const EMPTY: Block = Block {
    next: NONE,
    bytes: [0; BLOCK_BYTES],
};

/// Texts by the number of their first block. The storage grows in chunks, so that growing never copies.
pub(super) struct Texts {
    chunks: Vec<Box<[Block]>>,
    /// First of the blocks that are free, each of which names the next.
    free: u32,
}

impl Texts {
    pub(super) fn new() -> Self {
        Self {
            chunks: Vec::new(),
            free: NONE,
        }
    }

    /// Keeps a text; gives its number. It begins with its length, so it may have 65 535 bytes.
    pub(super) fn keep(&mut self, text: &[u8]) -> u32 {
        let text = &text[..text.len().min(u16::MAX.into())];
        let first = self.allocate();
        let length = (text.len() as u16).to_le_bytes();
        let (here, mut rest) = text.split_at(text.len().min(BLOCK_BYTES - 2));
        let bytes = &mut self.block(first).bytes;
        bytes[..2].copy_from_slice(&length);
        bytes[2..2 + here.len()].copy_from_slice(here);
        let mut last = first;
        while !rest.is_empty() {
            let (here, after) = rest.split_at(rest.len().min(BLOCK_BYTES));
            let next = self.allocate();
            self.block(last).next = next;
            self.block(next).bytes[..here.len()].copy_from_slice(here);
            (last, rest) = (next, after);
        }
        first
    }

    /// Appends a text to `out`.
    pub(super) fn read(&self, number: u32, out: &mut Vec<u8>) {
        let mut block = &self.chunks[number as usize / CHUNK][number as usize % CHUNK];
        let (length, mut bytes) = block.bytes.split_at(2);
        let mut left = usize::from(u16::from_le_bytes([length[0], length[1]]));
        loop {
            let count = left.min(bytes.len());
            out.extend_from_slice(&bytes[..count]);
            left -= count;
            if left == 0 {
                return;
            }
            let next = block.next;
            block = &self.chunks[next as usize / CHUNK][next as usize % CHUNK];
            bytes = &block.bytes;
        }
    }

    /// Forgets a text, if there is one.
    pub(super) fn release(&mut self, number: u32) {
        if number == NONE {
            return;
        }
        let mut last = number;
        while self.block(last).next != NONE {
            last = self.block(last).next;
        }
        self.block(last).next = self.free;
        self.free = number;
    }

    fn block(&mut self, number: u32) -> &mut Block {
        &mut self.chunks[number as usize / CHUNK][number as usize % CHUNK]
    }

    fn allocate(&mut self) -> u32 {
        if self.free == NONE {
            let first = (self.chunks.len() * CHUNK) as u32;
            let links = (first + 1..first + CHUNK as u32).chain([NONE]);
            self.chunks
                .push(links.map(|next| Block { next, ..EMPTY }).collect());
            self.free = first;
        }
        let number = self.free;
        self.free = std::mem::replace(&mut self.block(number).next, NONE);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a list of texts; what is released is used again.
        #[test]
        fn texts_are_read_as_they_were_kept(
            steps in prop::collection::vec((any::<bool>(), 0..400_usize, any::<u8>()), 1..300)
        ) {
            let mut texts = Texts::new();
            let mut model: Vec<(u32, Vec<u8>)> = Vec::new();
            for (keep, size, byte) in steps {
                if keep || model.is_empty() {
                    let text: Vec<u8> = (0..size).map(|n| byte.wrapping_add(n as u8)).collect();
                    model.push((texts.keep(&text), text));
                } else {
                    let (number, _) = model.swap_remove(size % model.len());
                    texts.release(number);
                }
            }
            for (number, text) in &model {
                let mut out = Vec::new();
                texts.read(*number, &mut out);
                prop_assert_eq!(&out, text);
            }
            prop_assert!(texts.chunks.len() <= 3);
        }
    }
}
