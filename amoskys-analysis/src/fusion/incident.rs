//! Incidents: findings that are about the same attack, and the verdict they amount to.
//!
//! Findings belong together if they accuse the same host of the same kind of attack, or if they are about connections of
//! the same host to the very same service: then two layers see one thing, and the one with the stronger evidence names it.
//! A scan and a guessing campaign by the same host stay two.

use std::net::IpAddr;

use amoskys_core::event::{Entity, Evidence, Layer, ModelRef, ScoreInterval, Severity, Verdict, VerdictId};
use amoskys_core::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

use super::Fusion;
use crate::finding::{Card, Detector, Family, Finding, PEERS, Span, Streams, Target};
use crate::measure::{BoundedMap, seconds_between};
use crate::odds::probability;

/// Seconds after its last finding at which an incident is over; the next finding begins another.
const OVER: f64 = 3_600.0;
/// Seconds between two revisions of a verdict whose severity has not changed.
const PACE: f64 = 5.0;
/// Incidents of one host that are told apart; targets of one incident that are remembered.
const INCIDENTS: usize = 12;
const TARGETS: usize = 8;
/// Pieces of evidence a verdict names.
const EVIDENCE: usize = 12;

/// All incidents, by the host accused.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Incidents {
    hosts: BoundedMap<IpAddr, Vec<Incident>>,
    /// Hosts with something to report at the next tick.
    late: crate::layer::Backlog<IpAddr>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Incident {
    family: Family,
    targets: Vec<Target>,
    /// Whether all of it is about those.
    exact: bool,
    /// The strongest that each layer has found.
    layers: [Option<Card>; 3],
    /// What each layer says about what the others have found.
    opinions: [Option<Card>; 3],
    peers: Vec<IpAddr>,
    span: Span,
    /// The strongest finding's own words.
    title: String,
    detector: Detector,
    strength: f64,
    /// Fused log-odds.
    fused: f64,
    spoken: Option<Spoken>,
}

/// What was last said about an incident.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Spoken {
    id: VerdictId,
    revision: u32,
    first: Timestamp,
    at: Timestamp,
    severity: Severity,
    alert: bool,
}

/// What makes a verdict complete.
pub(crate) struct Signature<'a> {
    pub(crate) model: &'a ModelRef,
    pub(crate) schema: Digest,
    /// The layer that verdicts name.
    pub(crate) layer: Layer,
    pub(crate) streams: &'a Streams,
}

impl Incidents {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            hosts: BoundedMap::new(limit),
            late: crate::layer::Backlog::default(),
        }
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.hosts.evicted()
    }

    /// Takes a finding, and what each layer thinks of it.
    pub(crate) fn absorb(
        &mut self,
        finding: Finding,
        opinions: [Option<Card>; 3],
        fusion: &Fusion,
        signature: &Signature<'_>,
        verdicts: &mut Vec<Verdict>,
    ) {
        let accused = finding.accused;
        let now = finding.span.latest;
        let incidents = self.hosts.entry(&accused, Vec::new);
        let at = incidents.iter().position(|incident| incident.is_about(&finding));
        let at = at.unwrap_or_else(|| {
            if incidents.len() >= INCIDENTS {
                let oldest = incidents
                    .iter()
                    .enumerate()
                    .min_by_key(|(_, incident)| incident.span.latest);
                let oldest = oldest.map_or(0, |(at, _)| at);
                incidents.remove(oldest);
            }
            incidents.push(Incident::of(&finding));
            incidents.len() - 1
        });
        let incident = &mut incidents[at];
        incident.add(finding, opinions, fusion);
        if incident.fused < fusion.floor {
            return;
        }
        if incident.is_news(now) {
            verdicts.extend(incident.speak(accused, now, fusion, signature));
        } else {
            self.late.add(accused);
        }
    }

    /// Reports what has changed since it was last reported, where that is long enough ago, or the end has come.
    pub(crate) fn tick(
        &mut self,
        now: Timestamp,
        end: bool,
        fusion: &Fusion,
        signature: &Signature<'_>,
        verdicts: &mut Vec<Verdict>,
    ) {
        for accused in self.late.take() {
            let Some(incidents) = self.hosts.peek_mut(&accused) else {
                continue;
            };
            for incident in incidents {
                let changed = incident
                    .spoken
                    .is_some_and(|spoken| spoken.at < incident.span.latest);
                if !changed || incident.fused < fusion.floor {
                    continue;
                }
                if end || incident.is_news(now) {
                    verdicts.extend(incident.speak(accused, now, fusion, signature));
                } else {
                    self.late.add(accused);
                }
            }
        }
    }
}

impl Incident {
    fn of(finding: &Finding) -> Self {
        Self {
            family: finding.detector.family(),
            targets: Vec::new(),
            exact: true,
            layers: [None; 3],
            opinions: [None; 3],
            peers: Vec::new(),
            span: finding.span,
            title: String::new(),
            detector: finding.detector,
            strength: f64::NEG_INFINITY,
            fused: f64::NEG_INFINITY,
            spoken: None,
        }
    }

    fn is_about(&self, finding: &Finding) -> bool {
        let apart = seconds_between(self.span.latest, finding.span.latest);
        let family = finding.detector.family();
        let same = self.family == family
            || (self.family.is_of_connections()
                && family.is_of_connections()
                && finding.target.is_exact()
                && self.targets.contains(&finding.target));
        same && (-OVER..OVER).contains(&apart)
    }

