use amoskys_core::fetch::fetch_all;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::{Aggregate, Sliding};
use crate::hash::KeyHash;
use crate::pack::{extend, put_all, put_number, take_all, take_number};

/// Up to this many keys are counted exactly.
const EXACT: usize = 64;
/// Bits of a hash that choose the register.
const PRECISION: u32 = 10;
/// Number of registers.
const REGISTERS: usize = 1 << PRECISION;
/// Bits of a hash that are left to be ranked.
const RANKED: usize = 64 - PRECISION as usize;

/// How many distinct keys there were.
///
/// Up to 64 keys are remembered and counted exactly. Beyond, they go into a HyperLogLog sketch of 1024
/// registers (1 KiB) whose standard error is 1.04/√1024 = 3.3 %.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distinct(Form);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Form {
    /// The keys themselves, sorted. Most sets are small, and need no memory of their own.
    Exact(SmallVec<[KeyHash; 3]>),
    Sketch(Registers),
}

/// Registers of a HyperLogLog: always [`REGISTERS`] of them, each at most `RANKED + 1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
struct Registers(Vec<u8>);

impl Default for Distinct {
    fn default() -> Self {
        Self(Form::Exact(SmallVec::new()))
    }
}

impl Distinct {
    /// Takes one key.
    pub fn add(&mut self, key: KeyHash) {
        match &mut self.0 {
            Form::Exact(keys) => {
                if let Err(at) = keys.binary_search(&key) {
                    if keys.len() == keys.capacity() {
                        // Where a fourth key comes, more will.
                        keys.reserve(keys.len().max(13));
                    }
                    keys.insert(at, key);
                    self.sketch_if_large();
                }
            }
            Form::Sketch(registers) => registers.add(key),
        }
    }

    /// How many distinct keys there were; a whole number as long as it is exact.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "at most 64")]
    pub fn count(&self) -> f64 {
        match &self.0 {
            Form::Exact(keys) => keys.len() as f64,
            Form::Sketch(registers) => registers.estimate(),
        }
    }

    fn sketch_if_large(&mut self) {
        if let Form::Exact(keys) = &self.0
            && keys.len() > EXACT
        {
            let mut registers = Registers(vec![0; REGISTERS]);
            keys.iter().for_each(|&key| registers.add(key));
            self.0 = Form::Sketch(registers);
        }
    }
}

impl Aggregate for Distinct {
    type Sliding = Holders;
    const PACKS: bool = true;

    fn merge(&mut self, later: &Self) {
        match (&mut self.0, &later.0) {
            (_, Form::Exact(keys)) => keys.iter().for_each(|&key| self.add(key)),
            (Form::Sketch(registers), Form::Sketch(others)) => registers.merge(others),
            (Form::Exact(keys), Form::Sketch(others)) => {
                let mut registers = others.clone();
                keys.iter().for_each(|&key| registers.add(key));
                self.0 = Form::Sketch(registers);
            }
        }
    }

    fn assign(&mut self, other: &Self) {
        match (&mut self.0, &other.0) {
            (Form::Exact(keys), Form::Exact(others)) => {
                keys.clear();
                keys.extend_from_slice(others);
            }
            (Form::Sketch(registers), Form::Sketch(others)) => registers.0.clone_from(&others.0),
            (form, other) => *form = other.clone(),
        }
    }

    fn reset(&mut self) {
        match &mut self.0 {
            Form::Exact(keys) => keys.clear(),
            Form::Sketch(_) => *self = Self::default(),
        }
    }

    #[inline]
    fn pack(&self, into: &mut Vec<u8>) -> bool {
        let Form::Exact(keys) = &self.0 else {
            return false;
        };
        put_number(into, keys.len() as u64);
        put_all(into, keys, |key| key.0.to_le_bytes());
        true
    }

    #[inline]
    fn unpack(&mut self, from: &mut &[u8]) {
        self.reset();
        let count = usize::try_from(take_number(from)).unwrap_or(0).min(EXACT);
        if let Form::Exact(keys) = &mut self.0 {
            extend(keys, take_all(from, count), KeyHash(0), |key| {
                KeyHash(u64::from_le_bytes(key))
            });
        }
    }

