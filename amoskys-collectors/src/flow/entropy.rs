//! How evenly the byte values of payloads are spread.

use super::slab::NONE;

const CHUNK: usize = 64;

/// How often each byte value came, in each direction.
pub(super) struct Histogram {
    counts: [[u16; 256]; 2],
    totals: [u16; 2],
}

impl Histogram {
    const NEW: Self = Self {
        counts: [[0; 256]; 2],
        totals: [0; 2],
    };

    /// Counts bytes of direction `from`, up to `limit` in all; says whether there may be more.
    #[expect(clippy::cast_possible_truncation, reason = "at most the limit")]
    fn add(&mut self, from: usize, bytes: &[u8], limit: u16) -> bool {
        let room = limit.saturating_sub(self.totals[from]);
        let bytes = &bytes[..bytes.len().min(room.into())];
        let counts = &mut self.counts[from];
        for byte in bytes {
            counts[usize::from(*byte)] += 1;
        }
        self.totals[from] += bytes.len() as u16;
        self.totals[from] < limit
    }

    /// Shannon's entropy of a direction, in bits per byte.
    pub(super) fn entropy(&self, from: usize) -> Option<f64> {
        let total = f64::from(self.totals[from]);
        if total == 0.0 {
            return None;
        }
        // -sum(p log p) with p = n / total, so that there is one division.
        let counts = self.counts[from].iter().filter(|count| **count > 0);
        let sum: f64 = counts
            .map(|count| f64::from(*count) * f64::from(*count).log2())
            .sum();
        Some((total.log2() - sum / total).max(0.0))
    }
}

/// The histograms of all flows that have payload, used again. They grow in chunks, so that growing never copies.
#[derive(Default)]
pub(super) struct Histograms {
    chunks: Vec<Box<[Histogram]>>,
    free: Vec<u32>,
}

impl Histograms {
    /// Counts bytes in the histogram with this number, which is set if there is none yet; says whether there may be
    /// more.
    pub(super) fn add(&mut self, number: &mut u32, from: usize, bytes: &[u8], limit: u16) -> bool {
        if *number == NONE {
            *number = self.allocate();
        }
        let at = *number as usize;
        self.chunks[at / CHUNK][at % CHUNK].add(from, bytes, limit)
    }

    pub(super) fn get(&self, number: u32) -> Option<&Histogram> {
        self.chunks
            .get(number as usize / CHUNK)?
            .get(number as usize % CHUNK)
    }

    pub(super) fn release(&mut self, number: u32) {
        if number != NONE {
            self.free.push(number);
        }
    }

    fn allocate(&mut self) -> u32 {
        if self.free.is_empty() {
            let first = (self.chunks.len() * CHUNK) as u32;
            self.chunks.push((0..CHUNK).map(|_| Histogram::NEW).collect());
            self.free.reserve(self.chunks.len() * CHUNK);
            self.free.extend((first..first + CHUNK as u32).rev());
        }
        let number = self.free.pop().unwrap_or_default();
        self.chunks[number as usize / CHUNK][number as usize % CHUNK] = Histogram::NEW;
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_of_known_distributions() {
        let mut all = Histograms::default();
        let mut number = NONE;
        assert!(all.add(&mut number, 0, &[7; 100], 1000));
        let every: Vec<u8> = (0..=255).collect();
        assert!(all.add(&mut number, 1, &every, 1000));
        let histogram = all.get(number).unwrap();
        assert_eq!(
            (histogram.entropy(0), histogram.entropy(1)),
            (Some(0.0), Some(8.0))
        );
        // Half and half.
        assert!(
            !all.add(&mut number, 0, &[8; 500], 200),
            "only so many bytes count"
        );
        assert_eq!(all.get(number).unwrap().entropy(0), Some(1.0));
        all.release(number);
        let mut next = NONE;
        all.add(&mut next, 0, &[], 10);
        assert_eq!((next, all.get(next).unwrap().entropy(0)), (number, None));
    }
}
