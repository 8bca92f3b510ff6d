//! The whole analysis as one [`Analyzer`].

use std::fmt;

use amoskys_core::event::{Layer, ModelRef, Verdict};
use amoskys_core::{
    Analyzer, AnalyzerError, BoxExtractor, Digest, Extractor, FeatureVector, Name, Observation, Recorded,
};
use serde::{Deserialize, Serialize};

use crate::baseline::{Baseline, Normal};
use crate::config::{CANDIDATE, ConfigError, DetectionConfig};
use crate::engine::Engine;
use crate::finding::{Finding, evidence_schema};
use crate::fusion::{Fusion, Incidents, Signature};
use crate::odds::logit;
use crate::snapshot;

/// From events to verdicts: feature extractors, three layers, fusion, and incidents.
///
/// It works cold, on documented priors ([`DetectionConfig::priors`]), and better with a [`Baseline`].
///
/// A verdict is one incident: a scan of a thousand ports is one verdict whose revision grows. Verdicts with a score of
/// [`DetectionConfig::report_score`] and above come out; those above 0.7 are alerts. Revisions of one verdict follow each other at
/// most every five seconds of event time, except where its severity rises.
///
/// # Guarantees
///
/// - The same events in the same order give the same verdicts, bit for bit, and so does a restored snapshot. The wall
///   clock, hash tables and threads have no influence.
/// - Memory is bounded by [`DetectionConfig::capacity`]; what is forgotten for it is counted ([`evicted`](Self::evicted)).
/// - No event makes it panic, whatever its times, addresses and counters say.
///
/// # Cost
///
/// About 2 µs for each flow record on one core, without extractors.
///
/// ```
/// use amoskys_analysis::{Detection, DetectionConfig};
/// use amoskys_core::{Analyzer, Observation};
///
/// let mut detection = Detection::new(DetectionConfig::default(), Vec::new())?;
/// let mut verdicts = Vec::new();
/// # let events: Vec<amoskys_core::Recorded> = Vec::new();
/// for event in &events {
///     detection.observe(Observation::Event(event), &mut verdicts)?;
/// }
/// let alerts = verdicts.iter().filter(|verdict| verdict.is_alert());
/// # assert_eq!(alerts.count(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Detection {
    extractors: Vec<BoxExtractor>,
    state: State,
    fusion: Fusion,
    /// The layer that verdicts name; one alone if only that is wanted.
    layer: Layer,
    normal: Option<Normal>,
    config: DetectionConfig,
    baseline: Option<Digest>,
    model: ModelRef,
    vectors: Vec<FeatureVector>,
}

/// What changes with events.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    engine: Engine,
    incidents: Incidents,
}

impl State {
    fn new(config: &DetectionConfig) -> Self {
        Self {
            engine: Engine::new(config),
            incidents: Incidents::new(config.capacity.incidents),
        }
    }
}

impl Detection {
    /// A detection without a baseline. `extractors` turn events into feature windows, in the order given; they are used once a
    /// [baseline](Self::with_baseline) says what windows look like, and should be those it was fitted with.
    ///
    /// # Errors
    ///
    /// If a setting is out of range.
    pub fn new(config: DetectionConfig, extractors: Vec<BoxExtractor>) -> Result<Self, ConfigError> {
        config.validate()?;
        let fusion = Fusion::new(&config);
        Ok(Self::build(config, extractors, fusion, Layer::Fused))
    }

    /// One layer alone: its own score, unweighted, and without the others' opinions.
    ///
    /// # Errors
    ///
    /// If a setting is out of range.
    pub fn of_layer(layer: DetectionLayer, config: DetectionConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let layer = layer.into();
        let fusion = Fusion::only(layer, &config);
        Ok(Self::build(config, Vec::new(), fusion, layer))
    }

    /// The same with a baseline. To be set before the first event: it makes another model of it.
    #[must_use]
    pub fn with_baseline(mut self, baseline: &Baseline) -> Self {
        let normal = Normal::of(baseline);
        let read: Vec<Digest> = normal.schemas().collect();
        for extractor in &mut self.extractors {
            extractor.restrict(&read);
        }
        self.normal = Some(normal);
        self.state.engine.behavioral.outcomes.chain = baseline.outcomes.clone();
        self.baseline = Some(baseline.digest());
        self.model = self.describe();
        self
    }

