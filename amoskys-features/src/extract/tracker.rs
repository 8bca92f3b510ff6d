use std::collections::BTreeSet;
use std::time::Duration;

use amoskys_core::event::{DnsRecord, FlowKey, FlowPhase, FlowRecord, TcpState};
use amoskys_core::{EventId, Seq, Timestamp};
use serde::{Deserialize, Serialize};

use super::domain::registered_domain;
use super::fact::{At, AttemptOutcome, Fact, Novelty, Traffic};
use super::seen::{Seen, SeenState};
use crate::hash::KeyHash;
use crate::lru::{Lru, LruState};

/// Limits of what is remembered about flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackerConfig {
    /// How many flows are remembered; when one more comes, the one without records for longest is forgotten,
    /// and counted. Default 65 536, at about 300 bytes each.
    pub max_flows: usize,
    /// How long after its first packet a flow without answer counts as unanswered, in event time. It must be
    /// longer than the interval at which the flow meter updates its records. Default 6 s; the meter's default
    /// is 5 s.
    pub answer_timeout: Duration,
    /// How many destinations, services and domains are remembered as seen, per kind. Default 131 072.
    pub novelty_capacity: usize,
    /// How long they are remembered at least. Default 24 h.
    pub novelty_horizon: Duration,
}

impl Default for TrackerConfig {
    fn default() -> Self {
        Self {
            max_flows: 65_536,
            answer_timeout: Duration::from_secs(6),
            novelty_capacity: 131_072,
            novelty_horizon: Duration::from_secs(86_400),
        }
    }
}

/// What became of flow records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackerCounters {
    /// Flow records taken.
    pub records: u64,
    /// Records that told nothing new: repeated, or overtaken by a later one of the same flow.
    pub stale: u64,
    /// Records of flows that began before anything was known about them: their counters are where counting
    /// starts, and count for nothing themselves.
    pub unanchored: u64,
    /// Flows forgotten because there were too many.
    pub evicted: u64,
}

impl TrackerCounters {
    pub(crate) const fn and(&self, other: &Self) -> Self {
        Self {
            records: self.records + other.records,
            stale: self.stale + other.stale,
            unanchored: self.unanchored + other.unanchored,
            evicted: self.evicted + other.evicted,
        }
    }
}

/// A flow for all time: the run of the source, and its number there.
type FlowId = (u64, u64);

/// Takes flow records apart into facts, none of which is told twice.
pub(crate) struct FlowTracker {
    config: TrackerConfig,
    flows: Lru<FlowId, FlowState>,
    /// Flows whose attempts are open, by when they count as unanswered.
    deadlines: BTreeSet<(Timestamp, FlowId)>,
    /// A flow that began at or before this time and is not known was known once, or began before us.
    anchor: Option<Timestamp>,
    pairs: Seen,
    services: Seen,
    clients: Seen,
    domains: Seen,
    counters: TrackerCounters,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct FlowState {
    key: Key,
    first: Timestamp,
    /// Number of the event that told of the flow first.
    seq: Seq,
    counted: Traffic,
    /// When the attempt counts as failed; `None` once its outcome was told.
    deadline: Option<Timestamp>,
    half_open: bool,
}

/// A [`FlowKey`], in a form that can be stored.
type Key = (std::net::IpAddr, u16, std::net::IpAddr, u16, u8);

#[derive(Serialize, Deserialize)]
pub(crate) struct TrackerState {
    flows: LruState<FlowId, FlowState>,
    anchor: Option<Timestamp>,
    pairs: SeenState,
    services: SeenState,
    clients: SeenState,
    domains: SeenState,
    counters: TrackerCounters,
}

impl FlowTracker {
    pub(crate) fn new(config: TrackerConfig) -> Self {
        let seen = || Seen::new(config.novelty_capacity, config.novelty_horizon);
        Self {
            config,
            flows: Lru::new(config.max_flows),
            deadlines: BTreeSet::new(),
            anchor: None,
            pairs: seen(),
            services: seen(),
            clients: seen(),
            domains: seen(),
            counters: TrackerCounters::default(),
        }
    }

