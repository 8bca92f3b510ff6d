use std::collections::VecDeque;
use std::hash::Hash;

use amoskys_core::{Seq, Timestamp};
use serde::{Deserialize, Serialize};

use super::spec::WindowSpec;
use crate::aggregate::Aggregate;
use crate::lru::{Lru, LruState};

/// Panes an entity may hold that are not closed yet, beyond those of one window.
const OPEN_PANES: usize = 64;

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

/// Sliding or tumbling windows over event time, for each of many entities.
///
/// The cost of an update does not depend on how much windows overlap. Windows come out by their end, then in
/// the order of their keys; a window without events does not come out. An entity without events in any open
/// window holds no memory.
///
/// Memory: for each entity, one aggregate per pane in which it had events, at most the panes of a window and 64
/// more.
pub struct KeyedWindows<K, A> {
    spec: WindowSpec,
    limits: Limits,
    /// Panes of each entity, in order, none empty, none older than the next window to close.
    entities: Lru<K, VecDeque<Pane<A>>>,
    /// Panes before this one have closed.
    open: Option<i64>,
    counters: WindowCounters,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Pane<A> {
    index: i64,
    first: Seq,
    last: Seq,
    aggregate: A,
}

/// The state of a set of windows between two events, to be stored and restored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WindowState<K, A> {
    entities: LruState<K, VecDeque<Pane<A>>>,
    open: Option<i64>,
    counters: WindowCounters,
}

impl<K: Clone + Eq + Hash + Ord, A: Aggregate> KeyedWindows<K, A> {
    /// Windows without events.
    #[must_use]
    pub fn new(spec: WindowSpec, limits: Limits) -> Self {
        Self {
            spec,
            limits,
            entities: Lru::new(limits.max_entities),
            open: None,
            counters: WindowCounters::default(),
        }
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
        // Nearly always the entity's last pane.
        if let Some(panes) = self.entities.get(key)
            && let Some(pane) = panes.iter_mut().rfind(|pane| pane.index <= index)
            && pane.index == index
        {
            pane.first = pane.first.min(seq);
            pane.last = pane.last.max(seq);
            change(&mut pane.aggregate);
            self.counters.accepted += 1;
            return true;
        }
        self.update_new_pane(key, index, seq, change)
    }

    fn update_new_pane(&mut self, key: &K, index: i64, seq: Seq, change: impl FnOnce(&mut A)) -> bool {
        let (panes, evicted) = self.entities.get_or_insert(key, || VecDeque::with_capacity(1));
        self.counters.evicted += u64::from(evicted.is_some());
        // A window's panes are few: at most 1024.
        let most = usize::try_from(self.spec.panes())
            .unwrap_or(usize::MAX)
            .saturating_add(OPEN_PANES);
        if panes.len() >= most {
            self.counters.ahead_dropped += 1;
            return false;
        }
        let at = panes
            .iter()
            .rposition(|pane| pane.index < index)
            .map_or(0, |at| at + 1);
        let mut pane = Pane {
            index,
            first: seq,
            last: seq,
            aggregate: A::default(),
        };
        change(&mut pane.aggregate);
        panes.insert(at, pane);
        self.counters.accepted += 1;
        true
    }

    /// Closes every window that ends at or before `watermark`. Each is shown to `emit`, by end and key.
    ///
    /// The cost depends on the windows that hold events, not on the time that went by.
    pub fn advance(&mut self, watermark: Timestamp, mut emit: impl FnMut(Closed<'_, K, A>)) {
        // The watermark's pane stays open.
        let open = self.spec.pane_of(watermark);
        if self.open.is_some_and(|before| before >= open) {
            return;
        }
        self.close_before(open, &mut emit);
        self.open = Some(open);
    }

    /// Closes windows up to the one that ends with the latest pane, and begins anew: the source has ended, and
    /// what comes next may be of any time.
    pub fn finish(&mut self, mut emit: impl FnMut(Closed<'_, K, A>)) {
        let last = self
            .entities
            .iter()
            .filter_map(|(_, panes)| panes.back())
            .map(|pane| pane.index)
            .max();
        if let Some(last) = last {
            self.close_before(last.saturating_add(1), &mut emit);
        }
        self.entities.clear();
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
            entities: self.entities.state(|_, panes| panes.clone()),
            open: self.open,
            counters: self.counters,
        }
    }

    /// Goes on from a state. What follows is the same as if the windows had never stopped.
    pub fn restore(&mut self, state: WindowState<K, A>) {
        self.entities.restore(state.entities);
        self.open = state.open;
        self.counters = state.counters;
    }

    /// Closes all panes before `open`.
    fn close_before(&mut self, open: i64, emit: &mut impl FnMut(Closed<'_, K, A>)) {
        // Skipping from one pane with events to the next keeps a leap in time from costing a loop. An entity's
        // first pane keeps its windows filled until it has slid out of them, so the next window that is not
        // empty ends with the later of the first pane to close and the earliest pane of all.
        while let Some(earliest) = self
            .entities
            .iter()
            .filter_map(|(_, p)| p.front())
            .map(|p| p.index)
            .min()
        {
            let index = self.open.map_or(earliest, |first| earliest.max(first));
            if index >= open {
                break;
            }
            self.close(index, emit);
            self.open = Some(index.saturating_add(1));
        }
    }

    /// Closes the windows that end with this pane.
    fn close(&mut self, index: i64, emit: &mut impl FnMut(Closed<'_, K, A>)) {
        let end = self.spec.start_of(index.saturating_add(1));
        let start = self.spec.start_of(index.saturating_sub(self.spec.panes() - 1));
        let begun = self
            .entities
            .iter()
            .filter(|(_, panes)| panes.front().is_some_and(|p| p.index <= index));
        let mut begun: Vec<(&K, &VecDeque<Pane<A>>)> = begun.collect();
        begun.sort_unstable_by(|a, b| a.0.cmp(b.0));
        let mut merged;
        for (key, panes) in &begun {
            let mut window = panes.iter().take_while(|pane| pane.index <= index);
            let Some(oldest) = window.next() else { continue };
            let (mut first, mut last, mut aggregate) = (oldest.first, oldest.last, &oldest.aggregate);
            if let Some(next) = window.next() {
                merged = oldest.aggregate.clone();
                for pane in std::iter::once(next).chain(window) {
                    merged.merge(&pane.aggregate);
                    first = first.min(pane.first);
                    last = last.max(pane.last);
                }
                aggregate = &merged;
            }
            emit(Closed {
                key,
                start,
                end,
                aggregate,
                first,
                last,
            });
            self.counters.closed += 1;
        }
        // The next window no longer holds the oldest pane of this one.
        let gone = index.saturating_sub(self.spec.panes() - 1);
        let aged = begun
            .iter()
            .filter(|(_, panes)| panes.front().is_some_and(|pane| pane.index <= gone));
        let aged: Vec<K> = aged.map(|(key, _)| (*key).clone()).collect();
        for key in aged {
            let Some(panes) = self.entities.peek_mut(&key) else {
                continue;
            };
            while panes.front().is_some_and(|pane| pane.index <= gone) {
                panes.pop_front();
            }
            if panes.is_empty() {
                self.entities.remove(&key);
            }
        }
    }
}
