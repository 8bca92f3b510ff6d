//! Puts the beginning of a stream together from segments that may come in any order. Memory is bounded: so many
//! streams at a time, and so many bytes of each.

use super::slab::NONE;

/// Bytes kept of a stream. The largest client hellos, with keys against quantum computers, have about 2000.
pub(super) const CAPACITY: usize = 8192;
/// Streams put together at a time. One more takes the place of another.
const MAX_GATHERS: usize = 1024;
/// Pieces between which bytes are missing.
const MAX_PIECES: usize = 32;

/// The beginning of a stream.
pub(super) struct Gather {
    /// The flow it belongs to; [`NONE`] if it is free.
    pub(super) flow: u32,
    /// Its direction.
    pub(super) from: u8,
    /// Packets that brought something.
    pub(super) packets: u8,
    /// Sequence number of its first byte.
    pub(super) base: u32,
    #[cfg(feature = "quic")]
    pub(super) quic: crate::packet::quic::Connection,
    pieces: u8,
    /// What is there: beginnings and ends, in order, apart from one another.
    filled: [(u16, u16); MAX_PIECES],
    bytes: Box<[u8]>,
}

impl Gather {
    fn new() -> Self {
        Self {
            flow: NONE,
            from: 0,
            packets: 0,
            base: 0,
            #[cfg(feature = "quic")]
            quic: crate::packet::quic::Connection::default(),
            pieces: 0,
            filled: [(0, 0); MAX_PIECES],
            bytes: vec![0; CAPACITY].into_boxed_slice(),
        }
    }

    /// Puts bytes at their place. What lies beyond the capacity is left out.
    #[expect(clippy::cast_possible_truncation, reason = "at most CAPACITY")]
    pub(super) fn put(&mut self, offset: usize, bytes: &[u8]) {
        if offset >= CAPACITY || bytes.is_empty() {
            return;
        }
        let end = CAPACITY.min(offset + bytes.len());
        let (mut start, mut stop) = (offset as u16, end as u16);
        // The pieces that touch the new one become part of it.
        let pieces = usize::from(self.pieces);
        let before = self.filled[..pieces]
            .iter()
            .take_while(|(_, end)| *end < start)
            .count();
        let touching = self.filled[before..pieces]
            .iter()
            .take_while(|(first, _)| *first <= stop)
            .count();
        if touching == 0 {
            if pieces == MAX_PIECES {
                return;
            }
            self.filled.copy_within(before..pieces, before + 1);
            self.pieces += 1;
        } else {
            start = start.min(self.filled[before].0);
            stop = stop.max(self.filled[before + touching - 1].1);
            self.filled.copy_within(before + touching..pieces, before + 1);
            self.pieces -= touching as u8 - 1;
        }
        self.filled[before] = (start, stop);
        self.bytes[offset..end].copy_from_slice(&bytes[..end - offset]);
    }

    /// The bytes from the beginning to the first that is missing.
    pub(super) fn beginning(&self) -> &[u8] {
        match self.filled.first() {
            Some((0, end)) if self.pieces > 0 => &self.bytes[..usize::from(*end)],
            _ => &[],
        }
    }

    /// Whether no more can be kept.
    pub(super) fn is_full(&self) -> bool {
        self.beginning().len() == CAPACITY
    }
}

/// All streams that are put together.
#[derive(Default)]
pub(super) struct Gathers {
    all: Vec<Gather>,
    free: Vec<u32>,
    hand: usize,
}

impl Gathers {
    /// Room for a stream of this flow, and the flow it was taken from, if it was.
    pub(super) fn begin(&mut self, flow: u32, from: u8, base: u32) -> (u32, Option<u32>) {
        let (number, robbed) = match self.free.pop() {
            Some(number) => (number, None),
            None if self.all.len() < MAX_GATHERS => {
                self.all.push(Gather::new());
                self.free.reserve(self.all.len());
                (self.all.len() as u32 - 1, None)
            }
            None => {
                self.hand = (self.hand + 1) % MAX_GATHERS;
                (self.hand as u32, Some(self.all[self.hand].flow))
            }
        };
        let gather = &mut self.all[number as usize];
        gather.flow = flow;
        gather.from = from;
        gather.base = base;
        (gather.packets, gather.pieces) = (0, 0);
        (number, robbed)
    }

    pub(super) fn of(&mut self, number: u32) -> &mut Gather {
        &mut self.all[number as usize]
    }

    /// Gives the room back, if there is any.
    pub(super) fn release(&mut self, number: u32) {
        if number != NONE {
            self.all[number as usize].flow = NONE;
            self.free.push(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a table of single bytes.
        #[test]
        fn pieces_in_any_order_make_the_beginning(pieces in prop::collection::vec((0..300_usize, 0..60_usize), 0..31)) {
            let stream: Vec<u8> = (0..400).map(|n| n as u8).collect();
            let mut gather = Gather::new();
            let mut there = vec![false; 400];
            for (offset, length) in pieces {
                gather.put(offset, &stream[offset..offset + length]);
                there[offset..offset + length].fill(true);
            }
            let expected = there.iter().take_while(|there| **there).count();
            prop_assert_eq!(gather.beginning(), &stream[..expected]);
            let pieces = &gather.filled[..usize::from(gather.pieces)];
            prop_assert!(pieces.windows(2).all(|pair| pair[0].1 < pair[1].0));
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let mut gather = Gather::new();
        gather.put(0, &[1; CAPACITY - 1]);
        assert!(!gather.is_full());
        gather.put(CAPACITY - 1, &[2; 10]);
        gather.put(CAPACITY, &[3]);
        gather.put(usize::MAX, &[3]);
        assert!(gather.is_full());
        assert_eq!(gather.beginning()[CAPACITY - 1], 2);
        // More pieces than there are places for.
        let mut gather = Gather::new();
        for n in 0..100 {
            gather.put(n * 2 + 1, &[1]);
        }
        assert_eq!(
            (gather.beginning(), usize::from(gather.pieces)),
            (&[][..], MAX_PIECES)
        );
    }

    #[test]
    fn one_stream_too_many_takes_the_place_of_another() {
        let mut gathers = Gathers::default();
        for flow in 0..MAX_GATHERS as u32 {
            assert_eq!(gathers.begin(flow, 0, 0).1, None);
        }
        let (number, robbed) = gathers.begin(9999, 0, 0);
        assert_eq!(robbed, Some(number));
        gathers.release(number);
        assert_eq!(gathers.begin(7, 0, 0), (number, None));
    }
}
