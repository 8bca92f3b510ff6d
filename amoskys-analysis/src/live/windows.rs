//! Windows of features, judged by models that were trained on some.

use std::fmt;

use amoskys_core::event::{Entity, Layer, ModelRef, ScoreInterval, Severity, Verdict, VerdictId};
use amoskys_core::{
    Analyzer, AnalyzerError, BoxExtractor, Digest, Extractor, FeatureVector, Name, Observation, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::calibrate::{Calibration, Interval};
use crate::measure::{BoundedMap, Leaky, seconds_between};
use crate::model::TableModel;
use crate::odds::{logit, probability};
use crate::snapshot;

/// Seconds over which an entity's windows are counted: the rarest of many is rare by chance.
const MEMORY: f64 = 300.0;
/// Seconds without an unusual window after which the next one is another conclusion.
const OVER: f64 = 900.0;
/// Seconds between two revisions of one severity.
const PACE: f64 = 5.0;

/// Settings of a [`WindowAnalyzer`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WindowParams {
    /// Share of an entity's spells of five minutes that may be called unusual though they are honest, as far as the models know.
    /// Default 0.001.
    pub false_alarms: f64,
    /// Probability of an attack before a window is seen. Default 0.001.
    pub prior: f64,
    /// Entities remembered. Default 100,000.
    pub entities: usize,
}

impl Default for WindowParams {
    fn default() -> Self {
        Self {
            false_alarms: 0.001,
            prior: 0.001,
            entities: 100_000,
        }
    }
}

/// Verdicts on windows of features: of hosts, pairs, services and whatever an extractor makes vectors of, by a
/// [`TableModel`] for each schema.
///
/// A model's calibration says how rare a window is among honest ones. The rarest of many windows is rare by chance, so its p-value
/// counts times the windows of the entity in the latest five minutes; what is still below
/// [`false_alarms`](WindowParams::false_alarms) is said, with the five features that matter most. The score is the highest
/// probability that such a p-value allows (see [`Conformal::probability`](crate::calibrate::Conformal::probability)), of the layer
/// [`Temporal`](Layer::Temporal); [`Correlation`](crate::Correlation) weighs it as that of one layer. A model calibrated on labels
/// gives its own probability. Unusual windows of one entity, less than a quarter of an hour apart, are one verdict that
/// grows.
///
/// - **Assumes** that the models were trained on honest traffic of this site.
/// - **Fails** where traffic has changed since: every window is unusual then. Train again, and try the new model as a
///   [`Shadow`](super::Shadow) first. And the share of false alarms is one of windows like those of the calibration: windows of one
///   entity depend on each other, so among entities that were not seen in training it can be many times as high.
/// - **Costs** a score for each window, and an explanation for each verdict.
///
/// # Guarantees
///
/// As those of [`Detection`](crate::Detection): the same events give the same verdicts, bit for bit, also after a restored snapshot;
/// memory is bounded, what is forgotten for it is counted.
pub struct WindowAnalyzer {
    extractor: Option<BoxExtractor>,
    models: Vec<TableModel>,
    params: WindowParams,
    reference: ModelRef,
    vectors: Vec<FeatureVector>,
    state: State,
}

#[derive(Debug, Serialize, Deserialize)]
struct State {
    /// By number of the model and entity.
    entities: BoundedMap<(u16, Entity), Spell>,
}

/// What is known of an entity's windows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Spell {
    windows: Leaky,
    spoken: Option<Spoken>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Spoken {
    id: VerdictId,
    revision: u32,
    first: Timestamp,
    at: Timestamp,
    /// End of the latest unusual window.
    unusual: Timestamp,
    score: f64,
}

impl WindowAnalyzer {
    /// An analyzer that has seen nothing. `extractor` makes the vectors that the models judge; vectors of other schemas are
    /// passed over. [`SiteModel::window_models`](crate::model::SiteModel::window_models) makes sure that they fit.
    ///
    /// # Errors
    ///
    /// If a setting is out of range, or there are no models or more than 65,535.
    pub fn new(
        extractor: BoxExtractor,
        models: Vec<TableModel>,
        params: WindowParams,
    ) -> Result<Self, WindowParamsError> {
        let analyzer = Self::of_vectors(models, params)?;
        Ok(Self {
            extractor: Some(extractor),
            ..analyzer
        })
    }

