use amoskys_core::event::ScoreInterval;
use serde::{Deserialize, Serialize};

use crate::odds::{logit, probability};

/// Standard deviations around the mean that hold 90 % of a normal distribution.
const NINETY: f64 = 1.644_853_626_951_472_6;

/// A probability, and between which bounds it lies with some confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The lower bound.
    pub low: f64,
    /// The probability itself.
    pub probability: f64,
    /// The upper bound.
    pub high: f64,
}

impl Interval {
    /// A probability of which nothing is unsure.
    #[must_use]
    pub const fn sure(probability: f64) -> Self {
        Self {
            low: probability,
            probability,
            high: probability,
        }
    }

    /// The bounds of a verdict's score, which this is the [interval](ScoreInterval::CONFIDENCE) of. They hold the score, also where
    /// it was rounded otherwise than [`probability`](Self::probability). `None` if the score is no probability.
    #[must_use]
    pub fn of_score(&self, score: f64) -> Option<ScoreInterval> {
        ScoreInterval::around(score, self.low.min(score), self.high.max(score))
    }

    /// What several probabilities say together: their log-odds, each times its weight, add up, and so do the squares of their
    /// uncertainties, as if the errors of one said nothing about those of another. `(weight, probability)`; one half without any.
    ///
    /// ```
    /// use amoskys_analysis::calibrate::Interval;
    ///
    /// let layer = Interval { low: 0.6, probability: 0.7, high: 0.8 };
    /// let fused = Interval::fused(&[(0.5, layer), (0.5, layer)]);
    /// assert!((fused.probability - 0.7).abs() < 1e-12);
    /// // Two that agree are surer than one.
    /// assert!(fused.low > 0.6 && fused.high < 0.8);
    /// ```
    #[must_use]
    pub fn fused(parts: &[(f64, Self)]) -> Self {
        let (mut sum, mut below, mut above) = (0.0, 0.0, 0.0);
        for (weight, part) in parts {
            let odds = logit(part.probability);
            sum += weight * odds;
            let (low, high) = (odds - logit(part.low), logit(part.high) - odds);
            // A negative weight turns the bounds around.
            let (low, high) = if *weight < 0.0 { (high, low) } else { (low, high) };
            below += (weight * low).powi(2);
            above += (weight * high).powi(2);
        }
        Self {
            low: probability(sum - below.sqrt()),
            probability: probability(sum),
            high: probability(sum + above.sqrt()),
        }
    }
}

/// Between which bounds the true share lies if `found` of `rows` independent rows have something, with a confidence between 0 and 1
/// (Wilson's score interval, 1927). 0 to 1 if there are no rows.
///
/// ```
/// use amoskys_analysis::calibrate::share_interval;
///
/// let (low, high) = share_interval(0.0, 100.0, 0.95);
/// assert!(low == 0.0 && (high - 0.037).abs() < 0.001);
/// ```
#[must_use]
pub fn share_interval(found: f64, rows: f64, confidence: f64) -> (f64, f64) {
    if rows.is_nan() || rows <= 0.0 {
        return (0.0, 1.0);
    }
    let z = deviations(confidence);
    let (share, z2) = ((found / rows).clamp(0.0, 1.0), z * z);
    let center = share + z2 / (2.0 * rows);
    let reach = z * (share * (1.0 - share) / rows + z2 / (4.0 * rows * rows)).sqrt();
    let scale = 1.0 + z2 / rows;
    let low = if found <= 0.0 {
        0.0
    } else {
        (center - reach) / scale
    };
    let high = if found >= rows {
        1.0
    } else {
        (center + reach) / scale
    };
    (low.clamp(0.0, 1.0), high.clamp(0.0, 1.0))
}

