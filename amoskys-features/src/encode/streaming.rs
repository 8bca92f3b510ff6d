use std::sync::Arc;

use amoskys_core::{FeatureDef, FeatureSchema, FeatureVector, Outcome, Transform, TransformError};
use serde::{Deserialize, Serialize};

use crate::error::{FitError, LoadError, wrong_schema};
use crate::fitted;

/// How a [`StreamingEncoder`] encodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StreamingCode {
    /// The category's share of the values so far, this one included.
    Frequency,
    /// The number under which the category came first, from 0.
    Ordinal,
}

/// An encoder that learns categories as they come, and needs no training.
///
/// At most 65 536 categories are learnt a feature, the first that came; by [`Frequency`](StreamingCode::Frequency) any
/// other is 0, by [`Ordinal`](StreamingCode::Ordinal) -1. A missing value (NaN) stays missing and teaches nothing.
/// Hashing and cyclic encoders have nothing to learn: those of [`Encoder`](super::Encoder) serve a stream as they are.
/// Features that are not encoded pass through.
///
/// [`to_bytes`](Self::to_bytes) stores what it has learnt with the digest of its schema;
/// [`from_bytes`](Self::from_bytes) goes on from there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StreamingEncoder {
    code: StreamingCode,
    input: Arc<FeatureSchema>,
    output: Arc<FeatureSchema>,
    columns: Vec<Column>,
}

/// The categories of one feature.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Column {
    /// Which feature.
    at: usize,
    /// Each category with how often it came and the number it came under, by the order of its bits.
    categories: Vec<(u64, u64, u32)>,
    total: u64,
}

/// So many categories are learnt.
const MAX_CATEGORIES: usize = 65_536;

impl StreamingEncoder {
    /// An encoder of the features of these names that has seen nothing.
    ///
    /// # Errors
    ///
    /// If a name is not in the schema.
    pub fn new(
        code: StreamingCode,
        features: &[&str],
        schema: &Arc<FeatureSchema>,
    ) -> Result<Self, FitError> {
        let mut columns = Vec::with_capacity(features.len());
        for name in features {
            let at = schema.index_of(name).ok_or_else(|| FitError::NoSuchFeature {
                schema: schema.name().to_string(),
                feature: (*name).to_owned(),
            })?;
            columns.push(Column {
                at,
                categories: Vec::new(),
                total: 0,
            });
        }
        columns.sort_by_key(|column| column.at);
        columns.dedup_by_key(|column| column.at);
        let output = Arc::new(output(code, schema, &columns));
        Ok(Self {
            code,
            input: Arc::clone(schema),
            output,
            columns,
        })
    }

    /// The schema of the vectors it makes.
    #[must_use]
    pub const fn output(&self) -> &Arc<FeatureSchema> {
        &self.output
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
        let is_sound = state.columns.is_sorted_by(|a, b| a.at < b.at)
            && state.columns.iter().all(|column| {
                column.at < state.input.len() && column.categories.is_sorted_by(|a, b| a.0 < b.0)
            })
            && *state.output == output(state.code, &state.input, &state.columns);
        if state.input.digest() != schema.digest() || !is_sound {
            return Err(LoadError::Bytes {
                kind: Self::KIND,
                reason: format!("it is for vectors of schema {}", state.input.name()),
                source: None,
            });
        }
        Ok(state)
    }

    const KIND: &'static str = "streaming_encoder";
}

impl Transform<FeatureVector> for StreamingEncoder {
    fn transform(&mut self, item: &mut FeatureVector) -> Result<Outcome, TransformError> {
        if item.schema.digest() != self.input.digest() || item.values.len() != self.input.len() {
            return Err(wrong_schema("streaming encoder", &self.input, &item.schema));
        }
        for column in &mut self.columns {
            if let Some(value) = item.values.get_mut(column.at)
                && !value.is_nan()
            {
                *value = column.take(self.code, *value);
            }
        }
        item.schema = Arc::clone(&self.output);
        Ok(Outcome::Keep)
    }
}

