//! Histories of keys in constant memory: buckets of four, found by a keyed hash, the least familiar replaced.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::number::{halved, ln, ln_count};

/// Keys that share a bucket: two cache lines.
pub(super) const WAYS: usize = 4;

/// The history of one key, half a cache line.
///
/// `mean` and the two logarithms change only when a tick is closed, so that they are not computed for each edge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[repr(C, align(32))]
pub(super) struct Cell {
    /// Upper half of the key's hash, the lowest bit set; 0 if the cell is empty.
    tag: u32,
    /// The tick that `count` is of.
    tick: u32,
    /// Edges in this tick.
    pub(super) count: u32,
    /// Closed ticks with an edge, decayed.
    active: f32,
    /// Sum of ln(1 + count) over closed ticks, decayed: a flood makes nobody familiar.
    familiar: f32,
    /// Edges to be expected of an active tick.
    mean: f32,
    ln_mean: f32,
    /// ln(familiar + 0.5).
    pub(super) ln_familiar: f32,
}

impl Cell {
    fn new(tag: u32, tick: u32, prior: f32) -> Self {
        Self {
            tag,
            tick,
            mean: prior,
            ln_mean: ln(prior),
            ln_familiar: ln(0.5),
            ..Self::default()
        }
    }

    /// How unlikely so many edges in this tick are: the exponent of the Poisson tail (Chernoff), in nats; 0 up to the mean.
    #[inline]
    pub(super) fn burst(&self) -> f32 {
        let count = self.count as f32;
        if count <= self.mean {
            0.0
        } else {
            count * (ln_count(self.count) - self.ln_mean) - count + self.mean
        }
    }

    /// Closes the tick the cell is in and opens another.
    #[inline(never)]
    fn close(&mut self, tick: u32, prior: f32, decay: f32) {
        let count = self.count as f32;
        let sum = self.mean * (self.active + 1.0) - prior;
        // One flood does not make the next one usual.
        let most = 4.0 * prior + 2.0 * sum / self.active.max(1.0);
        let kept = halved(decay * tick.wrapping_sub(self.tick) as f32);
        let sum = (sum + count.min(most)).max(0.0) * kept;
        self.active = (self.active + 1.0) * kept;
        self.familiar = (self.familiar + ln_count(self.count.saturating_add(1))) * kept;
        self.tick = tick;
        self.count = 0;
        self.mean = (sum + prior) / (self.active + 1.0);
        self.ln_mean = ln(self.mean);
        self.ln_familiar = ln(self.familiar + 0.5);
    }

    /// What would be lost with it.
    fn worth(&self, tick: u32, decay: f32) -> f32 {
        if self.tag == 0 {
            return -1.0;
        }
        let known = self.familiar + ln_count(self.count.saturating_add(1));
        known * halved(decay * tick.wrapping_sub(self.tick) as f32)
    }
}

/// Histories of the keys of one kind.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Table {
    buckets: Vec<[Cell; WAYS]>,
    /// Edges a tick is expected to have before anything is known.
    prior: f32,
    /// Half-lives per tick.
    decay: f32,
    evicted: u64,
}

impl Table {
    /// Room for `cells` keys, a power of two of at least [`WAYS`].
    pub(super) fn new(cells: usize, prior: f32, decay: f32) -> Self {
        Self {
            buckets: vec![[Cell::default(); WAYS]; (cells / WAYS).max(1)],
            prior,
            decay,
            evicted: 0,
        }
    }

    /// Counts an edge of this key, and gives the key's history. Ticks do not run backward.
    #[inline]
    pub(super) fn touch(&mut self, hash: u64, tick: u32) -> &Cell {
        let tag = (hash >> 32) as u32 | 1;
        let (prior, decay) = (self.prior, self.decay);
        let at = hash as usize & (self.buckets.len() - 1);
        let bucket = &mut self.buckets[at];
        let way = match bucket.iter().position(|cell| cell.tag == tag) {
            Some(way) => way,
            None => {
                let way = least(bucket, tick, decay);
                self.evicted = self.evicted.saturating_add(u64::from(bucket[way].tag != 0));
                bucket[way] = Cell::new(tag, tick, prior);
                way
            }
        };
        let cell = &mut bucket[way];
        if cell.tick != tick {
            cell.close(tick, prior, decay);
        }
        cell.count = cell.count.saturating_add(1);
        cell
    }

    /// Keys forgotten because their bucket was full.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Takes over the cells of another table of the same shape; `false`, and nothing done, if it has not.
    pub(super) fn adopt(&mut self, other: Self) -> bool {
        let same = self.buckets.len() == other.buckets.len()
            && self.prior.to_bits() == other.prior.to_bits()
            && self.decay.to_bits() == other.decay.to_bits();
        if same {
            *self = other;
        }
        same
    }
}

/// The cell that is missed least.
#[inline(never)]
fn least(bucket: &[Cell; WAYS], tick: u32, decay: f32) -> usize {
    let mut least = (0, f32::INFINITY);
    for (way, cell) in bucket.iter().enumerate() {
        let worth = cell.worth(tick, decay);
        if worth < least.1 {
            least = (way, worth);
        }
    }
    least.0
}

#[derive(Serialize, Deserialize)]
struct Stored {
    buckets: u64,
    prior: f32,
    decay: f32,
    evicted: u64,
    used: Vec<(u32, [Cell; WAYS])>,
}

impl Serialize for Table {
    /// Buckets in use alone.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let used = (0_u32..).zip(&self.buckets);
        let used = used.filter(|(_, bucket)| bucket.iter().any(|cell| cell.tag != 0));
        Stored {
            buckets: self.buckets.len() as u64,
            prior: self.prior,
            decay: self.decay,
            evicted: self.evicted,
            used: used.map(|(at, bucket)| (at, *bucket)).collect(),
        }
        .serialize(serializer)
    }
}

/// More buckets than this are no table of ours.
const MAX_BUCKETS: u64 = 1 << 22;

impl<'de> Deserialize<'de> for Table {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let stored = Stored::deserialize(deserializer)?;
        if !stored.buckets.is_power_of_two() || stored.buckets > MAX_BUCKETS {
            return Err(D::Error::custom("not a number of buckets"));
        }
        let mut table = Self::new(stored.buckets as usize * WAYS, stored.prior, stored.decay);
        table.evicted = stored.evicted;
        for (at, bucket) in stored.used {
            let place = table.buckets.get_mut(at as usize);
            *place.ok_or_else(|| D::Error::custom("a bucket beyond the table"))? = bucket;
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_half_a_cache_line() {
        assert_eq!((size_of::<Cell>(), align_of::<Cell>()), (32, 32));
    }

    #[test]
    fn newcomers_do_not_drive_out_the_familiar() {
        let mut table = Table::new(WAYS, 2.0, 0.0);
        for tick in 0..50 {
            table.touch(7 << 33, tick);
        }
        let known = table.touch(7 << 33, 50).ln_familiar;
        for stranger in 100..10_000_u64 {
            table.touch(stranger << 33, 50);
        }
        assert_eq!(table.touch(7 << 33, 50).ln_familiar, known);
        assert!(table.evicted() > 9_000);
    }

    #[test]
    fn a_count_does_not_overflow() {
        let mut table = Table::new(WAYS, 2.0, 0.0);
        table.touch(0, 1);
        table.buckets[0][0].count = u32::MAX - 1;
        for _ in 0..3 {
            table.touch(0, 1);
        }
        let cell = *table.touch(0, 1);
        assert_eq!(cell.count, u32::MAX);
        assert!(cell.burst().is_finite() && table.touch(0, 2).ln_familiar.is_finite());
    }
}