/// Between which bounds the number lies that is expected in a stretch of time in which `count` independent events were counted, with
/// a confidence between 0 and 1 (the score interval of a Poisson mean, the counterpart of Wilson's). The lower one is 0 for none.
///
/// ```
/// use amoskys_analysis::calibrate::count_interval;
///
/// let (low, high) = count_interval(16.0, 0.9);
/// assert!((low - 10.6).abs() < 0.1 && (high - 24.1).abs() < 0.1);
/// ```
#[must_use]
pub fn count_interval(count: f64, confidence: f64) -> (f64, f64) {
    let count = if count > 0.0 { count } else { 0.0 };
    let z = deviations(confidence);
    let (center, reach) = (count + z * z / 2.0, z * (count + z * z / 4.0).sqrt());
    ((center - reach).max(0.0), center + reach)
}

/// How many standard deviations around its mean hold this share of a normal distribution; the confidence is held between 0 and
/// 0.999 999.
pub(super) fn deviations(confidence: f64) -> f64 {
    // The bounds of verdicts are asked for with every event.
    if confidence == ScoreInterval::CONFIDENCE {
        return NINETY;
    }
    let confidence = if confidence.is_nan() {
        0.95
    } else {
        confidence.clamp(0.0, 0.999_999)
    };
    let tail = (1.0 - confidence) / 2.0;
    // Bisection on the tail: the error function's series and continued fraction are exact to many digits.
    let (mut low, mut high) = (0.0, 6.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if upper_tail(middle) > tail {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low + high) / 2.0
}

/// The probability that a normal number exceeds `z`, for `z` from 0 on.
fn upper_tail(z: f64) -> f64 {
    let density = (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt();
    if z < 2.5 {
        // A power series of the part between 0 and z.
        let (mut term, mut sum, mut odd) = (z, z, 1.0);
        while term > 1e-17 * sum {
            odd += 2.0;
            term *= z * z / odd;
            sum += term;
        }
        0.5 - density * sum
    } else {
        // Laplace's continued fraction.
        let fraction = (1..=60).rev().fold(z, |below, k| z + f64::from(k) / below);
        density / fraction
    }
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn deviations_of_tables() {
        for (confidence, expected) in [
            (0.5, 0.674_489_750_196),
            (0.9, NINETY),
            (0.900_000_000_000_1, NINETY),
            (0.95, 1.959_963_984_540),
            (0.99, 2.575_829_303_549),
        ] {
            assert!((deviations(confidence) - expected).abs() < 1e-10, "{confidence}");
        }
        assert!((deviations(0.999_999) - 4.891_638_475_699).abs() < 1e-9);
        assert!(deviations(0.0).abs() < 1e-10);
    }

    #[test]
    fn shares_of_tables() {
        // R's prop.test(40, 100, correct = FALSE): 0.3094013 to 0.4979974.
        let (low, high) = share_interval(40.0, 100.0, 0.95);
        assert!((low - 0.309_401_3).abs() < 1e-6 && (high - 0.497_997_4).abs() < 1e-6);
        assert_eq!(share_interval(0.0, 0.0, 0.95), (0.0, 1.0));
        assert_eq!(share_interval(10.0, 10.0, 0.95).1, 1.0);
    }

    #[test]
    fn counts_of_formulas() {
        // The bounds are the means from which the count is z standard deviations away.
        for count in [0.0, 1.0, 7.0, 400.0] {
            let (low, high) = count_interval(count, 0.9);
            assert!((low + NINETY * low.sqrt() - count).abs() < 1e-9, "{count}: {low}");
            assert!(
                (high - NINETY * high.sqrt() - count).abs() < 1e-9,
                "{count}: {high}"
            );
        }
        assert_eq!(count_interval(f64::NAN, 0.9), count_interval(0.0, 0.9));
    }

    #[test]
    fn a_score_is_between_its_bounds() {
        let interval = Interval {
            low: 0.7,
            probability: 0.8,
            high: 0.9,
        };
        assert_eq!(interval.of_score(0.8), ScoreInterval::around(0.8, 0.7, 0.9));
        assert_eq!(interval.of_score(0.91), ScoreInterval::around(0.91, 0.7, 0.91));
        assert_eq!(interval.of_score(f64::NAN), None);
    }
}
