//! Brings the events of several agents into one order: that of their times.
//!
//! What one agent sent stays in the order in which it was sent. Between agents the earlier event comes first, by the
//! highest time its agent had reached when it was sent; so an event has to wait until every other agent has come
//! as far, in an event or a punctuation. With a single agent nothing ever waits, and nothing changes.
//!
//! How long is measured by nothing but the log: the one who keeps it states its clock there now and then (a
//! punctuation of the source [`CLOCK_SOURCE`]). So the same log gives the same order each time it is read.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::batch::Recorded;
use crate::config::AnalysisSettings;
use crate::event::{FlowKey, Payload};
use crate::id::{Name, Offset, StreamId};
use crate::record::CLOCK_SOURCE;
use crate::seal::Opened;
use crate::time::Timestamp;

/// How the streams of several agents are merged. Each setting has a default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergeOptions {
    /// Agents that are waited for until they are heard of for the first time, however long it takes. Default: none.
    pub expect: BTreeSet<Name>,
    /// How long an event waits for agents that are behind, by the clock of the log it comes from. Default 10 s.
    ///
    /// After that, an agent that was silent for as long is not waited for until it has caught up; and where the
    /// agents that are behind are not silent, their clocks disagree, and the event goes on by a timeline of its own.
    pub max_wait: Duration,
    /// Leaves out what comes after later events of the common timeline, and counts it as dropped, reason `late`.
    /// Default: no; it is shown, by a timeline of its agent's own.
    pub drop_late: bool,
    /// How many events may wait at most. Default 100 000. Beyond it, who is behind is not waited for.
    pub max_events: usize,
}

impl Default for MergeOptions {
    fn default() -> Self {
        Self {
            expect: BTreeSet::new(),
            max_wait: Duration::from_secs(10),
            drop_late: false,
            max_events: 100_000,
        }
    }
}

impl From<&AnalysisSettings> for MergeOptions {
    fn from(settings: &AnalysisSettings) -> Self {
        Self {
            max_wait: settings.max_wait,
            ..Self::default()
        }
    }
}

/// The agents' events on their way into one order.
#[derive(Debug)]
pub(super) struct Merge {
    options: MergeOptions,
    agents: BTreeMap<Name, Agent>,
    order: Order,
    /// All who are expected have been heard of.
    complete: bool,
    /// Number of the next event of each stream.
    next: BTreeMap<Arc<StreamId>, u64>,
    /// The time that was reached on the common timeline.
    now: Timestamp,
    /// The clock of the log, as stated last.
    clock: Option<Timestamp>,
    waiting: usize,
    /// The first offset that was not taken in.
    end: Offset,
    /// Records below this were taken in before, and some of their events shown.
    again: Offset,
    pub(super) counts: MergeCounts,
}

/// What did not go as it should.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MergeCounts {
    /// Events left out because they came after later ones of the common timeline.
    pub(super) late: u64,
    /// Events by a timeline of their agent's own.
    pub(super) apart: u64,
    /// Events that are missing in their streams.
    pub(super) missing: u64,
}

#[derive(Debug)]
struct Agent {
    /// The agent's own timeline, where it needs one.
    timeline: u32,
    queue: VecDeque<Item>,
    /// The latest time it has reached.
    reached: Timestamp,
    /// The same of what has left the queue.
    left: Timestamp,
    /// When it was heard of last, by the clock of the log.
    heard: Option<Timestamp>,
    pace: Pace,
    ended: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Pace {
    /// It shares the common timeline.
    #[default]
    Together,
    /// It is silent, and not waited for.
    Silent,
    /// Its clock disagrees with the others': it has a timeline of its own, and waits for nobody.
    Apart,
}

/// Where the agents stand, so that for an event nobody has to ask all of them.
#[derive(Debug, Default)]
struct Order {
    /// Of those who share the common timeline and have events waiting, the next one's first.
    next: BTreeSet<Next>,
    /// Those who share it, have nothing waiting and have not ended, by the time they have reached.
    behind: BTreeSet<(Timestamp, Name)>,
    /// Those who do not share it and have events waiting.
    apart: BTreeSet<Name>,
}

/// An agent's next event: the time reached, when its flow began, and whose it is.
type Next = (Timestamp, Option<(Timestamp, FlowKey)>, Name);

#[derive(Debug)]
struct Item {
    reached: Timestamp,
    offset: Offset,
    /// By the clock of the log.
    came: Option<Timestamp>,
    event: Recorded,
}

impl Merge {
    pub(super) fn new(options: MergeOptions) -> Self {
        Self {
            options,
            agents: BTreeMap::new(),
            order: Order::default(),
            complete: false,
            next: BTreeMap::new(),
            now: Timestamp::MIN,
            clock: None,
            waiting: 0,
            end: Offset(0),
            again: Offset(0),
            counts: MergeCounts::default(),
        }
    }