    fn merge_packed(&mut self, from: &mut &[u8]) {
        packed_keys(from).for_each(|key| self.add(key));
    }

    fn prefetch(&self) {
        // Which register of a sketch will be needed is not known.
        if let Form::Exact(keys) = &self.0
            && keys.spilled()
        {
            fetch_all(keys);
        }
    }
}

/// The distinct keys of a sliding window, and how many panes hold each: as long as these are counted exactly, they can be
/// taken out again.
#[derive(Clone, Debug, Default)]
pub struct Holders {
    keys: SmallVec<[KeyHash; 12]>,
    panes: SmallVec<[u16; 12]>,
}

impl Holders {
    /// Takes in one key of a pane; those of one pane come in order, and each is looked for from where the one before was.
    #[inline]
    fn plus(&mut self, key: KeyHash, from: usize) -> Option<usize> {
        let at = from + place(&self.keys[from..], key);
        if self.keys.get(at) == Some(&key) {
            // A window has at most 1024 panes.
            self.panes[at] += 1;
        } else if self.keys.len() == EXACT {
            return None;
        } else {
            self.keys.insert(at, key);
            self.panes.insert(at, 1);
        }
        Some(at + 1)
    }

    /// Takes it out again.
    #[inline]
    fn minus(&mut self, key: KeyHash, from: usize) -> Option<usize> {
        let at = from + place(&self.keys[from..], key);
        if self.keys.get(at) != Some(&key) {
            return None;
        }
        self.panes[at] -= 1;
        if self.panes[at] > 0 {
            return Some(at + 1);
        }
        self.keys.remove(at);
        self.panes.remove(at);
        Some(at)
    }
}

impl Sliding<Distinct> for Holders {
    const SLIDES: bool = true;

    fn enter(&mut self, pane: &Distinct) -> bool {
        let Form::Exact(keys) = &pane.0 else {
            return false;
        };
        keys.iter().try_fold(0, |at, &key| self.plus(key, at)).is_some()
    }

    fn leave(&mut self, pane: &Distinct) -> bool {
        let Form::Exact(keys) = &pane.0 else {
            return false;
        };
        keys.iter().try_fold(0, |at, &key| self.minus(key, at)).is_some()
    }

    #[inline]
    fn enter_packed(&mut self, from: &mut &[u8], _: &mut Distinct) -> bool {
        let mut keys = packed_keys(from);
        keys.try_fold(0, |at, key| self.plus(key, at)).is_some()
    }

    #[inline]
    fn leave_packed(&mut self, from: &mut &[u8], _: &mut Distinct) -> bool {
        let mut keys = packed_keys(from);
        keys.try_fold(0, |at, key| self.minus(key, at)).is_some()
    }

    fn turn(&mut self) {}

    fn window(&self, room: &mut Distinct) {
        room.reset();
        if let Form::Exact(keys) = &mut room.0 {
            keys.extend_from_slice(&self.keys);
        }
    }

    fn reset(&mut self) {
        self.keys.clear();
        self.panes.clear();
    }

    fn prefetch(&self) {
        if self.keys.spilled() {
            fetch_all(&self.keys);
        }
        if self.panes.spilled() {
            fetch_all(&self.panes);
        }
    }
}

/// Where a key is among those in order, or would be.
#[inline]
fn place(keys: &[KeyHash], key: KeyHash) -> usize {
    keys.partition_point(|other| *other < key)
}

/// Takes the keys from the front of these bytes that [`Distinct`] packed.
#[inline]
fn packed_keys<'a>(from: &mut &'a [u8]) -> impl Iterator<Item = KeyHash> + use<'a> {
    let count = usize::try_from(take_number(from)).unwrap_or(0).min(EXACT);
    let keys = take_all(from, count).iter();
    keys.map(|&key| KeyHash(u64::from_le_bytes(key)))
}