    pub(crate) const fn counters(&self) -> TrackerCounters {
        self.counters
    }

    /// Takes a flow record.
    pub(crate) fn flow(
        &mut self,
        id: EventId,
        record: &FlowRecord,
        at: At,
        tell: &mut impl FnMut(At, Fact<'_>),
    ) {
        self.counters.records += 1;
        let anchor = *self.anchor.get_or_insert(at.time.minus(Duration::from_nanos(1)));
        let id = (id.origin, record.flow);
        let totals = Traffic::of(record);

        if self.flows.get(&id).is_none() {
            // A record other than the first: either the first was lost on the way, and all its packets are
            // news, or we knew the flow once and cannot say which of them are.
            let known_from_start = record.phase == FlowPhase::Start || record.first > anchor;
            self.remember(
                id,
                record,
                at,
                if known_from_start {
                    Traffic::default()
                } else {
                    totals
                },
            );
            if known_from_start {
                let novelty = self.novelty(record, at.time);
                tell(at, Fact::Opened { record, novelty });
            } else {
                self.counters.unanchored += 1;
            }
        }

        let Some(flow) = self.flows.get(&id) else { return };
        let traffic = totals.since(&flow.counted);
        if traffic != Traffic::default() {
            flow.counted = totals.or_later(&flow.counted);
            tell(
                at,
                Fact::Traffic {
                    key: &record.key,
                    traffic: &traffic,
                },
            );
        } else if record.phase == FlowPhase::Update {
            self.counters.stale += 1;
        }

        let ended = if let FlowPhase::End(end) = record.phase {
            Some(end)
        } else {
            None
        };
        if let Some(deadline) = flow.deadline {
            flow.half_open = is_half_open(record);
            let outcome = outcome(record).or_else(|| ended.map(|_| failure(flow.half_open)));
            if let Some(outcome) = outcome {
                flow.deadline = None;
                self.deadlines.remove(&(deadline, id));
                tell(
                    at,
                    Fact::Attempt {
                        key: &record.key,
                        outcome,
                    },
                );
            }
        }
        if let Some(end) = ended {
            // If it was the active time-out that ended it, its continuation has a number of its own.
            self.flows.remove(&id);
            tell(at, Fact::Closed { record, end });
        }
    }

    /// Takes a DNS message.
    pub(crate) fn dns(&mut self, record: &DnsRecord, at: At, tell: &mut impl FnMut(At, Fact<'_>)) {
        let client = if record.response {
            record.key.destination
        } else {
            record.key.source
        };
        let new_domain = !record.response
            && record.questions.first().is_some_and(|question| {
                let domain = registered_domain(&question.name).to_ascii_lowercase();
                let key = KeyHash::of_address(client).and(KeyHash::of(domain.as_bytes()));
                self.domains.is_new(key, at.time)
            });
        tell(at, Fact::Dns { record, new_domain });
    }

    /// Tells which attempts nobody has answered by `watermark`.
    pub(crate) fn advance(&mut self, watermark: Timestamp, tell: &mut impl FnMut(At, Fact<'_>)) {
        while let Some(&(deadline, id)) = self.deadlines.first() {
            if deadline > watermark {
                break;
            }
            self.deadlines.pop_first();
            let Some(flow) = self.flows.peek_mut(&id) else {
                continue;
            };
            flow.deadline = None;
            let at = At {
                time: deadline,
                seq: flow.seq,
            };
            tell(
                at,
                Fact::Attempt {
                    key: &key_of(flow.key),
                    outcome: failure(flow.half_open),
                },
            );
        }
    }

    /// Forgets the flows, but not what was seen: the source has ended, or its time began anew. Flows that began
    /// at or after `since` will be new.
    pub(crate) fn forget_flows(&mut self, since: Option<Timestamp>) {
        self.flows.clear();
        self.deadlines.clear();
        self.anchor = since.map(|since| since.minus(Duration::from_nanos(1)));
    }

    pub(crate) fn state(&self) -> TrackerState {
        TrackerState {
            flows: self.flows.state(|_, flow| flow.clone()),
            anchor: self.anchor,
            pairs: self.pairs.state(),
            services: self.services.state(),
            clients: self.clients.state(),
            domains: self.domains.state(),
            counters: self.counters,
        }
    }

    pub(crate) fn restore(&mut self, state: TrackerState) {
        self.forget_flows(None);
        self.flows.restore(state.flows);
        let deadlines = self
            .flows
            .iter()
            .filter_map(|(id, flow)| Some((flow.deadline?, *id)));
        self.deadlines = deadlines.collect();
        self.anchor = state.anchor;
        self.pairs.restore(state.pairs);
        self.services.restore(state.services);
        self.clients.restore(state.clients);
        self.domains.restore(state.domains);
        self.counters = state.counters;
    }

    fn remember(&mut self, id: FlowId, record: &FlowRecord, at: At, counted: Traffic) {
        let key = &record.key;
        // Groups of hosts are not expected to answer, and a flow whose beginning was missed was no attempt.
        let attempt = !is_group(key.destination) && counted == Traffic::default();
        // A record that comes long after the flow began must not be counted in a window that has closed.
        let deadline = attempt.then(|| record.first.plus(self.config.answer_timeout).max(at.time));
        let flow = FlowState {
            key: (
                key.source,
                key.source_port,
                key.destination,
                key.destination_port,
                key.protocol,
            ),
            first: record.first,
            seq: at.seq,
            counted,
            deadline,
            half_open: false,
        };
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, id));
        }
        let (_, evicted) = self.flows.get_or_insert(&id, || flow);
        if let Some((id, flow)) = evicted {
            self.counters.evicted += 1;
            self.anchor = self.anchor.max(Some(flow.first));
            if let Some(deadline) = flow.deadline {
                self.deadlines.remove(&(deadline, id));
            }
        }
    }

