use std::num::NonZeroUsize;

use linfa::traits::PredictInplace;
use ndarray::{Array1, ArrayBase, ArrayView2, Data, Ix2};
use serde::{Deserialize, Serialize};

use super::params::BoostedTreesParams;
use super::tree::Tree;
use crate::detectors::parallel::fill_rows;
use crate::detectors::{Detector, DetectorError, StoredDetector};
use crate::iforest::Rows;

/// Rows that walk down a tree before the next tree's turn: both stay in the cache.
const BLOCK: usize = 256;

/// A fitted classifier: the sum of many small trees gives the log-odds that a row is an anomaly.
///
/// Unlike other detectors, [`score`](Detector::score) takes missing (NaN) and infinite values. Scores are log-odds;
/// [`probabilities`](Self::probabilities) are nearly calibrated where new rows come as the training rows did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct BoostedTrees {
    columns: usize,
    base: f64,
    pub(super) trees: Vec<Tree>,
}

#[derive(Serialize, Deserialize)]
struct Parts {
    columns: u16,
    base: f64,
    trees: Vec<Tree>,
}

impl BoostedTrees {
    /// Parameters to fit one with.
    #[must_use]
    pub const fn params() -> BoostedTreesParams {
        BoostedTreesParams::new()
    }

    pub(super) const fn new(columns: usize, base: f64) -> Self {
        Self {
            columns,
            base,
            trees: Vec::new(),
        }
    }

    /// Number of trees: fewer than asked for if fitting ended early.
    #[must_use]
    pub const fn trees(&self) -> usize {
        self.trees.len()
    }

    /// The probability of each row that it is an anomaly.
    ///
    /// # Errors
    ///
    /// If the rows have another number of columns than the training data.
    pub fn probabilities(&self, records: ArrayView2<'_, f64>) -> Result<Array1<f64>, DetectorError> {
        Ok(self.score(records)?.mapv_into(probability_of))
    }

    /// The log-odds of one row: a few microseconds.
    ///
    /// # Errors
    ///
    /// If it has another number of values than the training data had columns.
    pub fn score_row(&self, row: &[f64]) -> Result<f64, DetectorError> {
        self.check_columns(row.len())?;
        Ok(self
            .trees
            .iter()
            .fold(self.base, |sum, tree| sum + tree.value(row)))
    }

    const fn check_columns(&self, found: usize) -> Result<(), DetectorError> {
        let expected = self.columns;
        if expected == found {
            Ok(())
        } else {
            Err(DetectorError::Columns { expected, found })
        }
    }

    fn score_into(&self, rows: Rows<'_>, scores: &mut [f64]) {
        for (piece, scores) in rows.pieces(BLOCK).zip(scores.chunks_mut(BLOCK)) {
            scores.fill(self.base);
            for tree in &self.trees {
                for (at, score) in scores.iter_mut().enumerate() {
                    *score += tree.value(piece.row(at));
                }
            }
        }
    }
}

/// The probability of log-odds.
pub(super) fn probability_of(margin: f64) -> f64 {
    1.0 / (1.0 + (-margin).exp())
}

impl Detector for BoostedTrees {
    fn columns(&self) -> usize {
        self.columns
    }

    fn score_parallel(
        &self,
        records: ArrayView2<'_, f64>,
        threads: NonZeroUsize,
    ) -> Result<Array1<f64>, DetectorError> {
        self.check_columns(records.ncols())?;
        let whole = records.as_standard_layout();
        let rows = Rows::new(whole.as_slice().unwrap_or_default(), self.columns).map_err(|_| {
            DetectorError::Shape {
                columns: self.columns,
            }
        })?;
        let scores = fill_rows(rows, threads, |rows, scores| self.score_into(rows, scores));
        Ok(scores.into())
    }
}

impl StoredDetector for BoostedTrees {
    const PART: &'static str = "boosted_trees";
}

impl<D: Data<Elem = f64>> PredictInplace<ArrayBase<D, Ix2>, Array1<bool>> for BoostedTrees {
    /// Says of each row whether it is rather an anomaly: a probability above one half.
    ///
    /// # Panics
    ///
    /// If the matrix has another number of columns than the training data, or the target another length: linfa's trait has
    /// no place for an error. [`Detector::score`] has.
    fn predict_inplace(&self, records: &ArrayBase<D, Ix2>, anomalies: &mut Array1<bool>) {
        match self.score(records.view()) {
            Ok(scores) => anomalies.assign(&scores.mapv(|score| score > 0.0)),
            Err(error) => panic!("{error}"),
        }
    }

    fn default_target(&self, records: &ArrayBase<D, Ix2>) -> Array1<bool> {
        Array1::from_elem(records.nrows(), false)
    }
}

impl TryFrom<Parts> for BoostedTrees {
    type Error = &'static str;

    fn try_from(parts: Parts) -> Result<Self, Self::Error> {
        let columns = usize::from(parts.columns);
        let sound = columns > 0 && parts.base.is_finite();
        if sound && parts.trees.iter().all(|tree| tree.is_sound(columns)) {
            Ok(Self {
                columns,
                base: parts.base,
                trees: parts.trees,
            })
        } else {
            Err("not a whole model: boosted_trees")
        }
    }
}

impl From<BoostedTrees> for Parts {
    fn from(model: BoostedTrees) -> Self {
        Self {
            columns: model.columns as u16,
            base: model.base,
            trees: model.trees,
        }
    }
}
