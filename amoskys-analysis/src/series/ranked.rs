use serde::{Deserialize, Serialize};

/// Numbers beyond are taken as this: the sums of a few of them stay finite.
const LARGEST: f32 = 1e36;

/// The last so many numbers, in the order they came and by rank: exact quantiles over a sliding window, in six bytes a number.
///
/// Numbers are kept in single precision, rounded to the nearest. A push moves at most as many ranks as there are numbers, which
/// for a thousand takes a tenth of a microsecond.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub(crate) struct RankedWindow {
    capacity: u16,
    /// A ring once it is full.
    numbers: Vec<f32>,
    /// Place of the oldest number.
    head: u16,
    /// Places of the numbers, rising by number, then by place.
    ranks: Vec<u16>,
}

#[derive(Serialize, Deserialize)]
struct Parts {
    capacity: u16,
    /// From the oldest on.
    numbers: Vec<f32>,
}

impl RankedWindow {
    /// For so many numbers, at least 1 and at most 65,535: ranks take two bytes.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity: u16::try_from(capacity).unwrap_or(u16::MAX).max(1),
            numbers: Vec::new(),
            head: 0,
            ranks: Vec::new(),
        }
    }

    /// Takes a number; the oldest goes for it if there are enough. What is not a number is not taken.
    pub(crate) fn push(&mut self, number: f64) {
        if !number.is_nan() {
            self.push_single(single(number));
        }
    }

    /// The same for a number that was [rounded](single) already.
    pub(crate) fn push_single(&mut self, number: f32) {
        let place = if self.numbers.len() < usize::from(self.capacity) {
            let place = self.numbers.len() as u16;
            if self.numbers.len() == self.numbers.capacity() {
                // No more than the window may hold, where doubling would go beyond.
                let more = self.numbers.len().clamp(16, 256);
                let room = usize::from(self.capacity) - self.numbers.len();
                self.numbers.reserve_exact(more.min(room));
                self.ranks.reserve_exact(more.min(room));
            }
            self.numbers.push(number);
            place
        } else {
            let place = self.head;
            self.head = (self.head + 1) % self.capacity;
            let rank = self.rank(self.numbers[usize::from(place)], place);
            self.ranks.remove(rank);
            self.numbers[usize::from(place)] = number;
            place
        };
        let rank = self.rank(number, place);
        self.ranks.insert(rank, place);
    }

    pub(crate) const fn capacity(&self) -> usize {
        self.capacity as usize
    }

    pub(crate) const fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Numbers from the oldest on, in two parts.
    pub(crate) fn parts(&self) -> [&[f32]; 2] {
        let (late, early) = self.numbers.split_at(usize::from(self.head));
        [early, late]
    }

    /// The highest so many, at most all, rising; and the one below them.
    pub(crate) fn highest(&self, count: usize) -> (Option<f64>, impl ExactSizeIterator<Item = f64> + '_) {
        let (below, high) = self.ranks.split_at(self.ranks.len().saturating_sub(count));
        let below = below
            .last()
            .map(|place| f64::from(self.numbers[usize::from(*place)]));
        let high = high
            .iter()
            .map(|place| f64::from(self.numbers[usize::from(*place)]));
        (below, high)
    }

    /// The number of this rank, from 0 on.
    pub(crate) fn at(&self, rank: usize) -> Option<f64> {
        let place = self.ranks.get(rank)?;
        Some(f64::from(self.numbers[usize::from(*place)]))
    }

    pub(crate) fn min(&self) -> Option<f64> {
        self.at(0)
    }

    pub(crate) fn max(&self) -> Option<f64> {
        self.at(self.len().checked_sub(1)?)
    }

    /// The number with this share of the others below it, rounded down to one that is there. `None` if there are none.
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        let last = self.len().checked_sub(1)?;
        self.at((last as f64 * share.clamp(0.0, 1.0)) as usize)
    }

    /// How many are smaller.
    pub(crate) fn below(&self, number: f64) -> usize {
        let number = single(number);
        self.ranks
            .partition_point(|place| self.numbers[usize::from(*place)].total_cmp(&number).is_lt())
    }

    /// Moves all numbers down by this much.
    pub(crate) fn shift(&mut self, by: f64) {
        for number in &mut self.numbers {
            *number = single(f64::from(*number) - by);
        }
        // Numbers that were apart may have become one.
        self.rank_all();
    }

    /// Where a number of this place is, or belongs.
    fn rank(&self, number: f32, place: u16) -> usize {
        self.ranks.partition_point(|known| {
            let order = self.numbers[usize::from(*known)].total_cmp(&number);
            order.then(known.cmp(&place)).is_lt()
        })
    }

    fn rank_all(&mut self) {
        let numbers = &self.numbers;
        let number = |place: &u16| numbers[usize::from(*place)];
        self.ranks
            .sort_unstable_by(|a, b| number(a).total_cmp(&number(b)).then(a.cmp(b)));
    }
}

