//! Measures of how well scores tell anomalies from the rest.
//!
//! All measures treat equal scores as one: no order among them is assumed. A score that is not a number counts as the
//! lowest of all.

mod alarms;
mod coverage;
mod curves;
pub mod nab;
mod split;

pub use self::alarms::{Alarms, false_positive_rate_at};
pub use self::coverage::{CoverageBin, coverage};
pub use self::curves::{precision_recall_curve, roc_curve};
pub use self::split::stratified_split;
use crate::calibrate::share_interval;

/// Area under the ROC curve: the probability that an anomaly scores higher than another row, ties counting half. `None`
/// if there are no anomalies, or nothing else.
///
/// ```
/// use amoskys_analysis::eval::auroc;
///
/// assert_eq!(auroc(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true]), Some(0.75));
/// assert_eq!(auroc(&[0.1, 0.2], &[false, false]), None);
/// ```
///
/// # Panics
///
/// If there are more scores than labels, or fewer.
#[must_use]
pub fn auroc(scores: &[f64], labels: &[bool]) -> Option<f64> {
    let (mut above, mut wins, mut others) = (0_u64, 0.0, 0_u64);
    // From the highest score down: each of the others loses to the anomalies above it.
    for (anomalies, rest) in tied_groups(scores, labels) {
        wins += rest as f64 * (above as f64 + anomalies as f64 / 2.0);
        above += anomalies;
        others += rest;
    }
    (above > 0 && others > 0).then(|| wins / (above as f64 * others as f64))
}

/// Average precision: precision at each score, weighted by the recall gained there. `None` if there are no anomalies.
///
/// ```
/// use amoskys_analysis::eval::average_precision;
///
/// let precision = average_precision(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true]);
/// assert!(precision.is_some_and(|precision| (precision - 5.0 / 6.0).abs() < 1e-12));
/// ```
///
/// # Panics
///
/// If there are more scores than labels, or fewer.
#[must_use]
pub fn average_precision(scores: &[f64], labels: &[bool]) -> Option<f64> {
    let (mut found, mut seen, mut sum) = (0_u64, 0_u64, 0.0);
    for (anomalies, rest) in tied_groups(scores, labels) {
        found += anomalies;
        seen += anomalies + rest;
        sum += anomalies as f64 * (found as f64 / seen as f64);
    }
    (found > 0).then(|| sum / found as f64)
}

/// Mean squared difference between probabilities and what came true: 0 is perfect, 0.25 is tossing a coin. `None` if there
/// are no probabilities.
///
/// # Panics
///
/// If there are more probabilities than labels, or fewer.
#[must_use]
pub fn brier_score(probabilities: &[f64], labels: &[bool]) -> Option<f64> {
    assert_eq!(
        probabilities.len(),
        labels.len(),
        "each probability needs a label"
    );
    let squared = |(p, &label): (&f64, &bool)| (p - f64::from(u8::from(label))).powi(2);
    let sum: f64 = probabilities.iter().zip(labels).map(squared).sum();
    (!labels.is_empty()).then(|| sum / labels.len() as f64)
}

/// One bin of a reliability diagram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReliabilityBin {
    /// Mean of the probabilities that were given.
    pub given: f64,
    /// Share of them that came true.
    pub came_true: f64,
    /// How many they are.
    pub rows: usize,
}

impl ReliabilityBin {
    /// Between which bounds the share that comes true lies, with a confidence between 0 and 1. A bin whose mean probability is
    /// outside is calibrated badly, or was unlucky.
    #[must_use]
    pub fn interval(&self, confidence: f64) -> (f64, f64) {
        let rows = self.rows as f64;
        share_interval(self.came_true * rows, rows, confidence)
    }
}

/// A reliability diagram: probabilities in so many bins of equal width, empty ones left out. Well calibrated
/// probabilities come true as often as they say.
///
/// # Panics
///
/// If there are more probabilities than labels, or fewer.
#[must_use]
pub fn reliability(probabilities: &[f64], labels: &[bool], bins: usize) -> Vec<ReliabilityBin> {
    assert_eq!(
        probabilities.len(),
        labels.len(),
        "each probability needs a label"
    );
    let bins = bins.max(1);
    let mut sums = vec![(0.0, 0.0, 0_usize); bins];
    for (&probability, &label) in probabilities.iter().zip(labels) {
        // What is not a number falls into the first bin, and its mean shows it.
        let bin = ((probability * bins as f64) as usize).min(bins - 1);
        let (given, came_true, rows) = &mut sums[bin];
        *given += probability;
        *came_true += f64::from(u8::from(label));
        *rows += 1;
    }
    let mean = |&(given, came_true, rows): &(f64, f64, usize)| {
        let n = rows as f64;
        ReliabilityBin {
            given: given / n,
            came_true: came_true / n,
            rows,
        }
    };
    sums.iter().filter(|bin| bin.2 > 0).map(mean).collect()
}

