//! Detectors for tables of numbers: fitted without labels on ndarray views, as estimators of linfa.
//!
//! Every detector here is fitted by linfa's [`Fit`](linfa::traits::Fit), scores the rows of a matrix or view with
//! [`Detector::score`] (higher is more anomalous), and is kept in a [`ModelFile`](crate::model::ModelFile) by
//! [`StoredDetector`]. The same data, parameters and seed give the same model and the same scores, bit for bit, on any number of
//! threads. NaN and infinite values are refused with their place. The isolation forest, which takes them, is in
//! [`iforest`](crate::iforest).
//!
//! | detector | sees | parameters | model holds | a row costs |
//! |---|---|---|---|---|
//! | [`Hbos`] | rare single values | bins | a histogram a column | a look-up a column |
//! | [`Ecod`], [`Copod`] | extreme single values | none | all values, sorted | two searches a column |
//! | [`Loda`] | rare mixtures of a few columns | projections | a histogram a projection | `projections * sqrt(columns)` |
//! | [`Knn`] | rows far from all others | neighbours | all distinct rows | a search |
//! | [`Lof`] | rows in thin places beside dense ones | neighbours | all distinct rows | a search |
//! | [`Pca`] | broken correlations | none | a square matrix | `columns^2` |
//! | [`GaussianMixture`] | rows outside of ellipsoids | components | a matrix a component | `components * columns^2` |
//! | [`OneClassSvm`] | rows outside of the bulk, of any shape | nu, gamma | support vectors | a distance to each |
//! | [`ExtendedIsolationForest`] | rows that random cuts soon part | trees | trees of 256 rows | `trees * 8 * cut columns` |
//! | [`NearestSample`] | rows far from large groups | samples | 400 rows | 400 distances |
//! | [`Ensemble`] | what two of three global views see | none | its members | the sum of its members |
//! | [`HalfSpaceTrees`] | rows where few came lately | trees, window | boxes' masses | `trees * height` |
//! | [`RandomCutForest`] | rows that would disturb the last ones | trees, window | the last rows, trees | `trees * depth * columns` |
//! | [`AutoencoderEnsemble`] | rows unlike those trained on | group, rows | weights | `1.5 * columns * group` |
//! | [`Stacking`] | what several detectors say together | none | three numbers a detector | a logarithm a detector |
//! | [`Novelty`] | rows unlike honest ones | none | all distinct rows | a search, and `columns^2` |
//!
//! Which one? Without knowledge of the data, [`Ensemble`], which scales columns itself. Where training rows are known to be honest,
//! [`Novelty`]. With many rows and little time, [`Hbos`] or
//! [`Loda`]. Each page says what its detector assumes, when it fails and what it costs; `docs/detectors.md` in the repository has
//! measured quality and speed beside established implementations.
//!
//! Distances and densities depend on the units of columns: scale columns alike before fitting [`Hbos`], [`Loda`], [`Knn`],
//! [`Lof`], [`OneClassSvm`] and [`NearestSample`]. The others do so themselves, or see only the order of values.
//!
//! ```
//! use amoskys_analysis::detectors::{Detector, DetectorError, Ensemble, Knn, FitScore, StoredDetector};
//! use amoskys_analysis::model::{ModelFile, Origin};
//! use linfa::prelude::*;
//! use ndarray::{Array2, array};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A ring, and one row in its empty middle.
//! let ring = Array2::from_shape_fn((200, 2), |(row, column)| {
//!     let angle = row as f64 * 0.1;
//!     if column == 0 { angle.cos() } else { angle.sin() }
//! });
//! let knn = Knn::params().neighbours(3).fit(&DatasetBase::from(ring.clone()))?;
//! let scores = knn.score(array![[0.0, 0.0], [1.0, 0.0]].view())?;
//! assert!(scores[0] > scores[1]);
//!
//! // The scores of the training rows themselves, each without itself.
//! let (_, scores) = Knn::params().fit_score(ring.view())?;
//! assert!(scores.iter().all(|score| *score < 0.1));
//!
//! // Kept in a model file.
//! # let schema = amoskys_core::FeatureSchema::new("ring", Vec::new());
//! let mut file = ModelFile::new("ring", "1", schema, Origin::default());
//! knn.store(&mut file)?;
//! assert_eq!(Knn::load(&ModelFile::from_bytes(&file.to_bytes()?)?)?, knn);
//!
//! // What is missing is for the caller to fill in.
//! let refused = Ensemble::params().fit(&DatasetBase::from(array![[1.0], [f64::NAN]]));
//! assert!(matches!(refused, Err(DetectorError::NotFinite { row: 1, column: 0, .. })));
//! # Ok(())
//! # }
//! ```
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts and numbers of rows are bounded far below where a conversion could lose anything that matters, and \
              floats become places only where they were checked or saturate"
)]

mod autoencoder;
mod autoencoders;
mod copod;
mod cut_forest;
mod cut_tree;
mod ecdf;
mod ecod;
mod eif;
mod ensemble;
mod error;
pub(crate) mod estimator;
mod half_space;
mod hbos;
mod knn;
mod loda;
mod lof;
mod mixture;
mod neighbours;
mod novelty;
mod one_class;
pub(crate) mod parallel;
mod pca;
mod samples;
mod scaling;
mod stacking;
mod streaming;
mod symmetric;

pub use self::autoencoders::{AutoencoderEnsemble, AutoencoderEnsembleParams};
pub use self::copod::{Copod, CopodParams};
pub use self::cut_forest::{RandomCutForest, RandomCutForestParams};
pub use self::ecod::{Ecod, EcodParams};
pub use self::eif::{ExtendedIsolationForest, ExtendedIsolationForestParams};
pub use self::ensemble::{Ensemble, EnsembleParams};
pub use self::error::DetectorError;
pub use self::estimator::{Detector, FitScore, StoredDetector};
pub use self::half_space::{HalfSpaceTrees, HalfSpaceTreesParams};
pub use self::hbos::{Hbos, HbosParams};
pub use self::knn::{Knn, KnnDistance, KnnParams};
pub use self::loda::{Loda, LodaParams};
pub use self::lof::{Lof, LofParams};
pub use self::mixture::{GaussianMixture, GaussianMixtureParams};
pub use self::novelty::{Novelty, NoveltyParams};
pub use self::one_class::{OneClassSvm, OneClassSvmParams};
pub use self::pca::{Pca, PcaParams, PcaScore};
pub use self::samples::{NearestSample, NearestSampleParams};
pub use self::stacking::{Stacking, StackingParams};
pub use self::streaming::StreamingDetector;