    fn add(&mut self, finding: Finding, opinions: [Option<Card>; 3], fusion: &Fusion) {
        let Finding {
            detector,
            target,
            peers,
            card,
            title,
            span,
            ..
        } = finding;
        let layer = super::index(detector.layer());
        if self.layers[layer].is_none_or(|known| card.log_odds() >= known.log_odds()) {
            self.layers[layer] = Some(card);
        }
        if card.log_odds() >= self.strength {
            if detector != self.detector {
                self.opinions = [None; 3];
            }
            self.strength = card.log_odds();
            self.detector = detector;
            self.title = title;
        }
        // What is thought of a weaker finding says nothing about the one that names the incident.
        if detector == self.detector {
            for (known, new) in self.opinions.iter_mut().zip(opinions) {
                if new.is_some() {
                    *known = new;
                }
            }
        }
        if target.is_exact() && !self.targets.contains(&target) && self.targets.len() < TARGETS {
            self.targets.push(target);
        }
        self.exact &= self.targets.contains(&target);
        for peer in peers {
            if !self.peers.contains(&peer) && self.peers.len() < PEERS {
                self.peers.push(peer);
            }
        }
        self.span.join(&span);
        self.fused = fusion.fuse(&self.voices());
    }

    /// What each layer contributes: its own finding, else its opinion of the strongest one.
    ///
    /// A layer that looked for something else and found little does not speak against the strongest finding: that
    /// guesses make a poor beacon does not make them fewer guesses.
    fn voices(&self) -> [Option<Card>; 3] {
        let strongest = super::index(self.detector.layer());
        std::array::from_fn(|layer| {
            self.layers[layer]
                .filter(|card| layer == strongest || card.log_odds() > 0.0)
                .or(self.opinions[layer])
        })
    }

    /// Whether the verdict is worth another revision.
    fn is_news(&self, now: Timestamp) -> bool {
        let score = probability(self.fused);
        self.spoken.is_none_or(|spoken| {
            Severity::of_score(score) > spoken.severity
                || (score > Verdict::ALERT_SCORE && !spoken.alert)
                || !(0.0..PACE).contains(&seconds_between(spoken.at, now))
        })
    }

    fn speak(
        &mut self,
        accused: IpAddr,
        now: Timestamp,
        fusion: &Fusion,
        signature: &Signature<'_>,
    ) -> Option<Verdict> {
        let events = signature.streams.range(&self.span)?;
        let entity = Entity::Host(accused);
        let technique = self.detector.technique();
        let score = probability(self.fused);
        let severity = Severity::of_score(score);
        let alert = score > Verdict::ALERT_SCORE;
        if self.spoken.is_some_and(|spoken| spoken.alert && !alert) {
            return None; // An alert is not taken back: what it rests on has happened.
        }
        let (id, revision, first) = match self.spoken {
            Some(spoken) => (spoken.id, spoken.revision.saturating_add(1), spoken.first),
            None => {
                let digest = &signature.model.digest;
                let id = VerdictId::derive(
                    digest,
                    &entity,
                    Some(&technique),
                    &events.stream,
                    events.first,
                    now,
                );
                (id, 0, now)
            }
        };
        self.spoken = Some(Spoken {
            id,
            revision,
            first,
            at: now.max(self.span.latest),
            severity,
            alert,
        });
        Some(Verdict {
            id,
            revision,
            time: first,
            updated: self.span.latest.max(first),
            layer: signature.layer,
            entity,
            peers: self.named_peers(),
            technique: Some(technique),
            title: self.title.clone(),
            score,
            interval: self.interval(score, fusion),
            evidence: self.evidence(fusion),
            model: signature.model.clone(),
            schema: signature.schema,
            events,
        })
    }

    /// Whom it concerns: the services, if it is about nothing but some services, else the hosts.
    fn named_peers(&self) -> Vec<Entity> {
        let mut peers = Vec::new();
        for host in &self.peers {
            let of_host = |target: &&Target| self.exact && target.host == Some(*host);
            let services = self.targets.iter().filter(of_host).filter_map(|target| {
                let (protocol, port) = target.service?;
                Some(Entity::Service(*host, protocol, port))
            });
            let before = peers.len();
            peers.extend(services);
            if peers.len() == before {
                peers.push(Entity::Host(*host));
            }
        }
        peers.truncate(PEERS);
        peers
    }

    /// What counts leave open of the score; `None` if nothing was counted for the finding that names the incident.
    fn interval(&self, score: f64, fusion: &Fusion) -> Option<ScoreInterval> {
        let voices = self.voices();
        voices[super::index(self.detector.layer())].filter(Card::is_counted)?;
        fusion.interval(&voices).of_score(score)
    }

    /// The terms of all voices, the strongest first.
    fn evidence(&self, fusion: &Fusion) -> Vec<Evidence> {
        let mut evidence = Vec::new();
        for (voice, weight) in self.voices().iter().zip(fusion.weights) {
            if let Some(card) = voice {
                card.explain(weight, &mut evidence);
            }
        }
        evidence.sort_by(|a, b| b.contribution.abs().total_cmp(&a.contribution.abs()));
        evidence.truncate(EVIDENCE);
        evidence
    }
}
