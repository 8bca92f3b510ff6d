use super::tied_groups;

/// The ROC curve: for each threshold between scores, the share of other rows above it and the share of anomalies above it, from
/// (0, 0) to (1, 1). Empty if there are no anomalies, or nothing else.
///
/// ```
/// use amoskys_analysis::eval::roc_curve;
///
/// let curve = roc_curve(&[0.9, 0.8, 0.7, 0.1], &[true, false, true, false]);
/// assert_eq!(curve, [(0.0, 0.0), (0.0, 0.5), (0.5, 0.5), (0.5, 1.0), (1.0, 1.0)]);
/// ```
///
/// # Panics
///
/// If there are more scores than labels, or fewer.
#[must_use]
pub fn roc_curve(scores: &[f64], labels: &[bool]) -> Vec<(f64, f64)> {
    let groups = tied_groups(scores, labels);
    let (anomalies, others) = totals(&groups);
    if anomalies == 0 || others == 0 {
        return Vec::new();
    }
    let mut curve = vec![(0.0, 0.0)];
    let (mut found, mut alarms) = (0, 0);
    for group in groups {
        found += group.0;
        alarms += group.1;
        curve.push((alarms as f64 / others as f64, found as f64 / anomalies as f64));
    }
    curve
}

/// The precision-recall curve: for each threshold between scores, from the highest down, the share of anomalies above it and the
/// share of anomalies among the rows above it. Empty if there are no anomalies.
///
/// # Panics
///
/// If there are more scores than labels, or fewer.
#[must_use]
pub fn precision_recall_curve(scores: &[f64], labels: &[bool]) -> Vec<(f64, f64)> {
    let groups = tied_groups(scores, labels);
    let (anomalies, _) = totals(&groups);
    let (mut found, mut seen) = (0, 0);
    let point = |group: &(u64, u64)| {
        found += group.0;
        seen += group.0 + group.1;
        (found as f64 / anomalies as f64, found as f64 / seen as f64)
    };
    if anomalies == 0 {
        return Vec::new();
    }
    groups.iter().map(point).collect()
}

fn totals(groups: &[(u64, u64)]) -> (u64, u64) {
    groups.iter().fold((0, 0), |(anomalies, others), group| {
        (anomalies + group.0, others + group.1)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::eval::{auroc, average_precision};

    proptest! {
        #[test]
        fn areas_are_the_measures(rows in proptest::collection::vec((0_u8..9, any::<bool>()), 0..60)) {
            let scores: Vec<f64> = rows.iter().map(|row| f64::from(row.0)).collect();
            let labels: Vec<bool> = rows.iter().map(|row| row.1).collect();
            let curve = roc_curve(&scores, &labels);
            let area: f64 = curve.windows(2).map(|ends| (ends[1].0 - ends[0].0) * (ends[0].1 + ends[1].1) / 2.0).sum();
            match auroc(&scores, &labels) {
                Some(expected) => prop_assert!((area - expected).abs() < 1e-12),
                None => prop_assert!(curve.is_empty()),
            }
            let curve = precision_recall_curve(&scores, &labels);
            let mut last = 0.0;
            let mut sum = 0.0;
            for (recall, precision) in &curve {
                sum += (recall - last) * precision;
                last = *recall;
            }
            match average_precision(&scores, &labels) {
                Some(expected) => prop_assert!((sum - expected).abs() < 1e-12),
                None => prop_assert!(curve.is_empty()),
            }
        }
    }
}
