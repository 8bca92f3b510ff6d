//! Explanations: which features make a row anomalous to a detector, whichever it is.
//!
//! A feature is named if the row's score falls when the feature takes its training median. [`Explainer`] looks for the few features
//! that lower it most together: one by one, and also the other way round, by what raises the score of a wholly usual row, for of
//! features of which each would do none shows when it alone is taken away. So an explanation is true to the model by
//! construction; what the model itself learned, it cannot mend.
//!
//! - **Assumes** that a row with features at their medians means something to the model: nearly all detectors see it as usual.
//! - **Fails** where only the joint return of more features than are named lowers the score: then
//!   [`without`](Explanation::without) stays near [`score`](Explanation::score), which tells so.
//! - **Costs** at most twice as many scores as there are features that are not at their median, and 80 more.
//!
//! ```
//! use amoskys_analysis::detectors::Knn;
//! use amoskys_analysis::explain::Explainer;
//! use linfa::prelude::*;
//! use ndarray::Array2;
//!
//! # fn main() -> Result<(), amoskys_analysis::detectors::DetectorError> {
//! let rows = Array2::from_shape_fn((300, 4), |(row, column)| ((row * (column + 3)) % 17) as f64);
//! let explainer = Explainer::fit(rows.view())?;
//! let detector = Knn::params().fit(&DatasetBase::from(rows))?;
//! let explanation = explainer.explain(&detector, &[8.0, 90.0, 8.0, 8.0])?;
//! assert_eq!(explanation.named[0].feature, 1);
//! assert!(explanation.without < explanation.score);
//! # Ok(())
//! # }
//! ```

use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::detectors::{Detector, DetectorError};
pub use crate::iforest::Contribution;

/// Features named by default.
const MOST: usize = 5;
/// So many of the features that matter most alone are tried together with others.
const TRIED: usize = 16;
/// Values of the rows scored at once.
const BATCH: usize = 1 << 16;

/// Knows what is usual, and explains the scores of any detector by it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct Explainer {
    medians: Vec<f64>,
    most: usize,
}

#[derive(Serialize, Deserialize)]
struct Parts {
    medians: Vec<f64>,
    most: u32,
}

/// Why a row has its score.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The score of the row.
    pub score: f64,
    /// Its score with all named features at their medians.
    pub without: f64,
    /// The features that matter most, the strongest first. Their drops add up to the difference of the two scores.
    pub named: Vec<Contribution>,
}

impl Explainer {
    /// Takes the medians of the columns; of missing (NaN) values it takes no notice, and of a column without any other it takes
    /// zero. Names five features at most.
    ///
    /// # Errors
    ///
    /// [`DetectorError::Shape`] if there are no columns, [`DetectorError::TooFew`] if there are no rows.
    pub fn fit(records: ArrayView2<'_, f64>) -> Result<Self, DetectorError> {
        let columns = records.ncols();
        if columns == 0 {
            return Err(DetectorError::Shape { columns });
        }
        if records.nrows() == 0 {
            return Err(DetectorError::TooFew { needed: 1, rows: 0 });
        }
        let median = |column: ndarray::ArrayView1<'_, f64>| {
            let mut values: Vec<f64> = column.iter().copied().filter(|value| value.is_finite()).collect();
            let middle = values.len() / 2;
            if values.is_empty() {
                return 0.0;
            }
            // A value that occurs, also of an even number: a mean of two could be none that ever does.
            *values.select_nth_unstable_by(middle, f64::total_cmp).1
        };
        Ok(Self {
            medians: records.columns().into_iter().map(median).collect(),
            most: MOST,
        })
    }

    /// How many features are named at most, 1 to 16; what is beyond is drawn in. Default 5.
    #[must_use]
    pub fn most(mut self, most: usize) -> Self {
        self.most = most.clamp(1, TRIED);
        self
    }

    /// The training medians.
    #[must_use]
    pub fn medians(&self) -> &[f64] {
        &self.medians
    }

    /// Explains the score of a row. The same row, detector and medians give the same explanation.
    ///
    /// # Errors
    ///
    /// If the row or the detector has another number of columns than there are medians, or the detector refuses the row.
    pub fn explain(
        &self,
        detector: &(impl Detector + ?Sized),
        row: &[f64],
    ) -> Result<Explanation, DetectorError> {
        let expected = self.medians.len();
        for found in [row.len(), detector.columns()] {
            if found != expected {
                return Err(DetectorError::Columns { expected, found });
            }
        }
        let search = Search {
            detector,
            row,
            medians: &self.medians,
            most: self.most,
        };
        let all: Vec<usize> = (0..row.len()).filter(|&at| row[at] != self.medians[at]).collect();
        let score = search.score(1, |_| [])?[0];
        let one_by_one = search.greedy(all.clone(), score, Goal::Lower)?;
        // In the order in which they lower the score most, though each alone may not.
        let other_way = search.greedy(search.raising(&all)?, score, Goal::LowerAll)?;
        let drop = |named: &[Contribution]| named.iter().map(|named| named.drop).sum::<f64>();
        let named = if drop(&other_way) > drop(&one_by_one) {
            other_way
        } else {
            one_by_one
        };
        Ok(Explanation {
            score,
            without: score - drop(&named),
            named,
        })
    }
}

