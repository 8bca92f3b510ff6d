//! What fitted transforms have in common: schemas at both ends, and a form that can be stored.

use std::sync::Arc;

use amoskys_core::{Digest, FeatureSchema, FeatureVector, Outcome, Transform, TransformError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::encode::{FittedEncoder, TimeOfWeek};
use crate::error::{FitError, LoadError, wrong_schema};
use crate::normalize::FittedNormalizer;
use crate::snapshot::{self, DecodeError};

/// A transform of feature vectors that was fitted on some, and can be stored in a model file.
///
/// It takes vectors of the schema it was fitted on, by digest, and refuses others.
pub trait FittedTransform: Transform<FeatureVector> + Sync {
    /// The kind of transform: what [`load`] needs to read it again.
    fn kind(&self) -> &'static str;

    /// The schema of the vectors it takes.
    fn input(&self) -> &Arc<FeatureSchema>;

    /// The schema of the vectors it makes.
    fn output(&self) -> &Arc<FeatureSchema>;

    /// The values it makes of a vector. The vector must have the schema [`input`](Self::input) and as many values.
    fn values(&self, vector: &FeatureVector) -> Vec<f64>;

    /// Its stored form, which [`load`] reads.
    ///
    /// # Errors
    ///
    /// If it cannot be encoded, which would be a defect.
    fn to_bytes(&self) -> Result<Vec<u8>, LoadError>;
}

/// A fitted transform of any kind.
pub type BoxTransform = Box<dyn FittedTransform>;

impl Transform<FeatureVector> for BoxTransform {
    fn transform(&mut self, item: &mut FeatureVector) -> Result<Outcome, TransformError> {
        (**self).transform(item)
    }
}

/// Reads a transform that was stored by [`FittedTransform::to_bytes`].
///
/// # Errors
///
/// If the kind is not one of this crate, or the bytes are not a transform of this kind.
pub fn load(kind: &str, bytes: &[u8]) -> Result<BoxTransform, LoadError> {
    Ok(match kind {
        FittedNormalizer::KIND => Box::new(from_bytes::<FittedNormalizer>(FittedNormalizer::KIND, bytes)?),
        FittedEncoder::KIND => Box::new(from_bytes::<FittedEncoder>(FittedEncoder::KIND, bytes)?),
        TimeOfWeek::KIND => Box::new(from_bytes::<TimeOfWeek>(TimeOfWeek::KIND, bytes)?),
        _ => {
            return Err(LoadError::UnknownKind {
                kind: kind.to_owned(),
            });
        }
    })
}

/// Puts a vector through a transform in place.
pub(crate) fn apply<T: FittedTransform + ?Sized>(
    transform: &T,
    item: &mut FeatureVector,
) -> Result<Outcome, TransformError> {
    let input = transform.input();
    // Schemas are shared, so that comparing pointers nearly always decides.
    if !Arc::ptr_eq(&item.schema, input) && item.schema.digest() != input.digest() {
        return Err(wrong_schema(transform.kind(), input, &item.schema));
    }
    if item.values.len() != input.len() {
        return Err(TransformError {
            transform: transform.kind().to_owned(),
            reason: format!(
                "the vector has {} values for {} features",
                item.values.len(),
                input.len()
            ),
            source: None,
        });
    }
    item.values = transform.values(item);
    item.schema = Arc::clone(transform.output());
    Ok(Outcome::Keep)
}

/// The schema all vectors share.
pub(crate) fn common_schema(data: &[FeatureVector]) -> Result<&Arc<FeatureSchema>, FitError> {
    let schema = &data.first().ok_or(FitError::Empty)?.schema;
    for (at, vector) in data.iter().enumerate() {
        if !Arc::ptr_eq(&vector.schema, schema) && vector.schema.digest() != schema.digest() {
            let (expected, found) = (schema.name().to_string(), vector.schema.name().to_string());
            return Err(FitError::MixedSchemas { at, expected, found });
        }
        if vector.values.len() != schema.len() {
            return Err(FitError::Length {
                at,
                expected: schema.len(),
                found: vector.values.len(),
            });
        }
    }
    Ok(schema)
}

pub(crate) fn to_bytes(kind: &'static str, fitted: &impl Serialize) -> Result<Vec<u8>, LoadError> {
    snapshot::encode(Digest::of(kind.as_bytes()), fitted).map_err(|error| LoadError::Bytes {
        kind,
        reason: "it could not be written".to_owned(),
        source: Some(error.into()),
    })
}

pub(crate) fn from_bytes<T: DeserializeOwned>(kind: &'static str, bytes: &[u8]) -> Result<T, LoadError> {
    snapshot::decode(Digest::of(kind.as_bytes()), bytes).map_err(|error| {
        let reason = error.to_string();
        let source = if let DecodeError::Body(cause) = error {
            Some(cause.into())
        } else {
            None
        };
        LoadError::Bytes { kind, reason, source }
    })
}
