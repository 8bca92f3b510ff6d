//! Gradient-boosted trees: the detector for data with labels.
//!
//! [`BoostedTrees`] learns from rows of which it is known whether they are anomalies: each tree corrects what those before it got
//! wrong, by the gradient of the logistic loss (Friedman, 2001), on histograms of binned columns and leaf by leaf (Ke et al.,
//! 2017). Parameters and their defaults are those of scikit-learn's `HistGradientBoostingClassifier`; `docs/detectors.md` in the
//! repository has measured quality and speed beside it.
//!
//! - **Assumes** that what comes resembles what was labelled, and that the labels are right.
//! - **Fails** on attacks of a kind that no label knows: they score as the honest rows they resemble. Put a detector that needs no
//!   labels beside it.
//! - **Costs** to fit: a pass over the binned table for each tree and, on the average, some more; a byte a value, and 16 bytes for
//!   each bin of each column and leaf. A row costs a short walk down each tree. The model holds some kilobytes a tree at most.
//!
//! [`BoostedClasses`] tells several classes apart, such as families of attacks, with a tree for each class and round.
//!
//! Missing values (NaN) are a value of their own, for which each split learns a direction; a column without them in training sends
//! them where most rows go. Infinite values are the largest and smallest. The same data, parameters and seed give the same
//! model, bit for bit, on any number of threads: sums are made of whole numbers, whose order does not matter.
//!
//! ```
//! use amoskys_analysis::boost::BoostedTrees;
//! use amoskys_analysis::detectors::Detector as _;
//! use linfa::prelude::*;
//! use ndarray::{Array1, Array2, array};
//!
//! # fn main() -> Result<(), amoskys_analysis::detectors::DetectorError> {
//! // Anomalies are where one column is high and the other is not.
//! let rows = Array2::from_shape_fn((400, 2), |(row, column)| (if column == 0 { row % 20 } else { row / 20 }) as f64);
//! let labels = rows.outer_iter().map(|row| row[0] > 9.0 && row[1] < 10.0).collect::<Array1<bool>>();
//! let model = BoostedTrees::params().fit(&Dataset::new(rows, labels))?;
//!
//! let probabilities = model.probabilities(array![[15.0, 3.0], [15.0, 15.0]].view())?;
//! assert!(probabilities[0] > 0.9 && probabilities[1] < 0.1);
//! // As a detector, its scores are the log-odds.
//! assert!(model.score(array![[15.0, 3.0]].view())?[0] > 2.0);
//! # Ok(())
//! # }
//! ```
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rows, columns, bins and leaves are bounded far below where a conversion could lose anything"
)]

mod bins;
mod class_model;
mod classes;
mod fit;
mod grow;
mod histogram;
mod model;
mod params;
mod split;
mod tree;

pub use self::class_model::BoostedClasses;
pub use self::classes::BoostedClassesParams;
pub use self::model::BoostedTrees;
pub use self::params::{BoostedTreesParams, EarlyStopping};
