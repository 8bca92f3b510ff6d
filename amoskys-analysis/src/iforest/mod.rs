//! Isolation forest: anomalies are few and different, so random cuts soon part them from the rest.
//!
//! # Idea
//!
//! A tree cuts a small random sample by random thresholds of random features until each row is alone. A row that is
//! unlike the others is alone after few cuts. The score is `2^(-h / c)`, where h is the row's mean depth over all trees
//! and c the mean depth in a random tree of the same size (Liu, Ting and Zhou, 2008).
//!
//! # When it fails
//!
//! Anomalies that are unusual only in how features go together, each within its usual range; local anomalies near a
//! dense group while a sparse one is elsewhere; many irrelevant features. Scaling features one by one hardly matters:
//! only their order is seen, and how thresholds spread between values.
//!
//! # Cost
//!
//! Fitting depends on trees and sample size alone, not on the number of rows. Scoring walks each row through each tree,
//! about 8 steps for the usual 256 rows: some 0.3 to 0.5 µs a row on one core for 100 trees (measured, 10 columns).
//!
//! # Missing values
//!
//! NaN counts as the training median of its feature, an infinite value as beyond all others.
//!
//! ```
//! use amoskys_analysis::iforest::{IsolationForest, Rows};
//!
//! # fn main() -> Result<(), amoskys_analysis::iforest::IsolationForestError> {
//! // A crowd, and one who stands apart.
//! let mut values: Vec<f64> = (0..200).flat_map(|n| [f64::from(n % 17), f64::from(n % 13)]).collect();
//! values.extend([60.0, -5.0]);
//! let rows = Rows::new(&values, 2)?;
//!
//! let forest = IsolationForest::params().trees(100).seed(7).validate()?.fit_rows(rows)?;
//! let scores = forest.score(rows)?;
//! let (crowd, apart) = scores.split_at(200);
//! assert!(crowd.iter().all(|score| *score < apart[0]));
//!
//! // Which feature made it so?
//! let why = forest.explain(&[60.0, 3.0], 1)?;
//! assert_eq!(why[0].feature, 0);
//! # Ok(())
//! # }
//! ```
#![cfg_attr(
    feature = "linfa",
    doc = "
As an estimator of linfa:

```
use amoskys_analysis::iforest::IsolationForest;
use linfa::prelude::*;
use ndarray::array;

# fn main() -> Result<(), amoskys_analysis::iforest::IsolationForestError> {
let dataset = DatasetBase::from(array![[0.0], [0.1], [0.2], [0.1], [9.0]]);
let forest = IsolationForest::params().seed(42).fit(&dataset)?;
let scores = forest.predict(&dataset);
assert!(scores[4] > scores[1]);
# Ok(())
# }
```"
)]
// Indices and counts here are bounded by the parameters' ranges (trees, rows of a sample, columns), far below where a
// conversion could lose anything that matters.
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]

mod error;
mod explain;
mod forest;
#[cfg(feature = "linfa")]
mod linfa_impls;
mod params;
pub(crate) mod random;
mod row;
mod rows;
mod scale;
mod score;
mod tree;

pub use self::error::IsolationForestError;
pub use self::explain::Contribution;
pub use self::forest::IsolationForest;
pub use self::params::{IsolationForestParams, IsolationForestValidParams};
pub use self::rows::Rows;
#[cfg(feature = "linfa")]
pub(crate) use self::tree::average_path;
