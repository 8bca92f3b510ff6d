//! Windows that slide: a pane comes in at one end and another goes out at the other, without the others being looked at.

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
pub trait Sliding<A>: Default + Send {
    /// Whether windows may slide at all.
    const SLIDES: bool;

    /// Takes in the pane that follows.
    fn enter(&mut self, window: &mut A, pane: &A) -> bool;

    /// Takes out the oldest pane, as it was when it entered.
    fn leave(&mut self, window: &mut A, pane: &A) -> bool;

    /// Prepares for the leaving of those panes that are in the window. It is called before the first of them leaves, and
    /// again when all of them have left.
    fn turn(&mut self);

    /// Puts into the window what entering and leaving did not.
    fn settle(&self, window: &mut A);

    /// Forgets all panes, as at first.
    fn reset(&mut self);

    /// Reads a little of the memory that the next pane will need; what it returns means nothing.
    fn touch(&self) -> u64 {
        0
    }
}

/// Windows that do not slide: they are made by merging sums of their panes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Merged;

impl<A> Sliding<A> for Merged {
    const SLIDES: bool = false;

    fn enter(&mut self, _: &mut A, _: &A) -> bool {
        false
    }

    fn leave(&mut self, _: &mut A, _: &A) -> bool {
        false
    }

    fn turn(&mut self) {}

    fn settle(&self, _: &mut A) {}

    fn reset(&mut self) {}
}

/// An aggregate that panes can be subtracted from, exactly.
pub trait Subtract: Sized {
    /// Adds a pane, unless the sum could not be undone.
    fn plus(&mut self, pane: &Self) -> bool;

    /// Takes it out again.
    fn minus(&mut self, pane: &Self) -> bool;
}

/// Windows whose oldest pane is subtracted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subtracted;

impl<A: Subtract> Sliding<A> for Subtracted {
    const SLIDES: bool = true;

    fn enter(&mut self, window: &mut A, pane: &A) -> bool {
        window.plus(pane)
    }

    fn leave(&mut self, window: &mut A, pane: &A) -> bool {
        window.minus(pane)
    }

    fn turn(&mut self) {}

    fn settle(&self, _: &mut A) {}

    fn reset(&mut self) {}
}

impl Subtract for u64 {
    fn plus(&mut self, pane: &Self) -> bool {
        // Beyond the largest number a sum stays there.
        self.checked_add(*pane).map(|sum| *self = sum).is_some()
    }

    fn minus(&mut self, pane: &Self) -> bool {
        self.checked_sub(*pane).map(|left| *self = left).is_some()
    }
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

    fn enter(&mut self, _: &mut A, pane: &A) -> bool {
        self.newer.merge(pane);
        if self.panes.len() == self.panes.capacity() {
            // Doubling would leave an entity with twice the memory it needs.
            self.panes.reserve_exact(4 + self.panes.len() / 2);
        }
        self.panes.push(pane.clone());
        true
    }

    fn leave(&mut self, _: &mut A, _: &A) -> bool {
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

    fn settle(&self, window: &mut A) {
        match self.older() {
            Some(older) => {
                window.assign(older);
                window.merge(&self.newer);
            }
            None => window.assign(&self.newer),
        }
    }

    fn reset(&mut self) {
        self.panes.clear();
        (self.left, self.split) = (0, 0);
        self.newer.reset();
    }

    fn touch(&self) -> u64 {
        self.older().map_or(0, Aggregate::touch) ^ self.panes.last().map_or(0, Aggregate::touch)
    }
}

/// What is kept beside several aggregates is what is kept beside each.
macro_rules! tuples {
    ($(($($part:ident $at:tt),+);)+) => {
        $(impl<$($part: Aggregate),+> Sliding<($($part,)+)> for ($($part::Sliding,)+) {
            const SLIDES: bool = true $(&& <$part::Sliding as Sliding<$part>>::SLIDES)+;

            fn enter(&mut self, window: &mut ($($part,)+), pane: &($($part,)+)) -> bool {
                true $(&& self.$at.enter(&mut window.$at, &pane.$at))+
            }

            fn leave(&mut self, window: &mut ($($part,)+), pane: &($($part,)+)) -> bool {
                true $(&& self.$at.leave(&mut window.$at, &pane.$at))+
            }

            fn turn(&mut self) {
                $(self.$at.turn();)+
            }

            fn settle(&self, window: &mut ($($part,)+)) {
                $(self.$at.settle(&mut window.$at);)+
            }

            fn reset(&mut self) {
                $(self.$at.reset();)+
            }

            fn touch(&self) -> u64 {
                0 $(^ self.$at.touch())+
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
