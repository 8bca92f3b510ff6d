//! The graph as an analyzer: from flow and process events to verdicts.

use std::net::IpAddr;

use amoskys_core::event::{
    Entity, Evidence, Layer, ModelRef, Payload, ProcessAction, ProcessEvent, ScoreInterval, Technique,
    Verdict, VerdictId,
};
use amoskys_core::{Analyzer, AnalyzerError, Digest, Name, Observation, Recorded, Timestamp};
use serde::{Deserialize, Serialize};

use super::contact::{Contact, ContactParams, ContactScorer};
use super::habits::Habits;
use super::path::{PathParams, Paths};
use super::schema::{graph_schema, term};
use super::{GraphError, Nodes};
use crate::finding::{Gate, Mark, Span, Streams};
use crate::measure::BoundedMap;
use crate::odds::probability;
use crate::sighting::decoys::Decoys;
use crate::sighting::peers::Peers;
use crate::sighting::service::{ServiceKind, is_often_unanswered};
use crate::sighting::{Contact as Seen, Outcome, Sighting, Tracker, is_host};
use crate::snapshot;

/// Settings of a [`GraphAnalyzer`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GraphAnalyzerParams {
    /// Conversations.
    pub contacts: ContactParams,
    /// Chains of sessions.
    pub paths: PathParams,
    /// Log-odds that a source probes, before anything is measured. Default -18: nine failed first contacts raise an alert.
    pub probing_prior: f64,
    /// Log-odds that a chain of sessions is an intruder's. Default -9.
    pub chain_prior: f64,
    /// Log-odds that a process is an intruder's because of its parent, or of rights it gains. Default -6: a parent must have
    /// started its usual programs some 1,400 times for a new one to raise an alert.
    pub process_prior: f64,
    /// Verdicts below this score are kept back. Default 0.3.
    pub report_score: f64,
    /// Flows, incidents and habits remembered, each. Default 65,536.
    pub capacity: usize,
    /// Key of the hashes. Default 0: fixed; set a random one where names come from outside.
    pub seed: u64,
}

impl Default for GraphAnalyzerParams {
    fn default() -> Self {
        Self {
            contacts: ContactParams::default(),
            paths: PathParams::default(),
            probing_prior: -18.0,
            chain_prior: -9.0,
            process_prior: -6.0,
            report_score: 0.3,
            capacity: 65_536,
            seed: 0,
        }
    }
}

/// Hosts of which it is remembered whom they call, or who calls them, in vain.
const LISTS: usize = 4_096;
/// Length of a tick.
const TICK_SECONDS: i64 = 60;
/// No surprise counts more than this, in nats: what was never seen is not impossible.
const MOST_SURPRISE: f64 = 9.0;
/// Events that run ahead of all others by more than this many ticks (a year) do not move the clock.
const LEAP: u64 = 525_600;

/// Verdicts from the graph of hosts, services, users and programs:
///
/// - a host that probes: services of one host, or one service of many, however slowly (T1046); one service that many ask in
///   vain (T1498);
/// - sessions from host to host to host that nobody took before (T1021);
/// - a program started by a parent that never starts new ones (T1059);
/// - rights gained by a program that never gained them (T1548).
///
/// Reads flow and process events. It works cold: what is new counts by how rarely something new comes.
///
/// # Guarantees
///
/// As those of [`Detection`](crate::Detection): the same events give the same verdicts, memory is bounded, no event makes
/// it panic.
#[derive(Debug)]
pub struct GraphAnalyzer {
    params: GraphAnalyzerParams,
    nodes: Nodes,
    model: ModelRef,
    schema: Digest,
    state: State,
}

#[derive(Debug, Serialize, Deserialize)]
struct State {
    streams: Streams,
    tracker: Tracker,
    contacts: ContactScorer,
    peers: Peers,
    decoys: Decoys,
    paths: Paths,
    steps: Habits,
    children: Habits,
    rights: Habits,
    open: BoundedMap<(u8, Entity), Open>,
    tick: u64,
}

/// A verdict that may still grow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Open {
    id: VerdictId,
    revisions: u32,
    time: Timestamp,
    span: Span,
    gate: Gate,
    best: f64,
    /// The bounds of the best log-odds.
    bounds: [f64; 2],
    peers: Vec<IpAddr>,
}

