use std::sync::Arc;

use amoskys_core::{FeatureSchema, FeatureVector, Outcome, Transform, TransformError};
use serde::{Deserialize, Serialize};

use super::normalized_schema;
use crate::aggregate::Moments;
use crate::error::wrong_schema;

/// How a [`StreamingNormalizer`] scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StreamingScale {
    /// (x - min) / (max - min) of the values so far, this one included.
    MinMax,
    /// (x - mean) / standard deviation of the values so far, this one included.
    ZScore,
}

/// A normalizer that learns from each vector it sees, then scales it.
///
/// It needs no training, and its early values mean little: the first vector maps to 0 whatever it holds. Missing
/// values stay missing and teach nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StreamingNormalizer {
    scale: StreamingScale,
    input: Arc<FeatureSchema>,
    output: Arc<FeatureSchema>,
    columns: Vec<Moments>,
}

impl StreamingNormalizer {
    /// A normalizer of vectors of this schema that has seen none.
    #[must_use]
    pub fn new(scale: StreamingScale, schema: &Arc<FeatureSchema>) -> Self {
        let name = match scale {
            StreamingScale::MinMax => "streaming_min_max",
            StreamingScale::ZScore => "streaming_z_score",
        };
        Self {
            scale,
            input: Arc::clone(schema),
            output: Arc::new(normalized_schema(name, schema)),
            columns: vec![Moments::default(); schema.len()],
        }
    }

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
            column.add(*value);
            let (center, width) = match self.scale {
                StreamingScale::MinMax => (column.min(), column.max() - column.min()),
                StreamingScale::ZScore => (column.mean(), column.std_dev()),
            };
            let width = if width > 0.0 { width } else { 1.0 };
            *value = (*value - center) / width;
        }
        item.schema = Arc::clone(&self.output);
        Ok(Outcome::Keep)
    }
}
