use amoskys_core::fetch::fetch_all;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::sliding::{minus, plus};
use super::{Aggregate, Distinct, Sliding};
use crate::hash::KeyHash;
use crate::pack::{extend, put_all, put_number, take_all, take_number};

/// Up to this many keys are counted one by one.
const EXACT: usize = 64;
/// Number of buckets that keys are hashed into beyond.
const BUCKETS: usize = 256;

/// How often each key came: the entropy of the distribution, the share of the commonest key, and the number of
/// distinct keys.
///
/// Exact up to 64 keys. Beyond, keys are hashed into 256 buckets, so that entropy is a lower bound (at most 8
/// bits), the share of the commonest key an upper bound, and distinct keys are estimated as by [`Distinct`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Frequencies {
    total: u64,
    form: Form,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Form {
    /// Each key with its count, sorted by key. Most sets are small, and need no memory of their own.
    Exact(SmallVec<[(KeyHash, u64); 2]>),
    Sketch(Box<Sketch>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Sketch {
    buckets: Buckets,
    distinct: Distinct,
}

/// Counts per bucket: always [`BUCKETS`] of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u64>", into = "Vec<u64>")]
struct Buckets(Vec<u64>);

impl Default for Form {
    fn default() -> Self {
        Self::Exact(SmallVec::new())
    }
}

impl Frequencies {
    /// Takes one key once.
    pub fn add(&mut self, key: KeyHash) {
        self.add_times(key, 1);
    }

    /// Takes one key `count` times.
    pub fn add_times(&mut self, key: KeyHash, count: u64) {
        if count == 0 {
            return;
        }
        self.total = self.total.saturating_add(count);
        match &mut self.form {
            Form::Exact(keys) => match keys.binary_search_by_key(&key, |entry| entry.0) {
                Ok(at) => keys[at].1 = keys[at].1.saturating_add(count),
                Err(at) => {
                    if keys.len() == keys.capacity() {
                        // Where a third key comes, more will.
                        keys.reserve(keys.len().max(6));
                    }
                    keys.insert(at, (key, count));
                    self.sketch_if_large();
                }
            },
            Form::Sketch(sketch) => sketch.add(key, count),
        }
    }

    /// How many times any key came.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// How many distinct keys came.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "at most 64")]
    pub fn distinct(&self) -> f64 {
        match &self.form {
            Form::Exact(keys) => keys.len() as f64,
            Form::Sketch(sketch) => sketch.distinct.count(),
        }
    }

    /// Shannon entropy of the keys in bits: 0 if always the same key came, log₂ n if n keys came equally often;
    /// 0 if none came.
    #[must_use]
    pub fn entropy(&self) -> f64 {
        let surprise = |share: f64| -share * share.log2();
        // The sum of rounded terms may come out as minus zero or a little below.
        self.shares().map(surprise).sum::<f64>().max(0.0)
    }

    /// Entropy in units of the largest possible for this number of keys: 0 to 1; 0 for fewer than two keys.
    #[must_use]
    pub fn evenness(&self) -> f64 {
        let keys = self.shares().count();
        #[expect(clippy::cast_precision_loss, reason = "at most 256")]
        if keys < 2 {
            0.0
        } else {
            (self.entropy() / (keys as f64).log2()).min(1.0)
        }
    }

    /// The share of the commonest key: 0 to 1; 0 if none came.
    #[must_use]
    pub fn top_share(&self) -> f64 {
        self.shares().fold(0.0, f64::max)
    }

    #[expect(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
    fn shares(&self) -> impl Iterator<Item = f64> {
        let (keys, buckets): (&[(KeyHash, u64)], &[u64]) = match &self.form {
            Form::Exact(keys) => (keys, &[]),
            Form::Sketch(sketch) => (&[], &sketch.buckets.0),
        };
        let counts = keys.iter().map(|entry| entry.1).chain(buckets.iter().copied());
        counts
            .filter(|&count| count > 0)
            .map(|count| count as f64 / self.total as f64)
    }

    fn sketch_if_large(&mut self) {
        if let Form::Exact(keys) = &self.form
            && keys.len() > EXACT
        {
            let mut sketch = Sketch {
                buckets: Buckets(vec![0; BUCKETS]),
                distinct: Distinct::default(),
            };
            keys.iter().for_each(|&(key, count)| sketch.add(key, count));
            self.form = Form::Sketch(Box::new(sketch));
        }
    }
}

impl Aggregate for Frequencies {
    type Sliding = Counts;
    const PACKS: bool = true;

    fn merge(&mut self, later: &Self) {
        match (&mut self.form, &later.form) {
            (_, Form::Exact(keys)) => keys.iter().for_each(|&(key, count)| self.add_times(key, count)),
            (Form::Sketch(sketch), Form::Sketch(others)) => {
                sketch.buckets.merge(&others.buckets);
                sketch.distinct.merge(&others.distinct);
                self.total = self.total.saturating_add(later.total);
            }
            (Form::Exact(_), Form::Sketch(_)) => {
                let mine = std::mem::replace(self, later.clone());
                self.merge(&mine);
            }
        }
    }

    fn assign(&mut self, other: &Self) {
        self.total = other.total;
        match (&mut self.form, &other.form) {
            (Form::Exact(keys), Form::Exact(others)) => {
                keys.clear();
                keys.extend_from_slice(others);
            }
            (Form::Sketch(sketch), Form::Sketch(others)) => {
                sketch.buckets.0.clone_from(&others.buckets.0);
                sketch.distinct.assign(&others.distinct);
            }
            (form, other) => *form = other.clone(),
        }
    }

    fn reset(&mut self) {
        self.total = 0;
        match &mut self.form {
            Form::Exact(keys) => keys.clear(),
            Form::Sketch(_) => self.form = Form::default(),
        }
    }

    #[inline]
    fn pack(&self, into: &mut Vec<u8>) -> bool {
        let Form::Exact(keys) = &self.form else {
            return false;
        };
        put_number(into, self.total);
        put_number(into, keys.len() as u64);
        put_all(into, keys, |&(key, count)| {
            (u128::from(key.0) << 64 | u128::from(count)).to_le_bytes()
        });
        true
    }

    #[inline]
    fn unpack(&mut self, from: &mut &[u8]) {
        self.reset();
        self.total = take_number(from);
        let count = usize::try_from(take_number(from)).unwrap_or(0).min(EXACT);
        if let Form::Exact(keys) = &mut self.form {
            extend(keys, take_all(from, count), (KeyHash(0), 0), entry_of);
        }
    }

    fn merge_packed(&mut self, from: &mut &[u8]) {
        // It is the sum of what follows.
        let _total = take_number(from);
        packed_counts(from).for_each(|(key, count)| self.add_times(key, count));
    }

    fn prefetch(&self) {
        // Which bucket of a sketch will be needed is not known.
        if let Form::Exact(keys) = &self.form
            && keys.spilled()
        {
            fetch_all(keys);
        }
    }
}

/// The keys of a sliding window and how often each came: as long as they are counted one by one, they can be taken out
/// again.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    total: u64,
    keys: SmallVec<[(KeyHash, u64); 6]>,
}

impl Counts {
    /// Takes in one key of a pane; those of one pane come in order, and each is looked for from where the one before was.
    #[inline]
    fn plus(&mut self, (key, count): (KeyHash, u64), from: usize) -> Option<usize> {
        let at = from + place(&self.keys[from..], key);
        if let Some(entry) = self.keys.get_mut(at).filter(|entry| entry.0 == key) {
            plus(&mut entry.1, count).then_some(())?;
        } else if self.keys.len() == EXACT {
            return None;
        } else {
            self.keys.insert(at, (key, count));
        }
        Some(at + 1)
    }

    /// Takes it out again.
    #[inline]
    fn minus(&mut self, (key, count): (KeyHash, u64), from: usize) -> Option<usize> {
        let at = from + place(&self.keys[from..], key);
        let entry = self.keys.get_mut(at).filter(|entry| entry.0 == key)?;
        minus(&mut entry.1, count).then_some(())?;
        if entry.1 > 0 {
            return Some(at + 1);
        }
        self.keys.remove(at);
        Some(at)
    }
}

impl Sliding<Frequencies> for Counts {
    const SLIDES: bool = true;

    fn enter(&mut self, pane: &Frequencies) -> bool {
        let Form::Exact(keys) = &pane.form else {
            return false;
        };
        let taken = keys.iter().try_fold(0, |at, &key| self.plus(key, at));
        taken.is_some() && plus(&mut self.total, pane.total)
    }

    fn leave(&mut self, pane: &Frequencies) -> bool {
        let Form::Exact(keys) = &pane.form else {
            return false;
        };
        let taken = keys.iter().try_fold(0, |at, &key| self.minus(key, at));
        taken.is_some() && minus(&mut self.total, pane.total)
    }

    #[inline]
    fn enter_packed(&mut self, from: &mut &[u8], _: &mut Frequencies) -> bool {
        let total = take_number(from);
        let taken = packed_counts(from).try_fold(0, |at, key| self.plus(key, at));
        taken.is_some() && plus(&mut self.total, total)
    }

    #[inline]
    fn leave_packed(&mut self, from: &mut &[u8], _: &mut Frequencies) -> bool {
        let total = take_number(from);
        let taken = packed_counts(from).try_fold(0, |at, key| self.minus(key, at));
        taken.is_some() && minus(&mut self.total, total)
    }

    fn turn(&mut self) {}

    fn window(&self, room: &mut Frequencies) {
        room.reset();
        room.total = self.total;
        if let Form::Exact(keys) = &mut room.form {
            keys.extend_from_slice(&self.keys);
        }
    }

    fn reset(&mut self) {
        self.total = 0;
        self.keys.clear();
    }

    fn prefetch(&self) {
        if self.keys.spilled() {
            fetch_all(&self.keys);
        }
    }
}

/// Where a key is among those in order, or would be.
#[inline]
fn place(keys: &[(KeyHash, u64)], key: KeyHash) -> usize {
    keys.partition_point(|other| other.0 < key)
}

/// Takes the keys from the front of these bytes that [`Frequencies`] packed, each with its count.
#[inline]
fn packed_counts<'a>(from: &mut &'a [u8]) -> impl Iterator<Item = (KeyHash, u64)> + use<'a> {
    let count = usize::try_from(take_number(from)).unwrap_or(0).min(EXACT);
    take_all(from, count).iter().map(|&entry| entry_of(entry))
}