    /// Takes in a record that lies at `offset`.
    pub(super) fn push(&mut self, offset: Offset, opened: Opened) {
        self.end = offset.next();
        if opened.source.as_str() == CLOCK_SOURCE {
            let stated = opened.events.last().map(|event| event.time);
            self.clock = self.clock.max(stated);
            return;
        }
        let next = self.next.entry(opened.stream.clone()).or_insert(opened.first.0);
        self.counts.missing += opened.first.0.saturating_sub(*next);
        if opened.gap.is_some() {
            let first = opened.first.0.max(*next);
            self.counts.missing += (opened.last.0 + 1).saturating_sub(first);
        }
        let shown = if offset < self.again { *next } else { 0 };
        *next = opened.last.0.saturating_add(1).max(shown);
        let clock = self.clock;
        self.waiting += self.change(&opened.stream.agent.clone(), |agent| {
            agent.heard = clock;
            let before = agent.queue.len();
            for event in opened.into_recorded().filter(|event| event.seq.0 >= shown) {
                agent.reached = agent.reached.max(event.event.time);
                agent.ended = matches!(&event.event.payload, Payload::Punctuation(said) if said.end);
                agent.queue.push_back(Item {
                    reached: agent.reached,
                    offset,
                    came: clock,
                    event,
                });
            }
            agent.queue.len() - before
        });
    }

    /// The next event in order, if it is known which that is.
    pub(super) fn pop(&mut self) -> Option<Recorded> {
        if let Some(apart) = self.pop_apart() {
            return Some(apart);
        }
        let (reached, _, name) = self.order.next.first()?.clone();
        let came = self.agents.get(&name)?.queue.front()?.came;
        let full = self.waiting > self.options.max_events;
        if !self.is_complete() && !full {
            return None;
        }
        let may_still = |(at, _): &&(Timestamp, Name)| *at <= reached;
        if self.order.behind.first().as_ref().is_some_and(may_still) {
            if !full && !self.is_long_ago(came) {
                return None;
            }
            let behind = self.order.behind.iter().take_while(may_still);
            let behind: Vec<Name> = behind.map(|(_, name)| name.clone()).collect();
            let silent = |name: &Name| full || self.is_long_ago(self.agents[name].heard);
            if !behind.iter().all(silent) {
                // They are at work, only at another time.
                self.change(&name, |agent| agent.pace = Pace::Apart);
                return self.pop_apart();
            }
            for name in &behind {
                self.change(name, |agent| agent.pace = Pace::Silent);
            }
        }
        self.now = self.now.max(reached);
        self.take(&name, false)
    }

    /// Whether every agent heard of or expected has ended, and all their events are through.
    pub(super) fn has_ended(&self) -> bool {
        self.waiting == 0
            && !self.agents.is_empty()
            && self
                .options
                .expect
                .iter()
                .all(|name| self.agents.contains_key(name))
            && self.agents.values().all(|agent| agent.ended)
    }

    /// Takes in nothing below this: where a reader of the log goes on, if what is waiting here is forgotten.
    pub(super) fn resume_at(&self) -> Offset {
        let waiting = self.agents.values().flat_map(|agent| agent.queue.front());
        waiting.map(|item| item.offset).min().unwrap_or(self.end)
    }

    /// Notes that a reader of the log has come to this offset, though there was nothing to take in.
    pub(super) fn pass(&mut self, to: Offset) {
        self.end = self.end.max(to);
    }

    /// What to keep for [`restore`](Self::restore).
    pub(super) fn snapshot(&self) -> Vec<u8> {
        let mut next = self.next.clone();
        for item in self.agents.values().flat_map(|agent| &agent.queue) {
            let seq = item.event.seq.0;
            if let Some(next) = next.get_mut(&item.event.stream) {
                *next = (*next).min(seq);
            }
        }
        let waiting = self.agents.values().flat_map(|agent| agent.queue.front());
        let snapshot = Snapshot {
            agents: self
                .agents
                .iter()
                .map(|(name, agent)| (name.clone(), agent.snapshot()))
                .collect(),
            next: next
                .into_iter()
                .map(|(stream, next)| ((*stream).clone(), next))
                .collect(),
            now: self.now,
            clock: waiting.map(|item| item.came).min().unwrap_or(self.clock),
            again: self.end.max(self.again),
            end: self.resume_at(),
            counts: self.counts,
        };
        // Names and numbers can always be written.
        serde_json::to_vec(&snapshot).unwrap_or_default()
    }

