//! Panes of one entity that are many, or large: each an aggregate of its own.

use amoskys_core::Seq;
use amoskys_core::fetch::fetch;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::ring::Ring;
use super::running::{Running, Span};
use super::sums::Sums;
use crate::aggregate::{Aggregate, Sliding};

/// Panes an entity may hold that are not closed yet, beyond those of one window.
const OPEN_PANES: usize = 64;
/// Windows of fewer panes are merged from them each time.
pub(super) const SLIDING: i64 = 4;

/// Panes of one entity, in order, none empty.
///
/// A window of several panes [slides](Running): what comes is added, what goes is taken out. Where that cannot be, because
/// the aggregates are of another kind or have become too large, it is made of [sums](Sums) of its panes, as long as
/// it is so.
pub(super) struct Many<A: Aggregate> {
    panes: Ring<Pane<A>>,
    /// Panes before this one are the older part: see [`Stacked`](crate::aggregate::Stacked) and [`Sums`].
    split: i64,
    /// The last pane that has closed.
    summed: i64,
    way: Way<A>,
    /// Panes have gone that the window handed out last held.
    lost: bool,
}

/// How windows of several panes are made. Boxed, because most entities are idle at any time.
enum Way<A: Aggregate> {
    Sliding(Option<Box<Running<A>>>),
    Summing(Box<Sums<A>>),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Pane<A> {
    pub(super) index: i64,
    pub(super) span: Span,
    pub(super) aggregate: A,
}

/// [`Panes`] in a form that can be stored: windows are made anew from the panes, and come out the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PanesState<A> {
    #[serde(deserialize_with = "in_order", bound(deserialize = "A: Deserialize<'de>"))]
    pub(super) panes: Vec<Pane<A>>,
    pub(super) split: i64,
    pub(super) summed: i64,
    pub(super) summing: bool,
}

/// What became of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Update {
    Accepted,
    /// It was accepted, as the first one of a pane.
    NewPane,
    /// There are too many panes that have not closed.
    Refused,
}

/// How a window differs from the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// The last pane has events.
    pub(super) came: bool,
    /// The window before held a pane with events that this one does not.
    pub(super) went: bool,
}

impl<A: Aggregate> Default for Many<A> {
    fn default() -> Self {
        Self {
            panes: Ring::default(),
            split: i64::MIN,
            summed: i64::MIN,
            way: Way::Sliding(None),
            lost: false,
        }
    }
}

impl<A: Default> Default for Pane<A> {
    fn default() -> Self {
        Self {
            index: 0,
            span: Span::default(),
            aggregate: A::default(),
        }
    }
}

impl<A: Aggregate> Many<A> {
    /// Applies a change to the aggregate of a pane, of windows with so many panes.
    pub(super) fn update(&mut self, index: i64, seq: Seq, all: i64, change: impl FnOnce(&mut A)) -> Update {
        let at = self.after(index);
        if let Some(before) = at.checked_sub(1)
            && let Some(pane) = self.panes.at_mut(before)
            && pane.index == index
        {
            pane.span.merge(&Span(seq, seq));
            change(&mut pane.aggregate);
            return Update::Accepted;
        }
        let most = most_panes(all);
        if self.panes.len() >= most {
            return Update::Refused;
        }
        if self.panes.is_empty() {
            self.summed = i64::MIN;
        }
        let Some(pane) = self.panes.insert(at, most - (OPEN_PANES - 1)) else {
            return Update::Refused;
        };
        (pane.index, pane.span) = (index, Span(seq, seq));
        change(&mut pane.aggregate);
        Update::NewPane
    }

    /// Asks for what leads to the memory that the next update will need.
    pub(super) fn prefetch(&self) {
        if let Some(pane) = self.panes.back() {
            fetch(pane);
        }
    }

    /// Asks for the memory that the next update will need.
    pub(super) fn prefetch_parts(&self) {
        if let Some(pane) = self.panes.back() {
            pane.aggregate.prefetch();
        }
    }

    /// Asks for what leads to the memory that closing a pane will need.
    pub(super) fn prefetch_ends(&self) {
        self.prefetch();
        if let Some(pane) = self.panes.front() {
            fetch(pane);
        }
        if let Way::Sliding(Some(running)) = &self.way {
            fetch(&**running);
        }
    }

