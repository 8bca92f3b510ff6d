use serde::{Deserialize, Serialize};

use super::interval::deviations;
use super::{CalibrateError, Interval, labelled};

/// Newton's method needs a handful of steps; more than this means the data allow no better.
const MAX_STEPS: usize = 100;

/// Platt scaling: a logistic curve, `1 / (1 + exp(-(slope · score + intercept)))`.
///
/// With a slope and intercept of one's own it is a documented prior; fitted, it maximises the likelihood of the labels,
/// smoothed as Platt proposed (1999), so that labels that can be told apart without error do not give an infinite slope.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Platt {
    slope: f64,
    intercept: f64,
    /// The score at which the curve is surest, and the variances of the log-odds there and of the slope; none of a prior.
    center: f64,
    variances: [f64; 2],
}

impl Platt {
    /// A curve of one's own. A slope below 0, or not finite, counts as 0; an intercept that is not finite too.
    #[must_use]
    pub const fn new(slope: f64, intercept: f64) -> Self {
        let slope = if slope.is_finite() && slope > 0.0 {
            slope
        } else {
            0.0
        };
        Self {
            slope,
            intercept: if intercept.is_finite() { intercept } else { 0.0 },
            center: 0.0,
            variances: [0.0; 2],
        }
    }

    /// A curve that was fitted elsewhere: the score at which it is surest, and the variances of the log-odds there and of the slope.
    pub(crate) const fn of_known(slope: f64, intercept: f64, center: f64, variances: [f64; 2]) -> Self {
        Self {
            center,
            variances,
            ..Self::new(slope, intercept)
        }
    }

    /// The curve that has these probabilities at two scores, the lower score first. `None` unless both rise and lie
    /// between 0 and 1.
    #[must_use]
    pub fn through(low: (f64, f64), high: (f64, f64)) -> Option<Self> {
        let odds = |probability: f64| (probability / (1.0 - probability)).ln();
        let slope = (odds(high.1) - odds(low.1)) / (high.0 - low.0);
        let intercept = odds(low.1) - slope * low.0;
        let rises = low.0 < high.0 && low.1 < high.1;
        (rises && slope.is_finite() && intercept.is_finite()).then(|| Self::new(slope, intercept))
    }

    /// Fits it on labelled scores. Scores that are not finite are left out. If higher scores have fewer anomalies, the
    /// slope is 0: every score gives the share of anomalies.
    ///
    /// # Errors
    ///
    /// If scores and labels differ in number, or only one kind of label occurs.
    pub fn fit(scores: &[f64], labels: &[bool]) -> Result<Self, CalibrateError> {
        let pairs = labelled(scores, labels)?;
        let anomalies = pairs.iter().filter(|pair| pair.1).count() as f64;
        let others = pairs.len() as f64 - anomalies;
        let targets = ((anomalies + 1.0) / (anomalies + 2.0), 1.0 / (others + 2.0));
        // In units of the scores' spread, so that steps are well scaled whatever the scores are.
        let n = pairs.len() as f64;
        let center = pairs.iter().map(|pair| pair.0 / n).sum::<f64>();
        let spread = pairs
            .iter()
            .map(|pair| (pair.0 - center).powi(2) / n)
            .sum::<f64>()
            .sqrt();
        let spread = if spread > 0.0 && spread.is_finite() {
            spread
        } else {
            1.0
        };
        let data: Vec<(f64, f64)> = pairs
            .iter()
            .map(|&(score, label)| {
                (
                    (score - center) / spread,
                    if label { targets.0 } else { targets.1 },
                )
            })
            .collect();
        let base = (0.0, ((anomalies + 1.0) / (others + 1.0)).ln());
        let (slope, intercept) = maximise(&data, base);
        let (slope, intercept) = if slope <= 0.0 { base } else { (slope, intercept) };
        let [middle, variances] = uncertainty(&data, slope, intercept);
        Ok(Self {
            center: center + spread * middle[0],
            variances: [
                variances[0],
                if slope > 0.0 {
                    variances[1] / (spread * spread)
                } else {
                    0.0
                },
            ],
            ..Self::new(slope / spread, intercept - slope * center / spread)
        })
    }

    /// Whether it was fitted on labels; a curve of one's own says nothing of how sure it is.
    #[must_use]
    pub const fn is_fitted(&self) -> bool {
        self.variances[0] > 0.0
    }