/// Expected calibration error: the mean distance of a [`reliability`] diagram from the diagonal, weighted by rows. `None`
/// if there are no probabilities.
///
/// # Panics
///
/// If there are more probabilities than labels, or fewer.
#[must_use]
pub fn calibration_error(probabilities: &[f64], labels: &[bool], bins: usize) -> Option<f64> {
    let distance = |bin: ReliabilityBin| (bin.given - bin.came_true).abs() * bin.rows as f64;
    let sum: f64 = reliability(probabilities, labels, bins)
        .into_iter()
        .map(distance)
        .sum();
    (!labels.is_empty()).then(|| sum / labels.len() as f64)
}

/// Anomalies and others at each score, from the highest down.
fn tied_groups(scores: &[f64], labels: &[bool]) -> Vec<(u64, u64)> {
    assert_eq!(scores.len(), labels.len(), "each score needs a label");
    let known = |score: f64| if score.is_nan() { f64::NEG_INFINITY } else { score };
    let mut order: Vec<(f64, bool)> = scores
        .iter()
        .zip(labels)
        .map(|(&s, &label)| (known(s), label))
        .collect();
    order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let count = |group: &[(f64, bool)]| {
        let anomalies = group.iter().filter(|entry| entry.1).count() as u64;
        (anomalies, group.len() as u64 - anomalies)
    };
    order.chunk_by(|a, b| a.0 == b.0).map(count).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_the_definitions(rows in proptest::collection::vec((0_u8..8, any::<bool>()), 1..60)) {
            let scores: Vec<f64> = rows.iter().map(|row| f64::from(row.0)).collect();
            let labels: Vec<bool> = rows.iter().map(|row| row.1).collect();
            let pairs: Vec<f64> = rows.iter().filter(|row| row.1).flat_map(|a| {
                rows.iter().filter(|row| !row.1).map(|b| match a.0.cmp(&b.0) {
                    std::cmp::Ordering::Greater => 1.0,
                    std::cmp::Ordering::Equal => 0.5,
                    std::cmp::Ordering::Less => 0.0,
                })
            }).collect();
            let expected = (!pairs.is_empty()).then(|| pairs.iter().sum::<f64>() / pairs.len() as f64);
            let found = auroc(&scores, &labels);
            prop_assert_eq!(found.is_some(), expected.is_some());
            prop_assert!(found.zip(expected).is_none_or(|(a, b)| (a - b).abs() < 1e-12));

            let anomalies = labels.iter().filter(|&&label| label).count() as f64;
            let mut precision = 0.0;
            for threshold in (0..8).rev().map(f64::from) {
                let alarms: Vec<bool> = rows.iter().filter(|r| f64::from(r.0) >= threshold).map(|r| r.1).collect();
                let gained = rows.iter().filter(|r| f64::from(r.0) == threshold && r.1).count() as f64;
                if gained > 0.0 {
                    let right = alarms.iter().filter(|&&label| label).count() as f64;
                    precision += gained / anomalies * right / alarms.len() as f64;
                }
            }
            match average_precision(&scores, &labels) {
                Some(found) => prop_assert!((found - precision).abs() < 1e-12),
                None => prop_assert_eq!(anomalies, 0.0),
            }
        }
    }

    #[test]
    fn reliability_of_known_probabilities() {
        let probabilities = [0.05, 0.05, 0.95, 0.95];
        let labels = [false, true, true, true];
        let bins = reliability(&probabilities, &labels, 10);
        assert_eq!(bins.len(), 2);
        assert_eq!(
            (bins[0].came_true, bins[1].came_true, bins[1].rows),
            (0.5, 1.0, 2)
        );
        assert!(
            (calibration_error(&probabilities, &labels, 10).unwrap() - (0.45 + 0.05) / 2.0).abs() < 1e-12
        );
        let squares = 0.05_f64.powi(2) * 3.0 + 0.95_f64.powi(2);
        assert!((brier_score(&probabilities, &labels).unwrap() - squares / 4.0).abs() < 1e-12);
        assert_eq!(brier_score(&[], &[]), None);
    }

    #[test]
    fn nan_is_lowest() {
        assert_eq!(auroc(&[f64::NAN, -1.0], &[false, true]), Some(1.0));
        assert_eq!(auroc(&[f64::NAN, f64::NEG_INFINITY], &[false, true]), Some(0.5));
    }
}