    fn novelty(&mut self, record: &FlowRecord, time: Timestamp) -> Novelty {
        let key = &record.key;
        let source = KeyHash::of_address(key.source);
        let destination = KeyHash::of_address(key.destination);
        let service = KeyHash::of_number(u64::from(key.protocol) << 16 | u64::from(key.destination_port));
        Novelty {
            destination: self.pairs.is_new(source.and(destination), time),
            service: self.services.is_new(source.and(service), time),
            client: self.clients.is_new(source.and(destination).and(service), time),
        }
    }
}

/// What came of an attempt, as far as the record can say so for good.
fn outcome(record: &FlowRecord) -> Option<AttemptOutcome> {
    match record.tcp.as_ref().map(|tcp| tcp.state) {
        Some(TcpState::Refused) => Some(AttemptOutcome::Refused),
        Some(TcpState::SynSent | TcpState::SynReceived) => None,
        Some(TcpState::Established | TcpState::Closing | TcpState::Closed | TcpState::Reset) => {
            Some(AttemptOutcome::Answered)
        }
        _ => (record.backward.packets > 0).then_some(AttemptOutcome::Answered),
    }
}

fn is_half_open(record: &FlowRecord) -> bool {
    record
        .tcp
        .as_ref()
        .is_some_and(|tcp| tcp.state == TcpState::SynReceived)
}

const fn failure(half_open: bool) -> AttemptOutcome {
    if half_open {
        AttemptOutcome::HalfOpen
    } else {
        AttemptOutcome::Unanswered
    }
}

/// Whether the address means more than one host.
pub(crate) fn is_group(address: std::net::IpAddr) -> bool {
    match address {
        std::net::IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        std::net::IpAddr::V6(v6) => v6.is_multicast(),
    }
}

const fn key_of((source, source_port, destination, destination_port, protocol): Key) -> FlowKey {
    FlowKey {
        source,
        source_port,
        destination,
        destination_port,
        protocol,
    }
}
