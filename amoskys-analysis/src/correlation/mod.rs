//! Correlation: what several analyzers say about one attack is one verdict.
//!
//! A scan that [`Detection`](crate::Detection) and [`GraphAnalyzer`](crate::graph::GraphAnalyzer) both see is one alert, and so
//! is a reverse shell that two rules and a model of system calls notice. Verdicts are about one attack if they are about the same
//! host (a process and a metric belong to their machine, a machine is known by the addresses its processes speak from), at most an
//! hour apart, and name the same technique, or techniques of the same tactic of MITRE ATT&CK.
//!
//! # How scores are joined
//!
//! In log-odds, as the layers of [`Detection`](crate::Detection) are:
//!
//! - an analyzer that fuses layers itself counts fully;
//! - a layer counts with its weight. One that found little does not speak against the others, and one that the fusing analyzer has
//!   heard already adds only what goes beyond: two measurements of one thing are not two witnesses;
//! - a metric that stands out (from [`MetricDetection`](crate::series::MetricDetection)) says nothing of an attack by itself. It
//!   counts only beside an attack of the same host, no more than two minutes from what else is known of it, once, and at most
//!   doubles the odds (0.69). Where metrics stand out so often that one does by chance in 15 of 100 such stretches it counts less,
//!   and nothing at 30 of 100, which is how often attacks are taken to move a metric. It does not make an attack last, nor name it;
//! - a written rule counts fully, each further one half, and never lowers a score;
//! - what descends from a process that is accused already inherits its accusation: the probability that it is an attack is one minus
//!   that of it being honest *and* the accused one being so.
//!
//! A verdict of [`Detection`](crate::Detection) or of a rule with nothing beside it comes out as it came in, but for the model it
//! names; a single layer has to be sure of
//! itself, as within [`Detection`](crate::Detection): above 0.93 for an alert.

mod host;
mod incident;
mod schema;
mod take_over;

use amoskys_core::event::{Event, Layer, ModelRef, Payload, Verdict, VerdictId};
use amoskys_core::{
    Analyzer, AnalyzerError, BoxExtractor, Digest, Extractor, FeatureVector, Name, Observation, Timestamp,
};
use serde::{Deserialize, Serialize};

pub(crate) use self::host::Host;
use self::host::Hosts;
use self::incident::{Incident, Signature};

pub use self::schema::correlation_schema;
use crate::attack::{self, Tactic};
use crate::config::{ConfigError, DetectionConfig};
use crate::feedback::Suppressions;
use crate::layer::Backlog;
use crate::measure::{BoundedMap, Leaky};
use crate::odds::probability;
use crate::sequence::Actors;
use crate::snapshot;

/// Evidence: the probability that the process which led here is an intruder's.
pub(crate) const LINEAGE: &str = "lineage";
/// Evidence: somebody called this normal; the value is the score before.
pub(crate) const NORMAL: &str = "called_normal";

/// Seconds over which metrics that stood out are counted.
const DAY: f64 = 86_400.0;
/// Incidents of one host that are told apart.
const OF_ONE_HOST: usize = 24;

/// Several analyzers as one, which joins what they say about the same attack.
///
/// # Guarantees
///
/// As those of [`Detection`](crate::Detection): the same observations give the same verdicts, bit for bit, also after a restored
/// snapshot; memory is bounded, what is forgotten for it is counted ([`evicted`](Self::evicted)).
///
/// ```
/// use amoskys_analysis::graph::GraphAnalyzer;
/// use amoskys_analysis::sequence::SequenceAnalyzer;
/// use amoskys_analysis::{Correlation, Detection, DetectionConfig};
///
/// let config = DetectionConfig::default();
/// let analyzer = Correlation::new(&config)?
///     .with(Detection::new(config, Vec::new())?)
///     .with(GraphAnalyzer::new(Default::default())?)
///     .with(SequenceAnalyzer::new(None, Default::default())?);
/// # let _ = analyzer;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Correlation {
    members: Vec<Box<dyn Analyzer>>,
    /// What makes windows for all members.
    extractors: Vec<BoxExtractor>,
    vectors: Vec<FeatureVector>,
    settings: Settings,
    model: ModelRef,
    schema: Digest,
    state: State,
    suppressions: Suppressions,
    drawn: Vec<Verdict>,
}

/// What of the configuration counts here.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Settings {
    weights: [f64; 3],
    report_score: f64,
    hosts: usize,
    incidents: usize,
}

