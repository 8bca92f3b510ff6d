//! Mixture of normal distributions.

use std::num::NonZeroUsize;

use linfa::traits::{Fit as _, Predict as _};
use linfa::{DatasetBase, ParamGuard as _};
use linfa_clustering::KMeans;
use linfa_linalg::cholesky::Cholesky as _;
use linfa_linalg::triangular::{SolveTriangular as _, UPLO};
use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2};
use rand_xoshiro::Xoshiro256Plus;
use rand_xoshiro::rand_core::SeedableRng as _;
use serde::{Deserialize, Serialize};

use super::DetectorError;
use super::estimator::{Judge, Learn, check_range, detector};
use crate::iforest::Rows;

/// Rows that are multiplied together.
const BLOCK: usize = 256;
/// Entries of all covariances together: 128 MB.
const MOST_ENTRIES: usize = 1 << 24;
/// Added to the variance of every direction, in units of the columns' variances.
const LEAST_VARIANCE: f64 = 1e-6;
/// The mean log-density of the training rows that still counts as a gain, and steps at most.
const LEAST_GAIN: f64 = 1e-3;
const MOST_STEPS: usize = 100;
/// A component of fewer rows is dropped.
const LEAST_ROWS: f64 = 1e-6;
/// Farther from its mean than so many standard deviations a value counts as that far.
const FARTHEST: f64 = 1e100;

/// Parameters of [`GaussianMixture`]. Ranges are checked when fitting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GaussianMixtureParams {
    components: usize,
    seed: u64,
    threads: NonZeroUsize,
}

impl GaussianMixtureParams {
    /// The defaults: one component, as PyOD's, seed 0, one thread.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            components: 1,
            seed: 0,
            threads: NonZeroUsize::MIN,
        }
    }

    /// Number of normal distributions at most, 1 to 64. Default 1.
    #[must_use]
    pub const fn components(mut self, components: usize) -> Self {
        self.components = components;
        self
    }

    /// Seed of the draws that begin k-means. Default 0. With one component nothing is drawn.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How many threads score training rows. Default 1. No result depends on it. With more than one component, k-means takes
    /// the threads of rayon's pool, and its result does not depend on their number either.
    #[must_use]
    pub const fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = threads;
        self
    }
}

/// A mixture of normal distributions with full covariances, by expectation and maximisation (Dempster, Laird and Rubin, 1977) from
/// the groups that k-means of `linfa-clustering` finds.
///
/// The score is the negative logarithm of the density at a row. With several components each covariance is drawn towards that of
/// all rows, divided by components^(2 / columns), as by as many rows as there are columns (Fraley and Raftery, 2007): a component
/// of a few anomalies does not become a spike that makes them look usual.
///
/// - **Assumes** groups of rows, each shaped about like an ellipsoid.
/// - **Fails** on other shapes, with fewer rows than columns, and where anomalies are a group large enough for a component.
/// - **Costs** `components * columns^2` a row, a hundred times over at most to fit, and `components * columns^3` each time. The
///   model holds a matrix of that width for each component; more than 16 million entries together are refused with
///   [`DetectorError::TooWide`].
///
/// The mixture of `linfa-clustering` itself adds densities, not their logarithms, and gives up where all underflow or one
/// overflows: on two of the 20 tables of up to 10 000 rows of `docs/detectors.md`, those with far rows and with many columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct GaussianMixture {
    /// Mean and inverse standard deviation of each column.
    scales: Vec<(f64, f64)>,
    components: Vec<Component>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Component {
    /// The logarithm of its share of the rows and of the height of its density.
    height: f64,
    mean: Vec<f64>,
    /// Brings a difference from the mean, as a row, to unit variance.
    factor: Vec<f64>,
}

detector!(GaussianMixtureParams, GaussianMixture, "gaussian_mixture");

impl GaussianMixture {
    /// Parameters to fit one with.
    #[must_use]
    pub const fn params() -> GaussianMixtureParams {
        GaussianMixtureParams::new()
    }

    /// Number of components: fewer than asked for if some had nothing to hold.
    #[must_use]
    pub const fn components(&self) -> usize {
        self.components.len()
    }

    fn standardise(&self, rows: Rows<'_>, block: &mut Vec<f64>) {
        block.clear();
        for at in 0..rows.len() {
            let scaled = rows.row(at).iter().zip(&self.scales);
            block.extend(
                scaled.map(|(value, (mean, factor))| ((value - mean) * factor).clamp(-FARTHEST, FARTHEST)),
            );
        }
    }

