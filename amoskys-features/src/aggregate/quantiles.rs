use amoskys_core::fetch::fetch_all;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::sliding::{minus, plus};
use super::{Aggregate, Sliding};
use crate::pack::{extend, put_all, put_number, take_all, take_number};

/// Values of one bin differ by at most this factor: (1 + α) / (1 - α) for an error of α = 1 %.
const GAMMA: f64 = 1.01 / 0.99;
/// Bins a doubling of the value takes, if the logarithm were exact; see [`position`].
const PER_DOUBLING: f64 = 34.998_833_302_220_75;
/// Added to the position of a bin so that all are positive. A multiple of all powers of two that matter.
const OFFSET: i32 = 1 << 17;
/// The most bins.
const BINS: usize = 256;
/// A sketch that is emptied keeps the memory of so many.
const KEPT: usize = 64;
/// After so many collapses all numbers share three bins.
const MOST_COLLAPSES: u8 = 18;

/// Quantiles of a series of numbers, each within a stated relative error.
///
/// This is DDSketch (Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error
/// guarantees", VLDB 2019): numbers are counted in bins whose width grows with the number. A quantile is within 1 %
/// of the number it stands for. When more than 256 bins are in use, neighbours are joined two by two (UDDSketch,
/// Epicoco and others, 2020), which roughly doubles the error of all quantiles: 256 bins of 1 % hold numbers that
/// differ by a factor of 160, of 4 % by 8 × 10⁸, wherever they lie. [`relative_error`](Self::relative_error) says
/// where it stands.
///
/// Merging equals counting together, bin by bin. Positive and negative numbers are kept alike; what is closer to 0
/// than the smallest normal number counts as 0. The logarithm is a cubic polynomial on the bits of the number, so
/// that every machine makes the same bins.
///
/// Size: 96 bytes with up to eight bins, then 8 bytes a bin and at most 4 KiB.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parts")]
pub struct Quantiles {
    /// Each bin with its count, sorted. Positive keys hold positive numbers, negative ones their mirror images, and
    /// 0 zeros, so that the order of keys is the order of numbers.
    bins: SmallVec<[(i32, u32); 8]>,
    count: u64,
    /// How often neighbouring bins were joined.
    collapses: u8,
}

#[derive(Deserialize)]
struct Parts {
    bins: SmallVec<[(i32, u32); 8]>,
    count: u64,
    collapses: u8,
}

impl Quantiles {
    /// Takes one number. What is not finite is left out.
    pub fn add(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.count = self.count.saturating_add(1);
        self.add_to(collapsed(key_of(value), self.collapses), 1);
    }

    /// How many numbers.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The number of rank ⌊share × (count - 1)⌋ from 0, in ascending order; `share` 0.5 is the lower median. NaN if
    /// there are none.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank below a count"
    )]
    pub fn quantile(&self, share: f64) -> f64 {
        if self.count == 0 {
            return f64::NAN;
        }
        let rank = (share.clamp(0.0, 1.0) * (self.count - 1) as f64) as u64;
        let mut seen = 0_u64;
        let bin = self.bins.iter().find(|bin| {
            seen = seen.saturating_add(u64::from(bin.1));
            seen > rank
        });
        bin.or(self.bins.last())
            .map_or(f64::NAN, |bin| middle(bin.0, self.collapses))
    }

    /// The share of the numbers below this one, those in its own bin counting half: 0 to 1. NaN if there are none.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
    pub fn share_below(&self, value: f64) -> f64 {
        if self.count == 0 || value.is_nan() {
            return f64::NAN;
        }
        let key = collapsed(key_of(value.clamp(f64::MIN, f64::MAX)), self.collapses);
        let below = self.bins.iter().take_while(|bin| bin.0 < key);
        let below: u64 = below.map(|bin| u64::from(bin.1)).sum();
        let level = self.bins.iter().find(|bin| bin.0 == key).map_or(0, |bin| bin.1);
        ((below as f64 + f64::from(level) / 2.0) / self.count as f64).min(1.0)
    }

    /// How far a quantile may be from the number it stands for, relative to that: 0.01 at first.
    #[must_use]
    pub fn relative_error(&self) -> f64 {
        let factor = (0..self.collapses).fold(GAMMA, |factor, _| factor * factor);
        (factor - 1.0) / (factor + 1.0)
    }

    fn add_to(&mut self, key: i32, count: u32) {
        match self.bins.binary_search_by_key(&key, |bin| bin.0) {
            Ok(at) => self.bins[at].1 = self.bins[at].1.saturating_add(count),
            Err(at) => {
                if self.bins.len() == self.bins.capacity() {
                    // Where a ninth bin is needed, more will be.
                    self.bins.reserve(self.bins.len().max(8));
                }
                self.bins.insert(at, (key, count));
                while self.bins.len() > BINS {
                    self.collapse();
                }
            }
        }
    }

    /// Joins neighbouring bins two by two.
    fn collapse(&mut self) {
        self.collapses += 1;
        let mut joined: SmallVec<[(i32, u32); 8]> = SmallVec::with_capacity(self.bins.len());
        for &(key, count) in &self.bins {
            let key = collapsed(key, 1);
            match joined.last_mut() {
                Some(last) if last.0 == key => last.1 = last.1.saturating_add(count),
                _ => joined.push((key, count)),
            }
        }
        self.bins = joined;
    }
}

