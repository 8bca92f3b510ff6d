//! The panes of one entity, and sums of several of them.

use std::collections::VecDeque;

use amoskys_core::Seq;
use serde::{Deserialize, Serialize};

use crate::aggregate::Aggregate;

/// Panes an entity may hold that are not closed yet, beyond those of one window.
const OPEN_PANES: usize = 64;
/// Windows of so few panes are merged from them each time.
const FEW_PANES: i64 = 4;
/// Windows of more panes than this have a sum of the older ones for several panes, not each: what they hold is most of an
/// entity's memory, and the memory is most of the time.
const SUMS: i64 = 10;
/// The most sums of one entity.
const MOST_SUMS: i64 = 32;

/// Panes of one entity, in order, none empty.
///
/// The panes that have closed lie in two parts. For the older part, sums are kept that reach from a pane to the end of
/// the part; for the newer part, one sum of all. A window is the sum from its oldest pane on, and that of the newer
/// part. When the older part has slid out, all panes become the older part, and their sums are made anew: each pane
/// is merged a few times in its life, however many windows it is in.
pub(super) struct Panes<A> {
    panes: VecDeque<Pane<A>>,
    /// Panes before this one are the older part.
    split: i64,
    /// Sums from a pane to the end of the older part, the last pane's first.
    sums: Vec<Sum<A>>,
    /// The newer part, as far as it has closed. Boxed, because most entities are idle at any time.
    newer: Option<Box<Sum<A>>>,
    /// The last pane in it.
    summed: i64,
    /// Panes have gone that the window handed out last held.
    lost: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Pane<A> {
    index: i64,
    first: Seq,
    last: Seq,
    aggregate: A,
}

/// Of several panes.
struct Sum<A> {
    /// The first of them.
    index: i64,
    first: Seq,
    last: Seq,
    aggregate: A,
}

/// [`Panes`] in a form that can be stored: sums are made anew from the panes, and come out the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PanesState<A> {
    panes: VecDeque<Pane<A>>,
    split: i64,
    summed: i64,
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

impl<A> Default for Panes<A> {
    fn default() -> Self {
        Self {
            panes: VecDeque::new(),
            split: i64::MIN,
            sums: Vec::new(),
            newer: None,
            summed: i64::MIN,
            lost: false,
        }
    }
}

impl<A: Aggregate> Panes<A> {
    /// Applies a change to the aggregate of a pane, of windows with so many panes.
    pub(super) fn update(&mut self, index: i64, seq: Seq, all: i64, change: impl FnOnce(&mut A)) -> Update {
        // Nearly always the last pane.
        let at = self.panes.iter().rposition(|pane| pane.index <= index);
        if let Some(at) = at
            && let Some(pane) = self.panes.get_mut(at)
            && pane.index == index
        {
            pane.first = pane.first.min(seq);
            pane.last = pane.last.max(seq);
            change(&mut pane.aggregate);
            return Update::Accepted;
        }
        // A window's panes are few: at most 1024.
        let most = usize::try_from(all)
            .unwrap_or(usize::MAX)
            .saturating_add(OPEN_PANES);
        if self.panes.len() >= most {
            return Update::Refused;
        }
        if self.panes.capacity() == self.panes.len() {
            // Doubling would leave an entity with twice the memory it needs.
            self.panes.reserve_exact(1 + self.panes.len() / 4);
        }
        let mut pane = Pane {
            index,
            first: seq,
            last: seq,
            aggregate: A::default(),
        };
        change(&mut pane.aggregate);
        self.panes.insert(at.map_or(0, |at| at + 1), pane);
        Update::NewPane
    }

    /// Reads a little of the memory that the next update will need.
    pub(super) fn touch(&self) -> u64 {
        self.panes
            .back()
            .map_or(0, |pane| pane.first.0 ^ pane.aggregate.touch())
    }

    pub(super) fn first(&self) -> Option<i64> {
        self.panes.front().map(|pane| pane.index)
    }

    pub(super) fn last(&self) -> Option<i64> {
        self.panes.back().map(|pane| pane.index)
    }

    pub(super) fn indices(&self) -> impl Iterator<Item = i64> {
        self.panes.iter().map(|pane| pane.index)
    }

    /// Takes the pane of this number into the windows, if there is one, and lets those go that a window ending with
    /// it no longer holds.
    pub(super) fn close(&mut self, index: i64, all: i64) -> Change {
        let went = self.expire(index, all);
        let at = self.panes.iter().position(|pane| pane.index >= index);
        let pane = at
            .and_then(|at| self.panes.get(at))
            .filter(|pane| pane.index == index);
        let Some(pane) = pane else {
            return Change { came: false, went };
        };
        if all > FEW_PANES {
            match &mut self.newer {
                Some(newer) => newer.append(pane),
                None => self.newer = Some(Box::new(Sum::of(pane))),
            }
            self.summed = index;
        }
        Change { came: true, went }
    }

