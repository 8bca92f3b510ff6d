//! An incident: what several analyzers say about one attack, and the verdict that it amounts to.

use amoskys_core::event::{
    Entity, EventRange, Evidence, Layer, ModelRef, ScoreInterval, Severity, Technique, Verdict, VerdictId,
};
use amoskys_core::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

use super::LINEAGE;
use crate::attack;
use crate::calibrate::Interval;
use crate::finding::PEERS;
use crate::fusion::index;
use crate::measure::seconds_between;
use crate::odds::{LIMIT, logit, probability};

/// Seconds between two verdicts within which they may be about one attack.
const NEAR: f64 = 3_600.0;
/// The same where one of them names no technique, so that only time and place join them.
pub(super) const NEAR_UNNAMED: f64 = 120.0;
/// The most that a metric that stands out may add to what else is known of an attack, in log-odds: it doubles the odds.
const CORROBORATION: f64 = std::f64::consts::LN_2;
/// Of attacks, the share during which a metric of the host stands out.
const MOVED: f64 = 0.3;
/// Seconds between two revisions of a verdict whose severity has not changed.
const PACE: f64 = 5.0;
/// Rules of one incident that count.
const RULES: usize = 4;
/// How much a second rule counts beside a stronger one: rules look at the same steps.
const SECOND_RULE: f64 = 0.5;
/// Of what an intruder's process leads to, the share that is the intruder's.
const INHERITED: f64 = 0.9;
/// Pieces of evidence a verdict names.
const EVIDENCE: usize = 12;

/// What one analyzer says, in its latest words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Voice {
    log_odds: f64,
    verdict: Verdict,
}

impl Voice {
    fn of(verdict: Verdict) -> Self {
        Self {
            log_odds: logit(verdict.score),
            verdict,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Incident {
    /// An analyzer that fuses layers itself.
    fused: Option<Voice>,
    layers: [Option<Voice>; 3],
    rules: Vec<Voice>,
    /// A metric of the host that stood out at the same time, and the most that it may add.
    metric: Option<(Voice, f64)>,
    /// The most probable intruder among the processes that led here.
    lineage: Option<f64>,
    peers: Vec<Entity>,
    /// All events behind it that are of the stream of the first.
    events: EventRange,
    updated: Timestamp,
    spoken: Option<Spoken>,
    /// Whether it goes on from a conclusion that was told of in an incident before.
    again: bool,
}

/// What was last said about an incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Spoken {
    id: VerdictId,
    revision: u32,
    first: Timestamp,
    at: Timestamp,
    entity: Entity,
    /// Before somebody's word was taken that it is normal.
    severity: Severity,
    alert: bool,
    /// Whether it went out as an alert.
    loud: bool,
}

/// What makes a verdict complete.
pub(super) struct Signature<'a> {
    pub(super) model: &'a ModelRef,
    pub(super) schema: Digest,
    /// Of the geometric, temporal and behavioral layer.
    pub(super) weights: [f64; 3],
}

impl Incident {
    /// An incident that begins with this verdict; `again` if another one did before.
    pub(super) fn of(verdict: &Verdict, again: bool) -> Self {
        Self {
            fused: None,
            layers: [None, None, None],
            rules: Vec::new(),
            metric: None,
            lineage: None,
            peers: Vec::new(),
            events: verdict.events.clone(),
            updated: verdict.updated,
            spoken: None,
            again,
        }
    }

    /// How well a verdict about the same host fits: 0 not at all, else the more the better. `suspect` says whether it is about what an
    /// accused process does.
    pub(super) fn fit(&self, verdict: &Verdict, suspect: bool) -> u8 {
        // What administrators do all day is not mixed with what intruders do.
        if (is_hint(verdict) && !suspect) != self.is_hint() {
            return 0;
        }
        let apart = seconds_between(self.updated, verdict.updated).abs();
        if verdict.layer == Layer::Fused && self.fused.is_some() {
            // Whoever fuses has decided already that they are two.
            return 0;
        }
        let own = self.leader().and_then(|voice| voice.verdict.technique.as_ref());
        let (own, other) = match (own, verdict.technique.as_ref()) {
            (Some(own), Some(other)) => (own, other),
            // A metric that stands out beside an attack speaks for it, a little; an attack beside a metric that stood out is the
            // attack's own.
            (own, None) if apart <= NEAR_UNNAMED => {
                return 1 + u8::from(own.is_none()) + u8::from(self.entity() == Some(&verdict.entity));
            }
            _ => return 0,
        };
        if apart > NEAR {
            0
        } else if own == other {
            4
        } else if attack::parent(own) == attack::parent(other) {
            3
        } else {
            let tactic = attack::tactic(own);
            2 * u8::from(tactic.is_some() && tactic == attack::tactic(other))
        }
    }

