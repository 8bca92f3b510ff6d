//! What is computed over a window: sums, moments, distinct counts, distributions of keys, regularity.
//!
//! An [`Aggregate`] is filled event by event within one pane of time; panes are merged, in order of time, into
//! windows. Sizes are bounded whatever the input. A tuple of up to twelve aggregates is one itself.
//!
//! | aggregate | gives | size | error |
//! |---|---|---|---|
//! | numbers (`u64`, `f64`) | counts and sums | 8 bytes | exact; `u64` saturates |
//! | [`Moments`] | count, sum, mean, standard deviation, extremes | 48 bytes | exact up to rounding |
//! | [`Distinct`] | number of distinct keys | ≤ 512 bytes, then 1 KiB | exact up to 64 keys, then 3.3 % (standard error) |
//! | [`Frequencies`] | entropy, share of the commonest key, distinct keys | ≤ 1 KiB, then 3 KiB | exact up to 64 keys |
//! | [`Quantiles`] | quantiles | 96 bytes, then 8 a bin, ≤ 4 KiB | 1 % of the value, 2 % or more beyond 256 bins |
//! | [`Damped`] | sums in which the past counts less | 32 bytes | exact up to rounding |
//! | [`StartTimes`] | how regularly things happen | ≤ 512 bytes a pane | exact up to 64 times a pane |
//! | [`Groups`] | distinct members per group, largest group | ≤ 32 groups | small groups beyond 32 are forgotten |

mod damped;
mod distinct;
mod frequencies;
mod groups;
mod moments;
mod quantiles;
mod sliding;
mod start_times;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::pack::{put, put_number, take, take_number};

pub(crate) use self::damped::decay;
pub use self::damped::{Damped, DampedSums};
pub use self::distinct::Distinct;
pub use self::frequencies::Frequencies;
pub use self::groups::Groups;
pub use self::moments::Moments;
pub use self::quantiles::Quantiles;
pub use self::sliding::{Merged, Sliding, Stacked, Subtracted};
pub use self::start_times::{Regularity, StartTimes};

/// Something computed over a stretch of time, which can be joined with the stretch that follows.
///
/// Merging must not depend on anything but the two values: a window is merged from its panes, and must come out bit
/// for bit the same each time. It must be associative, up to the rounding of numbers: sums of several panes are
/// kept and merged in their turn, always the earlier with the later.
pub trait Aggregate: Clone + Default + Send + Serialize + DeserializeOwned {
    /// How a window of several panes slides: [`Merged`] will always do, and costs the most.
    type Sliding: Sliding<Self>;

    /// Whether it can be [packed](Self::pack). Default: no.
    const PACKS: bool = false;

    /// Takes in what was computed over the time that follows.
    fn merge(&mut self, later: &Self);

    /// Becomes a copy of another, in the memory it has already where that will do. Default: a new copy.
    fn assign(&mut self, other: &Self) {
        self.clone_from(other);
    }

    /// Becomes empty, as by default, and may keep a little of its memory. Default: a new one.
    fn reset(&mut self) {
        *self = Self::default();
    }

    /// Adds itself to these bytes, in a form that [`unpack`](Self::unpack) makes the same of again, and says whether it did:
    /// it need not if it is large. The bytes are kept in memory only, for entities with few events. Default: it does
    /// not.
    #[inline]
    fn pack(&self, into: &mut Vec<u8>) -> bool {
        let _ = into;
        false
    }

    /// Becomes what was packed, whatever it was, and takes that from the front of these bytes. Default: becomes empty.
    #[inline]
    fn unpack(&mut self, from: &mut &[u8]) {
        let _ = from;
        self.reset();
    }

    /// Takes in what was packed and computed over the time that follows: as [`merge`](Self::merge) of what
    /// [`unpack`](Self::unpack) makes of it, which it is by default.
    fn merge_packed(&mut self, from: &mut &[u8]) {
        let mut later = Self::default();
        later.unpack(from);
        self.merge(&later);
    }

    /// Asks the processor for the memory that the next addition will need beside the aggregate itself, without waiting for
    /// it. Default: asks for nothing.
    fn prefetch(&self) {}
}

impl Aggregate for u64 {
    type Sliding = Subtracted<Self>;
    const PACKS: bool = true;

    fn merge(&mut self, later: &Self) {
        *self = self.saturating_add(*later);
    }

    #[inline]
    fn pack(&self, into: &mut Vec<u8>) -> bool {
        put_number(into, *self);
        true
    }

    #[inline]
    fn unpack(&mut self, from: &mut &[u8]) {
        *self = take_number(from);
    }
}

impl Aggregate for f64 {
    type Sliding = Stacked<Self>;
    const PACKS: bool = true;

    fn merge(&mut self, later: &Self) {
        *self += later;
    }

    #[inline]
    fn pack(&self, into: &mut Vec<u8>) -> bool {
        put(into, self.to_le_bytes());
        true
    }

    #[inline]
    fn unpack(&mut self, from: &mut &[u8]) {
        *self = Self::from_le_bytes(take(from));
    }
}