impl Aggregate for Quantiles {
    type Sliding = Bins;
    const PACKS: bool = true;

    fn merge(&mut self, later: &Self) {
        while self.collapses < later.collapses {
            self.collapse();
        }
        self.count = self.count.saturating_add(later.count);
        if self.bins.is_empty() && self.collapses == later.collapses {
            self.bins.clone_from(&later.bins);
            return;
        }
        for &(key, count) in &later.bins {
            // It may collapse on the way.
            let apart = self.collapses.saturating_sub(later.collapses);
            self.add_to(collapsed(key, apart), count);
        }
    }

    fn assign(&mut self, other: &Self) {
        self.bins.clear();
        self.bins.extend_from_slice(&other.bins);
        self.count = other.count;
        self.collapses = other.collapses;
    }

    fn reset(&mut self) {
        if self.bins.capacity() > KEPT {
            self.bins = SmallVec::new();
        }
        self.bins.clear();
        self.count = 0;
        self.collapses = 0;
    }

    #[inline]
    fn pack(&self, into: &mut Vec<u8>) -> bool {
        if self.collapses > 0 {
            return false;
        }
        put_number(into, self.count);
        put_number(into, self.bins.len() as u64);
        put_all(into, &self.bins, |&(key, count)| {
            (u64::from(key.cast_unsigned()) << 32 | u64::from(count)).to_le_bytes()
        });
        true
    }

    #[inline]
    fn unpack(&mut self, from: &mut &[u8]) {
        self.reset();
        self.count = take_number(from);
        let bins = usize::try_from(take_number(from)).unwrap_or(0).min(BINS);
        extend(&mut self.bins, take_all(from, bins), (0, 0), bin_of);
    }

    fn merge_packed(&mut self, from: &mut &[u8]) {
        self.count = self.count.saturating_add(take_number(from));
        for (key, count) in packed_bins(from) {
            self.add_to(collapsed(key, self.collapses), count);
        }
    }

    fn prefetch(&self) {
        if self.bins.spilled() {
            fetch_all(&self.bins);
        }
    }
}

/// The bins of a sliding window: as long as there are no more than 256, for what was joined cannot be parted.
#[derive(Clone, Debug, Default)]
pub struct Bins {
    bins: SmallVec<[(i32, u32); 16]>,
    count: u64,
}

impl Bins {
    /// Takes in one bin of a pane; those of one pane come in order, and each is looked for from where the one before was.
    #[inline]
    fn plus(&mut self, (key, count): (i32, u32), from: usize) -> Option<usize> {
        let at = from + place(&self.bins[from..], key);
        if let Some(bin) = self.bins.get_mut(at).filter(|bin| bin.0 == key) {
            bin.1 = bin.1.checked_add(count)?;
        } else if self.bins.len() == BINS {
            return None;
        } else {
            self.bins.insert(at, (key, count));
        }
        Some(at + 1)
    }

    /// Takes it out again.
    #[inline]
    fn minus(&mut self, (key, count): (i32, u32), from: usize) -> Option<usize> {
        let at = from + place(&self.bins[from..], key);
        let bin = self.bins.get_mut(at).filter(|bin| bin.0 == key)?;
        bin.1 = bin.1.checked_sub(count)?;
        if bin.1 > 0 {
            return Some(at + 1);
        }
        self.bins.remove(at);
        Some(at)
    }
}

impl Sliding<Quantiles> for Bins {
    const SLIDES: bool = true;

    fn enter(&mut self, pane: &Quantiles) -> bool {
        let mut bins = pane.bins.iter();
        pane.collapses == 0
            && bins.try_fold(0, |at, &bin| self.plus(bin, at)).is_some()
            && plus(&mut self.count, pane.count)
    }

