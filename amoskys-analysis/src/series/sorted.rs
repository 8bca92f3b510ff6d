use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// The last so many finite numbers, in the order they came and in the order of their size: exact quantiles over a sliding
/// window, for small ones. [`RankedWindow`](super::ranked::RankedWindow) takes less room, and single precision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub(crate) struct SortedWindow {
    capacity: usize,
    arrived: VecDeque<f64>,
    sorted: Vec<f64>,
}

#[derive(Serialize, Deserialize)]
struct Parts {
    capacity: u64,
    arrived: Vec<f64>,
}

impl SortedWindow {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            arrived: VecDeque::new(),
            sorted: Vec::new(),
        }
    }

    /// Takes a number. What is not finite is not taken.
    pub(crate) fn push(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        if self.arrived.len() >= self.capacity
            && let Some(oldest) = self.arrived.pop_front()
        {
            let at = self.below(oldest);
            self.sorted.remove(at);
        }
        self.arrived.push_back(value);
        let at = self.below(value);
        self.sorted.insert(at, value);
    }

    pub(crate) fn len(&self) -> usize {
        self.sorted.len()
    }

    /// The number with this share of the others below it, rounded down to one that is there. `None` if there are none.
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        let last = self.sorted.len().checked_sub(1)?;
        let at = (last as f64 * share.clamp(0.0, 1.0)) as usize;
        self.sorted.get(at).copied()
    }

    /// How many are smaller.
    fn below(&self, value: f64) -> usize {
        self.sorted
            .partition_point(|known| known.total_cmp(&value).is_lt())
    }
}

impl TryFrom<Parts> for SortedWindow {
    type Error = &'static str;

    fn try_from(parts: Parts) -> Result<Self, Self::Error> {
        let capacity = usize::try_from(parts.capacity).map_err(|_| "a window beyond memory")?;
        if parts.arrived.len() > capacity.max(1) {
            return Err("more numbers than the window holds");
        }
        if parts.arrived.iter().any(|value| !value.is_finite()) {
            return Err("a number that is not finite");
        }
        let mut sorted = parts.arrived.clone();
        sorted.sort_by(f64::total_cmp);
        Ok(Self {
            capacity: capacity.max(1),
            arrived: parts.arrived.into(),
            sorted,
        })
    }
}

impl From<SortedWindow> for Parts {
    fn from(window: SortedWindow) -> Self {
        Self {
            capacity: window.capacity as u64,
            arrived: window.arrived.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_what_sorting_the_last_numbers_gives(values in proptest::collection::vec(prop_oneof![any::<f64>(), (-3..3_i8).prop_map(f64::from)], 0..60)) {
            let mut window = SortedWindow::new(7);
            let mut finite = Vec::new();
            for value in values {
                window.push(value);
                if value.is_finite() {
                    finite.push(value);
                }
                let mut last: Vec<f64> = finite.iter().rev().take(7).copied().collect();
                last.sort_by(f64::total_cmp);
                prop_assert_eq!(&window.sorted[..], &last[..]);
                let bytes = postcard::to_allocvec(&window).unwrap();
                let again: SortedWindow = postcard::from_bytes(&bytes).unwrap();
                prop_assert_eq!(&again, &window);
            }
        }
    }
}