    /// Goes on from a snapshot, to be shown the records from [`resume_at`](Self::resume_at) on again. False if it is
    /// none.
    pub(super) fn restore(&mut self, snapshot: &[u8]) -> bool {
        let Ok(snapshot) = serde_json::from_slice::<Snapshot>(snapshot) else {
            return false;
        };
        self.agents = snapshot
            .agents
            .into_iter()
            .map(|(name, agent)| (name, Agent::restore(agent)))
            .collect();
        (self.order, self.complete) = (Order::default(), false);
        for (name, agent) in &self.agents {
            self.order.insert(name, agent);
        }
        let next = snapshot.next.into_iter();
        self.next = next.map(|(stream, next)| (Arc::new(stream), next)).collect();
        (self.now, self.clock, self.counts) = (snapshot.now, snapshot.clock, snapshot.counts);
        (self.waiting, self.end, self.again) = (0, snapshot.end, snapshot.again);
        true
    }

    /// An event of an agent that waits for nobody.
    fn pop_apart(&mut self) -> Option<Recorded> {
        let max_wait = i64::try_from(self.options.max_wait.as_nanos()).unwrap_or(i64::MAX);
        let now = self.now;
        let name = self.order.apart.first()?.clone();
        let agent = self.agents.get(&name)?;
        let reached = agent.queue.front()?.reached;
        let soon = reached.nanos().saturating_sub(now.nanos()) <= max_wait;
        if reached >= now && (agent.pace == Pace::Silent || soon) {
            self.change(&name, |agent| agent.pace = Pace::Together);
            return self.pop();
        }
        self.change(&name, |agent| agent.pace = Pace::Apart);
        let late = reached < now;
        let event = self.take(&name, true);
        if late && self.options.drop_late {
            self.counts.late += 1;
            return self.pop();
        }
        self.counts.apart += 1;
        event
    }

    fn take(&mut self, name: &Name, apart: bool) -> Option<Recorded> {
        let (mut item, timeline) = self.change(name, |agent| {
            let item = agent.queue.pop_front()?;
            agent.left = item.reached;
            Some((item, agent.timeline))
        })?;
        self.waiting -= 1;
        item.event.timeline = if apart { timeline } else { 0 };
        if let Payload::Punctuation(said) = &mut item.event.event.payload
            && said.end
            && !apart
        {
            // The timeline ends with the last of those that share it.
            let goes_on = |agent: &Agent| agent.pace == Pace::Together && agent.goes_on();
            let mut others = self.agents.iter().filter(|(other, _)| *other != name);
            said.end = !others.any(|(_, agent)| goes_on(agent));
        }
        Some(item.event)
    }

    /// Changes what is known of an agent, and with it where it stands.
    fn change<T>(&mut self, name: &Name, change: impl FnOnce(&mut Agent) -> T) -> T {
        let timeline = u32::try_from(self.agents.len() + 1).unwrap_or(u32::MAX);
        let agent = self
            .agents
            .entry(name.clone())
            .or_insert_with(|| Agent::new(timeline));
        self.order.remove(name, agent);
        let changed = change(agent);
        self.order.insert(name, agent);
        changed
    }

    /// Whether all who are expected have been heard of. Who was heard of once stays known.
    fn is_complete(&mut self) -> bool {
        let expected = &self.options.expect;
        self.complete = self.complete || expected.iter().all(|name| self.agents.contains_key(name));
        self.complete
    }

    fn is_long_ago(&self, time: Option<Timestamp>) -> bool {
        let (Some(clock), Some(time)) = (self.clock, time) else {
            return false;
        };
        let waited = clock.nanos().saturating_sub(time.nanos());
        u128::from(waited.unsigned_abs()) >= self.options.max_wait.as_nanos() && waited > 0
    }
}

impl Agent {
    fn new(timeline: u32) -> Self {
        Self {
            timeline,
            queue: VecDeque::new(),
            reached: Timestamp::MIN,
            left: Timestamp::MIN,
            heard: None,
            pace: Pace::Together,
            ended: false,
        }
    }

    fn goes_on(&self) -> bool {
        !self.ended || !self.queue.is_empty()
    }

    fn snapshot(&self) -> AgentSnapshot {
        AgentSnapshot {
            timeline: self.timeline,
            left: self.left,
            heard: self.heard,
            pace: self.pace,
            ended: self.ended && self.queue.is_empty(),
        }
    }

