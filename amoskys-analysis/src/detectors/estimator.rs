//! What all detectors share: checks of the input, threads, linfa's traits, and the stored form.

use std::num::NonZeroUsize;

use ndarray::{Array1, ArrayView2};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::DetectorError;
use super::parallel::fill_rows;
use crate::iforest::Rows;
use crate::model::{ModelFile, ModelFileError};

/// A fitted detector: gives each row a score, higher where it is more anomalous.
///
/// Scores of different detectors have different scales; [`calibrate`](crate::calibrate) makes them probabilities.
pub trait Detector: Send + Sync {
    /// Number of columns of the training data.
    fn columns(&self) -> usize;

    /// Scores rows on several threads. The scores are the same, bit for bit, on any number of threads.
    ///
    /// # Errors
    ///
    /// If the rows have another number of columns than the training data, or hold a value that is not finite.
    fn score_parallel(
        &self,
        records: ArrayView2<'_, f64>,
        threads: NonZeroUsize,
    ) -> Result<Array1<f64>, DetectorError>;

    /// Scores rows on this thread.
    ///
    /// # Errors
    ///
    /// As [`score_parallel`](Self::score_parallel).
    fn score(&self, records: ArrayView2<'_, f64>) -> Result<Array1<f64>, DetectorError> {
        self.score_parallel(records, NonZeroUsize::MIN)
    }
}

/// Parameters that fit a detector and score the rows it was fitted on.
pub trait FitScore {
    /// What is fitted.
    type Model: Detector;

    /// Fits a detector, and scores the rows it was fitted on. Where a row would find itself among the training rows, as
    /// with nearest neighbours, it is left out of those it is compared with; this is what scoring the training rows
    /// with [`Detector::score`] cannot know. Costs no more than fitting and scoring, and often less.
    ///
    /// # Errors
    ///
    /// If a parameter is out of range, there are too few rows, or a value is not finite.
    fn fit_score(&self, records: ArrayView2<'_, f64>) -> Result<(Self::Model, Array1<f64>), DetectorError>;
}

/// A detector that can be kept in a [`ModelFile`].
pub trait StoredDetector: Detector + Serialize + DeserializeOwned {
    /// Name of the part it is stored as.
    const PART: &'static str;

    /// Puts it into a model file, where [`load`](Self::load) finds it. A file holds one detector of a kind.
    ///
    /// # Errors
    ///
    /// If it cannot be encoded.
    fn store(&self, file: &mut ModelFile) -> Result<(), ModelFileError> {
        file.put(Self::PART, self)
    }

    /// Reads it from a model file. It scores as the stored one did, bit for bit.
    ///
    /// # Errors
    ///
    /// [`ModelFileError::Missing`] if the file has no detector of this kind, [`ModelFileError::Part`] if it is not whole.
    fn load(file: &ModelFile) -> Result<Self, ModelFileError> {
        file.part(Self::PART)?
            .ok_or(ModelFileError::Missing { part: Self::PART })
    }
}

/// What a detector's parameters have to say themselves.
pub(super) trait Learn {
    type Model: Judge;

    /// Checks the ranges.
    fn check(&self) -> Result<(), DetectorError>;

    /// Rows that are needed at least.
    fn least_rows(&self) -> usize {
        2
    }

    fn threads(&self) -> NonZeroUsize;

    /// Fits on rows that were checked.
    fn learn(&self, rows: Rows<'_>) -> Result<Self::Model, DetectorError>;

    /// Fits, and scores the same rows.
    fn learn_and_score(&self, rows: Rows<'_>) -> Result<(Self::Model, Vec<f64>), DetectorError> {
        let model = self.learn(rows)?;
        let scores = judge(&model, rows, self.threads());
        Ok((model, scores))
    }
}

/// What a fitted detector has to say itself.
pub(super) trait Judge: Sync {
    fn width(&self) -> usize;

    /// Whether scoring with it cannot go astray: asked of what was read from a file.
    fn is_sound(&self) -> bool;

