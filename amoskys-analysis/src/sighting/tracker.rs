use std::collections::VecDeque;

use amoskys_core::event::{FlowPhase, FlowRecord, Payload};
use amoskys_core::{Event, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Contact, Growth, Outcome, Sighting, is_turned_back};
use crate::finding::Mark;
use crate::measure::{BoundedMap, seconds_between};

/// How long an unanswered attempt is given, in seconds. A flow that was answered is heard of again after its
/// meter's update interval, 5 s by default, and up to a second later.
const PATIENCE: f64 = 6.5;

/// Turns the events of all streams into sightings.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Tracker {
    flows: BoundedMap<FlowId, Memo>,
    clocks: Vec<Clock>,
}

/// A flow: the origin of its events and its number there.
type FlowId = (u64, u64);

/// What is remembered of a flow between two of its records.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Memo {
    contact: Contact,
    began: Mark,
    judged: Option<Outcome>,
    /// What it would amount to if it ended now.
    so_far: Option<Outcome>,
    seen: Growth,
}

/// Where a timeline stands in event time, and whose answers it still waits for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Clock {
    second: i64,
    /// Whether its flows are reported when they start.
    starts: bool,
    waiting: VecDeque<(Timestamp, FlowId)>,
}

impl Tracker {
    /// Remembers at most `flows` open flows.
    pub(crate) fn new(flows: usize) -> Self {
        Self {
            flows: BoundedMap::new(flows),
            clocks: Vec::new(),
        }
    }

    /// Flows forgotten because there were too many.
    pub(crate) fn evicted(&self) -> u64 {
        self.flows.evicted()
    }

    /// Shows what an event amounts to, in order.
    pub(crate) fn observe(&mut self, event: &Event, mark: Mark, show: &mut impl FnMut(Sighting<'_>)) {
        let end = matches!(&event.payload, Payload::Punctuation(punctuation) if punctuation.end);
        self.advance(mark, end, show);
        match &event.payload {
            Payload::Flow(flow) => self.flow((event.id.origin, flow.flow), flow, mark, show),
            Payload::Dns(record) => show(Sighting::Dns(record)),
            Payload::Arp(record) => show(Sighting::Arp(record)),
            _ => {}
        }
    }

    fn flow(&mut self, id: FlowId, flow: &FlowRecord, mark: Mark, show: &mut impl FnMut(Sighting<'_>)) {
        let ended = matches!(flow.phase, FlowPhase::End(_));
        let mut new = false;
        let limit = self.flows.limit();
        let clock = &mut self.clocks[timeline(mark)];
        clock.starts |= flow.phase == FlowPhase::Start;
        let memo = self.flows.entry(&id, || {
            new = true;
            Memo {
                contact: Contact::of(flow),
                began: mark,
                judged: None,
                so_far: None,
                seen: Growth::default(),
            }
        });
        // That it was turned back shows who called.
        memo.contact.certain |= memo.contact.forward && is_turned_back(flow);
        let contact = memo.contact;
        // A flow that was forgotten begins no second time.
        let opened = new && (flow.phase == FlowPhase::Start || !clock.starts);
        if opened {
            show(Sighting::Opened { contact, flow });
        }
        let total = Growth::of(&contact, flow);
        let growth = total.since(&memo.seen);
        memo.seen = total;
        if growth != Growth::default() {
            show(Sighting::Grew {
                contact,
                flow,
                growth,
            });
        }
        let began = memo.began;
        if memo.judged.is_none() {
            memo.judged = Outcome::of(flow, ended);
            memo.so_far = Outcome::of(flow, true);
            if let Some(outcome) = memo.judged {
                show(Sighting::Judged {
                    contact,
                    outcome,
                    began,
                });
            } else if opened && memo.so_far.is_some() {
                if clock.waiting.len() >= limit {
                    clock.waiting.pop_front();
                }
                clock.waiting.push_back((mark.time, id));
            }
        }
        if ended {
            let outcome = Outcome::of(flow, true);
            show(Sighting::Closed {
                contact,
                flow,
                outcome,
                began,
            });
            self.flows.remove(&id);
        }
    }

    /// Moves a timeline's clock to a time: attempts that have waited long enough count as unanswered.
    fn advance(&mut self, mark: Mark, end: bool, show: &mut impl FnMut(Sighting<'_>)) {
        let timeline = timeline(mark);
        if self.clocks.len() <= timeline {
            self.clocks.resize_with(timeline + 1, Clock::default);
        }
        let clock = &mut self.clocks[timeline];
        while let Some(&(since, id)) = clock.waiting.front() {
            // A clock that went back far is no reason to wait for it to catch up.
            let waited = seconds_between(since, mark.time);
            if waited < PATIENCE && waited > -60.0 {
                break;
            }
            clock.waiting.pop_front();
            // A connection that was made and carries nothing yet is decided when it ends.
            if let Some(memo) = self.flows.peek_mut(&id)
                && memo.judged.is_none()
                && let Some(outcome @ (Outcome::Unanswered | Outcome::HalfOpen)) = memo.so_far
            {
                memo.judged = Some(outcome);
                show(Sighting::Judged {
                    contact: memo.contact,
                    outcome,
                    began: memo.began,
                });
            }
        }
        let second = mark.time.nanos().div_euclid(1_000_000_000);
        if second != clock.second || end {
            clock.second = second;
            show(Sighting::Tick { end });
        }
    }
}

/// Timelines beyond so many share the last clock.
const TIMELINES: usize = 65_536;

fn timeline(mark: Mark) -> usize {
    (mark.timeline as usize).min(TIMELINES - 1)
}

impl Growth {
    fn of(contact: &Contact, flow: &FlowRecord) -> Self {
        let (sent, received) = contact.payload(flow);
        let icmp = flow.icmp.as_ref();
        Self {
            sent,
            received,
            altered: icmp.map_or(0, |icmp| icmp.altered_replies),
            unmatched: icmp.map_or(0, |icmp| icmp.unsolicited_replies),
            echoes: icmp.map_or(0, |icmp| icmp.echo_requests.saturating_add(icmp.echo_replies)),
        }
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            sent: self.sent.saturating_sub(before.sent),
            received: self.received.saturating_sub(before.received),
            altered: self.altered.saturating_sub(before.altered),
            unmatched: self.unmatched.saturating_sub(before.unmatched),
            echoes: self.echoes.saturating_sub(before.echoes),
        }
    }
}