#[derive(Debug, Serialize, Deserialize)]
struct State {
    hosts: Hosts,
    incidents: BoundedMap<u64, Incident>,
    next: u64,
    /// Incidents that accuse a host.
    of_host: BoundedMap<Host, Vec<u64>>,
    /// The incident that an analyzer's conclusion went into.
    of_verdict: BoundedMap<VerdictId, u64>,
    /// Processes that are accused: by which incident, and how probably.
    suspects: BoundedMap<u64, (u64, f64)>,
    late: Backlog<u64>,
    /// How often metrics of a host stood out, of late.
    moved: BoundedMap<Host, Leaky>,
    /// The second that event time has come to.
    second: i64,
}

impl State {
    fn new(settings: &Settings) -> Self {
        Self {
            hosts: Hosts::new(settings.hosts),
            incidents: BoundedMap::new(settings.incidents),
            next: 0,
            of_host: BoundedMap::new(settings.incidents),
            of_verdict: BoundedMap::new(settings.incidents.saturating_mul(4)),
            suspects: BoundedMap::new(settings.incidents.saturating_mul(4)),
            late: Backlog::default(),
            moved: BoundedMap::new(settings.incidents),
            second: i64::MIN,
        }
    }
}

impl Correlation {
    /// A correlation of no analyzers yet. Of the configuration it takes the weights of the layers, the score from which verdicts are
    /// reported, and how many hosts and incidents are remembered.
    ///
    /// # Errors
    ///
    /// If a setting is out of range.
    pub fn new(config: &DetectionConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let weights = &config.weights;
        let settings = Settings {
            weights: [weights.geometric, weights.temporal, weights.behavioral],
            report_score: config.report_score,
            hosts: config.capacity.hosts,
            incidents: config.capacity.incidents,
        };
        let mut correlation = Self {
            members: Vec::new(),
            extractors: Vec::new(),
            vectors: Vec::new(),
            state: State::new(&settings),
            settings,
            model: ModelRef::default(),
            schema: correlation_schema().digest(),
            suppressions: Suppressions::default(),
            drawn: Vec::new(),
        };
        correlation.model = correlation.describe();
        Ok(correlation)
    }

    /// The same with one more analyzer. To be added before the first event: each makes another model of it. Analyzers are asked in the
    /// order in which they were added.
    #[must_use]
    pub fn with(mut self, analyzer: impl Analyzer + 'static) -> Self {
        self.members.push(Box::new(analyzer));
        self.model = self.describe();
        self
    }

    /// The same with an extractor whose windows are shown to all analyzers, each before the event that closed it: so that analyzers
    /// that look at the same windows (a [`Detection`](crate::Detection) with a baseline, a
    /// [`WindowAnalyzer`](crate::live::WindowAnalyzer)) need none of their own, and they are made once. `schemas` are those that any
    /// of the analyzers looks at; others are not made where that can be [avoided](Extractor::restrict). To be added before the first
    /// event.
    #[must_use]
    pub fn with_extractor(mut self, mut extractor: BoxExtractor, schemas: &[Digest]) -> Self {
        extractor.restrict(schemas);
        self.extractors.push(extractor);
        self
    }

    /// The same with a list of what is normal here. The list may be changed through another handle while events flow; it takes effect
    /// with the next verdict.
    #[must_use]
    pub fn with_suppressions(mut self, suppressions: Suppressions) -> Self {
        self.suppressions = suppressions;
        self
    }

