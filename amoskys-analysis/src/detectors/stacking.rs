//! Stacking: learns from labels how far to trust the scores of several detectors.

use std::num::NonZeroUsize;

use linfa::DatasetBase;
use linfa::dataset::AsSingleTargets;
use linfa::traits::Fit;
use ndarray::{Array1, ArrayBase, ArrayView2, Data, Ix2};
use serde::{Deserialize, Serialize};

use super::estimator::{Judge, StoredDetector, check_range, judge, with_rows};
use super::{Detector, DetectorError};
use crate::calibrate::Conformal;
use crate::iforest::Rows;

/// Newton's method needs a handful of steps; more than this means that the data allow no better.
const MOST_STEPS: usize = 100;
/// A step this small changes nothing.
const LEAST_STEP: f64 = 1e-9;
/// Honest scores of a detector that are kept.
const MOST_SCORES: usize = 4096;
/// A p-value below e to the minus this is an extrapolation.
const FAR: f64 = 20.0;

/// Parameters of [`Stacking`]. Ranges are checked when fitting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StackingParams {
    regularisation: f64,
}

impl StackingParams {
    /// A regularisation of 0.001.
    #[must_use]
    pub const fn new() -> Self {
        Self { regularisation: 1e-3 }
    }

    /// What half the sum of squared weights counts beside the mean loss, 1e-9 to 1e9. Default 0.001.
    #[must_use]
    pub const fn regularisation(mut self, regularisation: f64) -> Self {
        self.regularisation = regularisation;
        self
    }
}

impl Default for StackingParams {
    fn default() -> Self {
        Self::new()
    }
}

/// The log-odds that a row is an anomaly, from the scores that several detectors gave it: a logistic regression whose weights are
/// never negative, so that no detector's alarm can speak against one.
///
/// Each column holds the scores of one detector. What counts of a score is how rare it is among honest rows, the negative logarithm
/// of its p-value ([`Conformal::tail_p_value`]): that a row looks usual to one detector is no evidence that it is. Weights of the
/// data set count: give families of anomalies the same weight to be as good at rare ones as at frequent ones.
///
/// - **Assumes** scores of rows that the detectors were not fitted on; those of training rows make the best learner look better
///   than it is. To be ready for anomalies of a new kind, leave each kind out in turn, and stack the scores it gets then.
/// - **Fails** where one detector is to be believed only if another is not: weights are the same for all rows.
/// - **Costs** a search and a logarithm for each detector. The model holds at most 4096 honest scores of each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct Stacking {
    members: Vec<Member>,
    intercept: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Member {
    honest: Conformal,
    weight: f64,
}

#[derive(Serialize, Deserialize)]
struct Parts {
    members: Vec<Member>,
    intercept: f64,
}

impl Stacking {
    /// Parameters to fit one with.
    #[must_use]
    pub const fn params() -> StackingParams {
        StackingParams::new()
    }

    /// The weight of each detector, never negative: by how much the log-odds rise when the p-value of its score falls to 1/e.
    #[must_use]
    pub fn weights(&self) -> Vec<f64> {
        self.members.iter().map(|member| member.weight).collect()
    }
}

impl Member {
    fn fit(mut honest: Vec<f64>) -> Result<Self, DetectorError> {
        honest.sort_unstable_by(f64::total_cmp);
        let count = honest.len().min(MOST_SCORES);
        let thinned: Vec<f64> = (0..count)
            .map(|at| honest[at * (honest.len() - 1) / (count - 1).max(1)])
            .collect();
        let honest = Conformal::fit(&thinned, 0.5).map_err(|source| DetectorError::Part {
            part: "the calibration",
            source: Box::new(source),
        })?;
        Ok(Self { honest, weight: 0.0 })
    }

    fn rarity(&self, score: f64) -> f64 {
        let rarity = -self.honest.tail_p_value(score).ln();
        // Far out, differences are less and less worth.
        let beyond = (rarity - FAR).max(0.0);
        rarity.min(FAR) + beyond.ln_1p()
    }
}

