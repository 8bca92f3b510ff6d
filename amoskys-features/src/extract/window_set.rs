//! The windows of one catalog in one stream.

use std::sync::Arc;

use amoskys_core::event::{Entity, EventRange};
use amoskys_core::{AnalyzerError, FeatureSchema, FeatureVector, Seq, StreamId, Timestamp};

use super::catalog::{Catalog, Feature, Reads, View, schema_of};
use super::fact::{At, Fact};
use crate::window::{Closing, KeyedWindows, Limits, WindowCounters, WindowSpec, WindowState};

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
            maker: Maker {
                schema: Arc::clone(&self.schema),
                features: Arc::clone(&self.features),
                overlap: self.spec.panes() > 1,
                latest: Vec::new(),
            },
        })
    }
}

struct CatalogSet<C: Catalog> {
    windows: KeyedWindows<Entity, C::Aggregate>,
    maker: Maker<C>,
}

/// Makes vectors of windows.
struct Maker<C: Catalog> {
    schema: Arc<FeatureSchema>,
    features: Arc<[Feature<C::Aggregate>]>,
    /// Whether an event is in more than one window.
    overlap: bool,
    /// What the latest window of each entity came to, by where the entity is: until an event comes or goes, the next is the same.
    latest: Vec<Option<Values>>,
}

/// Values of a window, and its first and last event.
#[derive(Clone)]
struct Values(Vec<f64>, Seq, Seq);

impl<C: Catalog> WindowSet for CatalogSet<C> {
    fn add(&mut self, at: At, fact: &Fact<'_>) {
        if let Some(entity) = C::entity(fact) {
            self.windows
                .update(&entity, at.time, at.seq, |aggregate| C::add(aggregate, fact));
        }
    }

    fn advance(&mut self, watermark: Timestamp, stream: &StreamId, features: &mut Vec<FeatureVector>) {
        let Self { windows, maker } = self;
        windows.advance_with(watermark, |closing| {
            features.extend(maker.vector(stream, closing))
        });
    }

    fn finish(&mut self, stream: &StreamId, features: &mut Vec<FeatureVector>) {
        let Self { windows, maker } = self;
        windows.finish_with(|closing| features.extend(maker.vector(stream, closing)));
        maker.latest.clear();
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
                reason: format!(
                    "the windows of {} do not decode: they are damaged, or of another version",
                    self.maker.schema.name()
                ),
                source: Some(error.into()),
            })?;
        self.windows.restore(state);
        self.maker.latest.clear();
        Ok(())
    }
}

impl<C: Catalog> Maker<C> {
    fn vector(
        &mut self,
        stream: &StreamId,
        mut closing: Closing<'_, Entity, C::Aggregate>,
    ) -> Option<FeatureVector> {
        let at = closing.slot as usize;
        let known = self.latest.get(at).and_then(Option::as_ref);
        let Values(values, first, last) = match known.filter(|_| !closing.changed) {
            Some(known) => known.clone(),
            None => {
                let values = self.values(&mut closing)?;
                if self.overlap {
                    if self.latest.len() <= at {
                        self.latest.resize(at + 1, None);
                    }
                    self.latest[at] = Some(values.clone());
                }
                values
            }
        };
        Some(FeatureVector {
            schema: Arc::clone(&self.schema),
            entity: closing.key.clone(),
            start: closing.start,
            end: closing.end,
            values,
            events: EventRange {
                stream: stream.clone(),
                first,
                last,
            },
        })
    }

    fn values(&self, closing: &mut Closing<'_, Entity, C::Aggregate>) -> Option<Values> {
        let (aggregate, first, last) = closing.window()?;
        let view = View {
            regularity: C::starts(aggregate).and_then(|starts| starts.regularity()),
            aggregate,
        };
        let values = self
            .features
            .iter()
            .map(|feature| (feature.value)(&view))
            .collect();
        Some(Values(values, first, last))
    }
}
