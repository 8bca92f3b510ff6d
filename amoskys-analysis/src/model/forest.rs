use amoskys_core::event::{Evidence, ModelRef};
use amoskys_core::{AnalyzerError, FeatureSchema, FeatureVector, Outcome, Transform};

use super::file::{ModelFile, ModelFileError, TransformLoader};
use crate::calibrate::Calibration;
use crate::iforest::IsolationForest;

/// Name of the forest among the parts of a model file.
pub(super) const FOREST: &str = "isolation_forest";
/// Name of the calibration among the parts of a model file.
const CALIBRATION: &str = "calibration";
/// So many features are named as evidence at most.
const MOST_EVIDENCE: usize = 5;

/// An isolation forest with its transforms and its calibration, ready to judge feature vectors.
pub struct ForestModel {
    schema: FeatureSchema,
    transforms: Vec<Box<dyn Transform<FeatureVector>>>,
    forest: IsolationForest,
    calibration: Calibration,
    reference: ModelRef,
}

/// What a model thinks of a feature vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The forest's score: above 0 to 1, higher is more anomalous.
    pub score: f64,
    /// Probability of an anomaly, by the model's calibration.
    pub probability: f64,
    /// The features that moved it, at most five, the strongest first. A value is the vector's own where its schema has the
    /// feature, else what the transforms made of it. Contributions are shares of the log-odds, and add up to what the
    /// named features account for together.
    pub evidence: Vec<Evidence>,
}

impl ForestModel {
    /// Puts a fitted forest and its calibration into a model file, where [`load`](Self::load) finds them.
    ///
    /// # Errors
    ///
    /// If they cannot be encoded.
    pub fn store(
        file: &mut ModelFile,
        forest: &IsolationForest,
        calibration: &Calibration,
    ) -> Result<(), ModelFileError> {
        file.put(FOREST, forest)?;
        file.put(CALIBRATION, calibration)
    }

    /// Takes the forest out of a model file. `loader` reads the transforms.
    ///
    /// # Errors
    ///
    /// If the file has no forest or no calibration, or a transform cannot be read.
    pub fn load(file: &ModelFile, loader: TransformLoader<'_>) -> Result<Self, ModelFileError> {
        let forest: IsolationForest = file
            .part(FOREST)?
            .ok_or(ModelFileError::Missing { part: FOREST })?;
        let calibration = file
            .part(CALIBRATION)?
            .ok_or(ModelFileError::Missing { part: CALIBRATION })?;
        let transforms = file.load_transforms(loader)?;
        if transforms.is_empty() && file.schema.len() != forest.columns() {
            return Err(ModelFileError::Columns {
                expected: forest.columns(),
                found: file.schema.len(),
            });
        }
        Ok(Self {
            schema: file.schema.clone(),
            transforms,
            forest,
            calibration,
            reference: file.model_ref()?,
        })
    }

    /// The schema of the vectors it takes.
    #[must_use]
    pub const fn schema(&self) -> &FeatureSchema {
        &self.schema
    }

    /// Name, version and digest of the model.
    #[must_use]
    pub const fn reference(&self) -> &ModelRef {
        &self.reference
    }

    /// The forest.
    #[must_use]
    pub const fn forest(&self) -> &IsolationForest {
        &self.forest
    }

    /// Judges a vector. `None` if a transform dropped it. Evidence is sought only from `explain_above` on, a probability:
    /// it costs as much as several hundred scores.
    ///
    /// # Errors
    ///
    /// [`AnalyzerError::Observation`] if the vector has another schema, or a transform fails.
    pub fn judge(
        &mut self,
        vector: &FeatureVector,
        explain_above: f64,
    ) -> Result<Option<Judgement>, AnalyzerError> {
        if vector.schema.digest() != self.schema.digest() {
            let (found, expected) = (vector.schema.name(), self.schema.name());
            return Err(unusable(format!(
                "the model reads schema {expected}, and the vector has {found}"
            )));
        }
        let mut seen = vector.clone();
        for transform in &mut self.transforms {
            match transform.transform(&mut seen) {
                Ok(Outcome::Keep) => {}
                Ok(Outcome::Drop(_)) => return Ok(None),
                Err(error) => return Err(unusable(format!("{error}"))),
            }
        }
        let score = self
            .forest
            .score_row(&seen.values)
            .map_err(|error| unusable(format!("{error}")))?;
        let probability = self.calibration.probability(score);
        let evidence = if probability >= explain_above {
            self.evidence(vector, &seen, score)?
        } else {
            Vec::new()
        };
        Ok(Some(Judgement {
            score,
            probability,
            evidence,
        }))
    }

    /// What moved the score of a vector, `seen` being what the forest saw of it.
    fn evidence(
        &self,
        vector: &FeatureVector,
        seen: &FeatureVector,
        score: f64,
    ) -> Result<Vec<Evidence>, AnalyzerError> {
        let named = self
            .forest
            .explain(&seen.values, MOST_EVIDENCE)
            .map_err(|error| unusable(format!("{error}")))?;
        let odds = |score: f64| {
            let probability = self.calibration.probability(score);
            (probability / (1.0 - probability)).ln()
        };
        let features = seen.schema.features();
        let mut without = score;
        let evidence = named.into_iter().filter_map(|part| {
            let before = odds(without);
            without -= part.drop;
            let feature = features.get(part.feature)?.name.clone();
            let value = vector
                .value(feature.as_str())
                .unwrap_or(seen.values[part.feature]);
            Some(Evidence {
                feature,
                value,
                contribution: before - odds(without),
            })
        });
        Ok(evidence.collect())
    }
}

pub(super) fn unusable(reason: String) -> AnalyzerError {
    AnalyzerError::Observation { reason }
}