    /// Asks for the memory that closing a pane will need.
    pub(super) fn prefetch_window(&self) {
        match &self.way {
            Way::Sliding(Some(running)) => {
                self.prefetch_parts();
                if let Some(pane) = self.panes.front() {
                    pane.aggregate.prefetch();
                }
                running.prefetch();
            }
            Way::Sliding(None) => self
                .panes
                .iter()
                .take(4)
                .for_each(|pane| pane.aggregate.prefetch()),
            Way::Summing(_) => {}
        }
    }

    pub(super) fn first(&self) -> Option<i64> {
        self.panes.front().map(|pane| pane.index)
    }

    pub(super) fn last(&self) -> Option<i64> {
        self.panes.back().map(|pane| pane.index)
    }

    /// The number of the pane with whose closing the last one went, if there are none.
    pub(super) const fn empty_since(&self) -> i64 {
        self.summed
    }

    pub(super) fn indices(&self) -> impl Iterator<Item = i64> {
        self.panes.iter().map(|pane| pane.index)
    }

    /// Takes the pane of this number into the windows, if there is one, and lets those go that a window ending with
    /// it no longer holds.
    pub(super) fn close(&mut self, index: i64, all: i64) -> Change {
        let went = self.expire(index, all);
        let at = self.after(index).checked_sub(1);
        let pane = at.and_then(|at| self.panes.at(at));
        let pane = pane.filter(|pane| pane.index == index);
        let came = pane.is_some();
        if let Some(pane) = pane {
            self.summed = index;
            let entered = match &mut self.way {
                Way::Sliding(running) if slides::<A>(all) => {
                    running.get_or_insert_with(Box::default).enter(pane)
                }
                Way::Summing(sums) => {
                    sums.append(pane);
                    true
                }
                // Merged from its few panes.
                Way::Sliding(_) => all < SLIDING,
            };
            if !entered {
                self.sum_up(index.saturating_add(1), all);
            }
        }
        Change { came, went }
    }

    /// Lets the panes go that the window ending with this one will not hold, before it is its turn.
    pub(super) fn prepare(&mut self, index: i64, all: i64) {
        if self.expire(index, all) {
            self.lost = true;
        }
    }

    /// Whether panes went by [`prepare`](Self::prepare) since this was asked before.
    pub(super) const fn take_lost(&mut self) -> bool {
        std::mem::replace(&mut self.lost, false)
    }