    fn leave(&mut self, pane: &Quantiles) -> bool {
        let mut bins = pane.bins.iter();
        pane.collapses == 0
            && bins.try_fold(0, |at, &bin| self.minus(bin, at)).is_some()
            && minus(&mut self.count, pane.count)
    }

    #[inline]
    fn enter_packed(&mut self, from: &mut &[u8], _: &mut Quantiles) -> bool {
        let count = take_number(from);
        let taken = packed_bins(from).try_fold(0, |at, bin| self.plus(bin, at));
        taken.is_some() && plus(&mut self.count, count)
    }

    #[inline]
    fn leave_packed(&mut self, from: &mut &[u8], _: &mut Quantiles) -> bool {
        let count = take_number(from);
        let taken = packed_bins(from).try_fold(0, |at, bin| self.minus(bin, at));
        taken.is_some() && minus(&mut self.count, count)
    }

    fn turn(&mut self) {}

    fn window(&self, room: &mut Quantiles) {
        room.reset();
        room.count = self.count;
        room.bins.extend_from_slice(&self.bins);
    }

    fn reset(&mut self) {
        self.bins.clear();
        self.count = 0;
    }

    fn prefetch(&self) {
        if self.bins.spilled() {
            fetch_all(&self.bins);
        }
    }
}

/// Where a bin is among those in order, or would be.
#[inline]
fn place(bins: &[(i32, u32)], key: i32) -> usize {
    bins.partition_point(|other| other.0 < key)
}

/// Takes the bins from the front of these bytes that [`Quantiles`] packed.
#[inline]
fn packed_bins<'a>(from: &mut &'a [u8]) -> impl Iterator<Item = (i32, u32)> + use<'a> {
    let bins = usize::try_from(take_number(from)).unwrap_or(0).min(BINS);
    take_all(from, bins).iter().map(|&bin| bin_of(bin))
}

/// A bin and its count, packed.
const fn bin_of(packed: [u8; 8]) -> (i32, u32) {
    let both = u64::from_le_bytes(packed);
    (((both >> 32) as u32).cast_signed(), both as u32)
}

impl TryFrom<Parts> for Quantiles {
    type Error = &'static str;

    fn try_from(parts: Parts) -> Result<Self, Self::Error> {
        let Parts {
            bins,
            count,
            collapses,
        } = parts;
        let known = |key: i32| key.unsigned_abs() <= (2 * OFFSET.unsigned_abs()) >> collapses.min(31);
        let in_order = bins.is_sorted_by(|a, b| a.0 < b.0);
        if bins.len() <= BINS
            && collapses <= MOST_COLLAPSES
            && in_order
            && bins.iter().all(|bin| known(bin.0))
        {
            Ok(Self {
                bins,
                count,
                collapses,
            })
        } else {
            Err("not the bins of a quantile sketch")
        }
    }
}

/// The bin of a number before any collapse.
#[expect(clippy::cast_possible_truncation, reason = "positions are within ±36 000")]
fn key_of(value: f64) -> i32 {
    let size = value.abs();
    if size < f64::MIN_POSITIVE {
        return 0;
    }
    let place = position(size) * PER_DOUBLING;
    // Rounded down, without a call where the processor's own rounding may not be used.
    let towards_zero = place as i32;
    let key = towards_zero - i32::from(f64::from(towards_zero) > place) + OFFSET;
    if value < 0.0 { -key } else { key }
}

/// The bin that a bin becomes part of by so many collapses.
const fn collapsed(key: i32, times: u8) -> i32 {
    if key < 0 { -(-key >> times) } else { key >> times }
}

/// Nearly the logarithm to base 2 of a positive normal number: exact at powers of two, continuous and rising. Between,
/// the cubic polynomial that Masson and others chose so that it rises as evenly as possible: by its slope a bin
/// is nowhere wider than one of the exact logarithm would be, if there are 7 / (10 ln γ) bins to a doubling.
fn position(value: f64) -> f64 {
    let bits = value.to_bits();
    let exponent = (bits >> 52) as i32 - 1023;
    let part = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52)) - 1.0;
    f64::from(exponent) + cubic(part)
}

fn cubic(part: f64) -> f64 {
    ((6.0 / 35.0 * part - 3.0 / 5.0) * part + 10.0 / 7.0) * part
}

/// The number that stands for a bin: its error is the same at both ends.
fn middle(key: i32, collapses: u8) -> f64 {
    let size = key.unsigned_abs();
    if size == 0 {
        return 0.0;
    }
    let edge = |size: u32| {
        let key = (u64::from(size) << collapses) as f64 - f64::from(OFFSET);
        value_at(key / PER_DOUBLING)
    };
    let (low, high) = (edge(size), edge(size + 1));
    // Written so that it cannot overflow at the largest numbers.
    let middle = (low * (2.0 / (1.0 + low / high))).min(f64::MAX);
    if key < 0 { -middle } else { middle }
}