impl Column {
    /// Learns a category, and encodes it.
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
    fn take(&mut self, code: StreamingCode, value: f64) -> f64 {
        // 0 and -0 are one category.
        let bits = (value + 0.0).to_bits();
        self.total = self.total.saturating_add(1);
        let number = u32::try_from(self.categories.len()).unwrap_or(u32::MAX);
        let found = self.categories.binary_search_by_key(&bits, |category| category.0);
        let (count, number) = match found {
            Ok(at) => {
                let category = &mut self.categories[at];
                category.1 = category.1.saturating_add(1);
                (category.1, f64::from(category.2))
            }
            Err(at) if self.categories.len() < MAX_CATEGORIES => {
                self.categories.insert(at, (bits, 1, number));
                (1, f64::from(number))
            }
            Err(_) => (0, -1.0),
        };
        match code {
            StreamingCode::Frequency => count as f64 / self.total as f64,
            StreamingCode::Ordinal => number,
        }
    }
}

fn output(code: StreamingCode, input: &FeatureSchema, columns: &[Column]) -> FeatureSchema {
    let (name, ending, what) = match code {
        StreamingCode::Frequency => ("streaming_frequency", "frequency", "share of the values so far"),
        StreamingCode::Ordinal => (
            "streaming_ordinal",
            "ordinal",
            "number under which the category came first",
        ),
    };
    let encoded = |at: usize| columns.iter().any(|column| column.at == at);
    let defs = input.features().iter().enumerate().map(|(at, def)| {
        if encoded(at) {
            FeatureDef::new(
                &format!("{}~{ending}", def.name),
                "",
                &format!("{}: {what}", def.name),
            )
        } else {
            def.clone()
        }
    });
    FeatureSchema::new(&format!("{}/{name}", input.name()), defs.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{schema, vector};

    fn encoded(encoder: &mut StreamingEncoder, schema: &Arc<FeatureSchema>, values: &[f64]) -> Vec<f64> {
        let mut item = vector(schema, values);
        encoder.transform(&mut item).unwrap();
        assert_eq!(item.schema.digest(), encoder.output().digest());
        item.values
    }

    #[test]
    fn categories_are_learnt_as_they_come() {
        let schema = schema(&["port", "bytes"]);
        let mut frequency = StreamingEncoder::new(StreamingCode::Frequency, &["port"], &schema).unwrap();
        let mut ordinal = StreamingEncoder::new(StreamingCode::Ordinal, &["port"], &schema).unwrap();
        for (port, share, place) in [
            (443.0, 1.0, 0.0),
            (53.0, 0.5, 1.0),
            (443.0, 2.0 / 3.0, 0.0),
            (0.0, 0.25, 2.0),
            (-0.0, 0.4, 2.0),
        ] {
            assert_eq!(encoded(&mut frequency, &schema, &[port, 7.0]), [share, 7.0]);
            assert_eq!(encoded(&mut ordinal, &schema, &[port, 7.0]), [place, 7.0]);
        }
        assert!(encoded(&mut ordinal, &schema, &[f64::NAN, 7.0])[0].is_nan());
        assert_eq!(ordinal.output().features()[0].name.as_str(), "port~ordinal");
        for n in 0..70_000 {
            encoded(&mut ordinal, &schema, &[f64::from(n), 0.0]);
        }
        assert_eq!(encoded(&mut ordinal, &schema, &[1e9, 0.0]), [-1.0, 0.0]);
    }

    #[test]
    fn what_was_learnt_is_stored_for_its_schema_alone() {
        let names = schema(&["port", "bytes"]);
        let mut one = StreamingEncoder::new(StreamingCode::Ordinal, &["port"], &names).unwrap();
        for port in [5.0, 6.0, 7.0] {
            encoded(&mut one, &names, &[port, 0.0]);
        }
        let bytes = one.to_bytes().unwrap();
        let mut again = StreamingEncoder::from_bytes(&names, &bytes).unwrap();
        assert_eq!(encoded(&mut again, &names, &[6.0, 0.0]), [1.0, 0.0]);
        assert!(StreamingEncoder::from_bytes(&schema(&["port"]), &bytes).is_err());
        assert!(StreamingEncoder::from_bytes(&names, &bytes[1..]).is_err());
        assert!(StreamingEncoder::new(StreamingCode::Ordinal, &["host"], &names).is_err());
        let other = schema(&["port"]);
        assert!(again.transform(&mut vector(&other, &[1.0])).is_err());
    }
}