    /// Incidents, hosts and processes forgotten because there were too many. What the analyzers have forgotten they say themselves.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        let state = &self.state;
        state.hosts.evicted()
            + state.incidents.evicted()
            + state.of_host.evicted()
            + state.of_verdict.evicted()
            + state.suspects.evicted()
            + state.moved.evicted()
    }

    /// The model's name, and a digest of all that decides about verdicts.
    fn describe(&self) -> ModelRef {
        let version = env!("CARGO_PKG_VERSION");
        let settings = serde_json::to_vec(&self.settings).unwrap_or_default();
        let members: Vec<Digest> = self.members.iter().map(|member| member.model().digest).collect();
        let own = [version.as_bytes(), &settings, &self.schema.0];
        let parts = own.into_iter().chain(members.iter().map(|digest| &digest.0[..]));
        ModelRef {
            name: Name::from("amoskys-correlation"),
            version: Name::from(version),
            digest: Digest::of_parts(parts),
        }
    }

    /// Shows all analyzers an observation, and keeps the first refusal.
    fn show(
        &mut self,
        observation: Observation<'_>,
        drawn: &mut Vec<Verdict>,
        refused: &mut Option<AnalyzerError>,
    ) {
        for member in &mut self.members {
            if let Err(error) = member.observe(observation, drawn) {
                refused.get_or_insert(error);
            }
        }
    }

    fn take(&mut self, verdict: &Verdict, actors: &Actors, now: Timestamp, out: &mut Vec<Verdict>) {
        let Some(number) = self.state.place(verdict, actors) else {
            // About nobody: there is nothing to join it with.
            out.push(verdict.clone());
            return;
        };
        let lineage = self.state.lineage(number, actors);
        let by_chance = self.state.by_chance(verdict);
        let Some(incident) = self.state.incidents.get(&number) else {
            return;
        };
        incident.add(verdict, lineage, by_chance);
        let log_odds = incident.log_odds(&self.settings.weights);
        // Whoever fuses keeps a pace of its own.
        if verdict.layer == Layer::Fused || incident.is_news(now, log_odds) {
            self.speak(number, now, out);
        } else {
            self.state.late.add(number);
        }
        self.state.suspect(number, actors, log_odds);
    }

    fn speak(&mut self, number: u64, now: Timestamp, out: &mut Vec<Verdict>) {
        let signature = Signature {
            model: &self.model,
            schema: self.schema,
            weights: self.settings.weights,
        };
        let state = &mut self.state;
        let Some(incident) = state.incidents.peek(&number) else {
            return;
        };
        let Some(mut verdict) = incident.verdict(&signature) else {
            return;
        };
        let score = verdict.score;
        if score < self.settings.report_score {
            return;
        }
        let is_normal = self.suppressions.apply(&mut verdict);
        // An alert is not taken back for what is measured later: what it rests on has happened.
        if incident.was_alert() && !verdict.is_alert() && !is_normal {
            return;
        }
        if let Some(incident) = state.incidents.peek_mut(&number) {
            incident.spoke(&verdict, score, now);
        }
        out.push(verdict);
    }

    /// Event time has come to another second, or the source has ended: what was held back may go.
    fn tick(&mut self, event: &Event, out: &mut Vec<Verdict>) {
        let end = matches!(&event.payload, Payload::Punctuation(clock) if clock.end);
        let second = event.time.nanos().div_euclid(1_000_000_000);
        if second == self.state.second && !end {
            return;
        }
        self.state.second = second;
        for number in self.state.late.take() {
            let Some(incident) = self.state.incidents.peek(&number) else {
                continue;
            };
            if !incident.has_changed() {
                continue;
            }
            let log_odds = incident.log_odds(&self.settings.weights);
            if end || incident.is_news(event.time, log_odds) {
                self.speak(number, event.time, out);
            } else {
                self.state.late.add(number);
            }
        }
    }
}

impl State {
    /// The incident that a verdict belongs to, made if there is none; `None` if it is about no host.
    fn place(&mut self, verdict: &Verdict, actors: &Actors) -> Option<u64> {
        if let Some(number) = self.of_verdict.get(&verdict.id)
            && let number = *number
            && self
                .incidents
                .peek(&number)
                .is_some_and(|incident| !incident.is_over(verdict))
        {
            return Some(number);
        }
        let host = Host::of(&verdict.entity)?;
        let number = match self.fitting(&host, verdict, actors) {
            Some(number) => number,
            None => {
                let number = self.next;
                self.next += 1;
                let again = self.of_verdict.peek(&verdict.id).is_some();
                self.incidents.entry(&number, || Incident::of(verdict, again));
                number
            }
        };
        let list = self.of_host.entry(&host, Vec::new);
        if !list.contains(&number) {
            if list.len() >= OF_ONE_HOST {
                list.remove(0);
            }
            list.push(number);
        }
        *self.of_verdict.entry(&verdict.id, || number) = number;
        Some(number)
    }

    /// The incident of the same host that fits best, of several the latest.
    fn fitting(&self, host: &Host, verdict: &Verdict, actors: &Actors) -> Option<u64> {
        let suspect = actors
            .line
            .iter()
            .any(|process| self.suspects.peek(process).is_some());
        let mut hosts = self.hosts.aliases(host);
        let tactic = verdict.technique.as_ref().and_then(attack::tactic);
        if tactic == Some(Tactic::Impact) {
            // Of a flood, some accuse those who send it, and some name the service that suffers.
            hosts.extend(verdict.peers.iter().filter_map(Host::of));
        }
        let of_host = hosts.iter().filter_map(|host| self.of_host.peek(host)).flatten();
        of_host
            .filter_map(|number| {
                let incident = self.incidents.peek(number)?;
                let fit = incident.fit(verdict, suspect);
                (fit > 0).then_some((fit, incident.updated(), *number))
            })
            .max()
            .map(|(.., number)| number)
    }

    /// If a verdict is about a metric that stands out: the probability that one of this host's does within the time in which it would
    /// speak for an attack, by how often they did before.
    fn by_chance(&mut self, verdict: &Verdict) -> Option<f64> {
        if verdict.schema != crate::series::schema_digest() {
            return None;
        }
        let host = Host::of(&verdict.entity)?;
        let before = self.moved.entry(&host, Leaky::default);
        let count = before.read(verdict.updated, DAY);
        if verdict.revision == 0 {
            before.add(verdict.updated, 1.0, DAY);
        }
        Some(1.0 - (-count / DAY * 2.0 * incident::NEAR_UNNAMED).exp())
    }