impl<D: Data<Elem = f64>, T: AsSingleTargets<Elem = bool>> Fit<ArrayBase<D, Ix2>, T, DetectorError>
    for StackingParams
{
    type Object = Stacking;

    /// Fits on scores and targets, true for anomalies, by the weights of the data set.
    fn fit(&self, dataset: &DatasetBase<ArrayBase<D, Ix2>, T>) -> Result<Stacking, DetectorError> {
        let range = 1e-9..=1e9;
        check_range("regularisation", self.regularisation, range, "1e-9 to 1e9")?;
        let labels = dataset.targets().as_single_targets().to_vec();
        let weights: Vec<f64> = match dataset.weights() {
            Some(weights) => weights.iter().map(|&weight| f64::from(weight)).collect(),
            None => vec![1.0; labels.len()],
        };
        for weight in &weights {
            check_range("weight", *weight, 0.0..=1e30, "0 to 1e30")?;
        }
        with_rows(dataset.records().view(), |rows| {
            for labels in [labels.len(), weights.len()] {
                if rows.len() != labels {
                    let rows = rows.len();
                    return Err(DetectorError::Labels { rows, labels });
                }
            }
            if labels.iter().all(|&label| label) || !labels.contains(&true) {
                return Err(DetectorError::OneKind);
            }
            self.learn(rows, &labels, &weights)
        })
    }
}

impl StackingParams {
    fn learn(&self, rows: Rows<'_>, labels: &[bool], weights: &[f64]) -> Result<Stacking, DetectorError> {
        let members: Result<Vec<Member>, DetectorError> = (0..rows.columns())
            .map(|column| {
                let honest = (0..rows.len()).filter(|&at| !labels[at] && weights[at] > 0.0);
                Member::fit(honest.map(|at| rows.row(at)[column]).collect())
            })
            .collect();
        let mut members = members?;
        let total: f64 = weights.iter().sum();
        let places: Vec<f64> = (0..rows.len())
            .flat_map(|at| members.iter().zip(rows.row(at)))
            .map(|(member, &score)| member.rarity(score))
            .collect();
        let problem = Problem {
            places: &places,
            columns: rows.columns(),
            labels,
            weights: weights
                .iter()
                .map(|weight| weight / total.max(f64::MIN_POSITIVE))
                .collect(),
            regularisation: self.regularisation,
        };
        // Weights that come out negative are none; the others are found again without them.
        let mut active: Vec<usize> = (0..members.len()).collect();
        loop {
            let found = problem.solve(&active);
            let negative = |&(_, weight): &(&usize, &f64)| *weight < 0.0;
            let worst = active
                .iter()
                .zip(&found[1..])
                .filter(negative)
                .min_by(|a, b| a.1.total_cmp(b.1));
            if let Some((&worst, _)) = worst {
                active.retain(|&column| column != worst);
                continue;
            }
            for (&column, &weight) in active.iter().zip(&found[1..]) {
                members[column].weight = weight;
            }
            return Ok(Stacking {
                members,
                intercept: found[0],
            });
        }
    }
}

/// A weighted logistic regression.
struct Problem<'a> {
    places: &'a [f64],
    columns: usize,
    labels: &'a [bool],
    weights: Vec<f64>,
    regularisation: f64,
}