    /// Whether there is nothing but hints, by nobody who is accused.
    fn is_hint(&self) -> bool {
        let only_rules = self.rules.len() == self.voices();
        only_rules && self.lineage.is_none() && self.rules.iter().all(|voice| is_hint(&voice.verdict))
    }

    /// Whether it is too long ago for this verdict to be about it.
    pub(super) fn is_over(&self, verdict: &Verdict) -> bool {
        seconds_between(self.updated, verdict.updated).abs() > NEAR
    }

    pub(super) fn updated(&self) -> Timestamp {
        self.updated
    }

    /// Takes a verdict in. `lineage` is the probability that a process which led to it is an intruder's; `by_chance`, if it is about
    /// a metric, the one that some metric of this host stands out at any time.
    pub(super) fn add(&mut self, verdict: &Verdict, lineage: Option<f64>, by_chance: Option<f64>) {
        // Metrics that go on to stand out do not make an attack last.
        if by_chance.is_none() || self.is_metrics() {
            self.updated = self.updated.max(verdict.updated);
        }
        if verdict.events.stream == self.events.stream {
            self.events.first = self.events.first.min(verdict.events.first);
            self.events.last = self.events.last.max(verdict.events.last);
        }
        for peer in &verdict.peers {
            self.add_peer(peer);
        }
        if let Some(found) = lineage {
            self.lineage = Some(self.lineage.map_or(found, |known| known.max(found)));
        }
        let voice = Voice::of(verdict.clone());
        if let Some(by_chance) = by_chance {
            let most = (MOVED / by_chance).ln().clamp(0.0, CORROBORATION);
            let stronger = |known: &(Voice, f64)| {
                voice.log_odds >= known.0.log_odds || voice.verdict.id == known.0.verdict.id
            };
            if self.metric.as_ref().is_none_or(stronger) {
                self.metric = Some((voice, most));
            }
            return;
        }
        match verdict.layer {
            Layer::Fused => self.fused = Some(voice),
            Layer::Rule => self.add_rule(voice),
            layer => {
                let place = &mut self.layers[index(layer)];
                let stronger =
                    |known: &Voice| voice.log_odds >= known.log_odds || voice.verdict.id == known.verdict.id;
                if place.as_ref().is_none_or(stronger) {
                    *place = Some(voice);
                }
            }
        }
    }

    /// A host's services, if one of the voices names them, else the host.
    fn add_peer(&mut self, peer: &Entity) {
        let service_of = |entity: &Entity| match entity {
            Entity::Service(host, ..) => Some(*host),
            _ => None,
        };
        let is_known = |known: &Entity| match peer {
            Entity::Host(host) => known == peer || service_of(known) == Some(*host),
            _ => known == peer,
        };
        if self.peers.iter().any(is_known) {
            return;
        }
        if let Some(host) = service_of(peer)
            && let Some(known) = self.peers.iter_mut().find(|known| **known == Entity::Host(host))
        {
            *known = peer.clone();
        } else if self.peers.len() < PEERS {
            self.peers.push(peer.clone());
        }
    }

    /// A rule that matches again has said what it has to say: its first words stay, but for a higher score.
    fn add_rule(&mut self, voice: Voice) {
        let rule = |voice: &Voice| {
            (
                voice.verdict.model.digest,
                rule_of(&voice.verdict.title).to_owned(),
            )
        };
        let at = self.rules.iter().position(|known| rule(known) == rule(&voice));
        match at {
            Some(at) => {
                let known = &mut self.rules[at];
                if voice.log_odds > known.log_odds {
                    *known = voice;
                }
            }
            None if self.rules.len() < RULES => self.rules.push(voice),
            None => {}
        }
        self.rules.sort_by(|a, b| b.log_odds.total_cmp(&a.log_odds));
    }

    /// Fused log-odds.
    pub(super) fn log_odds(&self, weights: &[f64; 3]) -> f64 {
        let shares: f64 = self.shares(weights).iter().map(|(_, share)| share).sum();
        self.inherit(shares).clamp(-LIMIT, LIMIT)
    }

