//! Sequences as an analyzer: from system calls, processes and activities to verdicts.

use std::net::IpAddr;

use amoskys_core::event::{
    Entity, EventRange, Evidence, Layer, ModelRef, Payload, Technique, Verdict, VerdictId,
};
use amoskys_core::{Analyzer, AnalyzerError, Digest, Event, Name, Observation, Recorded, Timestamp};
use serde::{Deserialize, Serialize};

use super::SequenceError;
use super::assembly::{ProcessTrace, TraceAssembler};
use super::model::{SequenceModel, sequence_schema};
use super::process::Actors;
use super::rules::PatternRule;
use crate::finding::{Mark, Span, Streams};
use crate::measure::{BoundedMap, hash_bytes, seconds_between};
use crate::sighting::is_host;
use crate::snapshot;

/// Settings of a [`SequenceAnalyzer`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SequenceAnalyzerParams {
    /// Calls of a process that are judged together, 16 to 1,048,576; a longer process is judged in stretches. Default 2,048.
    pub stretch: usize,
    /// Processes remembered. Default 4,096: at most 33 MB.
    pub processes: usize,
    /// The rules beside the model. Default [`pattern_rules`](super::pattern_rules).
    pub rules: Vec<PatternRule>,
    /// Verdicts of rules below this score are kept back. Default 0.3. Under a [`Correlation`](crate::Correlation) it is best 0: it
    /// knows by whom a hint is to be taken seriously.
    pub report_score: f64,
}

impl Default for SequenceAnalyzerParams {
    fn default() -> Self {
        Self {
            stretch: 2048,
            processes: 4096,
            rules: super::pattern_rules(),
            report_score: 0.3,
        }
    }
}

/// Steps a rule may have.
const STEPS: usize = 16;
/// Calls a verdict names as surprising.
const SURPRISES: usize = 3;

/// Verdicts about processes: by the model, when the calls of a process are unlike those of normal ones, and by written rules, when
/// a process or its children take the steps of a known pattern.
///
/// A process is judged two seconds of event time after it ends, so that its last calls are in, or when it has made
/// [`stretch`](SequenceAnalyzerParams::stretch) calls. Where calls were lost, what came before is judged alone
/// ([`TraceAssembler`]). Without a model the rules work by themselves.
///
/// # Guarantees
///
/// As those of [`Detection`](crate::Detection): the same events give the same verdicts, memory is bounded, no event makes
/// it panic.
#[derive(Debug)]
pub struct SequenceAnalyzer {
    params: SequenceAnalyzerParams,
    model: Option<SequenceModel>,
    reference: ModelRef,
    schema: Digest,
    state: State,
}

#[derive(Debug, Serialize, Deserialize)]
struct State {
    streams: Streams,
    traces: TraceAssembler,
    /// How far rules have come, by machine, process and rule.
    progress: BoundedMap<(u64, u16), Progress>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Progress {
    steps: u16,
    since: Timestamp,
    file: u64,
    span: Span,
    /// The connection among the steps: the own address, if known, and the peer's.
    connection: Option<(Option<IpAddr>, IpAddr)>,
}

impl SequenceAnalyzer {
    /// An analyzer that has seen nothing. Without a model it applies the rules alone.
    ///
    /// # Errors
    ///
    /// If a setting is out of range.
    pub fn new(model: Option<SequenceModel>, params: SequenceAnalyzerParams) -> Result<Self, SequenceError> {
        let refuse = |setting, reason| Err(SequenceError::Setting { setting, reason });
        let traces = TraceAssembler::new(params.stretch, params.processes)?;
        if !(0.0..=1.0).contains(&params.report_score) {
            return refuse("report_score", "must be 0 to 1");
        }
        let fits = |rule: &PatternRule| {
            (1..=STEPS).contains(&rule.steps.len())
                && (0.0..=1.0).contains(&rule.score)
                && rule.within_seconds >= 0.0
                && !rule.title.is_empty()
        };
        if params.rules.len() > usize::from(u16::MAX) || !params.rules.iter().all(fits) {
            return refuse(
                "rules",
                "must have a title, a score from 0 to 1, a time, and 1 to 16 steps each",
            );
        }
        let trained = match &model {
            Some(model) => model.reference().map_err(|_| SequenceError::Stored {
                reason: "it cannot be encoded",
            })?,
            None => ModelRef::default(),
        };
        let version = env!("CARGO_PKG_VERSION");
        let schema = sequence_schema().digest();
        let settings = serde_json::to_vec(&params).unwrap_or_default();
        let reference = ModelRef {
            name: Name::from("amoskys-sequence"),
            version: Name::from(version),
            digest: Digest::of_parts([
                version.as_bytes(),
                &settings[..],
                &trained.digest.0[..],
                &schema.0[..],
            ]),
        };
        let processes = params.processes;
        let state = State {
            streams: Streams::default(),
            traces,
            progress: BoundedMap::new(processes.saturating_mul(4)),
        };
        Ok(Self {
            params,
            model,
            reference,
            schema,
            state,
        })
    }