    /// The logarithm of what each component adds to the density at the standardised rows: for each row, that of each component.
    /// There are always as many rows in a block, so that what a row gets does not depend on how many come with it.
    fn densities(&self, block: &[f64], densities: &mut [f64]) {
        let (columns, count) = (self.scales.len(), self.components.len());
        let mut apart = vec![0.0; block.len()];
        let mut whitened = Array2::<f64>::zeros((BLOCK, columns));
        for (number, component) in self.components.iter().enumerate() {
            for (apart, row) in apart.chunks_exact_mut(columns).zip(block.chunks_exact(columns)) {
                for ((apart, value), mean) in apart.iter_mut().zip(row).zip(&component.mean) {
                    *apart = value - mean;
                }
            }
            if let (Ok(apart), Ok(factor)) = (
                ArrayView2::from_shape((BLOCK, columns), &apart),
                ArrayView2::from_shape((columns, columns), &component.factor),
            ) {
                general_mat_mul(1.0, &apart, &factor, 0.0, &mut whitened);
            }
            for (at, row) in whitened.outer_iter().enumerate() {
                let square: f64 = row.iter().map(|value| value * value).sum();
                densities[at * count + number] = component.height - 0.5 * square;
            }
        }
    }
}

/// The logarithm of a sum of which logarithms are given, and each one's share of it in their place.
fn shared(logarithms: &mut [f64]) -> f64 {
    let most = logarithms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if most == f64::NEG_INFINITY {
        let equal = 1.0 / logarithms.len() as f64;
        logarithms.fill(equal);
        return most;
    }
    let mut sum = 0.0;
    for logarithm in logarithms.iter_mut() {
        *logarithm = (*logarithm - most).exp();
        sum += *logarithm;
    }
    logarithms.iter_mut().for_each(|share| *share /= sum);
    most + sum.ln()
}

impl Learn for GaussianMixtureParams {
    type Model = GaussianMixture;

    fn check(&self) -> Result<(), DetectorError> {
        check_range("components", self.components as f64, 1.0..=64.0, "1 to 64")
    }

    fn threads(&self) -> NonZeroUsize {
        self.threads
    }

    fn learn(&self, rows: Rows<'_>) -> Result<GaussianMixture, DetectorError> {
        let columns = rows.columns();
        let most = (MOST_ENTRIES / self.components).isqrt();
        if columns > most {
            return Err(DetectorError::TooWide { most, columns });
        }
        let mut model = GaussianMixture {
            scales: scales(rows),
            components: Vec::new(),
        };
        let mut standard = Vec::with_capacity(rows.len() * columns);
        model.standardise(rows, &mut standard);
        let standard = Rows::of_columns(&standard, columns);
        let mut shares = self.begin(standard)?;
        let mut count = shares.len() / rows.len();
        // Nothing is known of a single component but what the rows themselves say.
        let prior = if count == 1 {
            None
        } else {
            Some(covariance(standard, &vec![1.0; rows.len()], 1, 0).1)
        };
        let mut before = f64::NEG_INFINITY;
        for _ in 0..MOST_STEPS {
            model.components = maximised(standard, &shares, count, prior.as_ref())?;
            count = model.components.len();
            shares.resize(rows.len() * count, 0.0);
            let density = expected(&model, standard, &mut shares);
            if (density - before).abs() < LEAST_GAIN || !density.is_finite() {
                break;
            }
            before = density;
        }
        // The density is that of the rows as they were given.
        let units: f64 = model.scales.iter().map(|(_, factor)| factor.ln()).sum();
        model
            .components
            .iter_mut()
            .for_each(|component| component.height += units);
        Ok(model)
    }
}

impl GaussianMixtureParams {
    /// To which component each row belongs at first: for each row, its share of each.
    fn begin(&self, rows: Rows<'_>) -> Result<Vec<f64>, DetectorError> {
        let count = self.components.min(rows.len());
        if count == 1 {
            return Ok(vec![1.0; rows.len()]);
        }
        let failed = |source| DetectorError::Part {
            part: "k-means",
            source,
        };
        // Far rows are drawn in: squares of their distances must be numbers.
        let records = Array2::from_shape_fn((rows.len(), rows.columns()), |(at, column)| {
            rows.row(at)[column].clamp(-1e6, 1e6)
        });
        let records = DatasetBase::from(records);
        let groups = KMeans::params_with_rng(count, Xoshiro256Plus::seed_from_u64(self.seed))
            .n_runs(3)
            .check()
            .map_err(|source| failed(Box::new(source)))?
            .fit(&records)
            .map_err(|source| failed(Box::new(source)))?;
        let mut shares = vec![0.0; rows.len() * count];
        let groups = groups.predict(records.records());
        for (shares, group) in shares.chunks_exact_mut(count).zip(groups) {
            shares[group] = 1.0;
        }
        Ok(shares)
    }
}

/// Mean and inverse standard deviation of each column.
fn scales(rows: Rows<'_>) -> Vec<(f64, f64)> {
    let usable = |(mean, factor): (f64, f64)| (mean, if factor.is_finite() { factor } else { 1.0 });
    super::pca::scales(rows).into_iter().map(usable).collect()
}

