//! Normalizers: bring features to a common scale.
//!
//! | normalizer | maps a value x to | outliers |
//! |---|---|---|
//! | [`MinMax`](Normalizer::MinMax) | (x - min) / (max - min) | squeeze the rest |
//! | [`ZScore`](Normalizer::ZScore) | (x - mean) / standard deviation | shift and stretch the scale |
//! | [`Robust`](Normalizer::Robust) | (x - median) / (interquartile range / 1.349) | stay far away, do not move the scale |
//! | [`RobustAsinh`](Normalizer::RobustAsinh) | asinh of the robust value | are drawn in, keep their order |
//! | [`SignedLog`](Normalizer::SignedLog) | sign(x) · ln(1 + abs(x)) | are drawn in; nothing is fitted |
//! | [`Quantile`](Normalizer::Quantile) | rank among the fitted values | come to the edge |
//!
//! Values that are not finite are left out of fitting. A missing value (NaN) stays NaN. An infinite value counts
//! as the largest or smallest finite value fitted. A feature that was constant keeps its unit, so that another
//! value still shows. A feature without any finite value gives NaN.
//!
//! ```
//! use amoskys_features::normalize::Normalizer;
//! use amoskys_features::{FittedTransform as _, load};
//! # use std::sync::Arc;
//! # use amoskys_core::event::{Entity, EventRange};
//! # use amoskys_core::{Class, Epoch, FeatureDef, FeatureSchema, FeatureVector, Seq, StreamId, Timestamp, Transform as _};
//! # let schema = Arc::new(FeatureSchema::new("host", vec![FeatureDef::new("flows", "", "flows opened")]));
//! # let vector = |flows: f64| FeatureVector {
//! #     schema: Arc::clone(&schema),
//! #     entity: Entity::Named("a".into()),
//! #     start: Timestamp::default(),
//! #     end: Timestamp::default(),
//! #     values: vec![flows],
//! #     events: EventRange {
//! #         stream: StreamId { agent: "a".into(), epoch: Epoch::default(), class: Class::default() },
//! #         first: Seq(0),
//! #         last: Seq(0),
//! #     },
//! # };
//! let training = [vector(1.0), vector(2.0), vector(5.0)];
//! let fitted = Normalizer::MinMax { clip: false }.fit(&training)?;
//! let stored = fitted.to_bytes()?;
//!
//! let mut again = load(fitted.kind(), &stored)?;
//! let mut item = vector(3.0);
//! again.transform(&mut item)?;
//! assert_eq!(item.values, [0.5]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod column;
mod normal;
mod streaming;

use std::sync::Arc;

use amoskys_core::{FeatureDef, FeatureSchema, FeatureVector, Outcome, Transform, TransformError};
use serde::{Deserialize, Serialize};

use self::column::ColumnMap;
pub use self::streaming::{StreamingNormalizer, StreamingScale};
use crate::error::{FitError, LoadError};
use crate::fitted::{self, FittedTransform};

/// How features are brought to a common scale.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Normalizer {
    /// The range of the fitted values becomes 0 to 1.
    MinMax {
        /// Whether values outside the fitted range are brought to its edge.
        clip: bool,
    },
    /// Mean 0, standard deviation 1.
    ZScore,
    /// Median 0, interquartile range 1.349: what a normal distribution of standard deviation 1 has. Where the
    /// interquartile range is 0, the standard deviation takes its place.
    Robust,
    /// The inverse hyperbolic sine of [`Robust`](Self::Robust): linear near the median, logarithmic far from it.
    RobustAsinh,
    /// sign(x) · ln(1 + abs(x)). Nothing is fitted but the schema.
    SignedLog,
    /// The share of fitted values below x, with linear interpolation.
    Quantile {
        /// How many quantiles are kept, 2 to 10 000. 1000 is usual.
        points: u16,
        /// Whether the share becomes the quantile of a standard normal distribution (within ±5.2) instead.
        normal: bool,
    },
}

impl Normalizer {
    /// Fits it on vectors of one schema.
    ///
    /// # Errors
    ///
    /// If there are no vectors, they have different schemas, or a parameter is out of range.
    pub fn fit(&self, data: &[FeatureVector]) -> Result<FittedNormalizer, FitError> {
        let schema = fitted::common_schema(data)?;
        let rows: Vec<&[f64]> = data.iter().map(|vector| vector.values.as_slice()).collect();
        self.fit_rows(schema, &rows)
    }