/// Several aggregates side by side are one, so that a list of them needs no type of its own.
macro_rules! tuples {
    ($(($($part:ident $at:tt),+);)+) => {
        $(impl<$($part: Aggregate),+> Aggregate for ($($part,)+) {
            type Sliding = ($($part::Sliding,)+);
            const PACKS: bool = true $(&& $part::PACKS)+;

            fn merge(&mut self, later: &Self) {
                $(self.$at.merge(&later.$at);)+
            }

            fn assign(&mut self, other: &Self) {
                $(self.$at.assign(&other.$at);)+
            }

            fn reset(&mut self) {
                $(self.$at.reset();)+
            }

            fn pack(&self, into: &mut Vec<u8>) -> bool {
                true $(&& self.$at.pack(into))+
            }

            fn unpack(&mut self, from: &mut &[u8]) {
                $(self.$at.unpack(from);)+
            }

            fn merge_packed(&mut self, from: &mut &[u8]) {
                $(self.$at.merge_packed(from);)+
            }

            fn prefetch(&self) {
                $(self.$at.prefetch();)+
            }
        })+
    };
}

tuples! {
    (A 0, B 1);
    (A 0, B 1, C 2);
    (A 0, B 1, C 2, D 3);
    (A 0, B 1, C 2, D 3, E 4);
    (A 0, B 1, C 2, D 3, E 4, F 5);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);
}

/// Declares a struct of aggregates that is itself an aggregate, merged field by field.
macro_rules! aggregate {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
        $vis struct $name {
            $($(#[$field_meta])* $field_vis $field: $type,)*
        }

        impl $crate::aggregate::Aggregate for $name {
            type Sliding = $crate::aggregate::Merged;

            fn merge(&mut self, later: &Self) {
                $($crate::aggregate::Aggregate::merge(&mut self.$field, &later.$field);)*
            }

            fn assign(&mut self, other: &Self) {
                $($crate::aggregate::Aggregate::assign(&mut self.$field, &other.$field);)*
            }

            fn reset(&mut self) {
                $($crate::aggregate::Aggregate::reset(&mut self.$field);)*
            }
        }
    };
}
pub(crate) use aggregate;

/// `part / whole`; 0 if there is nothing.
#[expect(clippy::cast_precision_loss, reason = "a ratio needs no more than 53 bits")]
pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

#[cfg(test)]
mod tests {
    use amoskys_core::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::hash::KeyHash;

    type All = (
        Distinct,
        Frequencies,
        Quantiles,
        StartTimes,
        Moments,
        Damped<100>,
        u64,
    );

    fn of(count: u64) -> All {
        let mut all = All::default();
        for n in 0..count {
            let time = Timestamp::from_secs(i64::try_from(n).unwrap());
            all.0.add(KeyHash::of_number(n));
            all.1.add(KeyHash::of_number(n / 2));
            all.2.add((n as f64).exp2());
            all.3.add(time);
            all.4.add(n as f64);
            all.5.add(time, n as f64);
            all.6 += n;
        }
        all
    }

    type Packs = (Distinct, Frequencies, Quantiles, Moments, Damped<100>, u64, f64);

    fn small(numbers: &[u64]) -> Packs {
        let mut small = Packs::default();
        for &number in numbers {
            let key = KeyHash::of_number(number % 80);
            small.0.add(key);
            small.1.add(key);
            small.2.add((number % 1000) as f64 - 500.0);
            small.3.add(number as f64);
            small.4.add(
                Timestamp::from_nanos((number % 1_000_000_007).cast_signed()),
                number as f64,
            );
            small.5 = small.5.saturating_add(number);
            small.6 += number as f64;
        }
        small
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_out_the_same_whatever_was_there(
            numbers in proptest::collection::vec(any::<u64>(), 0..200),
            before in proptest::collection::vec(any::<u64>(), 0..200),
            behind: u8,
            cut: prop::sample::Index,
        ) {
            let (whole, mut room) = (small(&numbers), small(&before));
            let mut bytes = Vec::new();
            // A large one need not, and one of up to 64 keys and 256 bins does.
            let packed = whole.pack(&mut bytes);
            prop_assert_eq!(packed, whole.0.count() <= 64.0 && whole.2.relative_error() < 0.0101);
            if packed {
                bytes.push(behind);
                let mut from = &*bytes;
                room.unpack(&mut from);
                prop_assert_eq!(from, &[behind]);
                prop_assert_eq!(postcard::to_allocvec(&room), postcard::to_allocvec(&whole));
            }
            if packed {
                let (mut merged, mut expected) = (small(&before), small(&before));
                merged.merge_packed(&mut &*bytes);
                expected.merge(&whole);
                prop_assert_eq!(postcard::to_allocvec(&merged), postcard::to_allocvec(&expected));
            }
            // Bytes that are not whole do no harm.
            let part = &bytes[..cut.index(bytes.len() + 1)];
            room.merge_packed(&mut &*part);
            room.unpack(&mut &*part);
            room.merge(&whole);
        }
    }

    #[test]
    fn a_room_that_held_anything_becomes_what_is_put_there() {
        let bytes = |all: &All| postcard::to_allocvec(all).unwrap();
        for before in [0, 1, 9, 70, 400] {
            for after in [0, 1, 9, 70, 400] {
                let mut room = of(before);
                room.assign(&of(after));
                assert_eq!(bytes(&room), bytes(&of(after)), "{before} and {after}");
                room.merge(&of(before));
                let mut merged = of(after);
                merged.merge(&of(before));
                assert_eq!(bytes(&room), bytes(&merged), "{before} and {after}");
            }
        }
    }
}