/// Mean and covariance, not yet divided, of rows by one of their shares, and what the shares add up to.
fn covariance(rows: Rows<'_>, shares: &[f64], count: usize, number: usize) -> (Vec<f64>, Array2<f64>, f64) {
    let columns = rows.columns();
    let share = |at: usize| shares[at * count + number];
    let total: f64 = (0..rows.len()).map(share).sum();
    let mut mean = vec![0.0; columns];
    for at in 0..rows.len() {
        let share = share(at) / total;
        mean.iter_mut()
            .zip(rows.row(at))
            .for_each(|(mean, value)| *mean += share * value);
    }
    let mut products = Array2::<f64>::zeros((columns, columns));
    let mut block = Vec::with_capacity(BLOCK * columns);
    for start in (0..rows.len()).step_by(BLOCK) {
        block.clear();
        let end = (start + BLOCK).min(rows.len());
        for at in start..end {
            let root = share(at).sqrt();
            block.extend(
                rows.row(at)
                    .iter()
                    .zip(&mean)
                    .map(|(value, mean)| (value - mean) * root),
            );
        }
        if let Ok(block) = ArrayView2::from_shape((end - start, columns), &block) {
            general_mat_mul(1.0, &block.t(), &block, 1.0, &mut products);
        }
    }
    (mean, products, total)
}

/// The components that fit rows with these shares best. Those that hold nothing are left out.
fn maximised(
    rows: Rows<'_>,
    shares: &[f64],
    count: usize,
    prior: Option<&Array2<f64>>,
) -> Result<Vec<Component>, DetectorError> {
    let (all, columns) = (rows.len() as f64, rows.columns() as f64);
    let mut components = Vec::with_capacity(count);
    for number in 0..count {
        let held: f64 = shares.iter().skip(number).step_by(count).sum();
        if held < LEAST_ROWS {
            continue;
        }
        let (mean, mut products, total) = covariance(rows, shares, count, number);
        if let Some(prior) = prior {
            // A group is narrower than all rows, by so much if the groups share their volume.
            let narrower = (count as f64).powf(-2.0 / columns);
            products.scaled_add(narrower * columns / all, prior);
            products /= total + columns;
        } else {
            products /= total;
        }
        let (factor, spread) = inverted(products)?;
        components.push(Component {
            height: (total / all).ln() - 0.5 * columns * std::f64::consts::TAU.ln() - spread,
            mean,
            factor,
        });
    }
    Ok(components)
}

/// The inverse of a covariance's Cholesky factor, transposed, row by row, and the logarithm of the factor's determinant.
fn inverted(mut covariance: Array2<f64>) -> Result<(Vec<f64>, f64), DetectorError> {
    let columns = covariance.nrows();
    let mut added = LEAST_VARIANCE;
    covariance.diag_mut().mapv_inplace(|variance| variance + added);
    let lower = loop {
        match covariance.cholesky() {
            Ok(lower) => break lower,
            // What rounding made of a direction without variance may lie below zero by more than was added.
            Err(_) if added < 1.0 => {
                covariance
                    .diag_mut()
                    .mapv_inplace(|variance| variance + 9.0 * added);
                added *= 10.0;
            }
            Err(source) => {
                return Err(DetectorError::Part {
                    part: "a covariance",
                    source: Box::new(source),
                });
            }
        }
    };
    let spread = lower.diag().iter().map(|entry| entry.ln()).sum();
    let inverse = lower
        .solve_triangular(&Array2::eye(columns), UPLO::Lower)
        .map_err(|source| DetectorError::Part {
            part: "a covariance",
            source: Box::new(source),
        })?;
    Ok((inverse.t().iter().copied().collect(), spread))
}

/// Each component's share of each row, and the mean logarithm of the rows' densities.
fn expected(model: &GaussianMixture, rows: Rows<'_>, shares: &mut [f64]) -> f64 {
    let count = model.components.len();
    let (mut block, mut densities) = (Vec::new(), vec![0.0; BLOCK * count]);
    let mut sum = 0.0;
    for (piece, shares) in rows.pieces(BLOCK).zip(shares.chunks_mut(BLOCK * count)) {
        block.clear();
        block.extend_from_slice(piece.values());
        block.resize(BLOCK * rows.columns(), 0.0);
        model.densities(&block, &mut densities);
        shares.copy_from_slice(&densities[..piece.len() * count]);
        sum += shares.chunks_exact_mut(count).map(shared).sum::<f64>();
    }
    sum / rows.len() as f64
}

impl Judge for GaussianMixture {
    fn width(&self) -> usize {
        self.scales.len()
    }

    fn is_sound(&self) -> bool {
        let columns = self.scales.len();
        let finite = |values: &[f64]| values.iter().all(|value| value.is_finite());
        let sound = |component: &Component| {
            component.height.is_finite()
                && component.mean.len() == columns
                && Some(component.factor.len()) == columns.checked_mul(columns)
                && finite(&component.mean)
                && finite(&component.factor)
        };
        columns > 0 && !self.components.is_empty() && self.components.iter().all(sound)
    }

    fn judge_into(&self, rows: Rows<'_>, scores: &mut [f64]) {
        let count = self.components.len();
        let (mut block, mut densities) = (Vec::new(), vec![0.0; BLOCK * count]);
        for (piece, scores) in rows.pieces(BLOCK).zip(scores.chunks_mut(BLOCK)) {
            self.standardise(piece, &mut block);
            block.resize(BLOCK * self.width(), 0.0);
            self.densities(&block, &mut densities);
            for (score, densities) in scores.iter_mut().zip(densities.chunks_exact_mut(count)) {
                *score = -shared(densities);
            }
        }
    }
}