/// What a greedy search is after.
#[derive(Clone, Copy, PartialEq)]
enum Goal {
    /// Features whose medians lower the row's score; ends when none does.
    Lower,
    /// The same, but all of them.
    LowerAll,
}

struct Search<'a, D: Detector + ?Sized> {
    detector: &'a D,
    row: &'a [f64],
    medians: &'a [f64],
    most: usize,
}

impl<D: Detector + ?Sized> Search<'_, D> {
    /// Picks features one after the other, each the best beside those picked.
    fn greedy(
        &self,
        mut features: Vec<usize>,
        start: f64,
        goal: Goal,
    ) -> Result<Vec<Contribution>, DetectorError> {
        let mut picked: Vec<usize> = Vec::new();
        let (mut named, mut last) = (Vec::new(), start);
        while named.len() < self.most && !features.is_empty() {
            let scores = self.score(features.len(), |at| picked.iter().copied().chain([features[at]]))?;
            let mut order: Vec<(f64, usize)> = scores.into_iter().zip(features).collect();
            order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let (lowest, feature) = order[0];
            if lowest >= last && goal == Goal::Lower {
                break;
            }
            picked.push(feature);
            named.push(Contribution {
                feature,
                drop: last - lowest,
            });
            last = lowest;
            features = order.into_iter().skip(1).take(TRIED).map(|(_, at)| at).collect();
        }
        Ok(named)
    }

    /// The features whose values raise the score of a wholly usual row most, each alone.
    fn raising(&self, features: &[usize]) -> Result<Vec<usize>, DetectorError> {
        let others = |at: usize| {
            let kept = at.checked_sub(1).map(|at| features[at]);
            features
                .iter()
                .copied()
                .filter(move |&feature| Some(feature) != kept)
        };
        // The first has none of them.
        let scores = self.score(features.len() + 1, others)?;
        let mut order: Vec<(f64, usize)> = scores[1..]
            .iter()
            .copied()
            .zip(features.iter().copied())
            .collect();
        order.retain(|(score, _)| *score > scores[0]);
        order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        Ok(order
            .into_iter()
            .take(self.most)
            .map(|(_, feature)| feature)
            .collect())
    }

    /// The score of the row with features at their medians, for each of so many sets of them.
    fn score<S: IntoIterator<Item = usize>>(
        &self,
        count: usize,
        set: impl Fn(usize) -> S,
    ) -> Result<Vec<f64>, DetectorError> {
        let mut scores = Vec::with_capacity(count);
        let batch = (BATCH / self.row.len()).max(1);
        while scores.len() < count {
            let height = batch.min(count - scores.len());
            let mut rows = Array2::zeros((height, self.row.len()));
            for (at, mut row) in (scores.len()..).zip(rows.outer_iter_mut()) {
                for (to, &value) in row.iter_mut().zip(self.row) {
                    *to = value;
                }
                for feature in set(at) {
                    row[feature] = self.medians[feature];
                }
            }
            scores.extend(self.detector.score(rows.view())?);
        }
        Ok(scores)
    }
}

impl TryFrom<Parts> for Explainer {
    type Error = &'static str;

    fn try_from(Parts { medians, most }: Parts) -> Result<Self, Self::Error> {
        let most = most as usize;
        let sound = !medians.is_empty() && medians.iter().all(|median| median.is_finite());
        if sound && (1..=TRIED).contains(&most) {
            Ok(Self { medians, most })
        } else {
            Err("not medians of a table")
        }
    }
}

impl From<Explainer> for Parts {
    fn from(explainer: Explainer) -> Self {
        Self {
            most: u32::try_from(explainer.most).unwrap_or(u32::MAX),
            medians: explainer.medians,
        }
    }
}
