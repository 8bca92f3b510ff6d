//! The flows, and the ways to find them: by key, by time, by use.

use amoskys_core::fetch::fetch_lines;

use super::entropy::Histograms;
use super::entry::Entry;
use super::extra::Extras;
use super::gather::Gathers;
use super::index::FlowIndex;
use super::key::{Key, KeyHasher};
use super::recency::Recency;
use super::slab::Slab;
use super::texts::Texts;
use super::wheel::{Tick, Wheel};

/// How much of a flow most packets touch.
const FETCH_LINES: usize = 12;

/// So many flows take some 14 MB.
const LARGE: u32 = 16_384;

pub(super) struct Table {
    pub(super) flows: Slab,
    pub(super) extras: Extras,
    pub(super) texts: Texts,
    pub(super) histograms: Histograms,
    pub(super) gathers: Gathers,
    pub(super) wheel: Wheel,
    pub(super) recency: Recency,
    hasher: KeyHasher,
    index: FlowIndex,
    next_number: u64,
    number_step: u64,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            flows: Slab::default(),
            extras: Extras::default(),
            texts: Texts::new(),
            histograms: Histograms::default(),
            gathers: Gathers::default(),
            wheel: Wheel::new(),
            recency: Recency::default(),
            hasher: KeyHasher::new(),
            index: FlowIndex::new(),
            next_number: 0,
            number_step: 1,
        }
    }

    #[inline]
    pub(super) fn hash(&self, key: &Key) -> u32 {
        self.hasher.hash(key)
    }

    #[inline]
    pub(super) fn find(&self, hash: u32, key: &Key) -> Option<u32> {
        self.index.find(hash, |index| self.flows[index].key == *key)
    }

    /// Whether the flows do not fit into the memory next to a core, so that each is worth being asked for early.
    #[inline]
    pub(super) fn is_large(&self) -> bool {
        self.flows.places() > LARGE
    }

    /// Asks for the memory where a flow with this hash is looked up.
    #[inline]
    pub(super) fn fetch_place(&self, hash: u32) {
        self.index.fetch(hash);
    }

    /// Asks for the memory of the first flow with this hash, if there is one.
    #[inline]
    pub(super) fn fetch_flow(&self, hash: u32) {
        if let Some(index) = self.index.find(hash, |_| true) {
            fetch_lines(&self.flows[index], FETCH_LINES);
        }
    }

    /// Begins a flow whose key is not in the table.
    pub(super) fn insert(&mut self, hash: u32, key: Key, descending: bool, time: i64) -> u32 {
        let index = self.flows.allocate();
        self.recency.cover(index);
        self.wheel.cover(index);
        self.recency.begin(index);
        let number = self.number();
        self.flows[index].begin(number, key, descending, time);
        self.index.insert(hash, index);
        index
    }

    /// Forgets a flow, but keeps its place and the direction of its connection.
    pub(super) fn suspend(&mut self, index: u32) {
        self.release_parts(index);
        self.flows[index].suspend();
        self.recency.begin(index);
    }

    /// Begins a flow in the place that was kept for it.
    pub(super) fn wake(&mut self, index: u32, time: i64) -> u32 {
        let number = self.number();
        self.flows[index].wake(number, time);
        index
    }

    /// Takes a flow out of the table, if it is there.
    pub(super) fn remove(&mut self, index: u32) {
        let flow = &self.flows[index];
        if flow.is_vacant() {
            return;
        }
        let hash = self.hasher.hash(&flow.key);
        self.index.remove(hash, index);
        self.wheel.cancel(index);
        self.release_parts(index);
        self.flows[index].clear();
        self.flows.release(index);
    }

    /// Gives back what a flow has elsewhere.
    fn release_parts(&mut self, index: u32) {
        let Entry {
            extra,
            learned,
            tunnel,
            histogram,
            gather,
            ..
        } = self.flows[index];
        self.extras.release(extra);
        self.texts.release(learned);
        self.texts.release(tunnel);
        self.histograms.release(histogram);
        self.gathers.release(gather);
    }

    /// The flow unused for longest. The table must be full.
    pub(super) fn least_used(&mut self) -> u32 {
        self.recency.victim(self.flows.places())
    }

    /// All places in use, by the order in which their flows began.
    pub(super) fn in_order(&self) -> Vec<u32> {
        let mut used: Vec<u32> = (0..self.flows.places())
            .filter(|index| !self.flows[*index].is_vacant())
            .collect();
        used.sort_unstable_by_key(|index| self.flows[*index].number);
        used
    }

    #[inline]
    pub(super) fn set_timer(&mut self, index: u32, nanos: i64) {
        self.wheel.set(index, nanos);
    }

    /// The flows whose timers fire next, by the beginning of `clock`, and when. They come in the order in which they began,
    /// whatever set their timers when, so that the flows of one link come in the same order whether one meter sees them or
    /// several do.
    pub(super) fn take_due(&mut self, clock: Tick, due: &mut Vec<u32>) -> Option<i64> {
        let time = self.wheel.take_due(clock, due)?;
        if due.len() > 1 {
            due.iter()
                .for_each(|index| fetch_lines(&self.flows[*index].number, 1));
            due.sort_unstable_by_key(|index| self.flows[*index].number);
        }
        Some(time)
    }

    /// Asks for the memory of a flow that is to be reported soon.
    #[inline]
    pub(super) fn fetch_whole(&self, index: u32) {
        fetch_lines(&self.flows[index], size_of::<Entry>().div_ceil(64) + 1);
    }

    /// Numbers flows from `first`, in steps.
    pub(super) fn number_from(&mut self, first: u64, step: u64) {
        (self.next_number, self.number_step) = (first, step);
    }

    fn number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += self.number_step;
        number
    }
}