    /// Processes forgotten because there were too many.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.state.traces.evicted() + self.state.progress.evicted()
    }

    fn event(&mut self, recorded: &Recorded, verdicts: &mut Vec<Verdict>) {
        let mark = self.state.streams.mark(recorded);
        if let Payload::Process(_) | Payload::Activity(_) = &recorded.event.payload {
            self.rules(recorded, mark, verdicts);
        }
        if self.model.is_some() {
            for trace in self.state.traces.observe_at(recorded, mark) {
                self.judge(&trace, mark, verdicts);
            }
        }
    }

    /// What the model says of the calls of a process.
    fn judge(&self, trace: &ProcessTrace, mark: Mark, verdicts: &mut Vec<Verdict>) {
        let Some(model) = &self.model else { return };
        let score = model.traces().scorer().score(&trace.calls);
        if !model.threshold().is_alarm(score.value) {
            return;
        }
        let probability = model.probability(score.value);
        let p_value = model.p_value(score.value);
        let surprising = model.surprising(&trace.command, &trace.calls, SURPRISES);
        let calls: Vec<String> = surprising.iter().map(|(_, call, _)| call.to_string()).collect();
        let command = if trace.command.is_empty() {
            "a process"
        } else {
            &trace.command
        };
        let title = format!(
            "{command} makes calls as no normal process does, least expected: {}",
            calls.join(", ")
        );
        let total = (score.calls + score.runs + score.missing).max(f64::MIN_POSITIVE);
        let odds = crate::odds::logit(probability);
        let share = |part: f64| odds * part / total;
        let mut evidence = vec![
            ("calls", score.calls, share(score.calls)),
            ("runs", score.runs, share(score.runs)),
            ("missing", score.missing, share(score.missing)),
            ("evidence", score.evidence, 0.0),
            ("p_value", p_value, 0.0),
        ];
        evidence.extend(surprising.first().map(|(.., bits)| ("surprise", *bits, 0.0)));
        let entity = process_entity(&trace.device, command);
        let told = verdicts.len();
        self.speak(
            Layer::Behavioral,
            entity,
            None,
            title,
            probability,
            evidence,
            trace.span,
            mark,
            verdicts,
        );
        for verdict in &mut verdicts[told..] {
            verdict.interval = model.score_interval(score.value);
        }
    }

    fn rules(&mut self, recorded: &Recorded, mark: Mark, verdicts: &mut Vec<Verdict>) {
        let actors = Actors::of(&recorded.event);
        let mut by = None;
        for at in 0..self.params.rules.len() {
            let Some(done) = self.step(recorded, at, &actors, mark) else {
                continue;
            };
            let rule = &self.params.rules[at];
            let score = rule.score;
            if score < self.params.report_score {
                continue;
            }
            let by = by.get_or_insert_with(|| super::process::describe(&recorded.event));
            let title = format!("{}: {by}", rule.title);
            let technique = Technique::new(&rule.technique);
            let evidence = vec![("rule", 1.0, crate::odds::logit(score))];
            let program = super::process::program(&recorded.event);
            let entity = process_entity(&recorded.event.device, program);
            let told = verdicts.len();
            self.speak(
                Layer::Rule,
                entity,
                Some(technique),
                title,
                score,
                evidence,
                done.span,
                mark,
                verdicts,
            );
            for verdict in &mut verdicts[told..] {
                verdict
                    .peers
                    .extend(done.connection.map(|connection| match connection {
                        (Some(own), peer) => Entity::Pair(own, peer),
                        (None, peer) => Entity::Host(peer),
                    }));
            }
        }
    }

