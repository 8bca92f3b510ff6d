use std::collections::BTreeMap;
use std::hash::Hash;

use amoskys_core::{Seq, Timestamp};
use serde::{Deserialize, Serialize};

use super::few::Shop;
use super::many::{PanesState, SLIDING, Update};
use super::order::Order;
use super::panes::Panes;
use super::slices::{Owner, Slices};
use super::spec::WindowSpec;
use crate::aggregate::Aggregate;
use crate::lru::{Lru, LruState};

/// So many entities' memory is asked for at once.
const AT_ONCE: usize = 32;
/// So many entities lie between the steps in which an entity's memory is asked for when windows close: what all of them need has to
/// fit into the nearest cache.
const AHEAD: usize = 2;
/// An entity without events keeps its memory for so many slides, for it will often have some again.
const RESTING: i64 = 4;

/// What is done with an event whose pane has closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum LatePolicy {
    /// It is left out, and counted.
    #[default]
    Drop,
    /// It goes into the earliest pane that is still open, and is counted.
    Shift,
}

/// Which windows are handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Emit {
    /// Every window that holds an event: one of each entity after each slide, as long as its events are in the window.
    #[default]
    Every,
    /// Those that hold other events than the window before: where a pane with events came in or went out. So an
    /// event causes two windows at most, however much windows overlap.
    Changed,
}

/// Limits of a set of windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Limits {
    /// How many entities are kept at once; when one more comes, the one without events for longest, or nearly, is
    /// forgotten, and counted. Default 4096.
    pub max_entities: usize,
    /// What is done with late events. Default: they are dropped.
    pub late: LatePolicy,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_entities: 4096,
            late: LatePolicy::Drop,
        }
    }
}

/// What became of the events and entities of a set of windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowCounters {
    /// Updates that went into a pane.
    pub accepted: u64,
    /// Updates left out because their pane had closed.
    pub late_dropped: u64,
    /// Updates moved to a later pane because theirs had closed. They count as accepted too.
    pub late_shifted: u64,
    /// Updates left out because the entity holds too many panes that the watermark has not reached.
    pub ahead_dropped: u64,
    /// Entities forgotten because there were too many.
    pub evicted: u64,
    /// Windows handed out.
    pub closed: u64,
}

impl WindowCounters {
    pub(crate) const fn and(&self, other: &Self) -> Self {
        Self {
            accepted: self.accepted + other.accepted,
            late_dropped: self.late_dropped + other.late_dropped,
            late_shifted: self.late_shifted + other.late_shifted,
            ahead_dropped: self.ahead_dropped + other.ahead_dropped,
            evicted: self.evicted + other.evicted,
            closed: self.closed + other.closed,
        }
    }
}

/// A window that has closed.
#[derive(Debug)]
pub struct Closed<'a, K, A> {
    /// Whom it is about.
    pub key: &'a K,
    /// Its start, inclusive.
    pub start: Timestamp,
    /// Its end, exclusive.
    pub end: Timestamp,
    /// What was computed over it.
    pub aggregate: &'a A,
    /// Number of the first event in it.
    pub first: Seq,
    /// Number of the last event in it.
    pub last: Seq,
}

/// A window that closes, before its aggregate was made.
pub(crate) struct Closing<'a, K, A: Aggregate> {
    pub(crate) key: &'a K,
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    /// Where the entity is; it stays there as long as it is known.
    pub(crate) slot: u32,
    /// Whether it holds other events than the window of this entity before. If not, its aggregate is the same, bit for bit.
    pub(crate) changed: bool,
    panes: &'a Panes<A>,
    index: i64,
    all: i64,
    shop: &'a mut Shop<A>,
}

impl<K, A: Aggregate> Closing<'_, K, A> {
    /// The aggregate, and the first and last event.
    pub(crate) fn window(&mut self) -> Option<(&A, Seq, Seq)> {
        self.panes.window(self.index, self.all, self.shop)
    }
}