    /// The probability that one of the processes behind a verdict is an intruder's, by what other incidents say.
    fn lineage(&self, number: u64, actors: &Actors) -> Option<f64> {
        let accused = actors
            .line
            .iter()
            .filter_map(|process| self.suspects.peek(process));
        let others = accused.filter(|(incident, _)| *incident != number);
        others
            .map(|(_, log_odds)| probability(*log_odds))
            .reduce(f64::max)
    }

    /// Notes the process that an alert is about, and the one that it works on.
    fn suspect(&mut self, number: u64, actors: &Actors, log_odds: f64) {
        // Who is called normal is not suspected.
        if !self.incidents.peek(&number).is_some_and(Incident::was_alert) {
            return;
        }
        for process in actors.line.first().into_iter().chain(&actors.target) {
            let known = self.suspects.entry(process, || (number, log_odds));
            if log_odds > known.1 {
                *known = (number, log_odds);
            }
        }
    }
}

impl std::fmt::Debug for Correlation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Correlation")
            .field("model", &self.model)
            .field("members", &self.members.len())
            .field("evicted", &self.evicted())
            .finish_non_exhaustive()
    }
}

impl Analyzer for Correlation {
    fn model(&self) -> ModelRef {
        self.model.clone()
    }

    /// Shows the observation to all analyzers. If one of them cannot use it, the others have taken it all the same.
    fn observe(
        &mut self,
        observation: Observation<'_>,
        verdicts: &mut Vec<Verdict>,
    ) -> Result<(), AnalyzerError> {
        let (actors, now) = match observation {
            Observation::Event(recorded) => {
                self.state.hosts.learn(&recorded.event);
                self.tick(&recorded.event, verdicts);
                (Some(&recorded.event), recorded.event.time)
            }
            Observation::Features(vector) => (None, vector.end),
            _ => {
                return Err(AnalyzerError::Observation {
                    reason: "of a kind this version does not know".to_owned(),
                });
            }
        };
        let mut drawn = std::mem::take(&mut self.drawn);
        let mut refused = None;
        if let Observation::Event(recorded) = observation {
            let mut vectors = std::mem::take(&mut self.vectors);
            for extractor in &mut self.extractors {
                extractor.observe(recorded, &mut vectors);
            }
            for vector in vectors.drain(..) {
                self.show(Observation::Features(&vector), &mut drawn, &mut refused);
            }
            self.vectors = vectors;
        }
        self.show(observation, &mut drawn, &mut refused);
        if !drawn.is_empty() {
            let actors = actors.map(Actors::of).unwrap_or_default();
            for verdict in drawn.drain(..) {
                self.take(&verdict, &actors, now, verdicts);
            }
        }
        self.drawn = drawn;
        refused.map_or(Ok(()), Err)
    }

    fn snapshot(&self) -> Result<Vec<u8>, AnalyzerError> {
        snapshot::encode(self.model.digest, &(&self.state, self.parts()?))
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), AnalyzerError> {
        let (state, parts): (State, Parts) = snapshot::decode(self.model.digest, bytes)?;
        for (what, found, own) in [
            ("analyzers", parts.0.len(), self.members.len()),
            ("extractors", parts.1.len(), self.extractors.len()),
        ] {
            if found != own {
                let reason = format!("it has {found} {what}, this one {own}");
                return Err(AnalyzerError::Snapshot { reason, source: None });
            }
        }
        // If one of them refuses, those before it go back to what they were.
        let before = self.parts()?;
        if let Err(error) = self.restore_parts(&parts) {
            self.restore_parts(&before)?;
            return Err(error);
        }
        self.state = state;
        Ok(())
    }
}

/// The states of the analyzers, and of the extractors.
type Parts = (Vec<Vec<u8>>, Vec<Vec<u8>>);

impl Correlation {
    fn parts(&self) -> Result<Parts, AnalyzerError> {
        let members: Result<_, _> = self.members.iter().map(|member| member.snapshot()).collect();
        let extractors: Result<_, _> = self.extractors.iter().map(Extractor::snapshot).collect();
        Ok((members?, extractors?))
    }

    fn restore_parts(&mut self, (members, extractors): &Parts) -> Result<(), AnalyzerError> {
        for (member, state) in self.members.iter_mut().zip(members) {
            member.restore(state)?;
        }
        for (extractor, state) in self.extractors.iter_mut().zip(extractors) {
            extractor.restore(state)?;
        }
        Ok(())
    }
}