impl Problem<'_> {
    /// Intercept, then the weights of these columns, by Newton's method with step halving.
    fn solve(&self, active: &[usize]) -> Vec<f64> {
        let size = active.len() + 1;
        let mut found = vec![0.0; size];
        let mut loss = self.loss(active, &found);
        for _ in 0..MOST_STEPS {
            let (mut gradient, mut hessian) = (vec![0.0; size], vec![vec![0.0; size]; size]);
            for at in 1..size {
                gradient[at] = self.regularisation * found[at];
                hessian[at][at] = self.regularisation;
            }
            // Keeps the system solvable where the curve is flat.
            hessian[0][0] = 1e-12;
            for (row, (&label, &weight)) in self.labels.iter().zip(&self.weights).enumerate() {
                let values = self.values(row, active);
                let p = logistic(dot(&found, &values));
                let slope = weight * (p - f64::from(u8::from(label)));
                let curve = weight * p * (1.0 - p);
                for (at, &value) in values.iter().enumerate() {
                    gradient[at] += slope * value;
                    for (to, &other) in values.iter().enumerate() {
                        hessian[at][to] += curve * value * other;
                    }
                }
            }
            let Some(step) = solved(hessian, gradient) else {
                break;
            };
            let mut length = 1.0;
            let next = loop {
                let next: Vec<f64> = found.iter().zip(&step).map(|(at, by)| at - length * by).collect();
                let next_loss = self.loss(active, &next);
                if next_loss < loss {
                    break Some((next, next_loss));
                }
                length /= 2.0;
                if length < LEAST_STEP {
                    break None;
                }
            };
            let Some((next, next_loss)) = next else { break };
            let moved = step
                .iter()
                .fold(0.0_f64, |most, by| most.max((by * length).abs()));
            (found, loss) = (next, next_loss);
            if moved < LEAST_STEP {
                break;
            }
        }
        found
    }

    /// One, and the values of the row.
    fn values(&self, row: usize, active: &[usize]) -> Vec<f64> {
        let places = &self.places[row * self.columns..(row + 1) * self.columns];
        std::iter::once(1.0)
            .chain(active.iter().map(|&column| places[column]))
            .collect()
    }

    fn loss(&self, active: &[usize], found: &[f64]) -> f64 {
        let penalty: f64 = found[1..].iter().map(|weight| weight * weight).sum();
        let one = |(row, (&label, &weight)): (usize, (&bool, &f64))| {
            let odds = dot(found, &self.values(row, active));
            let wrong = if label { -odds } else { odds };
            weight * (wrong.max(0.0) + (-wrong.abs()).exp().ln_1p())
        };
        let sum: f64 = self.labels.iter().zip(&self.weights).enumerate().map(one).sum();
        sum + 0.5 * self.regularisation * penalty
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn logistic(odds: f64) -> f64 {
    1.0 / (1.0 + (-odds).exp())
}

/// Solves a small symmetric positive system by elimination; `None` if it is not one.
fn solved(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Option<Vec<f64>> {
    let size = right.len();
    for at in 0..size {
        let pivot = matrix[at][at];
        if !(pivot > 0.0 && pivot.is_finite()) {
            return None;
        }
        let row = matrix[at].clone();
        for below in at + 1..size {
            let share = matrix[below][at] / pivot;
            for (entry, value) in matrix[below].iter_mut().zip(&row).skip(at) {
                *entry -= share * value;
            }
            right[below] -= share * right[at];
        }
    }
    for at in (0..size).rev() {
        let known: f64 = (at + 1..size).map(|to| matrix[at][to] * right[to]).sum();
        right[at] = (right[at] - known) / matrix[at][at];
    }
    Some(right)
}

impl Judge for Stacking {
    fn width(&self) -> usize {
        self.members.len()
    }

    fn is_sound(&self) -> bool {
        let sound = |member: &Member| member.weight >= 0.0 && member.weight.is_finite();
        !self.members.is_empty() && self.intercept.is_finite() && self.members.iter().all(sound)
    }

    fn judge_into(&self, rows: Rows<'_>, scores: &mut [f64]) {
        for (at, score) in scores.iter_mut().enumerate() {
            let sum: f64 = self
                .members
                .iter()
                .zip(rows.row(at))
                .map(|(member, &score)| member.weight * member.rarity(score))
                .sum();
            *score = self.intercept + sum;
        }
    }
}

impl Detector for Stacking {
    fn columns(&self) -> usize {
        self.width()
    }

    fn score_parallel(
        &self,
        records: ArrayView2<'_, f64>,
        threads: NonZeroUsize,
    ) -> Result<Array1<f64>, DetectorError> {
        let (expected, found) = (self.width(), records.ncols());
        if expected != found {
            return Err(DetectorError::Columns { expected, found });
        }
        with_rows(records, |rows| Ok(judge(self, rows, threads).into()))
    }
}

impl StoredDetector for Stacking {
    const PART: &'static str = "stacking";
}

impl TryFrom<Parts> for Stacking {
    type Error = &'static str;

    fn try_from(Parts { members, intercept }: Parts) -> Result<Self, Self::Error> {
        let stacking = Self { members, intercept };
        if stacking.is_sound() {
            Ok(stacking)
        } else {
            Err("not a whole detector: stacking")
        }
    }
}

impl From<Stacking> for Parts {
    fn from(Stacking { members, intercept }: Stacking) -> Self {
        Self { members, intercept }
    }
}