/// Hands out a window as those outside of this crate see it.
fn whole<K, A: Aggregate>(emit: &mut impl FnMut(Closed<'_, K, A>), mut closing: Closing<'_, K, A>) {
    let (key, start, end) = (closing.key, closing.start, closing.end);
    if let Some((aggregate, first, last)) = closing.window() {
        emit(Closed {
            key,
            start,
            end,
            aggregate,
            first,
            last,
        });
    }
}

/// Sliding or tumbling windows over event time, for each of many entities.
///
/// What is done for an update does not depend on how much windows overlap, and neither does what is done for a window
/// that is handed out: it [slides](crate::aggregate::Sliding) from one pane to the next, or is made in a few merges,
/// because what the past panes of an entity amount to is kept (the two stacks of Tangwongsan and others, "In-order
/// sliding-window aggregation in worst-case constant time", VLDB J. 2021, with at most 32 sums kept). How many windows
/// are handed out does depend on the overlap, unless they are those that [changed](Emit::Changed); and entities of many
/// panes need more memory, whose distance from the processor costs time.
///
/// Windows come out by their end, then in the order of their keys; a window without events does not come out.
///
/// Memory: for each entity, one aggregate per pane in which it had events, at most the panes of a window and 64
/// more; and for windows of more than three panes one of the window, or at most 33 sums of several panes. As long as
/// panes are small, up to 1 KiB each and 16 KiB those of an entity that have not closed, and the aggregates [can be
/// packed](Aggregate::PACKS), they are kept as bytes, about 140 for an event counted by ten aggregates. Where windows slide,
/// packed panes that have closed lie together by their time: those of an entity that was forgotten stay there until no window
/// would hold them. Panes that have gone leave their memory to those that come. An entity without events in any open
/// window holds no memory four slides later, and earlier where others need its place.
pub struct KeyedWindows<K, A: Aggregate> {
    spec: WindowSpec,
    limits: Limits,
    emit: Emit,
    entities: Lru<K, Panes<A>>,
    /// Panes before this one have closed.
    open: Option<i64>,
    /// Where entities are whose windows change when this pane closes. Some have gone since, or are listed twice.
    /// Empty if every window is handed out.
    due: BTreeMap<i64, Vec<u32>>,
    counters: WindowCounters,
    /// Where panes are changed and windows made: one for all, so that none needs memory of its own.
    shop: Shop<A>,
    slices: Slices,
    order: Order<K>,
    /// Where entities are whose windows close: kept for its memory.
    closing: Vec<u32>,
}

/// The state of a set of windows between two events, to be stored and restored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WindowState<K, A> {
    format: Format,
    entities: LruState<K, PanesState<A>>,
    open: Option<i64>,
    counters: WindowCounters,
}

/// Says that what follows is the state of windows as this version writes it: others are refused.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
struct Format;

impl Format {
    /// "win2". The first version began with the number of entities, which is always less.
    const NUMBER: u32 = u32::from_be_bytes(*b"win2");
}

impl From<Format> for u32 {
    fn from(_: Format) -> Self {
        Format::NUMBER
    }
}

impl TryFrom<u32> for Format {
    type Error = &'static str;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        if number == Self::NUMBER {
            Ok(Self)
        } else {
            Err("not the state of windows, or of another version")
        }
    }
}

impl<K: Clone + Eq + Hash + Ord, A: Aggregate> KeyedWindows<K, A> {
    /// Windows without events.
    #[must_use]
    pub fn new(spec: WindowSpec, limits: Limits) -> Self {
        Self {
            spec,
            limits,
            emit: Emit::default(),
            entities: Lru::new(limits.max_entities),
            open: None,
            due: BTreeMap::new(),
            counters: WindowCounters::default(),
            shop: Shop::default(),
            slices: Slices::default(),
            order: Order::default(),
            closing: Vec::new(),
        }
    }

    /// Sets which windows are handed out. Default: every one that holds an event. It is set before the first event.
    #[must_use]
    pub const fn emitting(mut self, emit: Emit) -> Self {
        self.emit = emit;
        self
    }

    /// Takes something that happened to an entity: `change` is applied to the aggregate of its pane. Says
    /// whether it was; what became of it otherwise is counted.
    pub fn update(&mut self, key: &K, time: Timestamp, seq: Seq, change: impl FnOnce(&mut A)) -> bool {
        let mut index = self.spec.pane_of(time);
        if let Some(open) = self.open
            && index < open
        {
            match self.limits.late {
                LatePolicy::Drop => {
                    self.counters.late_dropped += 1;
                    return false;
                }
                LatePolicy::Shift => {
                    self.counters.late_shifted += 1;
                    index = open;
                }
            }
        }
        let all = self.spec.panes();
        let mut came = false;
        let (slot, panes, evicted) = self.entities.get_or_insert_at(key, || {
            came = true;
            Panes::new(all, &mut self.slices)
        });
        self.counters.evicted += u64::from(evicted.is_some());
        if came {
            self.order.insert(slot);
        }
        let update = panes.update(index, seq, all, &mut self.shop, &self.slices, change);
        if update == Update::Refused {
            self.counters.ahead_dropped += 1;
            return false;
        }
        if update == Update::NewPane && self.emit == Emit::Changed {
            self.due.entry(index).or_default().push(slot);
        }
        self.counters.accepted += 1;
        true
    }

