//! A queue whose places are used again: what goes out at the front leaves its memory to what comes in at the back.

/// Items in order. Those that went out are kept, for their memory.
#[derive(Debug)]
pub(super) struct Ring<T> {
    items: Vec<T>,
    start: usize,
    len: usize,
}

impl<T> Default for Ring<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            start: 0,
            len: 0,
        }
    }
}

impl<T> FromIterator<T> for Ring<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let items: Vec<T> = items.into_iter().collect();
        Self {
            start: 0,
            len: items.len(),
            items,
        }
    }
}

impl<T> Ring<T> {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The item so many places from the front.
    pub(super) fn at(&self, at: usize) -> Option<&T> {
        if at < self.len {
            self.items.get(self.place(at))
        } else {
            None
        }
    }

    pub(super) fn at_mut(&mut self, at: usize) -> Option<&mut T> {
        let place = self.place(at);
        if at < self.len {
            self.items.get_mut(place)
        } else {
            None
        }
    }

    pub(super) fn front(&self) -> Option<&T> {
        self.at(0)
    }

    pub(super) fn back(&self) -> Option<&T> {
        self.at(self.len.checked_sub(1)?)
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> + Clone {
        let until_wrapped = self.items.len().min(self.start + self.len);
        let wrapped = (self.start + self.len).saturating_sub(self.items.len());
        self.items[self.start..until_wrapped]
            .iter()
            .chain(&self.items[..wrapped])
    }

    /// Lets the first item go, to be emptied: it comes back at the end.
    pub(super) fn pop_front(&mut self) -> Option<&mut T> {
        if self.len == 0 {
            return None;
        }
        let place = self.start;
        self.len -= 1;
        self.start = if self.len == 0 { 0 } else { self.place(1) };
        self.items.get_mut(place)
    }

    /// A new item before the one so many places from the front: one that went out before, or else a new one. There will
    /// seldom be more than `most`.
    pub(super) fn insert(&mut self, at: usize, most: usize) -> Option<&mut T>
    where
        T: Default,
    {
        if self.len == self.items.len() {
            self.items.rotate_left(self.start);
            self.start = 0;
            if self.items.len() == self.items.capacity() {
                // Seldom, for all there is has to move; but most entities have few.
                let room = (3 * self.len).min(most).max(self.len + 1 + self.len / 4);
                self.items.reserve_exact(room - self.len);
            }
            self.items.push(T::default());
        }
        self.len += 1;
        for later in (at + 1..self.len).rev() {
            let (a, b) = (self.place(later - 1), self.place(later));
            self.items.swap(a, b);
        }
        self.at_mut(at)
    }

    fn place(&self, at: usize) -> usize {
        let place = self.start + at;
        if place >= self.items.len() {
            place - self.items.len()
        } else {
            place
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_queue(calls in proptest::collection::vec((0_u8..3, 0_usize..9), 0..200)) {
            let (mut ring, mut queue) = (Ring::<u32>::default(), VecDeque::new());
            for (number, (call, at)) in (1..).zip(calls) {
                if call == 0 {
                    prop_assert_eq!(ring.pop_front().copied(), queue.pop_front());
                } else {
                    let at = if call == 1 { queue.len() } else { at.min(queue.len()) };
                    if let Some(item) = ring.insert(at, 5) {
                        *item = number;
                    }
                    queue.insert(at, number);
                }
                prop_assert!(ring.iter().eq(&queue) && ring.iter().rev().eq(queue.iter().rev()));
                prop_assert_eq!((ring.len(), ring.front(), ring.back()), (queue.len(), queue.front(), queue.back()));
                prop_assert!((0..9).all(|at| ring.at(at) == queue.get(at)));
            }
        }
    }
}