    fn restore(snapshot: AgentSnapshot) -> Self {
        Self {
            reached: snapshot.left,
            left: snapshot.left,
            heard: snapshot.heard,
            pace: snapshot.pace,
            ended: snapshot.ended,
            ..Self::new(snapshot.timeline)
        }
    }
}

impl Order {
    fn insert(&mut self, name: &Name, agent: &Agent) {
        let name = name.clone();
        match (agent.pace, agent.queue.front()) {
            (Pace::Together, Some(item)) => self.next.insert(item.next(name)),
            (Pace::Together, None) => !agent.ended && self.behind.insert((agent.reached, name)),
            (_, Some(_)) => self.apart.insert(name),
            (_, None) => false,
        };
    }

    fn remove(&mut self, name: &Name, agent: &Agent) {
        let name = name.clone();
        match (agent.pace, agent.queue.front()) {
            (Pace::Together, Some(item)) => self.next.remove(&item.next(name)),
            (Pace::Together, None) => self.behind.remove(&(agent.reached, name)),
            (_, Some(_)) => self.apart.remove(&name),
            (_, None) => false,
        };
    }
}

impl Item {
    /// Which comes first. Flow records that are due at the same moment come in the order in which their flows
    /// began, as they do from a single meter.
    fn next(&self, name: Name) -> Next {
        let began = match &self.event.event.payload {
            Payload::Flow(flow) => Some((flow.first, flow.key)),
            _ => None,
        };
        (self.reached, began, name)
    }
}

#[derive(Serialize, Deserialize)]
struct Snapshot {
    agents: BTreeMap<Name, AgentSnapshot>,
    next: Vec<(StreamId, u64)>,
    now: Timestamp,
    clock: Option<Timestamp>,
    again: Offset,
    end: Offset,
    counts: MergeCounts,
}

#[derive(Serialize, Deserialize)]
struct AgentSnapshot {
    timeline: u32,
    left: Timestamp,
    heard: Option<Timestamp>,
    pace: Pace,
    ended: bool,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::{Class, Event, Punctuation};
    use crate::id::Seq;

    fn record(agent: &str, first: u64, events: Vec<Event>) -> Opened {
        let stream = StreamId {
            agent: agent.into(),
            epoch: Default::default(),
            class: Class::Telemetry,
        };
        let last = Seq(first + events.len() as u64 - 1);
        let mut opened = Opened::new(Arc::new(stream), Seq(first), last, "flow".into());
        opened.events = events;
        opened
    }

    fn at(seconds: i64) -> Event {
        Event {
            time: Timestamp::from_secs(seconds),
            ..Event::default()
        }
    }

    fn end(seconds: i64) -> Event {
        Event {
            payload: Payload::Punctuation(Punctuation {
                lateness_ns: 0,
                end: true,
            }),
            ..at(seconds)
        }
    }

    fn clock(seconds: i64) -> Opened {
        let mut record = record("bus", 0, vec![at(seconds)]);
        record.source = CLOCK_SOURCE.into();
        record
    }

    /// Name and time of each event, and whether a timeline ends with it.
    type Shown = (String, i64, u32, bool);

    fn drain(merge: &mut Merge) -> Vec<Shown> {
        std::iter::from_fn(|| merge.pop())
            .map(|shown| {
                let ends = matches!(&shown.event.payload, Payload::Punctuation(said) if said.end);
                let seconds = shown.event.time.nanos() / 1_000_000_000;
                (shown.stream.agent.to_string(), seconds, shown.timeline, ends)
            })
            .collect()
    }

    #[test]
    fn one_agent_waits_for_nobody_and_stays_as_it_is() {
        let mut merge = Merge::new(MergeOptions::default());
        merge.push(Offset(0), record("a", 0, vec![at(5), at(3), at(9)]));
        let times: Vec<i64> = drain(&mut merge).iter().map(|shown| shown.1).collect();
        assert_eq!(times, [5, 3, 9]);
        assert_eq!(merge.resume_at(), Offset(1));
    }

    #[test]
    fn a_silent_agent_is_waited_for_only_so_long() {
        let mut merge = Merge::new(MergeOptions::default());
        merge.push(Offset(0), clock(1000));
        merge.push(Offset(1), record("a", 0, vec![at(1)]));
        merge.push(Offset(2), record("b", 0, vec![at(2)]));
        assert_eq!(drain(&mut merge).len(), 1, "b waits for a to reach 2");
        merge.push(Offset(3), clock(1009));
        assert!(drain(&mut merge).is_empty());
        assert_eq!(merge.resume_at(), Offset(2));
        merge.push(Offset(4), clock(1010));
        assert_eq!(drain(&mut merge), [("b".to_owned(), 2, 0, false)]);
        // It is late now, by a timeline of its own, and back when it has caught up.
        merge.push(Offset(5), record("a", 1, vec![at(1), at(3)]));
        merge.push(Offset(6), record("b", 1, vec![at(4)]));
        assert_eq!(
            drain(&mut merge),
            [("a".to_owned(), 1, 1, false), ("a".to_owned(), 3, 0, false)]
        );
    }