/// The inverse of [`position`], by Newton's method: the polynomial is so nearly straight that each step doubles the digits
/// from the first on.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to exponents"
)]
fn value_at(position: f64) -> f64 {
    let exponent = position.floor().clamp(-1022.0, 1023.0);
    let wanted = position - exponent;
    // Within 0.0001 of it: two steps make that 10^-17.
    let mut part =
        ((((-0.133 * wanted + 0.2474) * wanted - 0.0486) * wanted + 0.2365) * wanted + 0.6977) * wanted;
    for _ in 0..2 {
        let slope = (18.0 / 35.0 * part - 6.0 / 5.0) * part + 10.0 / 7.0;
        part -= (cubic(part) - wanted) / slope;
    }
    let power = f64::from_bits(((exponent as i64 + 1023) as u64) << 52);
    // The last bin reaches beyond the largest number.
    ((1.0 + part.clamp(0.0, 1.0)) * power).min(f64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[f64]) -> Quantiles {
        let mut quantiles = Quantiles::default();
        values.iter().for_each(|&value| quantiles.add(value));
        quantiles
    }

    fn number() -> impl Strategy<Value = f64> {
        let spread = (-12.0..12.0_f64).prop_map(|power| 10_f64.powf(power));
        prop_oneof![
            4 => 1.0..2000.0_f64,
            2 => spread.clone(),
            1 => spread.prop_map(|value| -value),
            1 => Just(0.0),
            1 => Just(f64::MAX),
            1 => Just(f64::MIN_POSITIVE),
            1 => any::<f64>().prop_filter("finite", |value| value.is_finite()),
        ]
    }

    proptest! {
        #[test]
        fn quantiles_are_within_the_stated_error(mut values in proptest::collection::vec(number(), 1..700)) {
            let sketch = of(&values);
            prop_assert!(sketch.bins.len() <= BINS);
            values.sort_by(f64::total_cmp);
            for share in [0.0, 0.05, 0.25, 0.5, 0.9, 0.99, 1.0] {
                let exact = values[(share * (values.len() - 1) as f64) as usize];
                let found = sketch.quantile(share);
                // What is below the smallest normal number counts as 0.
                let allowed = exact.abs() * (sketch.relative_error() * (1.0 + 1e-9)) + f64::MIN_POSITIVE;
                prop_assert!((found - exact).abs() <= allowed, "{share}: {found} for {exact}");
            }
        }

        #[test]
        fn merging_equals_counting_together(values in proptest::collection::vec(number(), 0..900), cut in 0.0..1.0_f64) {
            let cut = (values.len() as f64 * cut) as usize;
            let mut merged = of(&values[..cut]);
            merged.merge(&of(&values[cut..]));
            prop_assert_eq!(&merged, &of(&values));
            let bytes = postcard::to_allocvec(&merged).unwrap();
            prop_assert_eq!(&postcard::from_bytes::<Quantiles>(&bytes).unwrap(), &merged);
        }

        /// Whatever bytes come, what is made of them can be asked and joined.
        #[test]
        fn foreign_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(mut sketch) = postcard::from_bytes::<Quantiles>(&bytes) {
                sketch.merge(&of(&[1.0, -3.0, 0.0]));
                let _ = sketch.quantile(0.5);
            }
        }
    }

    #[test]
    fn one_percent_over_two_orders_of_magnitude() {
        let sketch = of(&(100..10_000).map(f64::from).collect::<Vec<_>>());
        assert!(sketch.relative_error() < 0.0201, "{}", sketch.relative_error());
        assert!((of(&[1.0]).relative_error() - 0.01).abs() < 1e-12);
        assert!(Quantiles::default().quantile(0.5).is_nan());
        assert_eq!(of(&[f64::NAN, f64::INFINITY]).count(), 0);
        assert!((sketch.share_below(5050.0) - 0.5).abs() < 0.02);
        assert_eq!(
            (sketch.share_below(-1.0), sketch.share_below(f64::INFINITY)),
            (0.0, 1.0)
        );
        // The constant is what its definition says.
        assert!(
            (PER_DOUBLING - 7.0 / (10.0 * GAMMA.ln())).abs() < 1e-9,
            "{}",
            7.0 / (10.0 * GAMMA.ln())
        );
    }
}
