//! Windows that slide: a pane comes in at one end and another goes out at the other, without the others being looked at.

use amoskys_core::fetch::{fetch, fetch_next};

use super::Aggregate;

/// What is kept beside the aggregate of a sliding window so that the oldest pane can be taken out of it again.
///
/// A window that slides costs what its newest and its oldest pane hold, however many lie between. What is counted in
/// whole numbers is [subtracted](Subtracted), and is then exactly what joining the panes that are left would give. What is
/// computed in floating point is [stacked](Stacked), for after a subtraction the rounding of what has gone would stay.
/// What can do neither is [merged](Merged) from sums of its panes.
///
/// What `enter` and `leave` return says whether it worked. If not, the window is of no use any more and is made by
/// merging instead, as long as it is too large to slide.
pub trait Sliding<A: Aggregate>: Default + Send {
    /// Whether windows may slide at all.
    const SLIDES: bool;

    /// Takes in the pane that follows.
    fn enter(&mut self, pane: &A) -> bool;

    /// Takes out the oldest pane, as it was when it entered.
    fn leave(&mut self, pane: &A) -> bool;

    /// As [`enter`](Self::enter) of what was [packed](Aggregate::pack), which is taken from the front of these bytes. Default:
    /// it is unpacked to `room`, whatever that held.
    fn enter_packed(&mut self, from: &mut &[u8], room: &mut A) -> bool {
        room.unpack(from);
        self.enter(room)
    }

    /// As [`leave`](Self::leave) of what was [packed](Aggregate::pack), which is taken from the front of these bytes. Default:
    /// it is unpacked to `room`, whatever that held.
    fn leave_packed(&mut self, from: &mut &[u8], room: &mut A) -> bool {
        room.unpack(from);
        self.leave(room)
    }

    /// Prepares for the leaving of those panes that are in the window. It is called before the first of them leaves, and
    /// again when all of them have left.
    fn turn(&mut self);

    /// Makes the aggregate of the window, in `room`, whatever that held.
    fn window(&self, room: &mut A);

    /// Forgets all panes, as at first.
    fn reset(&mut self);

    /// Asks the processor for the memory that the next pane will need beside this itself, without waiting for it. Default:
    /// asks for nothing.
    fn prefetch(&self) {}
}

/// Windows that do not slide: they are made by merging sums of their panes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Merged;

impl<A: Aggregate> Sliding<A> for Merged {
    const SLIDES: bool = false;

    fn enter(&mut self, _: &A) -> bool {
        false
    }

    fn leave(&mut self, _: &A) -> bool {
        false
    }

    fn turn(&mut self) {}

    fn window(&self, room: &mut A) {
        room.reset();
    }

    fn reset(&mut self) {}
}

/// Windows of whole numbers, whose oldest pane is subtracted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subtracted<A>(A);

impl Sliding<u64> for Subtracted<u64> {
    const SLIDES: bool = true;

    #[inline]
    fn enter(&mut self, pane: &u64) -> bool {
        plus(&mut self.0, *pane)
    }

    #[inline]
    fn leave(&mut self, pane: &u64) -> bool {
        minus(&mut self.0, *pane)
    }

    fn turn(&mut self) {}

    fn window(&self, room: &mut u64) {
        *room = self.0;
    }

    fn reset(&mut self) {
        self.0 = 0;
    }
}

/// Adds, unless the sum could not be undone: beyond the largest number it stays there.
#[inline]
pub(super) fn plus(sum: &mut u64, more: u64) -> bool {
    sum.checked_add(more).map(|more| *sum = more).is_some()
}

/// Takes out what was added.
#[inline]
pub(super) fn minus(sum: &mut u64, less: u64) -> bool {
    sum.checked_sub(less).map(|left| *sum = left).is_some()
}

