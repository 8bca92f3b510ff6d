//! The forest as an estimator of linfa, on ndarray views.

use std::borrow::Cow;
use std::num::NonZeroUsize;

use linfa::dataset::DatasetBase;
use linfa::traits::{Fit, PredictInplace};
use linfa::{ParamGuard, error};
use ndarray::{Array1, ArrayBase, ArrayView2, Data, Ix2};

use super::{IsolationForest, IsolationForestError, IsolationForestParams, IsolationForestValidParams, Rows};
use crate::detectors::{Detector, DetectorError};

impl ParamGuard for IsolationForestParams {
    type Checked = IsolationForestValidParams;
    type Error = IsolationForestError;

    fn check_ref(&self) -> Result<&Self::Checked, Self::Error> {
        self.validate()
    }

    fn check(self) -> Result<Self::Checked, Self::Error> {
        self.validate().copied()
    }
}

impl<D: Data<Elem = f64>, T> Fit<ArrayBase<D, Ix2>, T, IsolationForestError> for IsolationForestValidParams {
    type Object = IsolationForest;

    /// Fits a forest on the records; targets are not looked at.
    fn fit(
        &self,
        dataset: &DatasetBase<ArrayBase<D, Ix2>, T>,
    ) -> Result<IsolationForest, IsolationForestError> {
        let records = dataset.records();
        self.fit_rows(Rows::new(&values(records), records.ncols())?)
    }
}

impl IsolationForest {
    /// Scores the rows of a matrix or view.
    ///
    /// # Errors
    ///
    /// If it has another number of columns than the training data.
    pub fn score_array<D: Data<Elem = f64>>(
        &self,
        records: &ArrayBase<D, Ix2>,
    ) -> Result<Array1<f64>, IsolationForestError> {
        self.score(Rows::new(&values(records), records.ncols())?)
            .map(Array1::from)
    }
}

impl<D: Data<Elem = f64>> PredictInplace<ArrayBase<D, Ix2>, Array1<f64>> for IsolationForest {
    /// Scores the rows.
    ///
    /// # Panics
    ///
    /// If the matrix has another number of columns than the training data, or the target another length: linfa's
    /// trait has no place for an error. [`IsolationForest::score_array`] has.
    fn predict_inplace(&self, records: &ArrayBase<D, Ix2>, scores: &mut Array1<f64>) {
        match self.score_array(records) {
            Ok(found) => scores.assign(&found),
            Err(error) => panic!("{error}"),
        }
    }

    fn default_target(&self, records: &ArrayBase<D, Ix2>) -> Array1<f64> {
        Array1::zeros(records.nrows())
    }
}

/// The values row by row; copied only if they do not lie so.
fn values<D: Data<Elem = f64>>(records: &ArrayBase<D, Ix2>) -> Cow<'_, [f64]> {
    records
        .as_slice()
        .map_or_else(|| records.iter().copied().collect(), Cow::Borrowed)
}

impl From<error::Error> for IsolationForestError {
    fn from(error: error::Error) -> Self {
        Self::Dataset {
            source: Box::new(error),
        }
    }
}

/// The forest among other detectors. It takes missing and infinite values as well.
impl Detector for IsolationForest {
    fn columns(&self) -> usize {
        Self::columns(self)
    }

    fn score_parallel(
        &self,
        records: ArrayView2<'_, f64>,
        threads: NonZeroUsize,
    ) -> Result<Array1<f64>, DetectorError> {
        let (expected, found) = (Self::columns(self), records.ncols());
        if expected != found {
            return Err(DetectorError::Columns { expected, found });
        }
        let whole = values(&records);
        let scores = Rows::new(&whole, found).and_then(|rows| Self::score_parallel(self, rows, threads));
        scores.map(Array1::from).map_err(|source| DetectorError::Part {
            part: "the isolation forest",
            source: Box::new(source),
        })
    }
}
