//! Why a transform could not be fitted or loaded.

use amoskys_core::{BoxError, FeatureSchema, TransformError};

/// Why a transform could not be fitted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FitError {
    /// There was nothing to fit on.
    #[error("there are no vectors to fit on")]
    Empty,
    /// A vector has another schema than the first one.
    #[error("vector {at} has schema {found}, but the first has {expected}")]
    MixedSchemas {
        /// Which vector.
        at: usize,
        /// Name of the first vector's schema.
        expected: String,
        /// Name of its own schema.
        found: String,
    },
    /// A vector has another number of values than its schema has features.
    #[error("vector {at} has {found} values for {expected} features")]
    Length {
        /// Which vector.
        at: usize,
        /// Features in the schema.
        expected: usize,
        /// Values in the vector.
        found: usize,
    },
    /// The schema has no feature of this name.
    #[error("schema {schema} has no feature {feature}")]
    NoSuchFeature {
        /// Name of the schema.
        schema: String,
        /// Name that was asked for.
        feature: String,
    },
    /// A parameter is out of range.
    #[error("{parameter} is {value}, but must be {range}")]
    Parameter {
        /// Name of the parameter.
        parameter: &'static str,
        /// What it was set to.
        value: String,
        /// What it may be.
        range: &'static str,
    },
}

/// Why a transform could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// This crate has no transform of this kind.
    #[error("there is no transform of kind {kind}")]
    UnknownKind {
        /// The kind that was asked for.
        kind: String,
    },
    /// The bytes are damaged, or of another version or kind.
    #[error("these bytes are not a fitted {kind}: {reason}")]
    Bytes {
        /// The kind that was expected.
        kind: &'static str,
        /// What is wrong with them.
        reason: String,
        /// The cause, if another error is behind it.
        source: Option<BoxError>,
    },
}

/// A vector of another schema came to a fitted transform.
pub(crate) fn wrong_schema(
    transform: &str,
    expected: &FeatureSchema,
    found: &FeatureSchema,
) -> TransformError {
    TransformError {
        transform: transform.to_owned(),
        reason: format!(
            "it was fitted on schema {} ({}), and the vector has {} ({})",
            expected.name(),
            expected.digest(),
            found.name(),
            found.digest()
        ),
        source: None,
    }
}