    /// The same for vectors that others make: it judges what it is shown as [`Observation::Features`], and makes nothing of events.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn of_vectors(models: Vec<TableModel>, params: WindowParams) -> Result<Self, WindowParamsError> {
        let refuse = |setting, range| Err(WindowParamsError { setting, range });
        if !(params.false_alarms > 0.0 && params.false_alarms < 1.0) {
            return refuse("false_alarms", "above 0 and below 1");
        }
        if !(params.prior > 0.0 && params.prior < 1.0) {
            return refuse("prior", "above 0 and below 1");
        }
        if params.entities == 0 {
            return refuse("entities", "1 or more");
        }
        if models.is_empty() || models.len() > usize::from(u16::MAX) {
            return refuse("models", "1 to 65,535");
        }
        let version = env!("CARGO_PKG_VERSION");
        let settings = serde_json::to_vec(&params).unwrap_or_default();
        let mut parts = vec![version.as_bytes().to_vec(), settings];
        parts.extend(models.iter().map(|model| model.reference().digest.0.to_vec()));
        let reference = ModelRef {
            name: Name::from("amoskys-windows"),
            version: Name::from(version),
            digest: Digest::of_parts(parts.iter().map(Vec::as_slice)),
        };
        Ok(Self {
            extractor: None,
            models,
            reference,
            vectors: Vec::new(),
            state: State {
                entities: BoundedMap::new(params.entities),
            },
            params,
        })
    }

    /// The models, in order.
    #[must_use]
    pub fn models(&self) -> &[TableModel] {
        &self.models
    }

    /// Entities forgotten because there were too many.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.state.entities.evicted()
    }

    fn judge(&mut self, vector: &FeatureVector, verdicts: &mut Vec<Verdict>) -> Result<(), AnalyzerError> {
        let digest = vector.schema.digest();
        let Some(at) = self
            .models
            .iter()
            .position(|model| model.schema().digest() == digest)
        else {
            return Ok(());
        };
        let model = &mut self.models[at];
        // No probability is above one, so nothing is explained yet.
        let Some(judgement) = model.judge(vector, 2.0)? else {
            return Ok(());
        };
        let key = (u16::try_from(at).unwrap_or(u16::MAX), vector.entity.clone());
        let spell = self.state.entities.entry(&key, Spell::default);
        let windows = spell.windows.add(vector.end, 1.0, MEMORY).max(1.0);
        let (score, interval) = match model.calibration() {
            Calibration::Conformal(normal) => {
                let of_many = |p: f64| (p * windows).min(1.0);
                let p = of_many(normal.tail_p_value(judgement.score));
                if p.is_nan() || p >= self.params.false_alarms {
                    return Ok(());
                }
                let (low, high) = normal.p_value_interval(judgement.score, ScoreInterval::CONFIDENCE);
                let allowed = |p: f64| bound(p, self.params.prior);
                let interval = Interval {
                    low: allowed(of_many(high)),
                    probability: allowed(p),
                    high: allowed(of_many(low)),
                };
                (allowed(p), interval.of_score(allowed(p)))
            }
            _ if !model.threshold().is_alarm(judgement.score) => return Ok(()),
            learned => (judgement.probability, learned.score_interval(judgement.score)),
        };
        if !score.is_finite() {
            return Ok(());
        }
        if let Some(spoken) = &mut spell.spoken
            && (0.0..OVER).contains(&seconds_between(spoken.unusual, vector.end))
        {
            spoken.unusual = vector.end;
            let graver = Severity::of_score(score) > Severity::of_score(spoken.score)
                || (score > Verdict::ALERT_SCORE && spoken.score <= Verdict::ALERT_SCORE);
            let due = score > spoken.score && seconds_between(spoken.at, vector.end) >= PACE;
            if !graver && !due {
                return Ok(());
            }
        } else {
            spell.spoken = None;
        }
        let judgement = model.judge(vector, 0.0)?.unwrap_or(judgement);
        let (id, revision, first) = match spell.spoken {
            Some(spoken) => (spoken.id, spoken.revision.saturating_add(1), spoken.first),
            None => {
                let events = &vector.events;
                let id = VerdictId::derive(
                    // One entity may be unusual in two kinds of windows at once.
                    &Digest::of_parts([&self.reference.digest.0[..], &digest.0[..]]),
                    &vector.entity,
                    None,
                    &events.stream,
                    events.first,
                    vector.end,
                );
                (id, 0, vector.end)
            }
        };
        spell.spoken = Some(Spoken {
            id,
            revision,
            first,
            at: vector.end,
            unusual: vector.end,
            score,
        });
        let named: Vec<&str> = judgement
            .evidence
            .iter()
            .map(|part| part.feature.as_str())
            .collect();
        let title = format!(
            "{} is unusual in windows {}: {}",
            vector.entity,
            vector.schema.name(),
            named.join(", ")
        );
        verdicts.push(Verdict {
            id,
            revision,
            time: first,
            updated: vector.end.max(first),
            layer: Layer::Temporal,
            entity: vector.entity.clone(),
            peers: Vec::new(),
            technique: None,
            title,
            score,
            interval,
            evidence: judgement.evidence,
            model: self.reference.clone(),
            schema: digest,
            events: vector.events.clone(),
        });
        Ok(())
    }
}

