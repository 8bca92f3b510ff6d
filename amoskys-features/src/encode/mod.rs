//! Encoders: turn categories and cyclic quantities into numbers that a model can compare.
//!
//! A category is a number without order: a protocol, a port, a type of query. Text becomes one with
//! [`category`].
//!
//! | encoder | makes of a feature `f` | unknown category | missing (NaN) |
//! |---|---|---|---|
//! | [`OneHot`](Encoder::OneHot) | `f=6`, `f=17`, …, `f=other`: 1 for the one it is | `f=other` is 1 | all 0 |
//! | [`Hashing`](Encoder::Hashing) | `f#0` … `f#n`: 1 for the bucket it falls into | its bucket is 1 | all 0 |
//! | [`Frequency`](Encoder::Frequency) | `f~frequency`: its share of the fitted values | 0 | NaN |
//! | [`Ordinal`](Encoder::Ordinal) | `f~ordinal`: its place among the fitted categories, from 0 | -1 | NaN |
//! | [`Cyclic`](Encoder::Cyclic) | `f~sin`, `f~cos`: its place on a circle | — | NaN |
//!
//! [`StreamingEncoder`] learns shares or numbers of categories as they come. [`TimeOfWeek`] adds the time of day and week at which a window ends.
//!
//! Features that are not encoded pass through in place.

mod code;
mod streaming;
mod time_of_week;

use std::sync::Arc;

use amoskys_core::{FeatureDef, FeatureSchema, FeatureVector, Outcome, Transform, TransformError};
use serde::{Deserialize, Serialize};

use self::code::Code;
pub use self::streaming::{StreamingCode, StreamingEncoder};
pub use self::time_of_week::TimeOfWeek;
use crate::error::{FitError, LoadError};
use crate::fitted::{self, FittedTransform};
use crate::hash::KeyHash;

/// How a feature is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Encoder {
    /// One feature per category.
    OneHot {
        /// So many of the commonest categories get a feature of their own, the rest share one. 1 to 1024.
        max_categories: u16,
    },
    /// A fixed number of features, whatever the categories; different categories may share one.
    Hashing {
        /// Number of features, 1 to 1024.
        buckets: u16,
    },
    /// How common the category was in training.
    Frequency,
    /// The place of the category among all in training, by value. At most 65 536 categories are kept, the
    /// commonest.
    Ordinal,
    /// Sine and cosine of the value, where this much is one turn: 24 for hours, 360 for degrees.
    Cyclic {
        /// One turn, in the feature's unit; above 0.
        period: f64,
    },
}

/// The category of a text, as a value of a feature vector: a hash of 52 bits, which a float holds exactly.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "52 bits fit")]
pub fn category(text: &str) -> f64 {
    (KeyHash::of(text.as_bytes()).0 >> 12) as f64
}

impl Encoder {
    /// Fits it for the features of these names, on vectors of one schema.
    ///
    /// # Errors
    ///
    /// If there are no vectors, they have different schemas, a name is not in the schema, or a parameter is out of
    /// range.
    pub fn fit(&self, features: &[&str], data: &[FeatureVector]) -> Result<FittedEncoder, FitError> {
        self.check()?;
        let schema = fitted::common_schema(data)?;
        let mut codes: Vec<Code> = vec![Code::Keep; schema.len()];
        for name in features {
            let no_such = || FitError::NoSuchFeature {
                schema: schema.name().to_string(),
                feature: (*name).to_owned(),
            };
            let at = schema.index_of(name).ok_or_else(no_such)?;
            codes[at] = Code::fit(*self, data.iter().map(|vector| vector.values[at]));
        }
        Ok(FittedEncoder::new(Arc::clone(schema), codes))
    }

    fn check(&self) -> Result<(), FitError> {
        let refuse = |parameter, value: String, range| {
            Err(FitError::Parameter {
                parameter,
                value,
                range,
            })
        };
        match *self {
            Self::OneHot { max_categories: n } if !(1..=1024).contains(&n) => {
                refuse("max_categories", n.to_string(), "1 to 1024")
            }
            Self::Hashing { buckets: n } if !(1..=1024).contains(&n) => {
                refuse("buckets", n.to_string(), "1 to 1024")
            }
            Self::Cyclic { period } if !(period > 0.0 && period.is_finite()) => {
                refuse("period", period.to_string(), "a finite number above 0")
            }
            _ => Ok(()),
        }
    }
}

/// An [`Encoder`] that was fitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct FittedEncoder {
    input: Arc<FeatureSchema>,
    output: Arc<FeatureSchema>,
    codes: Vec<Code>,
}

#[derive(Serialize, Deserialize)]
struct Parts {
    input: FeatureSchema,
    codes: Vec<Code>,
}

impl FittedEncoder {
    /// What [`load`](crate::load) knows it by.
    pub const KIND: &'static str = "encoder";

    fn new(input: Arc<FeatureSchema>, codes: Vec<Code>) -> Self {
        let defs = input
            .features()
            .iter()
            .zip(&codes)
            .flat_map(|(feature, code)| code.features(feature));
        let output = FeatureSchema::new(
            &format!("{}+encoded", input.name()),
            defs.collect::<Vec<FeatureDef>>(),
        );
        Self {
            input,
            output: Arc::new(output),
            codes,
        }
    }
}

impl FittedTransform for FittedEncoder {
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
        let mut values = Vec::with_capacity(self.output.len());
        for (&value, code) in vector.values.iter().zip(&self.codes) {
            code.encode(value, &mut values);
        }
        values
    }

    fn to_bytes(&self) -> Result<Vec<u8>, LoadError> {
        fitted::to_bytes(Self::KIND, self)
    }
}

impl Transform<FeatureVector> for FittedEncoder {
    fn transform(&mut self, item: &mut FeatureVector) -> Result<Outcome, TransformError> {
        fitted::apply(self, item)
    }
}

impl TryFrom<Parts> for FittedEncoder {
    type Error = &'static str;

    fn try_from(parts: Parts) -> Result<Self, Self::Error> {
        if parts.codes.len() != parts.input.len() {
            return Err("an encoder has one code for each feature");
        }
        if !parts.codes.iter().all(Code::is_sound) {
            return Err("a code is out of range");
        }
        Ok(Self::new(Arc::new(parts.input), parts.codes))
    }
}

impl From<FittedEncoder> for Parts {
    fn from(fitted: FittedEncoder) -> Self {
        Self {
            input: FeatureSchema::clone(&fitted.input),
            codes: fitted.codes,
        }
    }
}

#[cfg(test)]
mod tests;