    /// Each voice and what it adds to the log-odds.
    fn shares(&self, weights: &[f64; 3]) -> Vec<(&Voice, f64)> {
        let mut shares = Vec::new();
        let alone = self.voices() == 1;
        let fused = self.fused.as_ref().map(|voice| (voice, voice.log_odds));
        shares.extend(fused);
        for (at, (layer, weight)) in self.layers.iter().zip(weights).enumerate() {
            let Some(voice) = layer else { continue };
            let share = weight * voice.log_odds;
            if alone {
                shares.push((voice, share));
                continue;
            }
            // A layer that found little does not speak against what others have found; and one that the fused voice has heard
            // already adds only what goes beyond.
            let heard = match fused {
                Some((fused, log_odds)) if speaks_for(&fused.verdict) == Some(at) => log_odds.max(0.0),
                _ => 0.0,
            };
            shares.push((voice, (share - heard).max(0.0)));
        }
        for (at, voice) in self.rules.iter().enumerate() {
            let share = match (at, alone || self.voices() == self.rules.len()) {
                (0, true) => voice.log_odds,
                (0, false) => voice.log_odds.max(0.0),
                _ => SECOND_RULE * voice.log_odds.max(0.0),
            };
            shares.push((voice, share));
        }
        if let Some((voice, most)) = &self.metric {
            let share = weights[index(Layer::Temporal)] * voice.log_odds;
            // It says nothing of an attack by itself, only beside one.
            shares.push((voice, if alone { share } else { share.clamp(0.0, *most) }));
        }
        shares
    }

    fn voices(&self) -> usize {
        usize::from(self.fused.is_some())
            + self.layers.iter().flatten().count()
            + self.rules.len()
            + usize::from(self.metric.is_some())
    }

    /// Whether there is nothing but a metric that stands out.
    fn is_metrics(&self) -> bool {
        self.voices() == usize::from(self.metric.is_some())
    }

    /// It is an attack for its own sake, or because the process that led to it is an intruder's.
    fn inherit(&self, log_odds: f64) -> f64 {
        match self.lineage {
            Some(suspect) => {
                let honest = (1.0 - probability(log_odds)) * (1.0 - INHERITED * suspect);
                logit(1.0 - honest).max(log_odds)
            }
            None => log_odds,
        }
    }

    /// The voice that names the incident: the one that fuses, else the written rule, else the strongest.
    fn leader(&self) -> Option<&Voice> {
        let fused = self.fused.as_ref().filter(|voice| voice.log_odds >= 0.0);
        // By whom it is done makes more of a hint than it is by itself.
        let told = |voice: &&Voice| voice.log_odds >= 0.0 || self.lineage.is_some();
        let rule = self.rules.first().filter(told);
        let layers = self.layers.iter().flatten();
        let all = self.fused.iter().chain(&self.rules).chain(layers);
        fused
            .or(rule)
            .or_else(|| all.rev().max_by(|a, b| a.log_odds.total_cmp(&b.log_odds)))
            .or_else(|| self.metric.as_ref().map(|(voice, _)| voice))
    }

    fn entity(&self) -> Option<&Entity> {
        let spoken = self.spoken.as_ref().map(|spoken| &spoken.entity);
        spoken.or_else(|| self.leader().map(|voice| &voice.verdict.entity))
    }

    /// Whether it is worth another revision.
    pub(super) fn is_news(&self, now: Timestamp, log_odds: f64) -> bool {
        let score = probability(log_odds);
        self.spoken.as_ref().is_none_or(|spoken| {
            Severity::of_score(score) > spoken.severity
                || (score > Verdict::ALERT_SCORE && !spoken.alert)
                || !(0.0..PACE).contains(&seconds_between(spoken.at, now))
        })
    }

    /// Whether something came since the last revision.
    pub(super) fn has_changed(&self) -> bool {
        let spoken = self.spoken.as_ref();
        spoken.is_some_and(|spoken| spoken.at < self.updated)
    }