    /// Takes several things that happened, in order: `of` says to whom, when and by which event, `change` what it does
    /// to the aggregate. It comes to the same as an [`update`](Self::update) each.
    ///
    /// Where entities are many, most of the time of an update is spent on waiting for their memory. Here that of
    /// several is asked for at once.
    pub fn update_all<E>(
        &mut self,
        events: &[E],
        of: impl Fn(&E) -> (&K, Timestamp, Seq),
        mut change: impl FnMut(&mut A, &E),
    ) {
        for part in events.chunks(AT_ONCE) {
            let mut slots = [u32::MAX; AT_ONCE];
            for (slot, event) in slots.iter_mut().zip(part) {
                *slot = self.entities.probable_slot(of(event).0).unwrap_or(u32::MAX);
            }
            // What is asked for at one step has mostly come by the next.
            slots.iter().for_each(|&slot| self.entities.prefetch(slot));
            self.prefetch(&slots, Panes::prefetch);
            self.prefetch(&slots, Panes::prefetch_parts);
            for (event, slot) in part.iter().zip(slots) {
                let (key, time, seq) = of(event);
                self.entities.expect(slot);
                self.update(key, time, seq, |aggregate| change(aggregate, event));
            }
        }
    }

    /// Asks for memory of several entities. One after the other each would be waited for; so, all come at once.
    fn prefetch(&self, slots: &[u32], prefetch: impl Fn(&Panes<A>)) {
        slots
            .iter()
            .filter_map(|&slot| self.entities.value(slot))
            .for_each(prefetch);
    }

