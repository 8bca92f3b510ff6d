use std::f64::consts::TAU;
use std::sync::Arc;

use amoskys_core::{FeatureDef, FeatureSchema, FeatureVector, Outcome, Transform, TransformError};
use serde::{Deserialize, Serialize};

use crate::error::LoadError;
use crate::fitted::{self, FittedTransform};

const DAY_NS: i64 = 86_400 * 1_000_000_000;
const WEEK_NS: i64 = 7 * DAY_NS;

/// Adds the time of day and of week, in UTC, at which a vector's window ends, as points on circles: features
/// `day~sin`, `day~cos`, `week~sin`, `week~cos`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "FeatureSchema", into = "FeatureSchema")]
pub struct TimeOfWeek {
    input: Arc<FeatureSchema>,
    output: Arc<FeatureSchema>,
}

impl TimeOfWeek {
    /// What [`load`](crate::load) knows it by.
    pub const KIND: &'static str = "time_of_week";

    /// For vectors of this schema.
    #[must_use]
    pub fn new(schema: &Arc<FeatureSchema>) -> Self {
        let added = [
            (
                "day~sin",
                "sine of the time of day, one turn from midnight to midnight UTC",
            ),
            (
                "day~cos",
                "cosine of the time of day, one turn from midnight to midnight UTC",
            ),
            (
                "week~sin",
                "sine of the time of week, one turn from Thursday to Thursday midnight UTC",
            ),
            (
                "week~cos",
                "cosine of the time of week, one turn from Thursday to Thursday midnight UTC",
            ),
        ];
        let added = added.map(|(name, description)| FeatureDef::new(name, "", description));
        let features = schema.features().iter().cloned().chain(added).collect();
        let output = Arc::new(FeatureSchema::new(&format!("{}+time", schema.name()), features));
        Self {
            input: Arc::clone(schema),
            output,
        }
    }
}

impl FittedTransform for TimeOfWeek {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn input(&self) -> &Arc<FeatureSchema> {
        &self.input
    }

    fn output(&self) -> &Arc<FeatureSchema> {
        &self.output
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a place on a circle needs no nanoseconds"
    )]
    fn values(&self, vector: &FeatureVector) -> Vec<f64> {
        let turn =
            |period: i64| (vector.end.nanos().rem_euclid(period) as f64 / period as f64 * TAU).sin_cos();
        let ((day_sin, day_cos), (week_sin, week_cos)) = (turn(DAY_NS), turn(WEEK_NS));
        vector
            .values
            .iter()
            .copied()
            .chain([day_sin, day_cos, week_sin, week_cos])
            .collect()
    }

    fn to_bytes(&self) -> Result<Vec<u8>, LoadError> {
        fitted::to_bytes(Self::KIND, self)
    }
}

impl Transform<FeatureVector> for TimeOfWeek {
    fn transform(&mut self, item: &mut FeatureVector) -> Result<Outcome, TransformError> {
        fitted::apply(self, item)
    }
}

impl From<FeatureSchema> for TimeOfWeek {
    fn from(schema: FeatureSchema) -> Self {
        Self::new(&Arc::new(schema))
    }
}

impl From<TimeOfWeek> for FeatureSchema {
    fn from(transform: TimeOfWeek) -> Self {
        Self::clone(&transform.input)
    }
}