/// Windows of two stacks (Tangwongsan and others, "In-order sliding-window aggregation in worst-case constant time", VLDB J.
/// 2021): of the older panes the sum of each with all later ones of that part, of the newer ones each and one sum. A pane
/// is merged twice in its life, and a window of its two parts.
///
/// Meant for aggregates of a few numbers: it holds one for each pane.
#[derive(Clone, Debug, Default)]
pub struct Stacked<A> {
    /// First what has left, then for each of the older panes, oldest first, the sum from it to the end of that part, then
    /// the newer panes.
    panes: Vec<A>,
    left: u32,
    /// Where the newer panes begin.
    split: u32,
    newer: A,
}

impl<A> Stacked<A> {
    /// The sum of the older part.
    fn older(&self) -> Option<&A> {
        let left = self.left as usize;
        if self.left < self.split {
            self.panes.get(left)
        } else {
            None
        }
    }
}

impl<A: Aggregate> Sliding<A> for Stacked<A> {
    const SLIDES: bool = true;

    fn enter(&mut self, pane: &A) -> bool {
        self.newer.merge(pane);
        if self.panes.len() == self.panes.capacity() {
            let left = self.panes.len().min(self.left as usize);
            self.panes.drain(..left);
            (self.left, self.split) = (self.left - left as u32, self.split.saturating_sub(left as u32));
        }
        if self.panes.len() == self.panes.capacity() {
            // Doubling would leave an entity with twice the memory it needs.
            self.panes.reserve_exact(4 + self.panes.len() / 4);
        }
        self.panes.push(pane.clone());
        true
    }

    fn leave(&mut self, _: &A) -> bool {
        // If it is the first of the newer ones, the stacks turn next.
        self.left += 1;
        true
    }

    fn turn(&mut self) {
        self.panes.drain(..self.panes.len().min(self.left as usize));
        // Newest first: each with all that follow.
        for at in (1..self.panes.len()).rev() {
            let (earlier, later) = self.panes.split_at_mut(at);
            if let (Some(pane), Some(later)) = (earlier.last_mut(), later.first()) {
                pane.merge(later);
            }
        }
        (self.left, self.split) = (0, u32::try_from(self.panes.len()).unwrap_or(u32::MAX));
        self.newer.reset();
    }

    fn window(&self, room: &mut A) {
        match self.older() {
            Some(older) => {
                room.assign(older);
                room.merge(&self.newer);
            }
            None => room.assign(&self.newer),
        }
    }

    fn reset(&mut self) {
        self.panes.clear();
        (self.left, self.split) = (0, 0);
        self.newer.reset();
    }

    fn prefetch(&self) {
        if let Some(older) = self.older() {
            fetch(older);
        }
        fetch_next(&self.panes);
    }
}

/// What is kept beside several aggregates is what is kept beside each.
macro_rules! tuples {
    ($(($($part:ident $at:tt),+);)+) => {
        $(impl<$($part: Aggregate),+> Sliding<($($part,)+)> for ($($part::Sliding,)+) {
            const SLIDES: bool = true $(&& <$part::Sliding as Sliding<$part>>::SLIDES)+;

            fn enter(&mut self, pane: &($($part,)+)) -> bool {
                true $(&& self.$at.enter(&pane.$at))+
            }

            fn leave(&mut self, pane: &($($part,)+)) -> bool {
                true $(&& self.$at.leave(&pane.$at))+
            }

            fn enter_packed(&mut self, from: &mut &[u8], room: &mut ($($part,)+)) -> bool {
                true $(&& self.$at.enter_packed(from, &mut room.$at))+
            }

            fn leave_packed(&mut self, from: &mut &[u8], room: &mut ($($part,)+)) -> bool {
                true $(&& self.$at.leave_packed(from, &mut room.$at))+
            }

            fn turn(&mut self) {
                $(self.$at.turn();)+
            }

            fn window(&self, room: &mut ($($part,)+)) {
                $(self.$at.window(&mut room.$at);)+
            }

            fn reset(&mut self) {
                $(self.$at.reset();)+
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