    /// Fits it on rows of values, each of the schema's length.
    ///
    /// # Errors
    ///
    /// If there are no rows, a row has another length, or a parameter is out of range.
    pub fn fit_rows(
        &self,
        schema: &Arc<FeatureSchema>,
        rows: &[&[f64]],
    ) -> Result<FittedNormalizer, FitError> {
        if rows.is_empty() {
            return Err(FitError::Empty);
        }
        if let Some(at) = rows.iter().position(|row| row.len() != schema.len()) {
            return Err(FitError::Length {
                at,
                expected: schema.len(),
                found: rows[at].len(),
            });
        }
        if let Self::Quantile { points, .. } = *self
            && !(2..=10_000).contains(&points)
        {
            let value = points.to_string();
            return Err(FitError::Parameter {
                parameter: "points",
                value,
                range: "2 to 10000",
            });
        }
        let column = |at: usize| ColumnMap::fit(*self, rows.iter().map(|row| row[at]));
        let columns = (0..schema.len()).map(column).collect();
        Ok(FittedNormalizer::new(self.name(), Arc::clone(schema), columns))
    }

    const fn name(self) -> &'static str {
        match self {
            Self::MinMax { .. } => "min_max",
            Self::ZScore => "z_score",
            Self::Robust => "robust",
            Self::RobustAsinh => "robust_asinh",
            Self::SignedLog => "signed_log",
            Self::Quantile { normal: false, .. } => "quantile",
            Self::Quantile { normal: true, .. } => "normal_quantile",
        }
    }
}

/// A [`Normalizer`] that was fitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct FittedNormalizer {
    name: String,
    input: Arc<FeatureSchema>,
    output: Arc<FeatureSchema>,
    columns: Vec<ColumnMap>,
}

#[derive(Serialize, Deserialize)]
struct Parts {
    name: String,
    input: FeatureSchema,
    columns: Vec<ColumnMap>,
}

impl FittedNormalizer {
    /// What [`load`](crate::load) knows it by.
    pub const KIND: &'static str = "normalizer";

    fn new(name: &str, input: Arc<FeatureSchema>, columns: Vec<ColumnMap>) -> Self {
        let output = Arc::new(normalized_schema(name, &input));
        Self {
            name: name.to_owned(),
            input,
            output,
            columns,
        }
    }
}

impl FittedTransform for FittedNormalizer {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn input(&self) -> &Arc<FeatureSchema> {
        &self.input
    }

    fn output(&self) -> &Arc<FeatureSchema> {
        &self.output
    }

    fn values(&self, vector: &FeatureVector) -> Vec<f64> {
        vector
            .values
            .iter()
            .zip(&self.columns)
            .map(|(&value, column)| column.map(value))
            .collect()
    }

    fn to_bytes(&self) -> Result<Vec<u8>, LoadError> {
        fitted::to_bytes(Self::KIND, self)
    }
}

impl Transform<FeatureVector> for FittedNormalizer {
    fn transform(&mut self, item: &mut FeatureVector) -> Result<Outcome, TransformError> {
        fitted::apply(self, item)
    }
}

impl TryFrom<Parts> for FittedNormalizer {
    type Error = &'static str;

    fn try_from(parts: Parts) -> Result<Self, Self::Error> {
        if parts.columns.len() == parts.input.len() {
            Ok(Self::new(&parts.name, Arc::new(parts.input), parts.columns))
        } else {
            Err("a normalizer has one column for each feature")
        }
    }
}

impl From<FittedNormalizer> for Parts {
    fn from(fitted: FittedNormalizer) -> Self {
        Self {
            name: fitted.name,
            input: FeatureSchema::clone(&fitted.input),
            columns: fitted.columns,
        }
    }
}

/// The same features without units, under a name that says how they were scaled.
fn normalized_schema(name: &str, input: &FeatureSchema) -> FeatureSchema {
    let scaled = |feature: &FeatureDef| {
        let description = format!("{} ({name})", feature.description);
        FeatureDef::new(feature.name.as_str(), "", &description)
    };
    FeatureSchema::new(
        &format!("{}+{name}", input.name()),
        input.features().iter().map(scaled).collect(),
    )
}

#[cfg(test)]
mod tests;
