//! Which flow has been unused for longest, nearly: the clock algorithm.

/// A bit per flow says whether it was used since the hand last passed. The hand takes the first flow it finds
/// unused; a flow that is used between two turns stays. Sixty-four flows are passed at a time.
#[derive(Default)]
pub(super) struct Recency {
    used: Vec<u64>,
    hand: u32,
}

impl Recency {
    /// Makes room for flows up to `index`.
    pub(super) fn cover(&mut self, index: u32) {
        let words = index as usize / 64 + 1;
        if words > self.used.len() {
            self.used.resize(words, 0);
        }
    }

    /// A flow had a packet.
    #[inline]
    pub(super) fn touch(&mut self, index: u32) {
        self.used[index as usize / 64] |= 1 << (index % 64);
    }

    /// A new flow begins. It has to be used again before it is spared: a flood of flows of one packet pushes out
    /// itself first.
    pub(super) fn begin(&mut self, index: u32) {
        self.used[index as usize / 64] &= !(1 << (index % 64));
    }

    /// The flow to end, of `places` that are all taken.
    pub(super) fn victim(&mut self, places: u32) -> u32 {
        loop {
            if self.hand >= places {
                self.hand = 0;
            }
            let (word, bit) = (self.hand as usize / 64, self.hand % 64);
            let unused = !self.used[word] >> bit;
            let first = self.hand.saturating_add(unused.trailing_zeros());
            if unused != 0 && first < places && first as usize / 64 == word {
                self.spare(word, bit, first % 64);
                self.hand = first + 1;
                return first;
            }
            self.spare(word, bit, 64);
            self.hand = (word as u32 + 1) * 64;
        }
    }

    /// The hand passes the bits from `from` to before `to`: they must be used again to be spared again.
    fn spare(&mut self, word: usize, from: u32, to: u32) {
        let passed = u64::MAX << from & if to == 64 { u64::MAX } else { (1 << to) - 1 };
        self.used[word] &= !passed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unused_go_first() {
        for places in [16, 64, 100, 130] {
            let mut recency = Recency::default();
            recency.cover(places - 1);
            for index in (0..places).filter(|index| index % 3 != 1) {
                recency.touch(index);
            }
            let victims: Vec<u32> = (0..places.div_ceil(3) - u32::from(places % 3 == 1))
                .map(|_| recency.victim(places))
                .collect();
            assert!(
                victims.iter().all(|index| index % 3 == 1),
                "{places}: {victims:?}"
            );
            assert!(victims.is_sorted());
            // All have been passed by now, or will be spared once.
            for _ in 0..2 * places {
                assert!(recency.victim(places) < places);
            }
        }
    }
}
