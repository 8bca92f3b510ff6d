//! A detector of any kind with all it needs to judge feature vectors.

use std::num::NonZeroUsize;

use amoskys_core::event::{Evidence, ModelRef};
use amoskys_core::{AnalyzerError, FeatureSchema, FeatureVector, Outcome, Transform};
use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use super::file::{ModelFile, ModelFileError, TransformLoader};
use super::forest::{Judgement, unusable};
use super::kind::AnyDetector;
use crate::calibrate::Calibration;
use crate::detectors::{Detector as _, DetectorError};
use crate::explain::Explainer;
use crate::odds::logit;
use crate::sequence::Threshold;

const CALIBRATION: &str = "calibration";
const EXPLAINER: &str = "explainer";
const FILLING: &str = "filling";
const SOURCES: &str = "sources";
const THRESHOLD: &str = "threshold";

/// What stands in for values that a detector cannot take: the median of the training rows for one that is missing (NaN), their
/// highest or lowest finite value for an infinite one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Filling {
    columns: Vec<[f64; 3]>,
}

impl Filling {
    /// From training rows. A column without any finite value is filled with zeros.
    #[must_use]
    pub fn fit(rows: ArrayView2<'_, f64>) -> Self {
        let column = |column: ndarray::ArrayView1<'_, f64>| {
            let mut values: Vec<f64> = column.iter().copied().filter(|value| value.is_finite()).collect();
            values.sort_unstable_by(f64::total_cmp);
            match (values.first(), values.get(values.len() / 2), values.last()) {
                (Some(&low), Some(&middle), Some(&high)) => [low, middle, high],
                _ => [0.0; 3],
            }
        };
        Self {
            columns: rows.columns().into_iter().map(column).collect(),
        }
    }

    /// Fills a row in.
    pub fn apply(&self, row: &mut [f64]) {
        for (value, [low, middle, high]) in row.iter_mut().zip(&self.columns) {
            if value.is_nan() {
                *value = *middle;
            } else if value.is_infinite() {
                *value = if *value > 0.0 { *high } else { *low };
            }
        }
    }

    fn is_sound(&self, columns: usize) -> bool {
        self.columns.len() == columns && self.columns.iter().flatten().all(|value| value.is_finite())
    }
}

/// What [`TableModel::store`] puts into a file, beside the schema and the transforms that are there already.
#[derive(Clone, Debug)]
pub struct TableParts<'a> {
    /// The detector, fitted on rows that went through the transforms and were filled in.
    pub detector: &'a AnyDetector,
    /// From its scores to probabilities.
    pub calibration: &'a Calibration,
    /// Where alarms begin.
    pub threshold: Threshold,
    /// Knows the medians of those rows.
    pub explainer: &'a Explainer,
    /// What is filled in.
    pub filling: &'a Filling,
    /// For each column of those rows, the feature of the schema that it was made of.
    pub sources: &'a [u16],
}

/// A detector of any kind with its transforms, what it fills in, its calibration, its threshold and its explanations, ready to
/// judge feature vectors.
///
/// # Cost
///
/// What the detector costs, and a few allocations a vector. An explanation costs as much as up to twice as many scores as there
/// are columns, and 80 more.
pub struct TableModel {
    schema: FeatureSchema,
    transforms: Vec<Box<dyn Transform<FeatureVector>>>,
    filling: Filling,
    detector: AnyDetector,
    calibration: Calibration,
    threshold: Threshold,
    explainer: Explainer,
    sources: Vec<u16>,
    reference: ModelRef,
}

impl std::fmt::Debug for TableModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableModel")
            .field("reference", &self.reference)
            .field("schema", self.schema.name())
            .field("detector", &self.detector.kind())
            .finish_non_exhaustive()
    }
}

impl TableModel {
    /// Puts a fitted detector with all that belongs to it into a model file, where [`load`](Self::load) finds it.
    ///
    /// # Errors
    ///
    /// If a part cannot be encoded.
    pub fn store(file: &mut ModelFile, parts: &TableParts<'_>) -> Result<(), ModelFileError> {
        parts.detector.store(file)?;
        file.put(CALIBRATION, parts.calibration)?;
        file.put(EXPLAINER, parts.explainer)?;
        file.put(FILLING, parts.filling)?;
        file.put(SOURCES, &parts.sources)?;
        file.put(THRESHOLD, &parts.threshold)
    }