    #[test]
    fn a_clock_that_disagrees_moves_nobody_else() {
        let mut merge = Merge::new(MergeOptions::default());
        let mut shown = Vec::new();
        for second in 0..60 {
            let offset = Offset(second as u64 * 3);
            merge.push(offset, clock(1000 + second));
            merge.push(offset.next(), record("a", second as u64, vec![at(second)]));
            let ahead = record("ahead", second as u64, vec![at(second + 3600)]);
            merge.push(offset.next().next(), ahead);
            shown.extend(drain(&mut merge));
        }
        let of = |name: &str| -> Vec<(i64, u32)> {
            let of = shown.iter().filter(|(agent, ..)| agent == name);
            of.map(|(_, time, timeline, _)| (*time, *timeline)).collect()
        };
        // Nothing of it is lost, and nothing of the other waits.
        assert_eq!(of("a"), (0..60).map(|second| (second, 0)).collect::<Vec<_>>());
        let ahead = of("ahead");
        assert!(ahead.len() >= 59, "{} came", ahead.len());
        assert!(ahead.iter().all(|(_, timeline)| *timeline != 0));
    }

    #[test]
    fn what_is_missing_is_counted() {
        let mut merge = Merge::new(MergeOptions::default());
        merge.push(Offset(0), record("a", 4, vec![at(1), at(2)]));
        merge.push(Offset(1), record("a", 9, vec![at(3)]));
        assert_eq!(drain(&mut merge).len(), 3);
        assert_eq!(merge.counts.missing, 3);
    }

    proptest! {
        /// However the records of two agents come, and wherever the reader starts again, the order is the same.
        #[test]
        fn the_order_is_that_of_the_times(
            mut times in proptest::collection::vec((0..200i64, 0..3usize), 1..120),
            turns in proptest::collection::vec((0..3usize, 1..5usize), 1..200),
            restart in proptest::collection::vec(any::<bool>(), 400),
        ) {
            times.sort_unstable();
            let names = ["a", "b", "c"];
            let expected: Vec<(String, i64)> = times.iter().map(|(time, who)| (names[*who].to_owned(), *time)).collect();
            let mut left: Vec<VecDeque<Event>> = (0..3)
                .map(|who| times.iter().filter(|(_, of)| *of == who).map(|(time, _)| at(*time)).chain([end(300)]).collect())
                .collect();
            let mut records = Vec::new();
            let mut sent = [0; 3];
            let rest = (0..3).map(|who| (who, usize::MAX));
            for (who, count) in turns.into_iter().chain(rest) {
                let count = count.min(left[who].len());
                let events: Vec<Event> = left[who].drain(..count).collect();
                if !events.is_empty() {
                    records.push(record(names[who], sent[who], events));
                    sent[who] += count as u64;
                }
            }
            let options = MergeOptions { expect: names.map(Name::from).into(), ..MergeOptions::default() };
            let mut merge = Merge::new(options.clone());
            let mut shown = Vec::new();
            let mut at_record = 0;
            let mut restarts = restart.into_iter();
            while at_record < records.len() {
                merge.push(Offset(at_record as u64), records[at_record].clone());
                at_record += 1;
                shown.extend(drain(&mut merge));
                if restarts.next() == Some(true) {
                    let snapshot = merge.snapshot();
                    let mut again = Merge::new(options.clone());
                    prop_assert!(again.restore(&snapshot));
                    // What was waiting is read again; nothing else comes of it.
                    let from = again.resume_at().0 as usize;
                    for (offset, record) in records.iter().enumerate().take(at_record).skip(from) {
                        again.push(Offset(offset as u64), record.clone());
                        prop_assert!(drain(&mut again).is_empty());
                    }
                    merge = again;
                }
            }
            prop_assert!(merge.has_ended());
            let ends = shown.iter().filter(|shown| shown.3).count();
            prop_assert_eq!(ends, 1);
            let events: Vec<(String, i64)> = shown.into_iter().filter(|shown| shown.1 < 300).map(|shown| (shown.0, shown.1)).collect();
            prop_assert_eq!(events, expected);
        }
    }
}