/// The highest probability that a p-value allows: the prior odds, raised by 1 / (-e · p · ln p) for p below 1/e (Sellke, Bayarri
/// and Berger, 2001).
fn bound(p: f64, prior: f64) -> f64 {
    let p = p.max(f64::MIN_POSITIVE);
    if p >= (-1.0_f64).exp() {
        return prior;
    }
    probability(logit(prior) - (-std::f64::consts::E * p * p.ln()).ln())
}

impl Analyzer for WindowAnalyzer {
    fn model(&self) -> ModelRef {
        self.reference.clone()
    }

    fn observe(
        &mut self,
        observation: Observation<'_>,
        verdicts: &mut Vec<Verdict>,
    ) -> Result<(), AnalyzerError> {
        match observation {
            Observation::Event(event) => {
                let Some(extractor) = &mut self.extractor else {
                    return Ok(());
                };
                let mut vectors = std::mem::take(&mut self.vectors);
                extractor.observe(event, &mut vectors);
                let mut result = Ok(());
                for vector in vectors.drain(..) {
                    let judged = self.judge(&vector, verdicts);
                    result = result.and(judged);
                }
                self.vectors = vectors;
                result
            }
            Observation::Features(vector) => self.judge(vector, verdicts),
            _ => Err(AnalyzerError::Observation {
                reason: "of a kind this version does not know".to_owned(),
            }),
        }
    }

    fn snapshot(&self) -> Result<Vec<u8>, AnalyzerError> {
        let extractor = self.extractor.as_ref().map(Extractor::snapshot).transpose()?;
        snapshot::encode(self.reference.digest, &(&self.state, extractor))
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), AnalyzerError> {
        let (state, extractor): (State, Option<Vec<u8>>) = snapshot::decode(self.reference.digest, bytes)?;
        match (&mut self.extractor, extractor) {
            (Some(own), Some(stored)) => own.restore(&stored)?,
            (None, None) => {}
            _ => {
                return Err(AnalyzerError::Snapshot {
                    reason: "one makes windows, the other is shown them".to_owned(),
                    source: None,
                });
            }
        }
        self.state = state;
        Ok(())
    }
}

impl fmt::Debug for WindowAnalyzer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WindowAnalyzer")
            .field("models", &self.models)
            .field("params", &self.params)
            .finish_non_exhaustive()
    }
}

/// A setting of a [`WindowAnalyzer`] is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting} must be {range}")]
pub struct WindowParamsError {
    /// Its name.
    pub setting: &'static str,
    /// What it may be.
    pub range: &'static str,
}
