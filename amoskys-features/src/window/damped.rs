use std::hash::Hash;
use std::time::Duration;

use amoskys_core::{Seq, Timestamp};
use serde::{Deserialize, Serialize};

use super::keyed::{Closed, LatePolicy, Limits, WindowCounters};
use super::spec::WindowSpec;
use crate::aggregate::Aggregate;
use crate::lru::{Lru, LruState};

/// Windows without an end, for each of many entities: aggregates that forget by themselves, such as
/// [`Damped`](crate::aggregate::Damped), handed out from time to time.
///
/// After each period of event time, the aggregate of each entity that had an event since it was last handed out comes
/// out as it is then, in the order of keys; the window it states ends with the period and begins with the entity's
/// first event. An entity without events for the horizon is forgotten, and counted nowhere: its aggregate has
/// faded. One that has to go because there are too many is counted as evicted.
///
/// An event is late if its period has come out. By [`LatePolicy::Shift`] it is taken all the same, at its own time, for
/// a damped sum knows what it still weighs.
///
/// Memory: one aggregate per entity.
pub struct DampedWindows<K, A> {
    /// Tumbling windows of the period.
    period: WindowSpec,
    horizon: Duration,
    limits: Limits,
    entities: Lru<K, Fading<A>>,
    /// Entities with events that have not come out yet. Some have gone since, or are listed twice.
    touched: Vec<u32>,
    open: Option<i64>,
    counters: WindowCounters,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Fading<A> {
    start: Timestamp,
    latest: Timestamp,
    /// It had an event since it was handed out.
    touched: bool,
    first: Seq,
    last: Seq,
    aggregate: A,
}

/// The state of damped windows between two events, to be stored and restored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DampedState<K, A> {
    entities: LruState<K, Fading<A>>,
    open: Option<i64>,
    counters: WindowCounters,
}

impl<K: Clone + Eq + Hash + Ord, A: Aggregate> DampedWindows<K, A> {
    /// Windows without events. `period` says how often they come out: after each of its slides. Entities without
    /// events for `horizon` are forgotten; 20/λ of the slowest rate leaves a millionth of what they were.
    #[must_use]
    pub fn new(period: WindowSpec, horizon: Duration, limits: Limits) -> Self {
        Self {
            period,
            horizon,
            limits,
            entities: Lru::new(limits.max_entities),
            touched: Vec::new(),
            open: None,
            counters: WindowCounters::default(),
        }
    }

    /// Takes something that happened to an entity: `change` is applied to its aggregate, which is returned as it is
    /// then; `None` if the event is late.
    pub fn update(&mut self, key: &K, time: Timestamp, seq: Seq, change: impl FnOnce(&mut A)) -> Option<&A> {
        let index = self.period.pane_of(time);
        if self.open.is_some_and(|open| index < open) {
            if self.limits.late == LatePolicy::Drop {
                self.counters.late_dropped += 1;
                return None;
            }
            self.counters.late_shifted += 1;
        }
        let (slot, entity, evicted) = self.entities.get_or_insert_at(key, || Fading {
            start: time,
            latest: time,
            touched: false,
            first: seq,
            last: seq,
            aggregate: A::default(),
        });
        self.counters.evicted += u64::from(evicted.is_some());
        if !entity.touched {
            self.touched.push(slot);
            (entity.touched, entity.first, entity.last) = (true, seq, seq);
        }
        entity.latest = entity.latest.max(time);
        entity.first = entity.first.min(seq);
        entity.last = entity.last.max(seq);
        change(&mut entity.aggregate);
        self.counters.accepted += 1;
        Some(&entity.aggregate)
    }

    /// Hands out what changed, if a period has ended at or before `watermark`, as of the last that has. The events
    /// stated are those since it was handed out before.
    pub fn advance(&mut self, watermark: Timestamp, mut emit: impl FnMut(Closed<'_, K, A>)) {
        let open = self.period.pane_of(watermark);
        if self.open.is_some_and(|before| before >= open) {
            return;
        }
        self.open = Some(open);
        self.hand_out(self.period.start_of(open), &mut emit);
        // The order of use is nearly that of time; what is left behind goes a little later.
        while let Some((_, entity)) = self.entities.oldest()
            && watermark.since(entity.latest) >= self.horizon
        {
            self.entities.pop_oldest();
        }
    }

    /// Hands out what changed, and begins anew: the source has ended, and what comes next may be of any time.
    pub fn finish(&mut self, mut emit: impl FnMut(Closed<'_, K, A>)) {
        let latest = self.entities.iter().map(|(_, entity)| entity.latest).max();
        if let Some(latest) = latest {
            let end = self.period.pane_of(latest).saturating_add(1);
            self.hand_out(self.period.start_of(end), &mut emit);
        }
        self.entities.clear();
        self.touched.clear();
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

    /// The state, to be given to [`restore`](Self::restore) of windows of the same period, horizon and limits.
    #[must_use]
    pub fn state(&self) -> DampedState<K, A> {
        DampedState {
            entities: self.entities.state(|_, entity| entity.clone()),
            open: self.open,
            counters: self.counters,
        }
    }

    /// Goes on from a state. What follows is the same as if the windows had never stopped.
    pub fn restore(&mut self, state: DampedState<K, A>) {
        self.entities.restore(state.entities);
        self.open = state.open;
        self.counters = state.counters;
        let touched = self.entities.iter_at().filter(|entry| entry.2.touched);
        self.touched = touched.map(|(slot, ..)| slot).collect();
    }

    fn hand_out(&mut self, end: Timestamp, emit: &mut impl FnMut(Closed<'_, K, A>)) {
        let slots = std::mem::take(&mut self.touched);
        let entities = &self.entities;
        let touched = |slot: u32| entities.at(slot).filter(|entry| entry.1.touched);
        let mut keyed: Vec<(&K, u32)> = slots
            .into_iter()
            .filter_map(|slot| Some((touched(slot)?.0, slot)))
            .collect();
        keyed.sort_unstable();
        keyed.dedup();
        let slots: Vec<u32> = keyed.into_iter().map(|(_, slot)| slot).collect();
        for slot in slots {
            let Some((key, entity)) = self.entities.at_mut(slot) else {
                continue;
            };
            entity.touched = false;
            emit(Closed {
                key,
                start: entity.start,
                end,
                aggregate: &entity.aggregate,
                first: entity.first,
                last: entity.last,
            });
            self.counters.closed += 1;
        }
    }
}