    /// The probability, and its bounds with a confidence between 0 and 1, as the labels it was fitted on leave it open; a curve of
    /// one's own is taken as sure.
    #[must_use]
    pub fn interval(&self, score: f64, confidence: f64) -> Interval {
        let probability = self.probability(score);
        let away = if score.is_finite() {
            score - self.center
        } else {
            0.0
        };
        let reach = deviations(confidence) * (self.variances[0] + self.variances[1] * away * away).sqrt();
        let odds = (probability / (1.0 - probability)).ln();
        Interval {
            low: logistic(odds - reach).min(probability),
            probability,
            high: logistic(odds + reach).max(probability),
        }
    }

    /// The probability that a row of this score is an anomaly.
    #[must_use]
    pub fn probability(&self, score: f64) -> f64 {
        let score = if score.is_nan() { f64::NEG_INFINITY } else { score };
        // A slope of 0 makes any score, even an infinite one, count for nothing.
        let odds = if self.slope > 0.0 {
            self.slope * score + self.intercept
        } else {
            self.intercept
        };
        logistic(odds).clamp(f64::EPSILON, 1.0 - f64::EPSILON)
    }
}

/// Slope and intercept of the greatest likelihood, by Newton's method with step halving (Lin, Lin and Weng, 2007).
fn maximise(data: &[(f64, f64)], start: (f64, f64)) -> (f64, f64) {
    let (mut slope, mut intercept) = start;
    let mut loss = cross_entropy(data, slope, intercept);
    for _ in 0..MAX_STEPS {
        // A little on the diagonal keeps the system solvable where the curve is flat.
        let (mut h11, mut h12, mut h22, mut g1, mut g2) = (1e-12, 0.0, 1e-12, 0.0, 0.0);
        for &(score, target) in data {
            let p = logistic(slope * score + intercept);
            let weight = p * (1.0 - p);
            h11 += score * score * weight;
            h12 += score * weight;
            h22 += weight;
            g1 += score * (p - target);
            g2 += p - target;
        }
        if g1.abs() < 1e-9 && g2.abs() < 1e-9 {
            break;
        }
        let determinant = h11 * h22 - h12 * h12;
        let step = (
            -(h22 * g1 - h12 * g2) / determinant,
            -(h11 * g2 - h12 * g1) / determinant,
        );
        let mut length = 1.0;
        let better = loop {
            let next = (slope + length * step.0, intercept + length * step.1);
            let next_loss = cross_entropy(data, next.0, next.1);
            if next_loss < loss {
                break Some((next, next_loss));
            }
            length /= 2.0;
            if length < 1e-10 {
                break None;
            }
        };
        let Some((next, next_loss)) = better else { break };
        (slope, intercept) = next;
        loss = next_loss;
    }
    (slope, intercept)
}

/// The place where the log-odds vary least, and the variances there of the log-odds and of the slope: the inverse of the second
/// derivatives of the loss, which has no mixed part at the weighted mean of the scores.
fn uncertainty(data: &[(f64, f64)], slope: f64, intercept: f64) -> [[f64; 2]; 2] {
    let weight = |score: f64| {
        let p = logistic(slope * score + intercept);
        p * (1.0 - p)
    };
    let total: f64 = data
        .iter()
        .map(|&(score, _)| weight(score))
        .sum::<f64>()
        .max(1e-12);
    let middle = data.iter().map(|&(score, _)| score * weight(score)).sum::<f64>() / total;
    let spread: f64 = data
        .iter()
        .map(|&(score, _)| weight(score) * (score - middle).powi(2))
        .sum();
    [[middle, 0.0], [1.0 / total, 1.0 / spread.max(1e-12)]]
}

fn cross_entropy(data: &[(f64, f64)], slope: f64, intercept: f64) -> f64 {
    let loss = |&(score, target): &(f64, f64)| {
        let odds = slope * score + intercept;
        // ln(1 + exp(-|odds|)) and the linear rest: neither overflows.
        (-odds.abs()).exp().ln_1p() + odds.max(0.0) - target * odds
    };
    data.iter().map(loss).sum()
}

fn logistic(odds: f64) -> f64 {
    1.0 / (1.0 + (-odds).exp())
}