impl Registers {
    fn add(&mut self, KeyHash(hash): KeyHash) {
        let register = (hash >> RANKED) as usize;
        // The rank is the place of the first 1 in the rest of the hash, from 1; all zeros rank highest.
        let rank = (hash << PRECISION).leading_zeros().min(64 - PRECISION) + 1;
        let rank = u8::try_from(rank).unwrap_or(u8::MAX);
        self.0[register] = self.0[register].max(rank);
    }

    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = (*mine).max(*theirs);
        }
    }

    /// Ertl's estimator ("New cardinality estimation algorithms for HyperLogLog sketches", 2017, algorithm 6),
    /// which needs no correction tables and has no bias where the original changes over to linear counting.
    #[expect(clippy::cast_precision_loss, reason = "at most 1024")]
    fn estimate(&self) -> f64 {
        let m = REGISTERS as f64;
        let mut ranks = [0_u32; RANKED + 2];
        self.0.iter().for_each(|&rank| ranks[usize::from(rank)] += 1);
        let mut z = m * tau(1.0 - f64::from(ranks[RANKED + 1]) / m);
        for &count in ranks[1..=RANKED].iter().rev() {
            z = 0.5 * (z + f64::from(count));
        }
        z += m * sigma(f64::from(ranks[0]) / m);
        m * m / (2.0 * std::f64::consts::LN_2 * z)
    }
}

impl TryFrom<Vec<u8>> for Registers {
    type Error = &'static str;

    fn try_from(registers: Vec<u8>) -> Result<Self, Self::Error> {
        if registers.len() == REGISTERS && registers.iter().all(|&rank| usize::from(rank) <= RANKED + 1) {
            Ok(Self(registers))
        } else {
            Err("not the registers of a HyperLogLog")
        }
    }
}

impl From<Registers> for Vec<u8> {
    fn from(registers: Registers) -> Self {
        registers.0
    }
}

/// x + Σ x^(2^k) 2^(k-1).
fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z <= before {
            return z;
        }
    }
}

/// ⅓ (1 - x - Σ (1 - x^(2^-k))² 2^-k).
fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z >= before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(keys: impl IntoIterator<Item = u64>) -> Distinct {
        let mut distinct = Distinct::default();
        keys.into_iter()
            .for_each(|key| distinct.add(KeyHash::of_number(key)));
        distinct
    }

    #[test]
    fn small_sets_are_exact() {
        for n in [0_u32, 1, 2, 63, 64] {
            assert_eq!(of((0..u64::from(n)).chain(0..u64::from(n))).count(), f64::from(n));
        }
    }

    #[test]
    fn large_sets_are_within_the_stated_error() {
        // The mean over twenty disjoint sets must be within the error of a mean, each within four errors.
        for n in [65_u64, 200, 1000, 2500, 5000, 20_000, 200_000] {
            let errors: Vec<f64> = (0..20_u64)
                .map(|set| of((0..n).map(|i| (set << 40) + i)).count() / n as f64 - 1.0)
                .collect();
            let bias = errors.iter().sum::<f64>() / 20.0;
            assert!(bias.abs() < 4.0 * 0.0325 / 20.0_f64.sqrt(), "bias {bias} at {n}");
            assert!(errors.iter().all(|e| e.abs() < 4.0 * 0.0325), "{errors:?} at {n}");
        }
    }

    #[test]
    fn merging_equals_counting_together() {
        for (a, b) in [
            (0..40, 20..60),
            (0..60, 40..100),
            (0..500, 400..420),
            (0..10, 0..900),
            (0..900, 500..2000),
        ] {
            let mut merged = of(a.clone());
            merged.merge(&of(b.clone()));
            assert_eq!(merged, of(a.clone().chain(b.clone())), "{a:?} and {b:?}");
        }
    }

    #[test]
    fn a_damaged_sketch_is_refused() {
        let bytes = postcard::to_allocvec(&of(0..100)).unwrap();
        assert!(postcard::from_bytes::<Distinct>(&bytes).is_ok());
        let mut damaged = bytes.clone();
        let last = damaged.len() - 1;
        damaged[last] = 200;
        assert!(postcard::from_bytes::<Distinct>(&damaged).is_err());
    }
}