    /// Closes every window that ends at or before `watermark`. Each is shown to `emit`, by end and key.
    ///
    /// The cost depends on the windows that hold events, not on the time that went by.
    pub fn advance(&mut self, watermark: Timestamp, mut emit: impl FnMut(Closed<'_, K, A>)) {
        self.advance_with(watermark, |closing| whole(&mut emit, closing));
    }

    /// As [`advance`](Self::advance), with aggregates made only where they are asked for.
    pub(crate) fn advance_with(&mut self, watermark: Timestamp, mut emit: impl FnMut(Closing<'_, K, A>)) {
        // The watermark's pane stays open.
        let open = self.spec.pane_of(watermark);
        if self.open.is_some_and(|before| before >= open) {
            return;
        }
        self.close_before(open, &mut emit);
        self.open = Some(open);
        let enough = |panes: &Panes<A>| open.saturating_sub(panes.empty_since()) > RESTING;
        while self.entities.rested().is_some_and(enough) {
            self.entities.release();
        }
    }

    /// Closes windows up to the one that ends with the latest pane, and begins anew: the source has ended, and
    /// what comes next may be of any time.
    pub fn finish(&mut self, mut emit: impl FnMut(Closed<'_, K, A>)) {
        self.finish_with(|closing| whole(&mut emit, closing));
    }

    /// As [`finish`](Self::finish), with aggregates made only where they are asked for.
    pub(crate) fn finish_with(&mut self, mut emit: impl FnMut(Closing<'_, K, A>)) {
        let last = self.entities.iter().filter_map(|(_, panes)| panes.last()).max();
        if let Some(last) = last {
            self.close_before(last.saturating_add(1), &mut emit);
        }
        self.entities.clear();
        self.order.clear();
        self.slices.clear();
        self.due.clear();
        self.open = None;
    }

    /// How many entities there are now.
    #[must_use]
    pub fn entities(&self) -> usize {
        self.entities.len()
    }

    /// What became of events and entities so far.
    #[must_use]
    pub const fn counters(&self) -> WindowCounters {
        self.counters
    }

    /// The length and slide of the windows.
    #[must_use]
    pub const fn spec(&self) -> WindowSpec {
        self.spec
    }

    /// The state, to be given to [`restore`](Self::restore) of windows of the same specification and limits.
    #[must_use]
    pub fn state(&self) -> WindowState<K, A> {
        WindowState {
            format: Format,
            entities: self.entities.state(|_, panes| panes.state(&self.slices)),
            open: self.open,
            counters: self.counters,
        }
    }

    /// Goes on from a state. What follows is the same as if the windows had never stopped.
    pub fn restore(&mut self, state: WindowState<K, A>) {
        let all = self.spec.panes();
        self.slices.clear();
        // What is made cannot fail.
        let restored = state.entities.try_map(|panes| {
            Ok::<_, std::convert::Infallible>(Panes::restored(panes, all, state.open, &mut self.slices))
        });
        let Ok(restored) = restored;
        self.entities.restore(restored);
        self.order.clear();
        for (slot, ..) in self.entities.iter_at() {
            self.order.insert(slot);
        }
        self.open = state.open;
        self.counters = state.counters;
        self.due.clear();
        if self.emit == Emit::Changed {
            for (slot, _, panes) in self.entities.iter_at() {
                for index in panes.indices() {
                    let closed = self.open.is_some_and(|open| index < open);
                    let due = if closed { index.saturating_add(all) } else { index };
                    self.due.entry(due).or_default().push(slot);
                }
            }
        }
        self.settle();
    }

    /// Puts panes into slices that have closed, by their time and then the key, if windows slide.
    fn settle(&mut self) {
        if self.spec.panes() < SLIDING {
            return;
        }
        let open = self.open.unwrap_or(i64::MIN);
        let mut closed = Vec::new();
        for (slot, key, panes) in self.entities.iter_at() {
            let indices = panes.indices().into_iter().filter(|&index| index < open);
            closed.extend(indices.map(|index| (index, key.clone(), slot)));
        }
        closed.sort_unstable();
        for (index, _, slot) in closed {
            if let Some((_, panes)) = self.entities.at_mut(slot) {
                panes.settle(index, slot, &mut self.slices);
            }
        }
        let slots: Vec<u32> = self.entities.iter_at().map(|(slot, ..)| slot).collect();
        for slot in slots {
            if let Some((_, panes)) = self.entities.at_mut(slot) {
                panes.settled();
            }
        }
    }

    /// Closes all panes before `open`.
    fn close_before(&mut self, open: i64, emit: &mut impl FnMut(Closing<'_, K, A>)) {
        // Skipping from one pane with events to the next keeps a leap in time from costing a loop.
        while let Some(index) = self.next_close() {
            if index >= open {
                break;
            }
            self.close(index, emit);
            self.open = Some(index.saturating_add(1));
        }
    }

    /// The pane with which the next window ends that is handed out.
    fn next_close(&self) -> Option<i64> {
        if self.emit == Emit::Changed {
            return self.due.keys().next().copied();
        }
        // An entity's first pane keeps its windows filled until it has slid out of them, so the next window that is
        // not empty ends with the later of the first pane to close and the earliest pane of all.
        let earliest = self
            .entities
            .iter()
            .filter_map(|(_, panes)| panes.first())
            .min()?;
        Some(self.open.map_or(earliest, |first| earliest.max(first)))
    }

    /// Closes the windows that end with this pane.
    fn close(&mut self, index: i64, emit: &mut impl FnMut(Closing<'_, K, A>)) {
        let all = self.spec.panes();
        let end = self.spec.start_of(index.saturating_add(1));
        let start = self.spec.start_of(index.saturating_sub(all - 1));
        let mut slots = std::mem::take(&mut self.closing);
        slots.clear();
        if self.emit == Emit::Changed {
            slots.append(&mut self.due.remove(&index).unwrap_or_default());
        } else {
            let begun = |entry: &(u32, &K, &Panes<A>)| entry.2.first().is_some_and(|first| first <= index);
            slots.extend(self.entities.iter_at().filter(begun).map(|(slot, ..)| slot));
        }
        self.order.sort(&mut slots, &self.entities);
        self.slices.begin(index, index.saturating_sub(all - 1));
        for (at, &slot) in slots.iter().enumerate() {
            // Each entity is asked for in three steps, and what was asked for at one has mostly come by the next.
            if let Some(&slot) = slots.get(at + 3 * AHEAD) {
                self.entities.prefetch(slot);
            }
            if let Some(panes) = slots
                .get(at + 2 * AHEAD)
                .and_then(|&slot| self.entities.value(slot))
            {
                panes.prefetch_ends();
            }
            if let Some(panes) = slots.get(at + AHEAD).and_then(|&slot| self.entities.value(slot)) {
                panes.prefetch_window();
            }
            let there = |owner: Owner| {
                self.entities
                    .at(owner.slot)
                    .is_some_and(|(_, panes)| panes.is(owner))
            };
            let leaves = self.slices.leaves(slot, there);
            let Some((key, panes)) = self.entities.at_mut(slot) else {
                continue;
            };
            let change = panes.close(index, all, slot, leaves, &mut self.slices, &mut self.shop);
            if leaves {
                self.slices.left();
            }
            if self.emit == Emit::Changed {
                if change.came && all > 1 {
                    // It goes out again when that pane does.
                    self.due.entry(index.saturating_add(all)).or_default().push(slot);
                }
                if !change.came && !change.went {
                    // The entity it was listed for has gone, and this is another in its place.
                    continue;
                }
            }
            let lost = panes.take_lost();
            if panes.first().is_some_and(|first| first <= index) {
                emit(Closing {
                    key,
                    start,
                    end,
                    slot,
                    changed: change.came || change.went || lost,
                    panes,
                    index,
                    all,
                    shop: &mut self.shop,
                });
                self.counters.closed += 1;
            }
            // The next window no longer holds the oldest pane; where windows slide it goes when it is its turn.
            if all == 1 || (self.emit == Emit::Every && all < SLIDING) {
                panes.prepare(index.saturating_add(1), all);
            }
            if panes.first().is_none() {
                self.entities.rest(slot);
            }
        }
        self.slices.end();
        self.closing = slots;
    }
}
