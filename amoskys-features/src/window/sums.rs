//! Windows made of sums of their panes.

use super::many::Pane;
use super::ring::Ring;
use super::running::Span;
use crate::aggregate::Aggregate;

/// Windows of more panes than this have a sum of the older ones for several panes, not each: what they hold is most of an
/// entity's memory, and the memory is most of the time.
const SUMS: i64 = 10;
/// The most sums of one entity.
const MOST_SUMS: i64 = 32;

/// The panes that have closed lie in two parts. For the older part, sums are kept that reach from a pane to the end of
/// the part; for the newer part, one sum of all. A window is the sum from its oldest pane on, and that of the newer
/// part. When the older part has slid out, all panes become the older part, and their sums are made anew: each pane
/// is merged a few times in its life, however many windows it is in.
pub(super) struct Sums<A> {
    /// Sums from a pane to the end of the older part, the last pane's first.
    older: Vec<Sum<A>>,
    /// The newer part, as far as it has closed.
    newer: Option<Sum<A>>,
    /// The newer part begins with this pane or after it.
    split: i64,
}

/// Of several panes.
struct Sum<A> {
    /// The first of them.
    index: i64,
    span: Span,
    aggregate: A,
}

impl<A: Aggregate> Sums<A> {
    /// The sums of the older part: one for every few panes, so that there are at most as many as each is the sum of
    /// panes, or [`SUMS`].
    pub(super) fn of_older(panes: &Ring<Pane<A>>, split: i64, all: i64) -> Self {
        // With as many sums as panes in each, a window takes the fewest merges.
        let sums = all.isqrt().clamp(SUMS, MOST_SUMS);
        let every = usize::try_from((all + sums - 1) / sums).unwrap_or(1).max(1);
        let mut before = panes.iter().take_while(|pane| pane.index < split).count();
        let mut older: Vec<Sum<A>> = Vec::with_capacity(before.div_ceil(every));
        while before > 0 {
            let from = before.saturating_sub(every);
            let mut part = panes.iter().skip(from).take(before - from);
            let Some(oldest) = part.next() else { break };
            let mut sum = Sum::of(oldest);
            part.for_each(|pane| sum.append(pane));
            if let Some(later) = older.last() {
                sum.join(later);
            }
            older.push(sum);
            before = from;
        }
        Self {
            older,
            newer: None,
            split,
        }
    }

    /// Takes the pane that follows into the newer part.
    pub(super) fn append(&mut self, pane: &Pane<A>) {
        match &mut self.newer {
            Some(newer) => newer.append(pane),
            None => self.newer = Some(Sum::of(pane)),
        }
    }

    /// Lets the sums go that begin before this pane.
    pub(super) fn expire(&mut self, oldest: i64) {
        while self.older.last().is_some_and(|sum| sum.index < oldest) {
            self.older.pop();
        }
    }

    /// What makes the window that ends with the last pane appended, oldest first.
    pub(super) fn parts<'a>(
        &'a self,
        panes: impl Iterator<Item = &'a Pane<A>>,
    ) -> impl Iterator<Item = (&'a A, Span)> {
        let summed = self.older.last().map_or(self.split, |sum| sum.index);
        let single = panes.take_while(move |pane| pane.index < summed).map(Pane::part);
        let sums = self.older.last().into_iter().chain(&self.newer);
        single.chain(sums.map(|sum| (&sum.aggregate, sum.span)))
    }
}

impl<A: Aggregate> Sum<A> {
    fn of(pane: &Pane<A>) -> Self {
        Self {
            index: pane.index,
            span: pane.span,
            aggregate: pane.aggregate.clone(),
        }
    }

    fn append(&mut self, pane: &Pane<A>) {
        self.span.merge(&pane.span);
        self.aggregate.merge(&pane.aggregate);
    }

    fn join(&mut self, later: &Self) {
        self.span.merge(&later.span);
        self.aggregate.merge(&later.aggregate);
    }
}
