//! One-class support vector machine.

use std::num::NonZeroUsize;

use linfa::DatasetBase;
use linfa::dataset::Pr;
use linfa::traits::Fit as _;
use linfa_svm::Svm;
use ndarray::{Array1, ArrayView2};
use serde::{Deserialize, Serialize};

use super::DetectorError;
use super::estimator::{Judge, Learn, check_range, detector};
use super::neighbours::squared_distance;
use crate::iforest::Rows;

/// The products of all pairs of rows are held at once: 800 MB at this number.
const MOST_ROWS: usize = 10_000;

/// Parameters of [`OneClassSvm`]. Ranges are checked when fitting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OneClassSvmParams {
    nu: f64,
    gamma: Option<f64>,
    tolerance: f64,
    threads: NonZeroUsize,
}

impl OneClassSvmParams {
    /// The defaults, those of PyOD: nu 0.5, gamma 1 / columns, tolerance 0.001; one thread.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            nu: 0.5,
            gamma: None,
            tolerance: 1e-3,
            threads: NonZeroUsize::MIN,
        }
    }

    /// Share of the training rows, above 0 to 1, that may lie outside at most, and that are support vectors at least. Default
    /// 0.5. The cost of a score rises with it.
    #[must_use]
    pub const fn nu(mut self, nu: f64) -> Self {
        self.nu = nu;
        self
    }

    /// How fast likeness falls with distance, exp(-gamma · distance²), 1e-12 to 1e12. Default 1 / columns, which suits columns
    /// scaled to 0..1.
    #[must_use]
    pub const fn gamma(mut self, gamma: f64) -> Self {
        self.gamma = Some(gamma);
        self
    }

    /// By how much two rows may break the conditions of the optimum, 1e-9 to 1. Default 0.001. Lower takes longer.
    #[must_use]
    pub const fn tolerance(mut self, tolerance: f64) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// How many threads score training rows; fitting takes one. Default 1. No result depends on it.
    #[must_use]
    pub const fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = threads;
        self
    }
}

/// One-class support vector machine with a Gaussian kernel (Schölkopf, Platt, Shawe-Taylor, Smola and Williamson, 2001), fitted by
/// `linfa-svm`.
///
/// The score is how far a row lies beyond the surface around the bulk of the training rows, in the space of the kernel; below 0
/// inside of it.
///
/// - **Assumes** columns on one scale, and a width of the kernel (gamma) that fits the distances between rows.
/// - **Fails** where anomalies are a group of their own, which becomes part of the bulk, and in many columns, where all rows
///   are about as like to each other. On the 20 tables of `docs/detectors.md` it is behind most other detectors.
/// - **Costs** the square of the number of rows to fit, in time and memory (8 bytes a pair): more than 10 000 are refused with
///   [`DetectorError::TooMany`]; draw a sample. A row is compared with every support vector, at least `nu` of the training rows,
///   which the model holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct OneClassSvm {
    columns: u16,
    gamma: f64,
    /// What the likenesses of a row on the surface add up to.
    offset: f64,
    /// What each support vector counts.
    weights: Vec<f64>,
    /// The support vectors, row by row.
    vectors: Vec<f64>,
}

detector!(OneClassSvmParams, OneClassSvm, "one_class_svm");

impl OneClassSvm {
    /// Parameters to fit one with.
    #[must_use]
    pub const fn params() -> OneClassSvmParams {
        OneClassSvmParams::new()
    }

    /// Number of training rows that the model is made of.
    #[must_use]
    pub const fn support_vectors(&self) -> usize {
        self.weights.len()
    }
}

impl Learn for OneClassSvmParams {
    type Model = OneClassSvm;

    fn check(&self) -> Result<(), DetectorError> {
        check_range("nu", self.nu, f64::MIN_POSITIVE..=1.0, "above 0 to 1")?;
        check_range("gamma", self.gamma.unwrap_or(1.0), 1e-12..=1e12, "1e-12 to 1e12")?;
        check_range("tolerance", self.tolerance, 1e-9..=1.0, "1e-9 to 1")
    }

    fn threads(&self) -> NonZeroUsize {
        self.threads
    }

    fn learn(&self, rows: Rows<'_>) -> Result<OneClassSvm, DetectorError> {
        if rows.len() > MOST_ROWS {
            return Err(DetectorError::TooMany {
                most: MOST_ROWS,
                rows: rows.len(),
            });
        }
        let columns = rows.columns();
        let gamma = self.gamma.unwrap_or(1.0 / columns as f64);
        let records = ArrayView2::from_shape((rows.len(), columns), rows.values())
            .map_err(|_| DetectorError::Shape { columns })?;
        let unlabelled = Array1::from_elem(rows.len(), ());
        // Without shrinking, which would return weights in another order than that of the rows.
        let fitted = Svm::<f64, Pr>::params()
            .nu_weight(self.nu)
            .gaussian_kernel(1.0 / gamma)
            .eps(self.tolerance)
            .shrinking(false)
            .fit(&DatasetBase::new(records, unlabelled.view()))
            .map_err(|source| DetectorError::Part {
                part: "the support vector machine",
                source: Box::new(source),
            })?;
        let (mut weights, mut vectors) = (Vec::new(), Vec::new());
        for (at, &weight) in fitted.alpha.iter().enumerate() {
            if weight > 0.0 {
                weights.push(weight);
                vectors.extend_from_slice(rows.row(at));
            }
        }
        Ok(OneClassSvm {
            columns: columns as u16,
            gamma,
            offset: fitted.rho,
            weights,
            vectors,
        })
    }
}

impl Judge for OneClassSvm {
    fn width(&self) -> usize {
        usize::from(self.columns)
    }

    fn is_sound(&self) -> bool {
        let finite = |values: &[f64]| values.iter().all(|value| value.is_finite());
        self.columns > 0
            && self.gamma > 0.0
            && self.gamma.is_finite()
            && self.offset.is_finite()
            && Some(self.vectors.len()) == self.weights.len().checked_mul(self.width())
            && finite(&self.weights)
            && finite(&self.vectors)
    }

    fn judge_into(&self, rows: Rows<'_>, scores: &mut [f64]) {
        let columns = self.width();
        for (at, score) in scores.iter_mut().enumerate() {
            let row = rows.row(at);
            let vectors = self.vectors.chunks_exact(columns);
            let like = vectors
                .zip(&self.weights)
                .map(|(vector, weight)| weight * (-self.gamma * squared_distance(row, vector)).exp());
            *score = self.offset - like.sum::<f64>();
        }
    }
}
