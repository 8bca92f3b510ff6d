//! The panes of one entity, and the window they make.

use amoskys_core::Seq;

use super::few::{Few, Shop};
use super::many::{Change, Many, PanesState, Update};
use super::running::Span;
use super::slices::{Owner, Slices};
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
    pub(super) fn new(all: i64, slices: &mut Slices) -> Self {
        if Few::<A>::can_hold(all) {
            Self::Few(Few::new(slices.number()))
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
        slices: &Slices,
        change: impl FnOnce(&mut A),
    ) -> Update {
        match self {
            Self::Few(few) => match few.update(index, seq, all, shop, slices, change) {
                Ok(update) => update,
                Err(large) => {
                    *self = Self::Many(Many::restored(large.state, all, few.lost));
                    large.update
                }
            },
            Self::Many(many) => many.update(index, seq, all, change),
        }
    }

    /// Asks for what leads to the memory that the next update will need.
    pub(super) fn prefetch(&self) {
        match self {
            Self::Few(few) => few.prefetch(),
            Self::Many(many) => many.prefetch(),
        }
    }

    /// Asks for the memory that the next update will need.
    pub(super) fn prefetch_parts(&self) {
        if let Self::Many(many) = self {
            many.prefetch_parts();
        }
    }

    /// Asks for what leads to the memory that closing a pane will need.
    pub(super) fn prefetch_ends(&self) {
        match self {
            Self::Few(few) => few.prefetch_ends(),
            Self::Many(many) => many.prefetch_ends(),
        }
    }

    /// Asks for the memory that closing a pane will need.
    pub(super) fn prefetch_window(&self) {
        match self {
            Self::Few(few) => few.prefetch_window(),
            Self::Many(many) => many.prefetch_window(),
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
    /// it no longer holds. The entity is in this slot.
    pub(super) fn close(
        &mut self,
        index: i64,
        all: i64,
        slot: u32,
        leaves: bool,
        slices: &mut Slices,
        shop: &mut Shop<A>,
    ) -> Change {
        if let Self::Few(few) = self {
            match few.close(index, all, slot, leaves, slices, shop) {
                Ok(change) => return change,
                Err(_) => *self = Self::Many(few.many(all, slices)),
            }
        }
        match self {
            Self::Few(_) => Change::default(),
            Self::Many(many) => many.close(index, all),
        }
    }

    /// Lets the panes go that the window ending with this one will not hold, before it is its turn.
    pub(super) fn prepare(&mut self, index: i64, all: i64) {
        match self {
            Self::Few(few) => few.prepare(index, all),
            Self::Many(many) => many.prepare(index, all),
        }
    }

    /// Whether it is the entity that a pane in slices is of.
    pub(super) const fn is(&self, owner: Owner) -> bool {
        matches!(self, Self::Few(few) if few.is(owner))
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

    pub(super) fn state(&self, slices: &Slices) -> PanesState<A> {
        match self {
            Self::Few(few) => few.state(slices),
            Self::Many(many) => many.state(),
        }
    }

    /// Panes as they were stored; those before `open` have closed.
    pub(super) fn restored(
        mut state: PanesState<A>,
        all: i64,
        open: Option<i64>,
        slices: &mut Slices,
    ) -> Self {
        let open = open.unwrap_or(i64::MIN);
        state.panes.retain(|pane| pane.index >= open.saturating_sub(all));
        // What was handed out last is not known.
        if Few::<A>::can_hold(all)
            && let Some(few) = Few::restored(&state, all, open, slices.number(), true)
        {
            return Self::Few(few);
        }
        Self::Many(Many::restored(state, all, true))
    }

    /// Puts the pane of this number into slices, the first of those that lie here, if it is to lie there.
    pub(super) fn settle(&mut self, index: i64, slot: u32, slices: &mut Slices) {
        if let Self::Few(few) = self {
            few.settle(index, slot, slices);
        }
    }

    /// All panes that are to lie in slices do.
    pub(super) fn settled(&mut self) {
        if let Self::Few(few) = self {
            few.settled();
        }
    }
}