    /// The verdict as it would be now.
    pub(super) fn verdict(&self, signature: &Signature<'_>) -> Option<Verdict> {
        let leader = &self.leader()?.verdict;
        let log_odds = self.log_odds(&signature.weights);
        let alone = self.voices() == 1 && self.lineage.is_none();
        let (id, revision, time) = match &self.spoken {
            Some(spoken) => (spoken.id, spoken.revision.saturating_add(1), spoken.first),
            // A conclusion that goes on after its incident was over is another one.
            None if self.again => {
                let EventRange { stream, last, .. } = &leader.events;
                let technique = leader.technique.as_ref();
                let digest = &signature.model.digest;
                let id = VerdictId::derive(digest, &leader.entity, technique, stream, *last, leader.updated);
                (id, 0, leader.updated)
            }
            None => (leader.id, 0, leader.time),
        };
        let only_rules = self.rules.len() == self.voices();
        // Not by way of log-odds, which would round it.
        let as_it_came = alone && (self.fused.is_some() || only_rules);
        let score = if as_it_came {
            leader.score
        } else {
            probability(log_odds)
        };
        Some(Verdict {
            id,
            revision,
            time,
            updated: self.updated.max(time),
            layer: if only_rules { Layer::Rule } else { Layer::Fused },
            entity: self.entity()?.clone(),
            peers: self.peers.clone(),
            technique: self.technique(),
            title: leader.title.clone(),
            score,
            interval: if as_it_came {
                leader.interval
            } else {
                self.interval(leader, &signature.weights, score)
            },
            evidence: self.evidence(signature, alone, log_odds),
            model: signature.model.clone(),
            schema: if alone { leader.schema } else { signature.schema },
            events: self.events.clone(),
        })
    }

    /// Notes that a verdict went out, whose score was this before somebody's word was taken.
    pub(super) fn spoke(&mut self, verdict: &Verdict, score: f64, now: Timestamp) {
        self.spoken = Some(Spoken {
            id: verdict.id,
            revision: verdict.revision,
            first: verdict.time,
            at: now.max(self.updated),
            entity: verdict.entity.clone(),
            severity: Severity::of_score(score),
            alert: score > Verdict::ALERT_SCORE,
            loud: verdict.is_alert(),
        });
    }

    /// Whether what was said last was an alert.
    pub(super) fn was_alert(&self) -> bool {
        self.spoken.as_ref().is_some_and(|spoken| spoken.loud)
    }

    fn technique(&self) -> Option<Technique> {
        let own = self.leader()?.verdict.technique.clone();
        let layers = self.layers.iter().flatten();
        let all = self.fused.iter().chain(&self.rules).chain(layers);
        own.or_else(|| all.filter_map(|voice| voice.verdict.technique.clone()).next())
    }

    /// The bounds of the joint score, by those of what was said. Who says no bounds is taken at its word, except the one that names the
    /// incident; nobody knows how sure the accusation of an ancestor is.
    fn interval(&self, leader: &Verdict, weights: &[f64; 3], score: f64) -> Option<ScoreInterval> {
        if self.lineage.is_some() || leader.interval.is_none() {
            return None;
        }
        let part = |(voice, share): (&Voice, f64)| {
            let (sure, verdict) = (Interval::sure(voice.verdict.score), &voice.verdict);
            let interval = verdict.interval.map_or(sure, |bounds| Interval {
                low: bounds.low,
                high: bounds.high,
                ..sure
            });
            (scale(share, voice), interval)
        };
        let parts: Vec<(f64, Interval)> = self.shares(weights).into_iter().map(part).collect();
        Interval::fused(&parts).of_score(score)
    }

    fn evidence(&self, signature: &Signature<'_>, alone: bool, log_odds: f64) -> Vec<Evidence> {
        let mut evidence: Vec<Evidence> = Vec::new();
        let mut sum = 0.0;
        for (voice, share) in self.shares(&signature.weights) {
            sum += share;
            if alone && share == voice.log_odds {
                return voice.verdict.evidence.clone();
            }
            let scale = scale(share, voice);
            evidence.extend(voice.verdict.evidence.iter().map(|part| Evidence {
                contribution: part.contribution * scale,
                ..part.clone()
            }));
        }
        if let Some(suspect) = self.lineage {
            evidence.push(Evidence {
                feature: LINEAGE.into(),
                value: suspect,
                contribution: log_odds - sum,
            });
        }
        evidence.sort_by(|a, b| b.contribution.abs().total_cmp(&a.contribution.abs()));
        evidence.truncate(EVIDENCE);
        evidence
    }
}

/// How much of what it says a voice's share is.
fn scale(share: f64, voice: &Voice) -> f64 {
    if voice.log_odds == 0.0 {
        0.0
    } else {
        share / voice.log_odds
    }
}

/// Whether it is worth telling only of those who are accused already.
fn is_hint(verdict: &Verdict) -> bool {
    verdict.layer == Layer::Rule && verdict.score < 0.5
}

/// What a rule is called: its title up to the words about this one match.
fn rule_of(title: &str) -> &str {
    title.split_once(": ").map_or(title, |parts| parts.0)
}

/// The layer whose detectors look for such a technique in [`Detection`](crate::Detection).
fn speaks_for(verdict: &Verdict) -> Option<usize> {
    let technique = verdict.technique.as_ref()?;
    crate::finding::layer_of(technique).map(index)
}
