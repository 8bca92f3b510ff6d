use std::num::NonZeroUsize;

use linfa::traits::PredictInplace;
use ndarray::{Array1, Array2, ArrayBase, ArrayView2, Data, Ix2};
use serde::{Deserialize, Serialize};

use super::classes::BoostedClassesParams;
use super::params::BoostedTreesParams;
use super::tree::Tree;
use crate::detectors::DetectorError;
use crate::detectors::parallel::in_parts;
use crate::model::{ModelFile, ModelFileError};

/// Name of the part of a model file.
const PART: &str = "boosted_classes";

/// A fitted classifier of several classes: which family an attack is of, say. The sum of a class's trees, set against those of the
/// others (softmax), gives its probability.
///
/// As [`BoostedTrees`](super::BoostedTrees), it takes missing (NaN) and infinite values, assumes that what comes resembles what was
/// labelled, and fails on classes that no label knows: these get the class that they resemble.
///
/// ```
/// use amoskys_analysis::boost::BoostedClasses;
/// use linfa::prelude::*;
/// use ndarray::{Array1, Array2, array};
///
/// # fn main() -> Result<(), amoskys_analysis::detectors::DetectorError> {
/// let rows = Array2::from_shape_fn((600, 2), |(row, column)| (if column == 0 { row % 30 } else { row / 30 }) as f64);
/// let classes = rows.outer_iter().map(|row| (row[0] / 10.0) as usize).collect::<Array1<usize>>();
/// let model = BoostedClasses::params().fit(&Dataset::new(rows, classes))?;
/// assert_eq!(model.predict(&array![[5.0, 3.0], [15.0, 3.0], [25.0, 3.0]]), array![0, 1, 2]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct BoostedClasses {
    columns: usize,
    bases: Vec<f64>,
    /// Of each round, a tree for each class.
    pub(super) rounds: Vec<Vec<Tree>>,
}

#[derive(Serialize, Deserialize)]
struct Parts {
    columns: u16,
    bases: Vec<f64>,
    rounds: Vec<Vec<Tree>>,
}

impl BoostedClasses {
    /// Parameters to fit one with: the defaults of [`BoostedTreesParams`], 100 rounds.
    #[must_use]
    pub const fn params() -> BoostedClassesParams {
        BoostedTreesParams::new().classes()
    }

    pub(super) const fn new(columns: usize, bases: Vec<f64>) -> Self {
        Self {
            columns,
            bases,
            rounds: Vec::new(),
        }
    }

    pub(super) fn bases(&self) -> &[f64] {
        &self.bases
    }

    /// Number of classes.
    #[must_use]
    pub const fn classes(&self) -> usize {
        self.bases.len()
    }

    /// Number of columns of the training data.
    #[must_use]
    pub const fn columns(&self) -> usize {
        self.columns
    }

    /// Number of rounds: fewer than asked for if fitting ended early.
    #[must_use]
    pub const fn rounds(&self) -> usize {
        self.rounds.len()
    }

    /// The probability of each row that it is of each class: a row for each row, a column for each class.
    ///
    /// # Errors
    ///
    /// If the rows have another number of columns than the training data.
    pub fn probabilities(&self, records: ArrayView2<'_, f64>) -> Result<Array2<f64>, DetectorError> {
        self.probabilities_parallel(records, NonZeroUsize::MIN)
    }

    /// The same on several threads. No result depends on their number.
    ///
    /// # Errors
    ///
    /// As [`probabilities`](Self::probabilities).
    pub fn probabilities_parallel(
        &self,
        records: ArrayView2<'_, f64>,
        threads: NonZeroUsize,
    ) -> Result<Array2<f64>, DetectorError> {
        let (expected, found) = (self.columns, records.ncols());
        if expected != found {
            return Err(DetectorError::Columns { expected, found });
        }
        let whole = records.as_standard_layout();
        let values = whole.as_slice().unwrap_or_default();
        let shares = in_parts(records.nrows(), threads, |part| {
            let mut shares = Vec::with_capacity(part.len() * self.classes());
            for at in part {
                let row = &values[at * self.columns..(at + 1) * self.columns];
                let first = shares.len();
                shares.extend_from_slice(&self.bases);
                for round in &self.rounds {
                    for (sum, tree) in shares[first..].iter_mut().zip(round) {
                        *sum += tree.value(row);
                    }
                }
                shares_of(&mut shares[first..]);
            }
            shares
        });
        let shape = (records.nrows(), self.classes());
        Array2::from_shape_vec(shape, shares).map_err(|_| DetectorError::Shape {
            columns: self.columns,
        })
    }

    /// Puts it into a model file, where [`load`](Self::load) finds it.
    ///
    /// # Errors
    ///
    /// If it cannot be encoded.
    pub fn store(&self, file: &mut ModelFile) -> Result<(), ModelFileError> {
        file.put(PART, self)
    }

    /// Reads it from a model file. It gives the same probabilities as the stored one, bit for bit.
    ///
    /// # Errors
    ///
    /// [`ModelFileError::Missing`] if the file has none, [`ModelFileError::Part`] if it is not whole.
    pub fn load(file: &ModelFile) -> Result<Self, ModelFileError> {
        file.part(PART)?.ok_or(ModelFileError::Missing { part: PART })
    }
}

/// Turns logarithms of odds into shares that add up to one.
pub(super) fn shares_of(odds: &mut [f64]) {
    let most = odds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for odds in odds.iter_mut() {
        *odds = (*odds - most).exp();
        sum += *odds;
    }
    odds.iter_mut().for_each(|share| *share /= sum);
}

impl<D: Data<Elem = f64>> PredictInplace<ArrayBase<D, Ix2>, Array1<usize>> for BoostedClasses {
    /// The most probable class of each row; of equals, the first.
    ///
    /// # Panics
    ///
    /// If the matrix has another number of columns than the training data, or the target another length: linfa's trait has
    /// no place for an error. [`probabilities`](BoostedClasses::probabilities) has.
    fn predict_inplace(&self, records: &ArrayBase<D, Ix2>, classes: &mut Array1<usize>) {
        let probabilities = match self.probabilities(records.view()) {
            Ok(probabilities) => probabilities,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(classes.len(), probabilities.nrows(), "a place for each row");
        for (class, shares) in classes.iter_mut().zip(probabilities.outer_iter()) {
            let better = |best: usize, at: usize| if shares[at] > shares[best] { at } else { best };
            *class = (0..shares.len()).reduce(better).unwrap_or(0);
        }
    }

    fn default_target(&self, records: &ArrayBase<D, Ix2>) -> Array1<usize> {
        Array1::zeros(records.nrows())
    }
}

impl TryFrom<Parts> for BoostedClasses {
    type Error = &'static str;

    fn try_from(parts: Parts) -> Result<Self, Self::Error> {
        let columns = usize::from(parts.columns);
        let classes = parts.bases.len();
        let sound = columns > 0
            && (2..=256).contains(&classes)
            && parts.bases.iter().all(|base| base.is_finite())
            && parts
                .rounds
                .iter()
                .all(|round| round.len() == classes && round.iter().all(|tree| tree.is_sound(columns)));
        if sound {
            Ok(Self {
                columns,
                bases: parts.bases,
                rounds: parts.rounds,
            })
        } else {
            Err("not a whole model: boosted_classes")
        }
    }
}

impl From<BoostedClasses> for Parts {
    fn from(model: BoostedClasses) -> Self {
        Self {
            columns: model.columns as u16,
            bases: model.bases,
            rounds: model.rounds,
        }
    }
}
