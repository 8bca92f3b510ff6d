//! Features: numbers with names, and vectors of them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::event::{Entity, EventRange};
use crate::id::{Digest, Name};
use crate::time::Timestamp;

/// One feature: a named number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureDef {
    /// Its name, unique in its schema.
    pub name: Name,
    /// Its unit; empty if it is a count or a ratio.
    pub unit: String,
    /// What it measures, and how it is computed.
    pub description: String,
}

impl FeatureDef {
    /// A feature.
    #[must_use]
    pub fn new(name: &str, unit: &str, description: &str) -> Self {
        Self {
            name: Name::from(name),
            unit: unit.to_owned(),
            description: description.to_owned(),
        }
    }
}

/// Which features a vector holds, in which order.
///
/// A model states the digest of the schema it was fitted on, and refuses vectors of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "SchemaParts", into = "SchemaParts")]
pub struct FeatureSchema {
    name: Name,
    features: Vec<FeatureDef>,
    digest: Digest,
}

impl FeatureSchema {
    /// A schema. The order of the features is the order of the values.
    #[must_use]
    pub fn new(name: &str, features: Vec<FeatureDef>) -> Self {
        Self::from(SchemaParts {
            name: Name::from(name),
            features,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The features in order.
    #[must_use]
    pub fn features(&self) -> &[FeatureDef] {
        &self.features
    }

    /// How many features there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.features.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.features.is_empty()
    }

    /// Where the feature of this name stands.
    #[must_use]
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.features
            .iter()
            .position(|feature| feature.name.as_str() == name)
    }

    /// Digest of the schema's name and of the name and unit of each feature in order. Descriptions do not
    /// count: a better wording does not make another schema.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

#[derive(Serialize, Deserialize)]
struct SchemaParts {
    name: Name,
    features: Vec<FeatureDef>,
}

impl From<SchemaParts> for FeatureSchema {
    fn from(parts: SchemaParts) -> Self {
        let texts = parts
            .features
            .iter()
            .flat_map(|f| [f.name.as_str().as_bytes(), f.unit.as_bytes()]);
        let digest = Digest::of_parts(std::iter::once(parts.name.as_str().as_bytes()).chain(texts));
        Self {
            name: parts.name,
            features: parts.features,
            digest,
        }
    }
}

impl From<FeatureSchema> for SchemaParts {
    fn from(schema: FeatureSchema) -> Self {
        Self {
            name: schema.name,
            features: schema.features,
        }
    }
}

/// The features of one entity over one window of event time.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureVector {
    /// What the values mean.
    pub schema: Arc<FeatureSchema>,
    /// Whom they are about.
    pub entity: Entity,
    /// Start of the window, inclusive.
    pub start: Timestamp,
    /// End of the window, exclusive.
    pub end: Timestamp,
    /// The values, in the schema's order. A value that could not be computed is NaN.
    pub values: Vec<f64>,
    /// The events the values were computed from.
    pub events: EventRange,
}

impl FeatureVector {
    /// The value of the feature of this name.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<f64> {
        self.values.get(self.schema.index_of(name)?).copied()
    }
}
