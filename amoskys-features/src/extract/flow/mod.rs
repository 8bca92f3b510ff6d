//! Features of single flows.

pub(crate) mod bytes;
mod content;
mod direction;
mod numbers;
mod whole;

use std::sync::Arc;

use amoskys_core::event::{Entity, EventRange, FlowPhase, FlowRecord, Payload};
use amoskys_core::{AnalyzerError, Digest, Extractor, FeatureDef, FeatureSchema, FeatureVector, Recorded};

use super::catalog::{Feature, View};
use crate::snapshot;

/// The features of a flow record, in the order of the schema `flow`.
#[must_use]
pub fn flow_features() -> Vec<Feature<FlowRecord>> {
    let parts = [
        whole::features(),
        direction::forward(),
        direction::backward(),
        content::content(),
        content::first_packets(),
    ];
    parts.into_iter().flatten().collect()
}

/// A vector for each flow, from its last record; or for each record of a flow.
///
/// The vector is about the pair of hosts; its window is from the flow's first to its last packet. There is nothing to
/// remember between events, so that the same record gives the same vector wherever it comes.
pub struct FlowExtractor {
    features: Vec<Feature<FlowRecord>>,
    schema: Arc<FeatureSchema>,
    updates: bool,
}

impl FlowExtractor {
    /// Vectors of flows that have ended.
    #[must_use]
    pub fn new() -> Self {
        let features = flow_features();
        let defs = features
            .iter()
            .map(|f| FeatureDef::new(f.name, f.unit, f.description))
            .collect();
        Self {
            features,
            schema: Arc::new(FeatureSchema::new("flow", defs)),
            updates: false,
        }
    }

    /// Whether records of flows that go on give vectors too. Default: no.
    #[must_use]
    pub const fn with_updates(mut self, updates: bool) -> Self {
        self.updates = updates;
        self
    }

    /// The schema of the vectors.
    #[must_use]
    pub const fn schema(&self) -> &Arc<FeatureSchema> {
        &self.schema
    }

    /// The values of one record, in the order of the schema.
    #[must_use]
    pub fn values(&self, record: &FlowRecord) -> Vec<f64> {
        let view = View {
            aggregate: record,
            regularity: None,
        };
        self.features
            .iter()
            .map(|feature| (feature.value)(&view))
            .collect()
    }

    fn identity(&self) -> Digest {
        Digest::of_parts([&b"flow extractor 1"[..], &self.schema.digest().0])
    }
}

impl Default for FlowExtractor {
    fn default() -> Self {
        Self::new()
    }
}

impl Extractor for FlowExtractor {
    fn observe(&mut self, event: &Recorded, features: &mut Vec<FeatureVector>) {
        let Payload::Flow(record) = &event.event.payload else {
            return;
        };
        if !self.updates && !matches!(record.phase, FlowPhase::End(_)) {
            return;
        }
        features.push(FeatureVector {
            schema: Arc::clone(&self.schema),
            entity: Entity::Pair(record.key.source, record.key.destination),
            start: record.first,
            end: record.last,
            values: self.values(record),
            events: EventRange {
                stream: (*event.stream).clone(),
                first: event.seq,
                last: event.seq,
            },
        });
    }

    fn snapshot(&self) -> Result<Vec<u8>, AnalyzerError> {
        snapshot::encode(self.identity(), &()).map_err(|error| AnalyzerError::Snapshot {
            reason: "the state could not be written".to_owned(),
            source: Some(error.into()),
        })
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), AnalyzerError> {
        snapshot::decode::<()>(self.identity(), bytes).map_err(AnalyzerError::from)
    }
}
