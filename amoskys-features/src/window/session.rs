use std::collections::BTreeSet;
use std::hash::Hash;
use std::time::Duration;

use amoskys_core::{Seq, Timestamp};
use serde::{Deserialize, Serialize};

use super::keyed::{Closed, LatePolicy, Limits, WindowCounters};
use super::spec::SpecError;
use crate::aggregate::Aggregate;
use crate::lru::{Lru, LruState};

/// Sessions of one entity that are open at once: only events out of order open a second one.
const OPEN_SESSIONS: usize = 16;

/// When a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionSpec {
    gap: Duration,
    longest: Duration,
}

impl SessionSpec {
    /// A session ends when its entity has no event for `gap`, or with an event `longest` or more after its first,
    /// which begins the next one.
    ///
    /// # Errors
    ///
    /// If `gap` is below a microsecond, or `longest` is not at least `gap`, or is above a year.
    pub fn new(gap: Duration, longest: Duration) -> Result<Self, SpecError> {
        const YEAR: Duration = Duration::from_secs(366 * 86_400);
        if gap < Duration::from_micros(1) || longest < gap || longest > YEAR {
            return Err(SpecError::Session { gap, longest });
        }
        Ok(Self { gap, longest })
    }

    /// So long a pause ends a session.
    #[must_use]
    pub const fn gap(&self) -> Duration {
        self.gap
    }

    /// No two events of a session are so far apart.
    #[must_use]
    pub const fn longest(&self) -> Duration {
        self.longest
    }
}

/// Sessions over event time, for each of many entities: stretches of events with no pause as long as a gap.
///
/// An event out of order may join two sessions into one. A session comes out once the watermark has passed its last
/// event by the gap; its window is from its first event to its last event and the gap. Sessions come out by that
/// end, then in the order of their keys.
///
/// An event is late if a session of its own would have closed, and none that is open takes it in. By
/// [`LatePolicy::Shift`] it is taken as one at the watermark.
///
/// Memory: one aggregate per session that is open; nearly always one an entity, at most 16.
pub struct SessionWindows<K, A> {
    spec: SessionSpec,
    limits: Limits,
    entities: Lru<K, Vec<Session<A>>>,
    watermark: Timestamp,
    /// When to look at an entity, at the latest when its first session closes. Some have gone since.
    due: BTreeSet<(Timestamp, u32)>,
    counters: WindowCounters,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Session<A> {
    start: Timestamp,
    /// Time of the last event.
    end: Timestamp,
    first: Seq,
    last: Seq,
    aggregate: A,
}

/// The state of sessions between two events, to be stored and restored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionState<K, A> {
    entities: LruState<K, Vec<Session<A>>>,
    watermark: Timestamp,
    counters: WindowCounters,
}

impl<K: Clone + Eq + Hash + Ord, A: Aggregate> SessionWindows<K, A> {
    /// Sessions without events.
    #[must_use]
    pub fn new(spec: SessionSpec, limits: Limits) -> Self {
        Self {
            spec,
            limits,
            entities: Lru::new(limits.max_entities),
            watermark: Timestamp::MIN,
            due: BTreeSet::new(),
            counters: WindowCounters::default(),
        }
    }

    /// Takes something that happened to an entity: `change` is applied to the aggregate of its session. Says
    /// whether it was; what became of it otherwise is counted.
    pub fn update(&mut self, key: &K, time: Timestamp, seq: Seq, change: impl FnOnce(&mut A)) -> bool {
        let SessionSpec { gap, longest } = self.spec;
        let mut time = time;
        if time.plus(gap) <= self.watermark {
            let mine = self.entities.peek_mut(key);
            let taken = mine.is_some_and(|open| open.iter().any(|session| session.takes(time, gap, longest)));
            if !taken {
                if self.limits.late == LatePolicy::Drop {
                    self.counters.late_dropped += 1;
                    return false;
                }
                self.counters.late_shifted += 1;
                time = self.watermark;
            }
        }
        let (slot, open, evicted) = self.entities.get_or_insert_at(key, Vec::new);
        self.counters.evicted += u64::from(evicted.is_some());
        let at = if let Some(at) = open.iter().position(|session| session.takes(time, gap, longest)) {
            let session = &mut open[at];
            session.start = session.start.min(time);
            session.end = session.end.max(time);
            session.first = session.first.min(seq);
            session.last = session.last.max(seq);
            at
        } else {
            if open.len() >= OPEN_SESSIONS {
                self.counters.ahead_dropped += 1;
                return false;
            }
            let at = open.partition_point(|session| session.start <= time);
            let session = Session {
                start: time,
                end: time,
                first: seq,
                last: seq,
                aggregate: A::default(),
            };
            open.insert(at, session);
            self.due.insert((time.plus(gap), slot));
            at
        };
        change(&mut open[at].aggregate);
        if open.len() > 1 {
            join(open, at, gap, longest);
        }
        self.counters.accepted += 1;
        true
    }

