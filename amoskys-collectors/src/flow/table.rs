//! The flows, and the ways to find them: by key, by time, by use.

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

    /// Begins a flow whose key is not in the table.
    pub(super) fn insert(&mut self, hash: u32, key: Key, descending: bool, time: i64) -> u32 {
        let index = self.flows.allocate();
        self.recency.cover(index);
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
        self.wheel.cancel(&mut self.flows, index);
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
        self.wheel.set(&mut self.flows, index, nanos);
    }

    /// The flows whose timers fire next, by the beginning of `clock`, and when.
    #[inline]
    pub(super) fn take_due(&mut self, clock: Tick, due: &mut Vec<u32>) -> Option<i64> {
        self.wheel.take_due(&mut self.flows, clock, due)
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
