use std::sync::Arc;

use amoskys_core::event::{Entity, EventRange, FlowKey, Payload};
use amoskys_core::{
    AnalyzerError, Digest, Extractor, FeatureDef, FeatureSchema, FeatureVector, Recorded, StreamId,
};
use serde::{Deserialize, Serialize};

use super::{AfterImage, AfterImageState, Sighting, image_features};
use crate::extract::fact::{At, Fact, Half};
use crate::extract::tracker::{FlowTracker, TrackerConfig, TrackerState};
use crate::lru::{Lru, LruState};
use crate::snapshot;

/// Limits of an [`ImageExtractor`], for each stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// How many hosts are kept. Default 8192, at about 250 bytes each.
    pub max_hosts: usize,
    /// How many channels are kept. Default 32 768, at about 1 KiB each.
    pub max_channels: usize,
    /// How many sockets are kept. Default 32 768, at about 0.6 KiB each.
    pub max_sockets: usize,
    /// What is remembered of flows.
    pub tracker: TrackerConfig,
    /// How many streams are kept. Default 64.
    pub max_streams: usize,
}

impl Default for ImageConfig {
    fn default() -> Self {
        Self {
            max_hosts: 8192,
            max_channels: 32_768,
            max_sockets: 32_768,
            tracker: TrackerConfig::default(),
            max_streams: 64,
        }
    }
}

/// The statistics of [`AfterImage`] over flow updates: what a record adds to a direction of its flow counts as one packet, of
/// as many bytes, at the time of the record.
///
/// A vector comes out for each direction that a record adds packets to, about the pair of sender and receiver; its window
/// begins and ends at that moment. Each stream is seen by itself. Who has the packets themselves gives them to
/// [`AfterImage`].
pub struct ImageExtractor {
    config: ImageConfig,
    schema: Arc<FeatureSchema>,
    streams: Lru<StreamId, (FlowTracker, AfterImage)>,
    streams_evicted: u64,
}

#[derive(Serialize, Deserialize)]
struct ExtractorState {
    streams: LruState<StreamId, (TrackerState, AfterImageState)>,
    streams_evicted: u64,
}

impl ImageExtractor {
    /// An extractor that has seen nothing.
    #[must_use]
    pub fn new(config: ImageConfig) -> Self {
        let defs = image_features();
        let defs = defs
            .iter()
            .map(|f| FeatureDef::new(&f.name, f.unit, &f.description));
        Self {
            config,
            schema: Arc::new(FeatureSchema::new("image", defs.collect())),
            streams: Lru::new(config.max_streams),
            streams_evicted: 0,
        }
    }

    /// The schema of the vectors.
    #[must_use]
    pub const fn schema(&self) -> &Arc<FeatureSchema> {
        &self.schema
    }

    /// Hosts, channels and sockets forgotten because there were too many, over the streams that are kept.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.streams.iter().map(|(_, (_, image))| image.evicted()).sum()
    }

    /// Streams forgotten because there were too many.
    #[must_use]
    pub const fn streams_evicted(&self) -> u64 {
        self.streams_evicted
    }

    fn start(config: &ImageConfig) -> (FlowTracker, AfterImage) {
        let image = AfterImage::new(config.max_hosts, config.max_channels, config.max_sockets);
        (FlowTracker::new(config.tracker), image)
    }

    fn identity(&self) -> Result<Digest, AnalyzerError> {
        let config = postcard::to_allocvec(&self.config).map_err(unwritten)?;
        Ok(Digest::of_parts([
            &b"image extractor 1"[..],
            &config,
            &self.schema.digest().0,
        ]))
    }
}

impl Extractor for ImageExtractor {
    fn observe(&mut self, event: &Recorded, features: &mut Vec<FeatureVector>) {
        let Payload::Flow(record) = &event.event.payload else {
            return;
        };
        let Self {
            config,
            schema,
            streams,
            streams_evicted,
        } = self;
        let ((tracker, image), evicted) = streams.get_or_insert(&event.stream, || Self::start(config));
        *streams_evicted += u64::from(evicted.is_some());
        let at = At {
            time: event.event.time,
            seq: event.seq,
        };
        let mut see = |key: FlowKey, half: &Half| {
            if half.packets == 0 {
                return;
            }
            let mut values = Vec::with_capacity(schema.len());
            #[expect(clippy::cast_precision_loss, reason = "bytes of a few seconds")]
            let packet = Sighting {
                time: at.time,
                source: key.source,
                source_port: key.source_port,
                destination: key.destination,
                destination_port: key.destination_port,
                bytes: half.bytes as f64,
            };
            image.observe(&packet, &mut values);
            features.push(FeatureVector {
                schema: Arc::clone(schema),
                entity: Entity::Pair(key.source, key.destination),
                start: at.time,
                end: at.time,
                values,
                events: EventRange {
                    stream: (*event.stream).clone(),
                    first: at.seq,
                    last: at.seq,
                },
            });
        };
        tracker.flow(event.event.id, record, at, &mut |_, fact| {
            if let Fact::Traffic { key, traffic } = fact {
                see(*key, &traffic.forward);
                see(key.reversed(), &traffic.backward);
            }
        });
    }

    fn snapshot(&self) -> Result<Vec<u8>, AnalyzerError> {
        let state = ExtractorState {
            streams: self
                .streams
                .state(|_, (tracker, image)| (tracker.state(), image.state())),
            streams_evicted: self.streams_evicted,
        };
        snapshot::encode(self.identity()?, &state).map_err(unwritten)
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), AnalyzerError> {
        let state: ExtractorState = snapshot::decode(self.identity()?, bytes)?;
        let restored = state.streams.try_map(|(tracker, image)| {
            let mut stream = Self::start(&self.config);
            stream.0.restore(tracker);
            stream.1.restore(image);
            Ok::<_, AnalyzerError>(stream)
        })?;
        self.streams.restore(restored);
        self.streams_evicted = state.streams_evicted;
        Ok(())
    }
}

fn unwritten(error: postcard::Error) -> AnalyzerError {
    AnalyzerError::Snapshot {
        reason: "the state could not be written".to_owned(),
        source: Some(error.into()),
    }
}
