//! The panes of one entity, and the window they make.

use amoskys_core::Seq;

use super::few::{Few, Shop};
use super::many::{Change, Many, PanesState, Update};
use super::running::Span;
use crate::aggregate::Aggregate;

/// Panes of one entity, in order, none empty: packed as long as they are small, if the aggregates can be.
///
/// Either way a window holds the same, bit for bit.
pub(super) enum Panes<A: Aggregate> {
    Few(Few<A>),
    Many(Many<A>),
}

impl<A: Aggregate> Panes<A> {
    /// No panes, of windows of so many.
    pub(super) fn new(all: i64) -> Self {
        if Few::<A>::can_hold(all) {
            Self::Few(Few::default())
        } else {
            Self::Many(Many::default())
        }
    }

    /// Applies a change to the aggregate of a pane, of windows with so many panes.
    pub(super) fn update(
        &mut self,
        index: i64,
        seq: Seq,
        all: i64,
        shop: &mut Shop<A>,
        change: impl FnOnce(&mut A),
    ) -> Update {
        match self {
            Self::Few(few) => match few.update(index, seq, all, shop, change) {
                Ok(update) => update,
                Err(large) => {
                    *self = Self::Many(Many::restored(large.state, all, few.lost));
                    large.update
                }
            },
            Self::Many(many) => many.update(index, seq, all, change),
        }
    }

    /// Reads a little of what leads to the memory that the next update will need.
    pub(super) fn touch(&self) -> u64 {
        match self {
            Self::Few(few) => few.touch(),
            Self::Many(many) => many.touch(),
        }
    }

    /// Reads a little of the memory that the next update will need.
    pub(super) fn touch_parts(&self) -> u64 {
        match self {
            Self::Few(_) => 0,
            Self::Many(many) => many.touch_parts(),
        }
    }

    /// Reads a little of what leads to the memory that closing a pane will need.
    pub(super) fn touch_ends(&self) -> u64 {
        match self {
            Self::Few(few) => few.touch_window(),
            Self::Many(many) => many.touch_ends(),
        }
    }

    /// Reads a little of the memory that closing a pane will need.
    pub(super) fn touch_window(&self) -> u64 {
        match self {
            Self::Few(few) => few.touch_parts(),
            Self::Many(many) => many.touch_window(),
        }
    }

    pub(super) fn first(&self) -> Option<i64> {
        match self {
            Self::Few(few) => few.first(),
            Self::Many(many) => many.first(),
        }
    }

    pub(super) fn last(&self) -> Option<i64> {
        match self {
            Self::Few(few) => few.last(),
            Self::Many(many) => many.last(),
        }
    }

    /// The number of the pane with whose closing the last one went, if there are none.
    pub(super) const fn empty_since(&self) -> i64 {
        match self {
            Self::Few(few) => few.empty_since(),
            Self::Many(many) => many.empty_since(),
        }
    }

    pub(super) fn indices(&self) -> Vec<i64> {
        match self {
            Self::Few(few) => few.indices().collect(),
            Self::Many(many) => many.indices().collect(),
        }
    }

    /// Takes the pane of this number into the windows, if there is one, and lets those go that a window ending with
    /// it no longer holds.
    pub(super) fn close(&mut self, index: i64, all: i64, shop: &mut Shop<A>) -> Change {
        if let Self::Few(few) = self {
            match few.close(index, all, shop) {
                Ok(change) => return change,
                Err(_) => *self = Self::Many(few.many(all)),
            }
        }
        match self {
            Self::Few(_) => Change::default(),
            Self::Many(many) => many.close(index, all),
        }
    }

    /// Lets the panes go that the window ending with this one will not hold, before it is its turn.
    pub(super) fn prepare(&mut self, index: i64, all: i64, shop: &mut Shop<A>) {
        if let Self::Few(few) = self {
            match few.prepare(index, all, shop) {
                Ok(()) => return,
                Err(_) => *self = Self::Many(few.many(all)),
            }
        }
        if let Self::Many(many) = self {
            many.prepare(index, all);
        }
    }

    /// Whether panes went by [`prepare`](Self::prepare) since this was asked before.
    pub(super) const fn take_lost(&mut self) -> bool {
        match self {
            Self::Few(few) => std::mem::replace(&mut few.lost, false),
            Self::Many(many) => many.take_lost(),
        }
    }

    /// The window that ends with this pane, which has closed: its aggregate, and its first and last event. `None` if
    /// it is empty. It is made in `shop`, whatever that held.
    pub(super) fn window<'a>(
        &'a self,
        index: i64,
        all: i64,
        shop: &'a mut Shop<A>,
    ) -> Option<(&'a A, Seq, Seq)> {
        let window = match self {
            Self::Few(few) => few.window(index, all, shop),
            Self::Many(many) => many.window(index, &mut shop.room),
        };
        window.map(|(aggregate, Span(first, last))| (aggregate, first, last))
    }

    pub(super) fn state(&self) -> PanesState<A> {
        match self {
            Self::Few(few) => few.state(),
            Self::Many(many) => many.state(),
        }
    }

    pub(super) fn restored(state: PanesState<A>, all: i64) -> Self {
        // What was handed out last is not known.
        if Few::<A>::can_hold(all)
            && let Some(few) = Few::restored(&state, all, true)
        {
            return Self::Few(few);
        }
        Self::Many(Many::restored(state, all, true))
    }
}
