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

    /// Prepares for leaving those panes that are in the window, which come newest first. It is called before the first
    /// of them leaves, and again when all of them have left.
    fn turn<'a>(&mut self, newest_first: impl Iterator<Item = &'a A> + Clone)
    where
        A: 'a;

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

    fn turn<'a>(&mut self, _: impl Iterator<Item = &'a A> + Clone)
    where
        A: 'a,
    {
    }

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

    fn turn<'a>(&mut self, _: impl Iterator<Item = &'a A> + Clone)
    where
        A: 'a,
    {
    }

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
/// 2021): of the older panes the sum of each with all later ones of that part, of the newer ones one sum. A pane is
/// merged twice in its life, and a window of its two parts.
///
/// Meant for aggregates of a few numbers: it holds one for each pane.
#[derive(Clone, Debug, Default)]
pub struct Stacked<A> {
    /// From a pane to the end of the older part, the oldest pane's last.
    older: Vec<A>,
    newer: A,
}

impl<A: Aggregate> Sliding<A> for Stacked<A> {
    const SLIDES: bool = true;

    fn enter(&mut self, _: &mut A, pane: &A) -> bool {
        self.newer.merge(pane);
        true
    }

    fn leave(&mut self, _: &mut A, _: &A) -> bool {
        // If there is none, the stacks turn next.
        self.older.pop();
        true
    }

    fn turn<'a>(&mut self, newest_first: impl Iterator<Item = &'a A> + Clone)
    where
        A: 'a,
    {
        self.reset();
        for pane in newest_first {
            let mut sum = pane.clone();
            if let Some(later) = self.older.last() {
                sum.merge(later);
            }
            if self.older.len() == self.older.capacity() {
                // Doubling would leave an entity with twice the memory it needs.
                self.older.reserve_exact(4 + self.older.len() / 4);
            }
            self.older.push(sum);
        }
    }

    fn settle(&self, window: &mut A) {
        match self.older.last() {
            Some(older) => {
                window.assign(older);
                window.merge(&self.newer);
            }
            None => window.assign(&self.newer),
        }
    }

    fn reset(&mut self) {
        self.older.clear();
        self.newer.reset();
    }

    fn touch(&self) -> u64 {
        self.older.last().map_or(0, Aggregate::touch)
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

            fn turn<'a>(&mut self, newest_first: impl Iterator<Item = &'a ($($part,)+)> + Clone)
            where
                ($($part,)+): 'a,
            {
                $(self.$at.turn(newest_first.clone().map(|pane| &pane.$at));)+
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
