use amoskys_core::event::ScoreInterval;

use crate::calibrate::{Interval, Platt};

/// Log-odds of an alarm at the threshold, and what each doubling of the score adds. Of the alarms on the labelled series of the
/// Numenta Anomaly Benchmark, 36 % of those with less than 1.5 times the threshold lie in a labelled window, 73 % of those with
/// two to three times, and 91 % beyond.
pub(super) const FAINTEST: f64 = -0.8;
pub(super) const DOUBLED: f64 = 1.5;

/// How sure these 200 alarms, of 33 series, make the curve: where its log-odds vary least, in doublings, and the variances there of the
/// log-odds and of the slope, which are the inverse of the second derivatives of the likelihood. That alarms of one series are alike
/// does not widen it: computed by series (a sandwich of sums over each), the variances are 0.0200 and 0.0926.
const SUREST: f64 = 0.306;
const VARIANCES: [f64; 2] = [0.0241, 0.1222];

/// The probability that an alarm of a [`SeriesDetector`](super::SeriesDetector) stands for something that people call an anomaly, by
/// its score as a multiple of the threshold, with the bounds that the labelled alarms behind it leave open, at the confidence of a
/// verdict's bounds.
///
/// *Assumes* that alarms are as those on the 33 labelled series are, which are metrics of servers, traffic and clicks. *Costs* two logarithms and three exponentials, of alarms only.
///
/// ```
/// use amoskys_analysis::series::alarm_probability;
///
/// let faint = alarm_probability(1.0);
/// assert!((faint.probability - 0.31).abs() < 0.01 && faint.low > 0.2 && faint.high < 0.45);
/// // Of strong ones there were fewer.
/// let strong = alarm_probability(2.0);
/// assert!((strong.probability - 0.67).abs() < 0.01 && strong.high - strong.low > faint.high - faint.low);
/// ```
#[must_use]
pub fn alarm_probability(strength: f64) -> Interval {
    let curve = Platt::of_known(DOUBLED, FAINTEST, SUREST, VARIANCES);
    curve.interval(strength.log2(), ScoreInterval::CONFIDENCE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::odds::logit;

    #[test]
    fn the_curve_is_that_of_the_verdicts_and_lies_within_its_bounds() {
        for strength in [0.3, 1.0, 1.24, 3.0, 50.0] {
            let Interval {
                low,
                probability,
                high,
            } = alarm_probability(strength);
            assert!(0.0 < low && low < probability && probability < high && high < 1.0);
            let expected = FAINTEST + DOUBLED * strength.log2();
            assert!((logit(probability) - expected).abs() < 1e-9);
        }
        // So strong that only rounding keeps it from being certain.
        let certain = alarm_probability(1e9);
        assert!(
            certain.low > 0.99 && certain.low <= certain.probability && certain.probability <= certain.high
        );
        // What is no score says nothing.
        assert!(alarm_probability(f64::NAN).probability < 1e-9);
        assert!(alarm_probability(0.0).probability < 1e-9);
    }

    #[test]
    fn bounds_widen_away_from_where_most_alarms_are() {
        let reach = |strength: f64| {
            let interval = alarm_probability(strength);
            logit(interval.high) - logit(interval.low)
        };
        assert!(reach(1.24) < reach(1.0) && reach(1.24) < reach(2.0) && reach(2.0) < reach(8.0));
    }
}