/// What is suspected.
struct Suspicion {
    kind: u8,
    entity: Entity,
    peer: Option<IpAddr>,
    technique: &'static str,
    title: String,
    terms: Vec<(&'static str, f64, f64)>,
    /// The bounds of what was measured: of all terms together but the prior.
    measured: [f64; 2],
}

impl GraphAnalyzer {
    /// An analyzer that has seen nothing.
    ///
    /// # Errors
    ///
    /// [`GraphError::Setting`] if a setting is out of range.
    pub fn new(params: GraphAnalyzerParams) -> Result<Self, GraphError> {
        let refuse = |setting, reason| Err(GraphError::Setting { setting, reason });
        if !(0.0..=1.0).contains(&params.report_score) {
            return refuse("report_score", "must be from 0 to 1");
        }
        let priors = [params.probing_prior, params.chain_prior, params.process_prior];
        if priors.iter().any(|prior| !prior.is_finite()) {
            return refuse("priors", "must be finite");
        }
        if params.capacity == 0 {
            return refuse("capacity", "must be 1 or more");
        }
        let version = env!("CARGO_PKG_VERSION");
        let schema = graph_schema().digest();
        let settings = serde_json::to_vec(&params).unwrap_or_default();
        let model = ModelRef {
            name: Name::from("amoskys-graph"),
            version: Name::from(version),
            digest: Digest::of_parts([version.as_bytes(), &settings[..], &schema.0[..]]),
        };
        let capacity = params.capacity;
        let state = State {
            streams: Streams::default(),
            tracker: Tracker::new(capacity),
            contacts: ContactScorer::new(&params.contacts)?,
            peers: Peers::new(capacity.min(LISTS)),
            decoys: Decoys::new(capacity.min(LISTS)),
            paths: Paths::new(&params.paths)?,
            steps: Habits::new(capacity),
            children: Habits::new(capacity),
            rights: Habits::new(capacity),
            open: BoundedMap::new(capacity),
            tick: 0,
        };
        Ok(Self {
            nodes: Nodes::new(params.seed),
            params,
            model,
            schema,
            state,
        })
    }

