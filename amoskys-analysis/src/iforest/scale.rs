use serde::{Deserialize, Serialize};

use super::rows::Rows;

/// So many rows, evenly spread, are looked at for medians and ranges.
const LOOKED_AT: usize = 8192;
/// Scaled values stay within this, so that differences of two of them are finite.
const LIMIT: f64 = 1e30;

/// Brings features to a scale that 32-bit floats hold well: the training median becomes 0, the training range about
/// 1.
///
/// Isolation trees see only the order of values, so a scale changes nothing but their rounding. Halving the size of
/// the numbers makes trees fit the first-level cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Scale {
    /// Median and factor of each feature.
    features: Vec<(f64, f64)>,
}

impl Scale {
    /// From at most 8192 rows.
    pub(super) fn fit(rows: Rows<'_>) -> Self {
        let looked_at = rows.len().min(LOOKED_AT);
        let sample: Vec<&[f64]> = (0..looked_at)
            .map(|at| rows.row(spread(at, looked_at, rows.len())))
            .collect();
        let mut column = Vec::with_capacity(looked_at);
        let feature = |at: usize| {
            column.clear();
            column.extend(sample.iter().map(|row| row[at]).filter(|value| value.is_finite()));
            median_and_factor(&mut column)
        };
        Self {
            features: (0..rows.columns()).map(feature).collect(),
        }
    }

    pub(super) fn columns(&self) -> usize {
        self.features.len()
    }

    /// The training median of a feature.
    pub(super) fn median(&self, feature: usize) -> f64 {
        self.features.get(feature).map_or(f64::NAN, |feature| feature.0)
    }

    /// Scales a row. A missing value becomes the median.
    pub(super) fn apply(&self, row: &[f64], scaled: &mut [f32]) {
        for ((value, to), (median, factor)) in row.iter().zip(scaled).zip(&self.features) {
            *to = scale(*value, *median, *factor);
        }
    }

    pub(super) fn is_sound(&self) -> bool {
        !self.features.is_empty()
            && self
                .features
                .iter()
                .all(|(median, factor)| median.is_finite() && factor.is_finite() && *factor > 0.0)
    }
}

fn scale(value: f64, median: f64, factor: f64) -> f32 {
    let scaled = ((value - median) * factor).clamp(-LIMIT, LIMIT);
    if scaled.is_nan() { 0.0 } else { scaled as f32 }
}

fn median_and_factor(values: &mut [f64]) -> (f64, f64) {
    if values.is_empty() {
        return (0.0, 1.0);
    }
    let middle = values.len() / 2;
    let (below, &mut median, above) = values.select_nth_unstable_by(middle, f64::total_cmp);
    // Half the range, which cannot overflow where the range could.
    let min = below.iter().copied().fold(median, f64::min);
    let max = above.iter().copied().fold(median, f64::max);
    let factor = 0.5 / (max / 2.0 - min / 2.0);
    (
        median,
        if factor.is_finite() && factor > 0.0 {
            factor
        } else {
            1.0
        },
    )
}

/// The place of the `at`-th of `looked_at` rows among `all`.
fn spread(at: usize, looked_at: usize, all: usize) -> usize {
    (at as u128 * all as u128 / looked_at as u128) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaled(column: &[f64], values: &[f64]) -> Vec<f32> {
        let scale = Scale::fit(Rows::new(column, 1).unwrap());
        assert!(scale.is_sound());
        let one = |&value: &f64| {
            let mut out = [9.0];
            scale.apply(&[value], &mut out);
            out[0]
        };
        values.iter().map(one).collect()
    }

    #[test]
    fn extreme_columns_keep_their_order() {
        let nan = f64::NAN;
        assert_eq!(
            scaled(&[0.0, 1.0, 2.0], &[0.0, 1.0, 2.0, nan]),
            [-0.5, 0.0, 0.5, 0.0]
        );
        assert_eq!(scaled(&[5.0, 5.0], &[5.0, 6.0]), [0.0, 1.0]);
        assert_eq!(scaled(&[nan, f64::INFINITY], &[0.0, nan]), [0.0, 0.0]);
        for column in [
            [-f64::MAX, 0.0, f64::MAX],
            [1e-320, 2e-320, 3e-320],
            [1e18, 1e18 + 256.0, 1e18 + 1024.0],
        ] {
            let out = scaled(
                &column,
                &[f64::NEG_INFINITY, column[0], column[1], column[2], f64::INFINITY],
            );
            assert!(
                out.windows(2).all(|pair| pair[0] <= pair[1]) && out.iter().all(|v| v.is_finite()),
                "{out:?}"
            );
            assert_eq!(out[2], 0.0);
        }
        let long: Vec<f64> = (0..100_000).map(f64::from).collect();
        assert!((scaled(&long, &[0.0])[0] + 0.5).abs() < 0.01);
    }
}