    /// Lets the panes go that a window ending with this one no longer holds. Says whether there were any.
    pub(super) fn expire(&mut self, index: i64, all: i64) -> bool {
        let oldest = index.saturating_sub(all - 1);
        let (before, mut lost_newer) = (self.panes.len(), false);
        while self.panes.front().is_some_and(|pane| pane.index < oldest) {
            let gone = self.panes.pop_front();
            lost_newer |= gone.is_some_and(|pane| pane.index >= self.split);
        }
        while self.sums.last().is_some_and(|sum| sum.index < oldest) {
            self.sums.pop();
        }
        if all > FEW_PANES && lost_newer {
            self.split = index;
            self.newer = None;
            self.sum_older(all);
        }
        self.panes.len() < before
    }

    /// Lets the panes go that the window ending with this one will not hold, before it is its turn.
    pub(super) fn prepare(&mut self, index: i64, all: i64) {
        self.lost |= self.expire(index, all);
    }

    /// Whether panes went by [`prepare`](Self::prepare) since this was asked before.
    pub(super) const fn take_lost(&mut self) -> bool {
        std::mem::replace(&mut self.lost, false)
    }

    /// The window that ends with this pane, which has closed: its aggregate, and its first and last event. `None` if
    /// it is empty. Where it takes several parts they are joined in `room`, whatever that held.
    pub(super) fn window<'a>(&'a self, index: i64, room: &'a mut A) -> Option<(&'a A, Seq, Seq)> {
        let covered = |pane: &&Pane<A>| match (self.sums.last(), &self.newer) {
            (Some(sum), _) => pane.index < sum.index,
            (None, Some(newer)) => pane.index < newer.index,
            (None, None) => pane.index <= index,
        };
        let single = self.panes.iter().take_while(covered);
        let single = single.map(|pane| (&pane.aggregate, pane.first, pane.last));
        let sums = self.sums.last().into_iter().chain(self.newer.as_deref());
        let mut parts = single.chain(sums.map(|sum| (&sum.aggregate, sum.first, sum.last)));
        let (oldest, mut earliest, mut latest) = parts.next()?;
        let Some(second) = parts.next() else {
            return Some((oldest, earliest, latest));
        };
        room.assign(oldest);
        for (aggregate, first, last) in std::iter::once(second).chain(parts) {
            room.merge(aggregate);
            earliest = earliest.min(first);
            latest = latest.max(last);
        }
        Some((room, earliest, latest))
    }

    pub(super) fn state(&self) -> PanesState<A> {
        PanesState {
            panes: self.panes.clone(),
            split: self.split,
            summed: self.summed,
        }
    }

    pub(super) fn restored(state: PanesState<A>, all: i64) -> Self {
        let PanesState { panes, split, summed } = state;
        let mut restored = Self {
            panes,
            split,
            summed,
            // What was handed out last is not known.
            lost: true,
            ..Self::default()
        };
        if all > FEW_PANES {
            restored.sum_older(all);
            let closed = |pane: &&Pane<A>| (split..=summed).contains(&pane.index);
            let mut newer = restored.panes.iter().filter(closed);
            restored.newer = newer.next().map(Sum::of).map(Box::new);
            if let Some(sum) = &mut restored.newer {
                newer.for_each(|pane| sum.append(pane));
            }
        }
        restored
    }

    /// Makes the sums of the older part: one for every few panes, so that there are at most as many as each is the sum of
    /// panes, or [`SUMS`].
    fn sum_older(&mut self, all: i64) {
        self.sums.clear();
        // With as many sums as panes in each, a window takes the fewest merges.
        let sums = all.isqrt().clamp(SUMS, MOST_SUMS);
        let every = usize::try_from((all + sums - 1) / sums).unwrap_or(1).max(1);
        let mut before = self
            .panes
            .iter()
            .take_while(|pane| pane.index < self.split)
            .count();
        while before > 0 {
            let from = before.saturating_sub(every);
            let mut part = self.panes.range(from..before);
            let Some(oldest) = part.next() else { break };
            let mut sum = Sum::of(oldest);
            part.for_each(|pane| sum.append(pane));
            if let Some(later) = self.sums.last() {
                sum.join(later);
            }
            self.sums.push(sum);
            before = from;
        }
    }
}

/// How a window differs from the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// The last pane has events.
    pub(super) came: bool,
    /// The window before held a pane with events that this one does not.
    pub(super) went: bool,
}

impl<A: Aggregate> Sum<A> {
    fn of(pane: &Pane<A>) -> Self {
        Self {
            index: pane.index,
            first: pane.first,
            last: pane.last,
            aggregate: pane.aggregate.clone(),
        }
    }

    fn append(&mut self, pane: &Pane<A>) {
        self.first = self.first.min(pane.first);
        self.last = self.last.max(pane.last);
        self.aggregate.merge(&pane.aggregate);
    }

    fn join(&mut self, later: &Self) {
        self.first = self.first.min(later.first);
        self.last = self.last.max(later.last);
        self.aggregate.merge(&later.aggregate);
    }
}