    /// Entries forgotten because there was no room.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        let State {
            tracker,
            contacts,
            peers,
            decoys,
            paths,
            steps,
            children,
            rights,
            open,
            ..
        } = &self.state;
        let habits =
            steps.evicted() + children.evicted() + rights.evicted() + peers.evicted() + decoys.evicted();
        tracker.evicted() + contacts.evicted() + paths.evicted() + habits + open.evicted()
    }

    fn event(&mut self, recorded: &Recorded, verdicts: &mut Vec<Verdict>) {
        let mark = self.state.streams.mark(recorded);
        self.advance(recorded.event.time);
        let mut suspicions = Vec::new();
        let mut judged = Vec::new();
        let mut ended = Vec::new();
        let mut stations = Vec::new();
        self.state
            .tracker
            .observe(&recorded.event, mark, &mut |sighting| match sighting {
                Sighting::Judged {
                    contact,
                    outcome,
                    began,
                } => judged.push((contact, outcome, began)),
                Sighting::Closed {
                    contact,
                    flow,
                    outcome: Some(Outcome::Answered),
                    ..
                } => ended.push((contact, contact.payload(flow).0, ServiceKind::of(&contact, flow))),
                Sighting::Arp(record) => stations.push(record.sender_ip),
                _ => {}
            });
        for station in stations {
            self.state.decoys.spoke(station.into());
        }
        for (contact, outcome, began) in judged {
            self.judged(&contact, outcome, began, &mut suspicions);
        }
        for (contact, sent, kind) in ended {
            let mut of_hosts = self.contact(&contact);
            of_hosts.bytes = Some(sent);
            self.state.contacts.ended(&of_hosts);
            if kind != ServiceKind::Other {
                self.session(&contact, mark, &mut suspicions);
            }
        }
        if let Payload::Process(process) = &recorded.event.payload {
            self.process(process, &recorded.event.device, mark, &mut suspicions);
        }
        for (suspicion, since) in suspicions {
            self.speak(suspicion, since, mark, verdicts);
        }
    }

    fn advance(&mut self, time: Timestamp) {
        let tick = u64::try_from(time.nanos().div_euclid(1_000_000_000 * TICK_SECONDS)).unwrap_or(0);
        let state = &mut self.state;
        if state.tick == 0 || (tick > state.tick && tick - state.tick < LEAP) {
            state.tick = tick;
        }
    }

    fn contact(&self, contact: &Seen) -> Contact {
        Contact::of_hosts(
            &self.nodes,
            contact.client,
            contact.server,
            contact.protocol,
            contact.port,
        )
    }

    fn judged(&mut self, seen: &Seen, outcome: Outcome, began: Mark, out: &mut Vec<(Suspicion, Mark)>) {
        if !seen.certain || !is_host(seen.server) || seen.client == seen.server {
            return;
        }
        // Names, times, exports and devices are asked for in vain by honest hosts.
        if outcome.is_failure() && is_often_unanswered(seen.protocol, seen.port) {
            return;
        }
        // Peers that are gone say nothing about who calls them.
        if self.state.peers.called(seen) && outcome.is_failure() {
            return;
        }
        let mut contact = self.contact(seen);
        contact.answered = Some(!outcome.is_failure());
        let score = self.state.contacts.score(&contact, self.state.tick);
        if !outcome.is_failure() || !score.first {
            return;
        }
        self.state.decoys.failed(seen);
        let together = self.state.decoys.together(seen.client, seen.server);
        if together.first().is_some_and(|first| *first != seen.client) {
            return;
        }
        let prior = self.params.probing_prior;
        let rarity = f64::from(score.edge.source_rarity.max(0.0));
        let (scan, sweep) = (f64::from(score.scan), f64::from(score.sweep));
        let (name, evidence, title) = if scan >= sweep {
            (
                "scan",
                scan,
                format!("{} looks for services of {}", seen.client, seen.server),
            )
        } else {
            let port = seen.port;
            (
                "sweep",
                sweep,
                format!("{} looks for hosts that serve port {port}", seen.client),
            )
        };
        let terms = vec![
            ("prior", 0.0, prior),
            (name, evidence, evidence),
            ("host_rarity", rarity, 0.0),
        ];
        out.push((
            Suspicion {
                kind: 0,
                entity: Entity::Host(seen.client),
                peer: Some(seen.server),
                technique: "T1046",
                title,
                terms,
                measured: self.state.contacts.probing_bounds(evidence),
            },
            began,
        ));
        let flood = f64::from(score.flood);
        if flood > evidence {
            let title = format!("many ask {} for port {} in vain", seen.server, seen.port);
            out.push((
                Suspicion {
                    kind: 1,
                    entity: Entity::Service(seen.server, seen.protocol, seen.port),
                    peer: Some(seen.client),
                    technique: "T1498",
                    title,
                    terms: vec![("prior", 0.0, prior), ("flood", flood, flood)],
                    measured: self.state.contacts.probing_bounds(flood),
                },
                began,
            ));
        }
    }

    /// Somebody logged in, or called procedures.
    fn session(&mut self, seen: &Seen, mark: Mark, out: &mut Vec<(Suspicion, Mark)>) {
        let (from, to) = (self.nodes.host(seen.client), self.nodes.host(seen.server));
        // All sessions are one subject: how often do two hosts have their first?
        let rare = self
            .state
            .steps
            .surprise(0, from ^ to.rotate_left(32))
            .at_most(MOST_SURPRISE);
        let path = self.state.paths.step(from, to, self.state.tick);
        if path.new_steps < 2 || rare.nats == 0.0 {
            return;
        }
        let chain = f64::from(path.new_steps);
        let title = format!(
            "sessions in a chain of {} hosts, now from {} to {}",
            path.steps + 1,
            seen.client,
            seen.server
        );
        // Each new step is as surprising as this one; the first is what begins any session.
        let by_chain = |rare: f64| (chain - 1.0) * rare.min(4.5);
        let terms = vec![
            ("prior", 0.0, self.params.chain_prior),
            ("chain", chain, by_chain(rare.nats)),
            ("new_step", rare.nats, 0.0),
        ];
        out.push((
            Suspicion {
                kind: 2,
                entity: Entity::Host(seen.client),
                peer: Some(seen.server),
                technique: "T1021",
                title,
                terms,
                measured: rare.bounds.map(by_chain),
            },
            mark,
        ));
    }

    fn process(
        &mut self,
        process: &ProcessEvent,
        device: &Name,
        mark: Mark,
        out: &mut Vec<(Suspicion, Mark)>,
    ) {
        let prior = ("prior", 0.0, self.params.process_prior);
        let entity = || Entity::Named(Name::from(format!("{device}/{}", process.executable).as_str()));
        let program = |path: &str| self.nodes.program(device.as_str(), path);
        match process.action {
            ProcessAction::Exec => {
                let Some(parent) = process
                    .ancestors
                    .first()
                    .filter(|parent| !parent.executable.as_str().is_empty())
                else {
                    return;
                };
                let (of, child) = (program(parent.executable.as_str()), program(&process.executable));
                let rare = self.state.children.surprise(of, child).at_most(MOST_SURPRISE);
                if rare.nats > 0.0 {
                    let title = format!(
                        "{} started {}, which it never did",
                        parent.executable, process.executable
                    );
                    let terms = vec![prior, ("new_child", rare.nats, rare.nats)];
                    out.push((
                        Suspicion {
                            kind: 3,
                            entity: entity(),
                            peer: None,
                            technique: "T1059",
                            title,
                            terms,
                            measured: rare.bounds,
                        },
                        mark,
                    ));
                }
            }
            ProcessAction::Credentials => {
                let (Some(before), Some(after)) = (&process.previous, &process.credentials) else {
                    return;
                };
                let root = before.effective_uid != 0 && after.effective_uid == 0;
                let gained = after.effective & !before.effective;
                if process.result.is_some_and(|result| result < 0) || (!root && gained == 0) {
                    return;
                }
                let user = self.nodes.user(device.as_str(), before.uid);
                let crossing = program(&process.executable) ^ user.rotate_left(16) ^ gained;
                // All crossings of a machine are one subject.
                let rare = self
                    .state
                    .rights
                    .surprise(self.nodes.user(device.as_str(), u32::MAX), crossing);
                let rare = rare.at_most(MOST_SURPRISE);
                if rare.nats > 0.0 {
                    let what = if root {
                        "the rights of root"
                    } else {
                        "capabilities"
                    };
                    let title = format!("{} of user {} gained {what}", process.executable, before.uid);
                    let terms = vec![prior, ("new_rights", rare.nats, rare.nats)];
                    out.push((
                        Suspicion {
                            kind: 4,
                            entity: entity(),
                            peer: None,
                            technique: "T1548",
                            title,
                            terms,
                            measured: rare.bounds,
                        },
                        mark,
                    ));
                }
            }
            _ => {}
        }
    }

    fn speak(&mut self, suspicion: Suspicion, since: Mark, mark: Mark, verdicts: &mut Vec<Verdict>) {
        let log_odds: f64 = suspicion.terms.iter().map(|term| term.2).sum();
        let score = probability(log_odds);
        if score < self.params.report_score {
            return;
        }
        let Suspicion {
            kind,
            entity,
            peer,
            technique,
            title,
            terms,
            measured,
        } = suspicion;
        let prior = terms.first().map_or(0.0, |prior| prior.2);
        let technique = Technique::new(technique);
        let state = &mut self.state;
        let key = (kind, entity);
        let Some(first) = state.streams.range(&Span::of(since)) else {
            return;
        };
        let digest = &self.model.digest;
        let open = state.open.entry(&key, || Open {
            id: VerdictId::derive(
                digest,
                &key.1,
                Some(&technique),
                &first.stream,
                first.first,
                mark.time,
            ),
            revisions: 0,
            time: mark.time,
            span: Span::of(since),
            gate: Gate::default(),
            best: f64::NEG_INFINITY,
            bounds: [0.0; 2],
            peers: Vec::new(),
        });
        open.span.extend(mark);
        if let Some(peer) = peer
            && !open.peers.contains(&peer)
            && open.peers.len() < crate::finding::PEERS
        {
            open.peers.push(peer);
        }
        if !open.gate.pass(mark.time, log_odds) {
            return;
        }
        // A conclusion does not become less sure because the next event says less.
        if log_odds >= open.best {
            (open.best, open.bounds) = (log_odds, measured.map(|bound| prior + bound));
        }
        let (log_odds, [low, high]) = (open.best, open.bounds.map(probability));
        let score = probability(log_odds);
        let Some(events) = state.streams.range(&open.span) else {
            return;
        };
        let evidence = terms.into_iter().filter(|term| term.2 != 0.0 || term.1 != 0.0);
        let evidence = evidence.map(|(name, value, contribution)| Evidence {
            feature: term(name),
            value,
            contribution,
        });
        let mut evidence: Vec<Evidence> = evidence.collect();
        evidence.sort_by(|a, b| b.contribution.abs().total_cmp(&a.contribution.abs()));
        verdicts.push(Verdict {
            id: open.id,
            revision: open.revisions,
            time: open.time,
            updated: mark.time.max(open.time),
            layer: Layer::Geometric,
            entity: key.1,
            peers: open.peers.iter().map(|peer| Entity::Host(*peer)).collect(),
            technique: Some(technique),
            title,
            score,
            interval: ScoreInterval::around(score, low.min(score), high.max(score)),
            evidence,
            model: self.model.clone(),
            schema: self.schema,
            events,
        });
        open.revisions = open.revisions.saturating_add(1);
    }
}

impl Analyzer for GraphAnalyzer {
    fn model(&self) -> ModelRef {
        self.model.clone()
    }

    fn observe(
        &mut self,
        observation: Observation<'_>,
        verdicts: &mut Vec<Verdict>,
    ) -> Result<(), AnalyzerError> {
        match observation {
            Observation::Event(recorded) => {
                self.event(recorded, verdicts);
                Ok(())
            }
            // Windows say nothing about who talks to whom.
            Observation::Features(_) => Ok(()),
            _ => Err(AnalyzerError::Observation {
                reason: "of a kind this version does not know".to_owned(),
            }),
        }
    }

    fn snapshot(&self) -> Result<Vec<u8>, AnalyzerError> {
        snapshot::encode(self.model.digest, &self.state)
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), AnalyzerError> {
        let state: State = snapshot::decode(self.model.digest, bytes)?;
        if !self.state.contacts.same_settings(&state.contacts) {
            return Err(AnalyzerError::Snapshot {
                reason: "it is of other settings".to_owned(),
                source: None,
            });
        }
        self.state = state;
        Ok(())
    }
}
