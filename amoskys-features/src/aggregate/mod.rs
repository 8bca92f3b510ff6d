//! What is computed over a window: sums, moments, distinct counts, distributions of keys, regularity.
//!
//! An [`Aggregate`] is filled event by event within one pane of time; panes are merged, oldest first, into
//! windows. Sizes are bounded whatever the input.
//!
//! | aggregate | gives | size | error |
//! |---|---|---|---|
//! | numbers (`u64`, `f64`) | counts and sums | 8 bytes | exact; `u64` saturates |
//! | [`Moments`] | count, sum, mean, standard deviation, extremes | 48 bytes | exact up to rounding |
//! | [`Distinct`] | number of distinct keys | ≤ 512 bytes, then 1 KiB | exact up to 64 keys, then 3.3 % (standard error) |
//! | [`Frequencies`] | entropy, share of the commonest key, distinct keys | ≤ 1 KiB, then 3 KiB | exact up to 64 keys |
//! | [`StartTimes`] | how regularly things happen | ≤ 512 bytes a pane | exact up to 64 times a pane |
//! | [`Groups`] | distinct members per group, largest group | ≤ 32 groups | small groups beyond 32 are forgotten |

mod distinct;
mod frequencies;
mod groups;
mod moments;
mod start_times;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::distinct::Distinct;
pub use self::frequencies::Frequencies;
pub use self::groups::Groups;
pub use self::moments::Moments;
pub use self::start_times::{Regularity, StartTimes};

/// Something computed over a stretch of time, which can be joined with the stretch that follows.
///
/// Merging must not depend on anything but the two values: a window is merged from its panes, oldest first, and
/// must come out bit for bit the same each time.
pub trait Aggregate: Clone + Default + Send + Serialize + DeserializeOwned {
    /// Takes in what was computed over the time that follows.
    fn merge(&mut self, later: &Self);
}

impl Aggregate for u64 {
    fn merge(&mut self, later: &Self) {
        *self = self.saturating_add(*later);
    }
}

impl Aggregate for f64 {
    fn merge(&mut self, later: &Self) {
        *self += later;
    }
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
            fn merge(&mut self, later: &Self) {
                $($crate::aggregate::Aggregate::merge(&mut self.$field, &later.$field);)*
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