    /// Entries forgotten because a table was full, and hosts whose incidents were.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.state.engine.evicted() + self.state.incidents.evicted()
    }

    fn build(config: DetectionConfig, extractors: Vec<BoxExtractor>, fusion: Fusion, layer: Layer) -> Self {
        let mut detection = Self {
            extractors,
            state: State::new(&config),
            fusion,
            layer,
            normal: None,
            config,
            baseline: None,
            model: ModelRef::default(),
            vectors: Vec::new(),
        };
        detection.model = detection.describe();
        detection
    }

    /// The model's name, and a digest of all that decides about verdicts: code version, settings, layer, baseline.
    fn describe(&self) -> ModelRef {
        let version = env!("CARGO_PKG_VERSION");
        let settings = serde_json::to_vec(&(&self.config, self.layer)).unwrap_or_default();
        let baseline = self.baseline.unwrap_or_default();
        let schema = evidence_schema().digest();
        let parts: [&[u8]; 4] = [version.as_bytes(), &settings, &baseline.0, &schema.0];
        ModelRef {
            name: Name::from("amoskys-detection"),
            version: Name::from(version),
            digest: Digest::of_parts(parts),
        }
    }

    fn event(&mut self, recorded: &Recorded, verdicts: &mut Vec<Verdict>) {
        // Only a baseline knows how to read windows; without one they would be made for nothing.
        if self.normal.is_some() {
            let mut vectors = std::mem::take(&mut self.vectors);
            for extractor in &mut self.extractors {
                extractor.observe(recorded, &mut vectors);
            }
            for vector in vectors.drain(..) {
                self.features(&vector);
            }
            self.vectors = vectors;
        }
        let step = self.state.engine.step(recorded, |_| {});
        for finding in step.findings {
            self.absorb(finding, verdicts);
        }
        if step.tick {
            let State { engine, incidents } = &mut self.state;
            let signature = Signature {
                model: &self.model,
                schema: evidence_schema().digest(),
                layer: self.layer,
                streams: &engine.streams,
            };
            incidents.tick(recorded.event.time, step.end, &self.fusion, &signature, verdicts);
        }
    }

    fn absorb(&mut self, mut finding: Finding, verdicts: &mut Vec<Verdict>) {
        if self.layer != Layer::Fused && finding.detector.layer() != self.layer {
            return;
        }
        let State { engine, incidents } = &mut self.state;
        // What is only said because quiet verdicts are wanted too must not become an alert by it.
        let opinions = match self.layer {
            Layer::Fused if finding.card.log_odds() >= logit(CANDIDATE) => {
                engine.opinions(&finding, self.normal.as_ref())
            }
            _ => [None; 3],
        };
        if let Some(normal) = &self.normal {
            finding.card = normal.judge(&finding);
        }
        let signature = Signature {
            model: &self.model,
            schema: evidence_schema().digest(),
            layer: self.layer,
            streams: &engine.streams,
        };
        incidents.absorb(finding, opinions, &self.fusion, &signature, verdicts);
    }

    fn features(&mut self, vector: &FeatureVector) {
        if let Some(normal) = &self.normal {
            self.state.engine.temporal.features(vector, normal);
        }
    }
}

/// Which layer [`Detection::of_layer`] is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DetectionLayer {
    /// Who talks to whom.
    Geometric,
    /// How much, and when.
    Temporal,
    /// In what order.
    Behavioral,
}

impl From<DetectionLayer> for Layer {
    fn from(layer: DetectionLayer) -> Self {
        match layer {
            DetectionLayer::Geometric => Self::Geometric,
            DetectionLayer::Temporal => Self::Temporal,
            DetectionLayer::Behavioral => Self::Behavioral,
        }
    }
}

impl fmt::Debug for Detection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detection")
            .field("model", &self.model)
            .field("layer", &self.layer)
            .field("extractors", &self.extractors.len())
            .field("evicted", &self.evicted())
            .finish_non_exhaustive()
    }
}

impl Analyzer for Detection {
    fn model(&self) -> ModelRef {
        self.model.clone()
    }

    fn observe(
        &mut self,
        observation: Observation<'_>,
        verdicts: &mut Vec<Verdict>,
    ) -> Result<(), AnalyzerError> {
        match observation {
            Observation::Event(recorded) => self.event(recorded, verdicts),
            Observation::Features(vector) => self.features(vector),
            _ => {
                return Err(AnalyzerError::Observation {
                    reason: "of a kind this version does not know".to_owned(),
                });
            }
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<Vec<u8>, AnalyzerError> {
        let extractors: Result<Vec<Vec<u8>>, _> = self.extractors.iter().map(Extractor::snapshot).collect();
        snapshot::encode(self.model.digest, &(&self.state, extractors?))
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), AnalyzerError> {
        let (state, extractors): (State, Vec<Vec<u8>>) = snapshot::decode(self.model.digest, bytes)?;
        if extractors.len() != self.extractors.len() {
            let reason = format!(
                "it has {} extractors, this detection {}",
                extractors.len(),
                self.extractors.len()
            );
            return Err(AnalyzerError::Snapshot { reason, source: None });
        }
        // If one of them refuses, those before it go back to what they were.
        let before: Result<Vec<Vec<u8>>, _> = self.extractors.iter().map(Extractor::snapshot).collect();
        let before = before?;
        for (at, bytes) in extractors.iter().enumerate() {
            if let Err(error) = self.extractors[at].restore(bytes) {
                for (extractor, bytes) in self.extractors.iter_mut().zip(&before).take(at) {
                    extractor.restore(bytes)?;
                }
                return Err(error);
            }
        }
        self.state = state;
        Ok(())
    }
}