    /// Closes every session whose last event lies the gap or more before `watermark`. Each is shown to `emit`, by end
    /// and key.
    pub fn advance(&mut self, watermark: Timestamp, emit: impl FnMut(Closed<'_, K, A>)) {
        if watermark <= self.watermark {
            return;
        }
        self.watermark = watermark;
        let gap = self.spec.gap;
        let mut closed: Vec<(Timestamp, K, Session<A>)> = Vec::new();
        while let Some(&(time, slot)) = self.due.first()
            && time <= watermark
        {
            self.due.pop_first();
            let Some((key, open)) = self.entities.at_mut(slot) else {
                continue;
            };
            // Sessions do not overlap, so the first to close comes first.
            while let Some(session) = open.first()
                && session.end.plus(gap) <= watermark
            {
                closed.push((session.end.plus(gap), key.clone(), open.remove(0)));
            }
            match open.first() {
                Some(session) => {
                    self.due.insert((session.end.plus(gap), slot));
                }
                None => {
                    let key = key.clone();
                    self.entities.remove(&key);
                }
            }
        }
        self.hand_out(closed, emit);
    }

    /// Closes all sessions, and begins anew: the source has ended, and what comes next may be of any time.
    pub fn finish(&mut self, emit: impl FnMut(Closed<'_, K, A>)) {
        let mut closed = Vec::new();
        while let Some((key, open)) = self.entities.pop_oldest() {
            closed.extend(
                open.into_iter()
                    .map(|session| (session.end.plus(self.spec.gap), key.clone(), session)),
            );
        }
        self.due.clear();
        self.watermark = Timestamp::MIN;
        self.hand_out(closed, emit);
    }

    /// How many entities have an open session.
    #[must_use]
    pub fn entities(&self) -> usize {
        self.entities.len()
    }

    /// What became of events and entities so far.
    #[must_use]
    pub const fn counters(&self) -> WindowCounters {
        self.counters
    }

    /// The state, to be given to [`restore`](Self::restore) of sessions of the same specification and limits.
    #[must_use]
    pub fn state(&self) -> SessionState<K, A> {
        SessionState {
            entities: self.entities.state(|_, open| open.clone()),
            watermark: self.watermark,
            counters: self.counters,
        }
    }

    /// Goes on from a state. What follows is the same as if the sessions had never stopped.
    pub fn restore(&mut self, state: SessionState<K, A>) {
        self.entities.restore(state.entities);
        self.watermark = state.watermark;
        self.counters = state.counters;
        let gap = self.spec.gap;
        let due = self
            .entities
            .iter_at()
            .filter_map(|(slot, _, open)| Some((open.first()?.end.plus(gap), slot)));
        self.due = due.collect();
    }

    fn hand_out(
        &mut self,
        mut closed: Vec<(Timestamp, K, Session<A>)>,
        mut emit: impl FnMut(Closed<'_, K, A>),
    ) {
        closed.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        for (end, key, session) in &closed {
            emit(Closed {
                key,
                start: session.start,
                end: *end,
                aggregate: &session.aggregate,
                first: session.first,
                last: session.last,
            });
            self.counters.closed += 1;
        }
    }
}

impl<A> Session<A> {
    fn takes(&self, time: Timestamp, gap: Duration, longest: Duration) -> bool {
        let near = time.since(self.end) < gap && self.start.since(time) < gap;
        near && time.since(self.start) < longest && self.end.since(time) < longest
    }
}

/// Joins the session at `at`, which has grown, with those it touches now.
fn join<A: Aggregate>(open: &mut Vec<Session<A>>, at: usize, gap: Duration, longest: Duration) {
    for left in [at, at.wrapping_sub(1)] {
        let (Some(earlier), Some(later)) = (open.get(left), open.get(left.wrapping_add(1))) else {
            continue;
        };
        let end = earlier.end.max(later.end);
        if later.start.since(earlier.end) < gap && end.since(earlier.start) < longest {
            let later = open.remove(left + 1);
            let earlier = &mut open[left];
            earlier.end = end;
            earlier.first = earlier.first.min(later.first);
            earlier.last = earlier.last.max(later.last);
            earlier.aggregate.merge(&later.aggregate);
        }
    }
}
