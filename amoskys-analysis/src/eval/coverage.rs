//! Whether intervals hold what they promise.

use crate::calibrate::{Interval, share_interval};

/// Rows of neighbouring probabilities: what was said of them, and what came true.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CoverageBin {
    /// Means of the lower bounds, the probabilities and the upper bounds that were given.
    pub given: Interval,
    /// Share of the rows that came true.
    pub came_true: f64,
    /// How many rows there are.
    pub rows: usize,
}

impl CoverageBin {
    /// Whether the share that came true is between the bounds.
    #[must_use]
    pub fn is_within(&self) -> bool {
        (self.given.low..=self.given.high).contains(&self.came_true)
    }

    /// The same with room for chance: the share that came true is itself known from so many rows only. The bounds of the difference
    /// of the two, each with its own, hold 0 (Newcombe, 1998, the tenth of his methods). `confidence` is that of the intervals, between
    /// 0 and 1.
    #[must_use]
    pub fn agrees(&self, confidence: f64) -> bool {
        let rows = self.rows as f64;
        let (low, high) = share_interval(self.came_true * rows, rows, confidence);
        let Interval {
            low: least,
            probability,
            high: most,
        } = self.given;
        let apart = self.came_true - probability;
        let room = if apart > 0.0 {
            (self.came_true - low).hypot(most - probability)
        } else {
            (high - self.came_true).hypot(probability - least)
        };
        apart.abs() <= room
    }
}

/// Sorts rows by their probability and puts them into so many bins of about equally many; rows of one probability stay together.
/// Rows whose probability is not a number are left out.
///
/// Intervals of calibrated probabilities with 90 % confidence should [hold](CoverageBin::is_within) what comes true in about 90 % of
/// the bins, if there are many more rows than the calibration was fitted on, and else [allow](CoverageBin::agrees) for it.
///
/// ```
/// use amoskys_analysis::calibrate::Interval;
/// use amoskys_analysis::eval::coverage;
///
/// let half = Interval { low: 0.4, probability: 0.5, high: 0.6 };
/// let bins = coverage(&[half; 4], &[true, false, true, false], 10);
/// assert!(bins.len() == 1 && bins[0].is_within());
/// ```
///
/// # Panics
///
/// If there are more intervals than labels, or fewer.
#[must_use]
pub fn coverage(intervals: &[Interval], labels: &[bool], bins: usize) -> Vec<CoverageBin> {
    assert_eq!(intervals.len(), labels.len(), "each interval needs a label");
    let mut rows: Vec<(Interval, bool)> = intervals.iter().copied().zip(labels.iter().copied()).collect();
    rows.retain(|(interval, _)| !interval.probability.is_nan());
    rows.sort_by(|a, b| a.0.probability.total_cmp(&b.0.probability));
    let least = rows.len().div_ceil(bins.max(1)).max(1);
    let mut found: Vec<&[(Interval, bool)]> = Vec::new();
    let mut rest = rows.as_slice();
    while !rest.is_empty() {
        let last = rest[least.min(rest.len()) - 1].0.probability;
        let end = rest.partition_point(|row| row.0.probability <= last);
        let (bin, others) = rest.split_at(end);
        found.push(bin);
        rest = others;
    }
    found.into_iter().map(mean).collect()
}

fn mean(rows: &[(Interval, bool)]) -> CoverageBin {
    let n = rows.len() as f64;
    let of = |value: fn(&Interval) -> f64| rows.iter().map(|row| value(&row.0)).sum::<f64>() / n;
    CoverageBin {
        given: Interval {
            low: of(|interval| interval.low),
            probability: of(|interval| interval.probability),
            high: of(|interval| interval.high),
        },
        came_true: rows.iter().filter(|row| row.1).count() as f64 / n,
        rows: rows.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::{Calibration, Isotonic, Platt};

    /// Even numbers between 0 and 1, always the same.
    fn even() -> impl FnMut() -> f64 {
        let mut state = 7_u64;
        move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        }
    }

    /// Scores whose true probability is `truth(score)`.
    fn draw(
        rows: usize,
        even: &mut impl FnMut() -> f64,
        truth: impl Fn(f64) -> f64,
    ) -> (Vec<f64>, Vec<bool>) {
        (0..rows)
            .map(|_| {
                let score = even();
                (score, even() < truth(score))
            })
            .unzip()
    }

    #[test]
    fn fitted_intervals_hold_known_probabilities_as_often_as_they_say() {
        let curve = |s: f64| 1.0 / (1.0 + (-(8.0 * s - 4.0)).exp());
        let (mut held, mut asked) = ([0_u32; 2], 0_u32);
        let mut even = even();
        for _ in 0..200 {
            let (scores, labels) = draw(500, &mut even, curve);
            let kinds: [Calibration; 2] = [
                Isotonic::fit(&scores, &labels).unwrap().into(),
                Platt::fit(&scores, &labels).unwrap().into(),
            ];
            for at in 1..20 {
                let score = f64::from(at) / 20.0;
                asked += 1;
                for (held, kind) in held.iter_mut().zip(&kinds) {
                    let interval = kind.interval(score, 0.9);
                    *held += u32::from((interval.low..=interval.high).contains(&curve(score)));
                }
            }
        }
        for held in held {
            let share = f64::from(held) / f64::from(asked);
            assert!((0.86..0.95).contains(&share), "{share}");
        }
    }

    #[test]
    fn bins_of_new_rows_agree_as_often_as_the_intervals_say() {
        let curve = |s: f64| s * s;
        let (mut within, mut agree, mut bins) = (0_u32, 0_u32, 0_u32);
        let mut even = even();
        for _ in 0..60 {
            let (scores, labels) = draw(1_000, &mut even, curve);
            let isotonic = Calibration::from(Isotonic::fit(&scores, &labels).unwrap());
            let (scores, labels) = draw(1_000, &mut even, curve);
            let intervals: Vec<Interval> = scores.iter().map(|&s| isotonic.interval(s, 0.9)).collect();
            for bin in coverage(&intervals, &labels, 10) {
                bins += 1;
                within += u32::from(bin.is_within());
                agree += u32::from(bin.agrees(0.9));
            }
        }
        let share = |held: u32| f64::from(held) / f64::from(bins);
        assert!((0.85..0.97).contains(&share(agree)), "{}", share(agree));
        // As many rows as the calibration had: chance moves them as far as it moved the calibration.
        assert!(share(within) < share(agree), "{}", share(within));
    }

    #[test]
    fn probabilities_that_are_wrong_do_not_agree() {
        let sure = Interval {
            low: 0.7,
            probability: 0.8,
            high: 0.9,
        };
        let labels: Vec<bool> = (0..200).map(|at| at % 2 == 0).collect();
        let bins = coverage(&[sure; 200], &labels, 5);
        assert_eq!(bins.len(), 1, "rows of one probability stay together");
        assert!(!bins[0].is_within() && !bins[0].agrees(0.9));
        assert_eq!(bins[0].rows, 200);
        let none = Interval::sure(f64::NAN);
        assert!(coverage(&[none], &[true], 5).is_empty() && coverage(&[], &[], 0).is_empty());
    }
}