/// A key and its count, packed.
const fn entry_of(packed: [u8; 16]) -> (KeyHash, u64) {
    let both = u128::from_le_bytes(packed);
    (KeyHash((both >> 64) as u64), both as u64)
}

impl Sketch {
    fn add(&mut self, key: KeyHash, count: u64) {
        self.buckets.add(key, count);
        self.distinct.add(key);
    }
}

impl Buckets {
    fn add(&mut self, key: KeyHash, count: u64) {
        // The lowest bits: the highest choose the register of the distinct count.
        let bucket = &mut self.0[(key.0 % BUCKETS as u64) as usize];
        *bucket = bucket.saturating_add(count);
    }

    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = mine.saturating_add(*theirs);
        }
    }
}

impl TryFrom<Vec<u64>> for Buckets {
    type Error = &'static str;

    fn try_from(buckets: Vec<u64>) -> Result<Self, Self::Error> {
        if buckets.len() == BUCKETS {
            Ok(Self(buckets))
        } else {
            Err("not the buckets of a distribution")
        }
    }
}

impl From<Buckets> for Vec<u64> {
    fn from(buckets: Buckets) -> Self {
        buckets.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(keys: impl IntoIterator<Item = u64>) -> Frequencies {
        let mut frequencies = Frequencies::default();
        keys.into_iter()
            .for_each(|key| frequencies.add(KeyHash::of_number(key)));
        frequencies
    }

    #[test]
    fn entropy_of_known_distributions() {
        assert_eq!(of([]).entropy(), 0.0);
        assert_eq!(of([7, 7, 7]).entropy(), 0.0);
        assert_eq!(of([7, 7, 7]).top_share(), 1.0);
        assert!((of(0..64).entropy() - 6.0).abs() < 1e-12);
        assert!((of([1, 1, 2, 3]).entropy() - 1.5).abs() < 1e-12);
        assert!((of([1, 1, 2, 3]).top_share() - 0.5).abs() < 1e-12);
        assert!((of(0..10).evenness() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn many_keys_keep_within_the_stated_bounds() {
        let many = of(0..10_000);
        assert!((7.9..=8.0).contains(&many.entropy()), "{}", many.entropy());
        assert!((many.distinct() / 10_000.0 - 1.0).abs() < 0.13);
        let one_heavy = of((0..1000).chain(std::iter::repeat_n(5, 9000)));
        assert!(
            (0.9..0.92).contains(&one_heavy.top_share()),
            "{}",
            one_heavy.top_share()
        );
    }

    #[test]
    fn merging_equals_counting_together() {
        for (a, b) in [
            (0..3, 2..5),
            (0..40, 20..90),
            (0..500, 10..20),
            (3..9, 0..900),
            (0..900, 100..1200),
        ] {
            let mut merged = of(a.clone());
            merged.merge(&of(b.clone()));
            assert_eq!(merged, of(a.clone().chain(b.clone())), "{a:?} and {b:?}");
        }
    }
}