    /// Scores rows that were checked. The score of a row must not depend on the others.
    fn judge_into(&self, rows: Rows<'_>, scores: &mut [f64]);
}

pub(super) fn judge(model: &impl Judge, rows: Rows<'_>, threads: NonZeroUsize) -> Vec<f64> {
    fill_rows(rows, threads, |piece, scores| model.judge_into(piece, scores))
}

/// Checks parameters and rows, and hands them to `then`.
pub(super) fn with_training_rows<P: Learn, T>(
    params: &P,
    records: ArrayView2<'_, f64>,
    then: impl FnOnce(Rows<'_>) -> Result<T, DetectorError>,
) -> Result<T, DetectorError> {
    params.check()?;
    let (rows, needed) = (records.nrows(), params.least_rows());
    if rows < needed {
        return Err(DetectorError::TooFew { needed, rows });
    }
    with_rows(records, then)
}

pub(super) fn score(
    model: &impl Judge,
    records: ArrayView2<'_, f64>,
    threads: NonZeroUsize,
) -> Result<Array1<f64>, DetectorError> {
    let (expected, found) = (model.width(), records.ncols());
    if expected != found {
        return Err(DetectorError::Columns { expected, found });
    }
    with_rows(records, |rows| Ok(Array1::from(judge(model, rows, threads))))
}

/// The rows in one piece of memory, copied only if they do not lie so, and all finite.
pub(super) fn with_rows<T>(
    records: ArrayView2<'_, f64>,
    then: impl FnOnce(Rows<'_>) -> Result<T, DetectorError>,
) -> Result<T, DetectorError> {
    let columns = records.ncols();
    let shape = |_| DetectorError::Shape { columns };
    let whole = records.as_standard_layout();
    let values = whole.as_slice().unwrap_or_default();
    // A sum of finite numbers may overflow; only then is it worth looking at each.
    if !values.iter().map(|value| value * 0.0).sum::<f64>().eq(&0.0)
        && let Some(at) = values.iter().position(|value| !value.is_finite())
    {
        return Err(DetectorError::NotFinite {
            row: at / columns,
            column: at % columns,
            value: values[at],
        });
    }
    then(Rows::new(values, columns).map_err(shape)?)
}

/// Refuses a table of no columns, or of too many.
pub(super) const fn check_width(columns: usize) -> Result<(), DetectorError> {
    if columns == 0 || columns > u16::MAX as usize {
        return Err(DetectorError::Shape { columns });
    }
    Ok(())
}

/// Refuses a row of another width, or with a value that is not finite.
pub(super) fn checked_row(row: &[f64], expected: usize) -> Result<(), DetectorError> {
    let found = row.len();
    if expected != found {
        return Err(DetectorError::Columns { expected, found });
    }
    match row.iter().position(|value| !value.is_finite()) {
        Some(column) => Err(DetectorError::NotFinite {
            row: 0,
            column,
            value: row[column],
        }),
        None => Ok(()),
    }
}

/// Refuses a number outside a range.
pub(crate) fn check_range(
    parameter: &'static str,
    value: f64,
    allowed: std::ops::RangeInclusive<f64>,
    range: &'static str,
) -> Result<(), DetectorError> {
    if allowed.contains(&value) {
        Ok(())
    } else {
        Err(DetectorError::Parameter {
            parameter,
            value,
            range,
        })
    }
}

/// Gives parameters and model the public traits, from [`Learn`] and [`Judge`]. The model must derive serde's traits with
/// `#[serde(remote = "Self")]`: what is read is checked before anyone gets it.
macro_rules! detector {
    ($params:ident, $model:ident, $part:literal) => {
        impl<D: ndarray::Data<Elem = f64>, T>
            linfa::traits::Fit<ndarray::ArrayBase<D, ndarray::Ix2>, T, $crate::detectors::DetectorError>
            for $params
        {
            type Object = $model;

            /// Fits on the records; targets are not looked at.
            fn fit(
                &self,
                dataset: &linfa::DatasetBase<ndarray::ArrayBase<D, ndarray::Ix2>, T>,
            ) -> Result<$model, $crate::detectors::DetectorError> {
                use $crate::detectors::estimator::Learn as _;
                $crate::detectors::estimator::with_training_rows(self, dataset.records().view(), |rows| {
                    self.learn(rows)
                })
            }
        }

        impl $crate::detectors::FitScore for $params {
            type Model = $model;

            fn fit_score(
                &self,
                records: ndarray::ArrayView2<'_, f64>,
            ) -> Result<($model, ndarray::Array1<f64>), $crate::detectors::DetectorError> {
                use $crate::detectors::estimator::Learn as _;
                $crate::detectors::estimator::with_training_rows(self, records, |rows| {
                    let (model, scores) = self.learn_and_score(rows)?;
                    Ok((model, scores.into()))
                })
            }
        }

        impl Default for $params {
            fn default() -> Self {
                Self::new()
            }
        }

        impl $crate::detectors::Detector for $model {
            fn columns(&self) -> usize {
                $crate::detectors::estimator::Judge::width(self)
            }

            fn score_parallel(
                &self,
                records: ndarray::ArrayView2<'_, f64>,
                threads: std::num::NonZeroUsize,
            ) -> Result<ndarray::Array1<f64>, $crate::detectors::DetectorError> {
                $crate::detectors::estimator::score(self, records, threads)
            }
        }

        impl<D: ndarray::Data<Elem = f64>>
            linfa::traits::PredictInplace<ndarray::ArrayBase<D, ndarray::Ix2>, ndarray::Array1<f64>>
            for $model
        {
            /// Scores the rows.
            ///
            /// # Panics
            ///
            /// If the matrix has another number of columns than the training data or holds a value that is not finite, or
            /// the target has another length: linfa's trait has no place for an error.
            /// [`Detector::score`](crate::detectors::Detector::score) has.
            fn predict_inplace(
                &self,
                records: &ndarray::ArrayBase<D, ndarray::Ix2>,
                scores: &mut ndarray::Array1<f64>,
            ) {
                match $crate::detectors::Detector::score(self, records.view()) {
                    Ok(found) => scores.assign(&found),
                    Err(error) => panic!("{error}"),
                }
            }

            fn default_target(&self, records: &ndarray::ArrayBase<D, ndarray::Ix2>) -> ndarray::Array1<f64> {
                ndarray::Array1::zeros(records.nrows())
            }
        }

        impl serde::Serialize for $model {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $model::serialize(self, serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $model {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let model = $model::deserialize(deserializer)?;
                if $crate::detectors::estimator::Judge::is_sound(&model) {
                    Ok(model)
                } else {
                    Err(serde::de::Error::custom(concat!(
                        "not a whole detector: ",
                        $part
                    )))
                }
            }
        }

        impl $crate::detectors::StoredDetector for $model {
            const PART: &'static str = $part;
        }
    };
}
pub(super) use detector;
