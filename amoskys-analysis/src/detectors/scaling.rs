use serde::{Deserialize, Serialize};

use crate::iforest::Rows;

/// The interquartile range of a normal distribution, in standard deviations.
const NORMAL_IQR: f64 = 1.349;
/// A column's unit is at least this share of its standard deviation.
const LEAST_UNIT: f64 = 1e-3;

/// How values are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Form {
    /// Not at all.
    Linear,
    /// Distances from the middle of a column, like logarithms.
    FromMiddle,
    /// Distances from zero, like logarithms.
    FromZero,
}

/// Brings columns to one scale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Scaling {
    form: Form,
    /// The middle or lower end of each column, and units per unit; 0 for a column of one value.
    columns: Vec<(f64, f64)>,
}

impl Scaling {
    /// Each column from 0 to 1.
    pub(super) fn min_max(rows: Rows<'_>) -> Self {
        let column = |values: &mut Vec<f64>| {
            let low = values.iter().copied().fold(f64::INFINITY, f64::min);
            let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            (low, invert(high - low))
        };
        Self {
            form: Form::Linear,
            columns: of_columns(rows, column),
        }
    }

    /// `asinh` of the distance from the median in units of the interquartile range (as of a normal distribution): nearly linear in
    /// the middle, logarithmic far out, so that no far value shrinks all others.
    pub(super) fn robust(rows: Rows<'_>) -> Self {
        let column = |values: &mut Vec<f64>| {
            let n = values.len() as f64;
            let mean = values.iter().map(|value| value / n).sum::<f64>();
            let variance = values
                .iter()
                .map(|value| (value - mean) * (value - mean) / n)
                .sum::<f64>();
            values.sort_unstable_by(f64::total_cmp);
            let deviation = if values.first() == values.last() {
                0.0
            } else {
                variance.sqrt()
            };
            let range = (quantile(values, 0.75) - quantile(values, 0.25)) / NORMAL_IQR;
            let unit = if range > 0.0 { range } else { deviation };
            (quantile(values, 0.5), invert(unit.max(LEAST_UNIT * deviation)))
        };
        Self {
            form: Form::FromMiddle,
            columns: of_columns(rows, column),
        }
    }

    /// `sign(x) ln(1 + |x|)`, then each column from 0 to 1. A column of one value keeps its unit, so that another value is seen.
    pub(super) fn signed_log(rows: Rows<'_>) -> Self {
        let column = |values: &mut Vec<f64>| {
            let low = values.iter().copied().fold(f64::INFINITY, f64::min);
            let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let (low, high) = (signed_log(low), signed_log(high));
            (low, if high > low { invert(high - low) } else { 1.0 })
        };
        Self {
            form: Form::FromZero,
            columns: of_columns(rows, column),
        }
    }

    pub(super) fn width(&self) -> usize {
        self.columns.len()
    }

    pub(super) fn is_sound(&self) -> bool {
        let finite = |(middle, factor): &(f64, f64)| middle.is_finite() && factor.is_finite();
        !self.columns.is_empty() && self.columns.iter().all(finite)
    }

    /// The rows on this scale, one after another. Finite, whatever the rows hold.
    pub(super) fn apply(&self, rows: Rows<'_>) -> Vec<f64> {
        let scale = |(value, (middle, factor)): (&f64, &(f64, f64))| {
            // A column whose range floats cannot hold has no unit, and says nothing.
            let linear = |value: f64| match *factor {
                0.0 => 0.0,
                factor => ((value - middle) * factor).clamp(-1e100, 1e100),
            };
            match self.form {
                Form::Linear => linear(*value),
                Form::FromMiddle => asinh(linear(*value)),
                Form::FromZero => linear(signed_log(*value)),
            }
        };
        (0..rows.len())
            .flat_map(|at| rows.row(at).iter().zip(&self.columns).map(scale))
            .collect()
    }
}

/// The inverse hyperbolic sine.
fn asinh(value: f64) -> f64 {
    let size = value.abs();
    (size + (size * size + 1.0).sqrt()).ln().copysign(value)
}

fn signed_log(value: f64) -> f64 {
    value.abs().ln_1p().copysign(value)
}

fn invert(unit: f64) -> f64 {
    let factor = 1.0 / unit;
    if factor.is_finite() { factor } else { 0.0 }
}

fn of_columns(rows: Rows<'_>, column: impl Fn(&mut Vec<f64>) -> (f64, f64)) -> Vec<(f64, f64)> {
    let mut values = Vec::with_capacity(rows.len());
    let of = |at: usize| {
        values.clear();
        values.extend((0..rows.len()).map(|row| rows.row(row)[at]));
        column(&mut values)
    };
    (0..rows.columns()).map(of).collect()
}

/// A quantile of sorted values, between two of them by their distance.
pub(super) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, part) = (place as usize, place.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] * (1.0 - part) + sorted[above] * part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_come_to_one_scale() {
        let values: Vec<f64> = (0..101).flat_map(|n| [f64::from(n) * 1e6, 7.0]).collect();
        let rows = Rows::new(&values, 2).unwrap();
        let scaled = Scaling::min_max(rows).apply(rows);
        assert_eq!((scaled[0], scaled[100], scaled[200]), (0.0, 0.5, 1.0));
        assert!(scaled.iter().skip(1).step_by(2).all(|value| *value == 0.0));
        let scaled = Scaling::robust(rows).apply(rows);
        assert!((scaled[150] - (1.349_f64 / 2.0).asinh()).abs() < 1e-12);
        assert_eq!(scaled[100], 0.0);
        let scaled = Scaling::signed_log(rows).apply(rows);
        assert!((scaled[100] - 50e6_f64.ln_1p() / 100e6_f64.ln_1p()).abs() < 1e-12);
        assert_eq!((scaled[0], scaled[1], scaled[200]), (0.0, 0.0, 1.0));
        // Three quarters of a column are equal: the standard deviation is its unit.
        let values: Vec<f64> = (0..100).map(|n| if n < 80 { 0.0 } else { 5.0 }).collect();
        let rows = Rows::new(&values, 1).unwrap();
        assert!((Scaling::robust(rows).apply(rows)[99] - 2.5_f64.asinh()).abs() < 1e-12);
        // Extremes stay finite.
        let values = [f64::MAX, -f64::MAX, 0.0, 1.0];
        let rows = Rows::new(&values, 1).unwrap();
        for scaling in [
            Scaling::robust(rows),
            Scaling::min_max(rows),
            Scaling::signed_log(rows),
        ] {
            assert!(scaling.is_sound() && scaling.apply(rows).iter().all(|value| value.is_finite()));
        }
    }
}