    /// Takes it out of a model file. `loader` reads the transforms.
    ///
    /// # Errors
    ///
    /// If a part is missing, cannot be read or does not fit the others.
    pub fn load(file: &ModelFile, loader: TransformLoader<'_>) -> Result<Self, ModelFileError> {
        fn part<T: serde::de::DeserializeOwned>(
            file: &ModelFile,
            part: &'static str,
        ) -> Result<T, ModelFileError> {
            file.part(part)?.ok_or(ModelFileError::Missing { part })
        }
        let detector = AnyDetector::load(file)?.ok_or(ModelFileError::Missing { part: "detector" })?;
        let model = Self {
            schema: file.schema.clone(),
            transforms: file.load_transforms(loader)?,
            filling: part(file, FILLING)?,
            calibration: part(file, CALIBRATION)?,
            threshold: part(file, THRESHOLD)?,
            explainer: part(file, EXPLAINER)?,
            sources: part(file, SOURCES)?,
            reference: file.model_ref()?,
            detector,
        };
        let columns = model.detector.columns();
        let known = |source: &u16| usize::from(*source) < model.schema.len();
        let fits = model.filling.is_sound(columns)
            && model.explainer.medians().len() == columns
            && model.sources.len() == columns
            && model.sources.iter().all(known)
            && !model.threshold.0.is_nan();
        if !fits {
            return Err(ModelFileError::Part {
                part: model.detector.kind().name().to_owned(),
                source: format!("it reads {columns} columns, and another part does not").into(),
            });
        }
        if model.transforms.is_empty() && model.schema.len() != columns {
            return Err(ModelFileError::Columns {
                expected: columns,
                found: model.schema.len(),
            });
        }
        Ok(model)
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

    /// The detector.
    #[must_use]
    pub const fn detector(&self) -> &AnyDetector {
        &self.detector
    }

    /// From its scores to probabilities.
    #[must_use]
    pub const fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    /// Where alarms begin.
    #[must_use]
    pub const fn threshold(&self) -> Threshold {
        self.threshold
    }

    /// Scores many vectors on several threads; `None` for those that a transform dropped. The scores are those of
    /// [`judge`](Self::judge), bit for bit.
    ///
    /// # Errors
    ///
    /// [`AnalyzerError::Observation`] if a vector has another schema, or a transform or the detector refuses it.
    pub fn score(
        &mut self,
        vectors: &[FeatureVector],
        threads: NonZeroUsize,
    ) -> Result<Vec<Option<f64>>, AnalyzerError> {
        let columns = self.detector.columns();
        let (mut values, mut kept) = (Vec::with_capacity(vectors.len() * columns), Vec::new());
        for vector in vectors {
            let row = self.prepare(vector)?;
            kept.push(row.is_some());
            values.extend(row.into_iter().flatten());
        }
        let rows = kept.iter().filter(|kept| **kept).count();
        let rows =
            Array2::from_shape_vec((rows, columns), values).map_err(|error| unusable(error.to_string()))?;
        let scores = self
            .detector
            .score_parallel(rows.view(), threads)
            .map_err(refused)?;
        let mut scores = scores.into_iter();
        Ok(kept
            .into_iter()
            .map(|kept| if kept { scores.next() } else { None })
            .collect())
    }

    /// Judges a vector. `None` if a transform dropped it. Evidence is sought only from `explain_above` on, a probability.
    ///
    /// # Errors
    ///
    /// [`AnalyzerError::Observation`] if the vector has another schema, or a transform or the detector refuses it.
    pub fn judge(
        &mut self,
        vector: &FeatureVector,
        explain_above: f64,
    ) -> Result<Option<Judgement>, AnalyzerError> {
        let Some(row) = self.prepare(vector)? else {
            return Ok(None);
        };
        let view =
            ArrayView2::from_shape((1, row.len()), &row).map_err(|error| unusable(error.to_string()))?;
        let score = self.detector.score(view).map_err(refused)?[0];
        let probability = self.calibration.probability(score);
        let evidence = if probability >= explain_above {
            self.evidence(vector, &row)?
        } else {
            Vec::new()
        };
        Ok(Some(Judgement {
            score,
            probability,
            evidence,
        }))
    }

    /// What the detector sees of a vector.
    fn prepare(&mut self, vector: &FeatureVector) -> Result<Option<Vec<f64>>, AnalyzerError> {
        if vector.schema.digest() != self.schema.digest() {
            let (found, expected) = (vector.schema.name(), self.schema.name());
            return Err(unusable(format!(
                "the model reads schema {expected}, and the vector has {found}"
            )));
        }
        let mut row = if self.transforms.is_empty() {
            vector.values.clone()
        } else {
            let mut seen = vector.clone();
            for transform in &mut self.transforms {
                match transform.transform(&mut seen) {
                    Ok(Outcome::Keep) => {}
                    Ok(Outcome::Drop(_)) => return Ok(None),
                    Err(error) => return Err(unusable(format!("{error}"))),
                }
            }
            seen.values
        };
        let (expected, found) = (self.detector.columns(), row.len());
        if expected != found {
            return Err(refused(DetectorError::Columns { expected, found }));
        }
        self.filling.apply(&mut row);
        Ok(Some(row))
    }

    /// The features that moved the score, each once, the strongest first.
    fn evidence(&self, vector: &FeatureVector, row: &[f64]) -> Result<Vec<Evidence>, AnalyzerError> {
        let explanation = self.explainer.explain(&self.detector, row).map_err(refused)?;
        let odds = |score: f64| logit(self.calibration.probability(score));
        let mut evidence: Vec<Evidence> = Vec::new();
        let mut without = explanation.score;
        for named in explanation.named {
            let before = odds(without);
            without -= named.drop;
            let source = usize::from(self.sources[named.feature]);
            let (feature, value) = (self.schema.features()[source].name.clone(), vector.values[source]);
            let contribution = before - odds(without);
            // Several columns may have been made of one feature.
            match evidence.iter_mut().find(|known| known.feature == feature) {
                Some(known) => known.contribution += contribution,
                None => evidence.push(Evidence {
                    feature,
                    value,
                    contribution,
                }),
            }
        }
        Ok(evidence)
    }
}

fn refused(error: DetectorError) -> AnalyzerError {
    unusable(error.to_string())
}