    /// The window that ends with this pane, which has closed: its aggregate, and its first and last event. `None` if
    /// it is empty. Where it takes several parts they are joined in `room`, whatever that held.
    pub(super) fn window<'a>(&'a self, index: i64, room: &'a mut A) -> Option<(&'a A, Span)> {
        match &self.way {
            Way::Sliding(Some(running)) => {
                let span = running.window(room)?;
                Some((room, span))
            }
            Way::Sliding(None) => {
                let closed = self.panes.iter().take_while(|pane| pane.index <= index);
                joined(closed.map(Pane::part), room)
            }
            Way::Summing(sums) => joined(sums.parts(self.panes.iter()), room),
        }
    }

    pub(super) fn state(&self) -> PanesState<A> {
        PanesState {
            panes: self.panes.iter().cloned().collect(),
            split: self.split,
            summed: self.summed,
            summing: matches!(self.way, Way::Summing(_)),
        }
    }

    pub(super) fn restored(state: PanesState<A>, all: i64, lost: bool) -> Self {
        let PanesState {
            panes,
            split,
            summed,
            summing,
        } = state;
        let too_many = panes.len().saturating_sub(most_panes(all));
        let mut restored = Self {
            panes: panes.into_iter().skip(too_many).collect(),
            split,
            summed,
            lost,
            way: Way::Sliding(None),
        };
        let slid = !summing && slides::<A>(all) && restored.slide();
        if !slid && (summing || slides::<A>(all)) {
            let mut sums = Sums::of_older(&restored.panes, split, all);
            let closed = |pane: &&Pane<A>| (split..=summed).contains(&pane.index);
            restored
                .panes
                .iter()
                .filter(closed)
                .for_each(|pane| sums.append(pane));
            restored.way = Way::Summing(Box::new(sums));
        }
        restored
    }

    /// Lets the panes go that a window ending with this one no longer holds. Says whether there were any.
    fn expire(&mut self, index: i64, all: i64) -> bool {
        let oldest = index.saturating_sub(all - 1);
        let (mut went, mut newer_went, mut left) = (false, false, true);
        while self.first().is_some_and(|first| first < oldest)
            && let Some(gone) = self.panes.pop_front()
        {
            went = true;
            newer_went |= gone.index >= self.split;
            if let Way::Sliding(Some(running)) = &mut self.way {
                left = left && running.leave(gone);
            }
            gone.aggregate.reset();
        }
        if !went {
            return false;
        }
        if self.panes.is_empty() {
            // As at first, but for the memory, and for how long it has been so.
            (self.split, self.summed) = (i64::MIN, index);
            match &mut self.way {
                Way::Sliding(Some(running)) => running.reset(),
                _ => self.way = Way::Sliding(None),
            }
        } else if !left {
            self.sum_up(index, all);
        } else {
            self.turn(newer_went, index, oldest, all);
        }
        true
    }

    /// Makes what has closed the older part, if the older part has gone.
    fn turn(&mut self, older_went: bool, index: i64, oldest: i64, all: i64) {
        match &mut self.way {
            Way::Sliding(Some(running)) if older_went => {
                self.split = index;
                running.turn();
            }
            Way::Sliding(_) => {}
            Way::Summing(_) if older_went => {
                self.split = index;
                // It may have become small enough again.
                if !(slides::<A>(all) && self.slide()) {
                    self.sum_up(index, all);
                }
            }
            Way::Summing(sums) => sums.expire(oldest),
        }
    }

    /// Makes windows from sums from now on; panes before `split` have closed.
    fn sum_up(&mut self, split: i64, all: i64) {
        self.split = split;
        self.way = Way::Summing(Box::new(Sums::of_older(&self.panes, split, all)));
    }

    /// Lets windows slide from now on, if what has closed allows it.
    fn slide(&mut self) -> bool {
        let mut running = Running::default();
        let (split, summed) = (self.split, self.summed);
        let oldest_first = self.panes.iter().take_while(|pane| pane.index < split);
        let closed = |pane: &&Pane<A>| (split..=summed).contains(&pane.index);
        let mut slides = true;
        for pane in oldest_first {
            slides = slides && running.enter(pane);
        }
        running.turn();
        for pane in self.panes.iter().filter(closed) {
            slides = slides && running.enter(pane);
        }
        if slides {
            self.way = Way::Sliding(Some(Box::new(running)));
        }
        slides
    }

    /// Where a pane of this number would be inserted, after the same one if there is one. Nearly always at the end.
    fn after(&self, index: i64) -> usize {
        let mut at = self.panes.len();
        while let Some(before) = at.checked_sub(1)
            && self.panes.at(before).is_some_and(|pane| pane.index > index)
        {
            at = before;
        }
        at
    }
}

impl<A> Pane<A> {
    /// Its part in a window.
    pub(super) const fn part(&self) -> (&A, Span) {
        (&self.aggregate, self.span)
    }
}

/// The most panes of an entity, with so many to a window: at most 1024.
pub(super) fn most_panes(all: i64) -> usize {
    usize::try_from(all)
        .unwrap_or(usize::MAX)
        .saturating_add(OPEN_PANES)
}

/// Whether windows of so many panes slide.
fn slides<A: Aggregate>(all: i64) -> bool {
    all >= SLIDING && A::Sliding::SLIDES
}

/// Reads panes that are in order, at least one.
fn in_order<'de, D: Deserializer<'de>, A: Deserialize<'de>>(stored: D) -> Result<Vec<Pane<A>>, D::Error> {
    let panes = Vec::<Pane<A>>::deserialize(stored)?;
    if !panes.is_empty() && panes.is_sorted_by(|a, b| a.index < b.index) {
        Ok(panes)
    } else {
        Err(D::Error::custom("not the panes of an entity"))
    }
}

/// Several parts, oldest first, joined in `room` if there are more than one.
fn joined<'a, A: Aggregate>(
    mut parts: impl Iterator<Item = (&'a A, Span)>,
    room: &'a mut A,
) -> Option<(&'a A, Span)> {
    let (oldest, mut span) = parts.next()?;
    let Some(second) = parts.next() else {
        return Some((oldest, span));
    };
    room.assign(oldest);
    for (aggregate, later) in std::iter::once(second).chain(parts) {
        room.merge(aggregate);
        span.merge(&later);
    }
    Some((room, span))
}
