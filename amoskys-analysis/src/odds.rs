//! Probabilities as log-odds: evidence adds up, and each summand is an explanation.

/// Log-odds beyond which a probability is not trusted to mean more: about 1 in 160,000.
pub const LIMIT: f64 = 12.0;

/// Natural log-odds of a probability, within ±[`LIMIT`]. A value that is not a number gives 0: no opinion.
#[must_use]
pub fn logit(probability: f64) -> f64 {
    let odds = (probability / (1.0 - probability)).ln();
    if odds.is_nan() {
        0.0
    } else {
        odds.clamp(-LIMIT, LIMIT)
    }
}

/// The probability of log-odds: the logistic function.
#[must_use]
pub fn probability(log_odds: f64) -> f64 {
    1.0 / (1.0 + (-log_odds).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_inverse_and_bounded() {
        for p in [0.01, 0.3, 0.5, 0.7, 0.93, 0.999] {
            assert!((probability(logit(p)) - p).abs() < 1e-12);
        }
        assert_eq!((logit(1.0), logit(0.0), logit(f64::NAN)), (LIMIT, -LIMIT, 0.0));
    }
}