    /// Takes an event for the next step of a rule, by this process or in the steps of those that led to it. The steps, if this is
    /// the last one.
    fn step(&mut self, recorded: &Recorded, at: usize, actors: &Actors, mark: Mark) -> Option<Progress> {
        let rule = &self.params.rules[at];
        let number = u16::try_from(at).ok()?;
        let time = recorded.event.time;
        let in_time = |progress: &Progress| {
            (0.0..=rule.within_seconds).contains(&seconds_between(progress.since, time))
        };
        let of = |key: &u64| {
            self.state
                .progress
                .peek(&(*key, number))
                .filter(|known| in_time(known))
        };
        // A child goes on where those that led to it are; the nearest counts.
        let before = actors.line.iter().find_map(of).cloned();
        let wanted = before.as_ref().map_or(0, |before| usize::from(before.steps));
        let go_on = rule
            .steps
            .get(wanted)
            .and_then(|step| step.matches(&recorded.event));
        let (mut progress, file) = match (go_on, before) {
            (Some(file), Some(before)) if !rule.same_file || before.file == hash_bytes(file.as_bytes()) => {
                (before, file)
            }
            _ => {
                let file = rule.steps.first()?.matches(&recorded.event)?;
                let new = Progress {
                    steps: 0,
                    since: time,
                    file: hash_bytes(file.as_bytes()),
                    span: Span::of(mark),
                    connection: None,
                };
                (new, file)
            }
        };
        progress.steps += 1;
        progress.file = hash_bytes(file.as_bytes());
        progress.span.extend(mark);
        progress.connection = connection(&recorded.event).or(progress.connection);
        // What it does counts for its parent too, unless the rule is about one line.
        let owners = actors.line.iter().take(if rule.in_line { 1 } else { 2 });
        if usize::from(progress.steps) == rule.steps.len() {
            for owner in actors.line.iter().take(2) {
                self.state.progress.remove(&(*owner, number));
            }
            return Some(progress);
        }
        for owner in owners {
            let known = self.state.progress.entry(&(*owner, number), || progress.clone());
            if progress.steps >= known.steps || seconds_between(known.since, time) > rule.within_seconds {
                *known = progress.clone();
            }
        }
        None
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of a verdict")]
    fn speak(
        &self,
        layer: Layer,
        entity: Entity,
        technique: Option<Technique>,
        title: String,
        score: f64,
        evidence: Vec<(&'static str, f64, f64)>,
        span: Span,
        mark: Mark,
        verdicts: &mut Vec<Verdict>,
    ) {
        let Some(events) = self.state.streams.range(&span) else {
            return;
        };
        let EventRange { stream, first, .. } = &events;
        // Each stretch of a process is a conclusion of its own.
        let id = VerdictId::derive(
            &self.reference.digest,
            &entity,
            technique.as_ref(),
            stream,
            *first,
            mark.time,
        );
        let evidence = evidence
            .into_iter()
            .map(|(feature, value, contribution)| Evidence {
                feature: Name::from(feature),
                value,
                contribution,
            });
        verdicts.push(Verdict {
            id,
            revision: 0,
            time: mark.time,
            updated: mark.time,
            layer,
            entity,
            peers: Vec::new(),
            technique,
            title,
            score,
            interval: None,
            evidence: evidence.collect(),
            model: self.reference.clone(),
            schema: self.schema,
            events,
        });
    }
}

impl Analyzer for SequenceAnalyzer {
    fn model(&self) -> ModelRef {
        self.reference.clone()
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
            Observation::Features(_) => Ok(()),
            _ => Err(AnalyzerError::Observation {
                reason: "of a kind this version does not know".to_owned(),
            }),
        }
    }

    fn snapshot(&self) -> Result<Vec<u8>, AnalyzerError> {
        snapshot::encode(self.reference.digest, &self.state)
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), AnalyzerError> {
        self.state = snapshot::decode(self.reference.digest, bytes)?;
        Ok(())
    }
}

fn process_entity(device: &Name, program: &str) -> Entity {
    Entity::Named(Name::from(format!("{device}/{program}").as_str()))
}

/// The connection that an activity is about.
fn connection(event: &Event) -> Option<(Option<IpAddr>, IpAddr)> {
    let Payload::Activity(activity) = &event.payload else {
        return None;
    };
    let own = activity
        .local_address
        .filter(|own| is_host(*own) && !own.is_loopback());
    activity.remote_address.map(|peer| (own, peer))
}
