use serde::{Deserialize, Serialize};

/// 64-bit words of the bitmap.
const WORDS: usize = 8;
const BITS: u32 = WORDS as u32 * 64;

/// Counts distinct keys in 64 bytes (linear counting, Whang et al. 1990).
///
/// The error is below one key up to about 30 and about 5 % at 500. Beyond about 3,000 keys the map is full, and the
/// estimate stays there: detectors ask "more than a few hundred?", never "how many thousands?".
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Distinct {
    words: [u64; WORDS],
}

impl Distinct {
    /// Adds a key by its hash; true if it is certainly new. About 1 in 500 new keys is taken for an old one
    /// for each key already there.
    pub(crate) fn insert(&mut self, hash: u64) -> bool {
        let bit = hash % u64::from(BITS);
        let word = &mut self.words[(bit / 64) as usize];
        let mask = 1 << (bit % 64);
        let new = *word & mask == 0;
        *word |= mask;
        new
    }

    /// The share of keys that this and another have in common, of those that the smaller has. Near 1 also where either is full.
    pub(crate) fn overlap(&self, other: &Self) -> f64 {
        let count = |words: &[u64]| words.iter().map(|word| word.count_ones()).sum::<u32>();
        let pairs = self.words.iter().zip(&other.words);
        let both: u32 = pairs.map(|(mine, theirs)| (mine & theirs).count_ones()).sum();
        f64::from(both) / f64::from(count(&self.words).min(count(&other.words)).max(1))
    }

    /// How many distinct keys were added.
    pub(crate) fn estimate(&self) -> f64 {
        let bits = f64::from(BITS);
        let empty = f64::from(self.words.iter().map(|word| word.count_zeros()).sum::<u32>()).max(0.5);
        bits * (bits / empty).ln()
    }
}

/// Spreads the bits of a number: the finalizer of SplitMix64 (Steele et al. 2014).
pub(crate) const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A hash of bytes that is the same on every machine. Not for tables that an opponent could flood.
pub(crate) fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut hash = mix(bytes.len() as u64);
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = mix(hash ^ u64::from_le_bytes(word));
    }
    hash
}

/// A hash of an address that is the same on every machine.
pub(crate) fn hash_address(address: std::net::IpAddr) -> u64 {
    match address {
        std::net::IpAddr::V4(v4) => mix(u64::from(u32::from(v4))),
        std::net::IpAddr::V6(v6) => hash_bytes(&v6.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_a_few_almost_exactly_and_hundreds_within_a_tenth() {
        for (count, tolerance) in [
            (0, 0.0),
            (1, 0.1),
            (10, 1.0),
            (20, 1.5),
            (100, 8.0),
            (500, 50.0),
            (1000, 100.0),
        ] {
            let mut distinct = Distinct::default();
            for key in 0..count {
                distinct.insert(mix(key));
                distinct.insert(mix(key));
            }
            let error = (distinct.estimate() - count as f64).abs();
            assert!(error <= tolerance, "{count}: {}", distinct.estimate());
        }
    }

    #[test]
    fn overlap_is_the_share_in_common() {
        let of = |keys: std::ops::Range<u64>| {
            let mut distinct = Distinct::default();
            keys.for_each(|key| _ = distinct.insert(mix(key)));
            distinct
        };
        let overlap = of(0..40).overlap(&of(20..70));
        assert!((overlap - 0.5).abs() < 0.1, "{overlap}");
        assert_eq!(of(0..40).overlap(&of(0..40)), 1.0);
        assert_eq!(of(0..0).overlap(&of(0..0)), 0.0);
    }

    #[test]
    fn stays_finite_when_full() {
        let mut distinct = Distinct::default();
        for key in 0..1_000_000 {
            distinct.insert(mix(key));
        }
        assert!(distinct.estimate().is_finite() && distinct.estimate() > 3_000.0);
    }

    #[test]
    fn hashes_are_the_same_everywhere() {
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        assert_ne!(hash_bytes(b"ab"), hash_bytes(b"ab\0"));
        assert_ne!(
            hash_address([10, 0, 0, 1].into()),
            hash_address([10, 0, 0, 2].into())
        );
    }
}