/// A number in single precision, never infinite, and zero without a sign.
pub(crate) fn single(number: f64) -> f32 {
    let bounded = number.clamp(-f64::from(LARGEST), f64::from(LARGEST));
    bounded as f32 + 0.0
}

/// The same, rounded up: what is no more than the number is no more than what is kept of it.
pub(crate) fn single_up(number: f64) -> f32 {
    let rounded = single(number);
    if f64::from(rounded) < number && rounded < LARGEST {
        rounded.next_up()
    } else {
        rounded
    }
}

impl PartialEq for RankedWindow {
    /// The same numbers came in the same order.
    fn eq(&self, other: &Self) -> bool {
        let all = |window: &Self| -> Vec<u32> {
            let numbers = window.parts().into_iter().flatten();
            numbers.map(|number| number.to_bits()).collect()
        };
        self.capacity == other.capacity && all(self) == all(other)
    }
}

impl TryFrom<Parts> for RankedWindow {
    type Error = &'static str;

    fn try_from(parts: Parts) -> Result<Self, Self::Error> {
        if parts.capacity == 0 || parts.numbers.len() > usize::from(parts.capacity) {
            return Err("more numbers than the window holds");
        }
        if parts
            .numbers
            .iter()
            .any(|number| number.is_nan() || number.abs() > LARGEST)
        {
            return Err("a number that is out of range");
        }
        let mut window = Self {
            ranks: (0..parts.capacity).take(parts.numbers.len()).collect(),
            capacity: parts.capacity,
            numbers: parts.numbers,
            head: 0,
        };
        window.rank_all();
        Ok(window)
    }
}

impl From<RankedWindow> for Parts {
    fn from(window: RankedWindow) -> Self {
        Self {
            capacity: window.capacity,
            numbers: window.parts().concat(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number() -> impl Strategy<Value = f64> {
        prop_oneof![any::<f64>(), (-3..3_i8).prop_map(f64::from)]
    }

    proptest! {
        #[test]
        fn it_is_what_sorting_the_last_numbers_gives(numbers in proptest::collection::vec(number(), 0..60)) {
            let mut window = RankedWindow::new(7);
            let mut all = Vec::new();
            for number in numbers {
                window.push(number);
                if !number.is_nan() {
                    all.push(single(number));
                }
                let last = &all[all.len().saturating_sub(7)..];
                prop_assert_eq!(&window.parts().concat()[..], last);
                let mut sorted = last.to_vec();
                sorted.sort_by(f32::total_cmp);
                let ranked: Vec<f32> = (0..window.len()).map(|rank| window.at(rank).unwrap() as f32).collect();
                prop_assert_eq!(&ranked, &sorted);
                if !number.is_nan() {
                    let below = sorted.iter().filter(|known| **known < single(number)).count();
                    prop_assert_eq!(window.below(number), below);
                }
                let bytes = postcard::to_allocvec(&window).unwrap();
                let again: RankedWindow = postcard::from_bytes(&bytes).unwrap();
                prop_assert_eq!(&again, &window);
            }
        }

        #[test]
        fn rounding_up_never_rounds_down(number in any::<f64>()) {
            let kept = f64::from(single_up(number));
            prop_assert!(number.is_nan() || number > f64::from(LARGEST) || kept >= number);
            prop_assert!((kept - number).abs() <= 1.3e-7 * number.abs() || number.abs() < 1e-37 || number.abs() > 9e35 || number.is_nan());
        }
    }

    #[test]
    fn a_shift_keeps_order_and_distances() {
        let mut window = RankedWindow::new(5);
        for n in [5.0, 1.0, 4.0, 2.0, 3.0, 9.0] {
            window.push(1e6 + n);
        }
        window.shift(1e6);
        assert_eq!(window.parts().concat(), [1.0, 4.0, 2.0, 3.0, 9.0]);
        assert_eq!(
            (window.min(), window.max(), window.quantile(0.5)),
            (Some(1.0), Some(9.0), Some(3.0))
        );
        window.push(0.0);
        assert_eq!((window.min(), window.below(3.5)), (Some(0.0), 3));
    }

    #[test]
    fn a_full_window_takes_six_bytes_a_number() {
        let mut window = RankedWindow::new(1_017);
        (0..5_000).for_each(|n| window.push(f64::from(n)));
        assert_eq!(
            window.numbers.capacity() * 4 + window.ranks.capacity() * 2,
            6 * 1_017
        );
    }
}
