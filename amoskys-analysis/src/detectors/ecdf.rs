//! Empirical distribution functions of columns: what ECOD and COPOD have in common.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use super::parallel::in_parts;
use crate::iforest::Rows;

/// Which tail of a column counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Skew {
    /// The long tail is on the left.
    Left,
    /// Neither tail is longer.
    None,
    /// The long tail is on the right.
    Right,
}

/// How two tails make one score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tails {
    /// The larger one, or the one on the side of the skew.
    Larger,
    /// The mean of both, or the one on the side of the skew.
    Mean,
}

impl Tails {
    fn combine(self, left: f64, right: f64, skew: Skew) -> f64 {
        let skewed = match skew {
            Skew::Left => left,
            Skew::Right => right,
            Skew::None => left + right,
        };
        match self {
            Self::Larger => left.max(right).max(skewed),
            Self::Mean => f64::midpoint(left, right).max(skewed),
        }
    }
}

/// The training values of each column in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Ecdf {
    columns: Vec<Vec<f64>>,
    skews: Vec<Skew>,
}

impl Ecdf {
    pub(super) fn fit(rows: Rows<'_>, threads: NonZeroUsize) -> Self {
        let sorted = in_parts(rows.columns(), threads, |columns| {
            let of = |column| {
                let mut values = column_of(rows, column);
                let skew = skew(&values);
                values.sort_unstable_by(f64::total_cmp);
                (values, skew)
            };
            columns.map(of).collect()
        });
        let (columns, skews) = sorted.into_iter().unzip();
        Self { columns, skews }
    }

    /// The same as fitting and judging the same rows; sorting already says how many values lie on either side.
    pub(super) fn fit_and_judge(rows: Rows<'_>, tails: Tails) -> (Self, Vec<f64>) {
        let surprises = surprises(rows.len());
        let mut scores = vec![0.0; rows.len()];
        let (mut columns, mut skews) = (Vec::new(), Vec::new());
        let mut order: Vec<(u64, u32)> = Vec::with_capacity(rows.len());
        for column in 0..rows.columns() {
            let values = column_of(rows, column);
            let skew = skew(&values);
            order.clear();
            order.extend(
                values
                    .iter()
                    .zip(0_u32..)
                    .map(|(value, row)| (sortable(*value), row)),
            );
            order.sort_unstable_by_key(|entry| entry.0);
            let mut start = 0;
            for group in order.chunk_by(|a, b| a.0 == b.0) {
                let end = start + group.len();
                let add = tails.combine(surprises[end], surprises[rows.len() - start], skew);
                for (_, row) in group {
                    scores[*row as usize] += add;
                }
                start = end;
            }
            columns.push(order.iter().map(|(_, row)| values[*row as usize]).collect());
            skews.push(skew);
        }
        (Self { columns, skews }, scores)
    }

    pub(super) fn width(&self) -> usize {
        self.columns.len()
    }

    pub(super) fn is_sound(&self) -> bool {
        let rows = self.columns.first().map_or(0, Vec::len);
        let sound = |column: &Vec<f64>| {
            column.len() == rows
                && column.iter().all(|value| value.is_finite())
                && column.windows(2).all(|pair| pair[0] <= pair[1])
        };
        rows > 0 && self.skews.len() == self.columns.len() && self.columns.iter().all(sound)
    }

    pub(super) fn judge_into(&self, rows: Rows<'_>, tails: Tails, scores: &mut [f64]) {
        let all = self.columns.first().map_or(0, Vec::len);
        let surprises = surprises(all);
        for (at, score) in scores.iter_mut().enumerate() {
            let columns = self.columns.iter().zip(&self.skews);
            let add = |(value, (column, skew)): (&f64, (&Vec<f64>, &Skew))| {
                let below = column.partition_point(|known| known < value);
                let up_to = below + column[below..].partition_point(|known| known <= value);
                tails.combine(surprises[up_to], surprises[all - below], *skew)
            };
            *score = rows
                .row(at)
                .iter()
                .zip(columns)
                .map(add)
                .fold(0.0, |sum, add| sum + add);
        }
    }
}

/// For each count, how surprising it is that so few of all values lie this far out. None at all counts as half a value.
fn surprises(all: usize) -> Vec<f64> {
    let all_f = all as f64;
    (0..=all)
        .map(|count| -(if count == 0 { 0.5 } else { count as f64 } / all_f).ln())
        .collect()
}

fn column_of(rows: Rows<'_>, column: usize) -> Vec<f64> {
    // Zero is one number, whatever its sign.
    (0..rows.len()).map(|at| rows.row(at)[column] + 0.0).collect()
}

/// A whole number that sorts as the float does.
fn sortable(value: f64) -> u64 {
    let bits = value.to_bits();
    if bits >> 63 == 0 { bits | 1 << 63 } else { !bits }
}

/// The sign of the third moment; none in a column of one value.
fn skew(values: &[f64]) -> Skew {
    let n = values.len() as f64;
    let mean = values.iter().map(|value| value / n).sum::<f64>();
    let widest = values
        .iter()
        .map(|value| (value - mean).abs())
        .fold(0.0, f64::max);
    // Differences this small are rounding of the mean.
    if widest <= 1e-15 * mean.abs() || widest == 0.0 || !widest.is_finite() {
        return Skew::None;
    }
    let third: f64 = values.iter().map(|value| ((value - mean) / widest).powi(3)).sum();
    if third > 0.0 {
        Skew::Right
    } else if third < 0.0 {
        Skew::Left
    } else {
        Skew::None
    }
}
