use std::sync::Arc;

use amoskys_core::{FeatureSchema, FeatureVector, Outcome, Transform, TransformError};
use serde::{Deserialize, Serialize};

use super::normalized_schema;
use crate::aggregate::{Moments, Quantiles};
use crate::error::{LoadError, wrong_schema};
use crate::fitted;

/// How a [`StreamingNormalizer`] scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StreamingScale {
    /// (x - min) / (max - min) of the values so far, this one included.
    MinMax,
    /// (x - mean) / standard deviation of the values so far, this one included.
    ZScore,
    /// (x - median) / (interquartile range / 1.349) of the values so far, this one included, as a
    /// [sketch](Quantiles) knows them: each within 1 % of itself at first.
    Robust,
    /// The share of the values so far that are below x, those nearly as large counting half; by the same sketch.
    Quantile,
    /// sign(x) · ln(1 + abs(x)). Nothing is learnt.
    SignedLog,
}

/// A normalizer that learns from each vector it sees, then scales it.
///
/// It needs no training, and its early values mean little: the first vector maps to 0, or 0.5, whatever it holds. Missing
/// values stay missing and teach nothing; so do infinite ones, which count as the largest or smallest so far.
///
/// [`to_bytes`](Self::to_bytes) stores what it has learnt with the digest of its schema;
/// [`from_bytes`](Self::from_bytes) goes on from there. Memory: 48 bytes a feature, with a sketch at most 4 KiB.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StreamingNormalizer {
    scale: StreamingScale,
    input: Arc<FeatureSchema>,
    output: Arc<FeatureSchema>,
    columns: Vec<Column>,
}

/// What was learnt of one feature.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Column {
    moments: Moments,
    /// Only where the scale needs them.
    quantiles: Option<Box<Quantiles>>,
}

impl StreamingNormalizer {
    /// A normalizer of vectors of this schema that has seen none.
    #[must_use]
    pub fn new(scale: StreamingScale, schema: &Arc<FeatureSchema>) -> Self {
        let name = match scale {
            StreamingScale::MinMax => "streaming_min_max",
            StreamingScale::ZScore => "streaming_z_score",
            StreamingScale::Robust => "streaming_robust",
            StreamingScale::Quantile => "streaming_quantile",
            StreamingScale::SignedLog => "streaming_signed_log",
        };
        let sketched = matches!(scale, StreamingScale::Robust | StreamingScale::Quantile);
        let column = Column {
            moments: Moments::default(),
            quantiles: sketched.then(Box::default),
        };
        Self {
            scale,
            input: Arc::clone(schema),
            output: Arc::new(normalized_schema(name, schema)),
            columns: vec![column; schema.len()],
        }
    }

    /// Its state, which [`from_bytes`](Self::from_bytes) reads.
    ///
    /// # Errors
    ///
    /// If it cannot be encoded, which would be a defect.
    pub fn to_bytes(&self) -> Result<Vec<u8>, LoadError> {
        fitted::to_bytes(Self::KIND, self)
    }

    /// Goes on from a state that [`to_bytes`](Self::to_bytes) gave.
    ///
    /// # Errors
    ///
    /// If the bytes are not such a state, or one for vectors of another schema.
    pub fn from_bytes(schema: &FeatureSchema, bytes: &[u8]) -> Result<Self, LoadError> {
        let state: Self = fitted::from_bytes(Self::KIND, bytes)?;
        let fresh = Self::new(state.scale, &state.input);
        let alike = |(a, b): (&Column, &Column)| a.quantiles.is_some() == b.quantiles.is_some();
        let is_sound = state.columns.len() == fresh.columns.len()
            && state.columns.iter().zip(&fresh.columns).all(alike)
            && state.output == fresh.output;
        if state.input.digest() != schema.digest() || !is_sound {
            return Err(LoadError::Bytes {
                kind: Self::KIND,
                reason: format!("it is for vectors of schema {}", state.input.name()),
                source: None,
            });
        }
        Ok(state)
    }

    const KIND: &'static str = "streaming_normalizer";

    /// The schema of the vectors it makes.
    #[must_use]
    pub const fn output(&self) -> &Arc<FeatureSchema> {
        &self.output
    }
}

impl Transform<FeatureVector> for StreamingNormalizer {
    fn transform(&mut self, item: &mut FeatureVector) -> Result<Outcome, TransformError> {
        if item.schema.digest() != self.input.digest() || item.values.len() != self.columns.len() {
            return Err(wrong_schema("streaming normalizer", &self.input, &item.schema));
        }
        for (value, column) in item.values.iter_mut().zip(&mut self.columns) {
            *value = column.take(self.scale, *value);
        }
        item.schema = Arc::clone(&self.output);
        Ok(Outcome::Keep)
    }
}

impl Column {
    /// Learns from a value, and scales it.
    fn take(&mut self, scale: StreamingScale, value: f64) -> f64 {
        self.moments.add(value);
        if let Some(quantiles) = &mut self.quantiles {
            quantiles.add(value);
        }
        if value.is_nan() {
            return value;
        }
        let value = if value.is_infinite() && self.moments.count() > 0 {
            value.clamp(self.moments.min(), self.moments.max())
        } else {
            value
        };
        let quantile = |share| {
            self.quantiles
                .as_ref()
                .map_or(f64::NAN, |quantiles| quantiles.quantile(share))
        };
        let (center, width) = match scale {
            StreamingScale::MinMax => (self.moments.min(), self.moments.max() - self.moments.min()),
            StreamingScale::ZScore => (self.moments.mean(), self.moments.std_dev()),
            StreamingScale::Robust => {
                let range = (quantile(0.75) - quantile(0.25)) / 1.349;
                // As when it is fitted: where half the values are the same, their deviation takes its place.
                let width = if range > 0.0 {
                    range
                } else {
                    self.moments.std_dev()
                };
                (quantile(0.5), width)
            }
            StreamingScale::Quantile => {
                return self
                    .quantiles
                    .as_ref()
                    .map_or(f64::NAN, |quantiles| quantiles.share_below(value));
            }
            StreamingScale::SignedLog => return value.signum() * value.abs().ln_1p(),
        };
        let width = if width > 0.0 { width } else { 1.0 };
        (value - center) / width
    }
}
