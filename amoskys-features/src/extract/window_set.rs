//! The windows of one catalog in one stream.

use std::sync::Arc;

use amoskys_core::event::{Entity, EventRange};
use amoskys_core::{AnalyzerError, FeatureSchema, FeatureVector, StreamId, Timestamp};

use super::catalog::{Catalog, Feature, Reads, View, schema_of};
use super::fact::{At, Fact};
use crate::window::{Closed, KeyedWindows, Limits, WindowCounters, WindowSpec, WindowState};

/// A catalog with its windows: makes a [`WindowSet`] for each stream.
pub(crate) trait Plan: Send {
    fn schema(&self) -> &Arc<FeatureSchema>;
    fn spec(&self) -> WindowSpec;
    fn reads(&self) -> Reads;
    fn start(&self, limits: Limits) -> Box<dyn WindowSet>;
}

/// The windows of one catalog in one stream.
pub(crate) trait WindowSet: Send {
    fn add(&mut self, at: At, fact: &Fact<'_>);
    fn advance(&mut self, watermark: Timestamp, stream: &StreamId, features: &mut Vec<FeatureVector>);
    fn finish(&mut self, stream: &StreamId, features: &mut Vec<FeatureVector>);
    fn counters(&self) -> WindowCounters;
    fn entities(&self) -> usize;
    fn save(&self) -> Result<Vec<u8>, postcard::Error>;
    fn load(&mut self, bytes: &[u8]) -> Result<(), AnalyzerError>;
}

pub(crate) struct CatalogPlan<C: Catalog> {
    spec: WindowSpec,
    schema: Arc<FeatureSchema>,
    features: Arc<[Feature<C::Aggregate>]>,
}

impl<C: Catalog> CatalogPlan<C> {
    pub(crate) fn new(spec: WindowSpec) -> Self {
        Self {
            spec,
            schema: schema_of::<C>(spec),
            features: C::features().into(),
        }
    }
}

impl<C: Catalog> Plan for CatalogPlan<C> {
    fn schema(&self) -> &Arc<FeatureSchema> {
        &self.schema
    }

    fn spec(&self) -> WindowSpec {
        self.spec
    }

    fn reads(&self) -> Reads {
        C::READS
    }

    fn start(&self, limits: Limits) -> Box<dyn WindowSet> {
        Box::new(CatalogSet::<C> {
            windows: KeyedWindows::new(self.spec, limits),
            schema: Arc::clone(&self.schema),
            features: Arc::clone(&self.features),
        })
    }
}

struct CatalogSet<C: Catalog> {
    windows: KeyedWindows<Entity, C::Aggregate>,
    schema: Arc<FeatureSchema>,
    features: Arc<[Feature<C::Aggregate>]>,
}

impl<C: Catalog> WindowSet for CatalogSet<C> {
    fn add(&mut self, at: At, fact: &Fact<'_>) {
        if let Some(entity) = C::entity(fact) {
            self.windows
                .update(&entity, at.time, at.seq, |aggregate| C::add(aggregate, fact));
        }
    }

    fn advance(&mut self, watermark: Timestamp, stream: &StreamId, features: &mut Vec<FeatureVector>) {
        let Self {
            windows,
            schema,
            features: table,
        } = self;
        windows.advance(watermark, |closed| {
            features.push(vector::<C>(schema, table, stream, &closed))
        });
    }

    fn finish(&mut self, stream: &StreamId, features: &mut Vec<FeatureVector>) {
        let Self {
            windows,
            schema,
            features: table,
        } = self;
        windows.finish(|closed| features.push(vector::<C>(schema, table, stream, &closed)));
    }

    fn counters(&self) -> WindowCounters {
        self.windows.counters()
    }

    fn entities(&self) -> usize {
        self.windows.entities()
    }

    fn save(&self) -> Result<Vec<u8>, postcard::Error> {
        postcard::to_allocvec(&self.windows.state())
    }

    fn load(&mut self, bytes: &[u8]) -> Result<(), AnalyzerError> {
        let state: WindowState<Entity, C::Aggregate> =
            postcard::from_bytes(bytes).map_err(|error| AnalyzerError::Snapshot {
                reason: format!("the windows of {} do not decode", self.schema.name()),
                source: Some(error.into()),
            })?;
        self.windows.restore(state);
        Ok(())
    }
}

fn vector<C: Catalog>(
    schema: &Arc<FeatureSchema>,
    table: &[Feature<C::Aggregate>],
    stream: &StreamId,
    closed: &Closed<'_, Entity, C::Aggregate>,
) -> FeatureVector {
    let starts = C::starts(closed.aggregate);
    let view = View {
        aggregate: closed.aggregate,
        regularity: starts.and_then(|s| s.regularity()),
    };
    FeatureVector {
        schema: Arc::clone(schema),
        entity: closed.key.clone(),
        start: closed.start,
        end: closed.end,
        values: table.iter().map(|feature| (feature.value)(&view)).collect(),
        events: EventRange {
            stream: stream.clone(),
            first: closed.first,
            last: closed.last,
        },
    }
}
