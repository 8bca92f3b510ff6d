use serde::{Deserialize, Serialize};

use super::Normalizer;
use super::normal::normal_quantile;

/// Interquartile range of a normal distribution of standard deviation 1.
const NORMAL_IQR: f64 = 1.349;

/// What is fitted for one feature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ColumnMap {
    /// Smallest and largest finite value fitted; `None` if there was none.
    range: Option<(f64, f64)>,
    scale: Scale,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Scale {
    Affine { center: f64, width: f64 },
    Clipped { center: f64, width: f64 },
    Asinh { center: f64, width: f64 },
    SignedLog,
    Quantiles { sorted: Vec<f64>, normal: bool },
}

impl ColumnMap {
    pub(super) fn fit(normalizer: Normalizer, values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let range = sorted.first().copied().zip(sorted.last().copied());
        let (min, max) = range.unwrap_or_default();
        let robust = || {
            let width = (quantile(&sorted, 0.75) - quantile(&sorted, 0.25)) / NORMAL_IQR;
            (
                quantile(&sorted, 0.5),
                if width > 0.0 {
                    width
                } else {
                    mean_and_deviation(&sorted).1
                },
            )
        };
        let usable = |width: f64| {
            if width > 0.0 && width.is_finite() {
                width
            } else {
                1.0
            }
        };
        let scale = match normalizer {
            Normalizer::MinMax { clip: true } => Scale::Clipped {
                center: min,
                width: usable(max - min),
            },
            Normalizer::MinMax { clip: false } => Scale::Affine {
                center: min,
                width: usable(max - min),
            },
            Normalizer::ZScore => {
                let (mean, deviation) = mean_and_deviation(&sorted);
                Scale::Affine {
                    center: mean,
                    width: usable(deviation),
                }
            }
            Normalizer::Robust => {
                let (center, width) = robust();
                Scale::Affine {
                    center,
                    width: usable(width),
                }
            }
            Normalizer::RobustAsinh => {
                let (center, width) = robust();
                Scale::Asinh {
                    center,
                    width: usable(width),
                }
            }
            Normalizer::SignedLog => Scale::SignedLog,
            Normalizer::Quantile { points, normal } => {
                let last = f64::from(points - 1);
                let sorted = (0..points)
                    .map(|point| quantile(&sorted, f64::from(point) / last))
                    .collect();
                Scale::Quantiles { sorted, normal }
            }
        };
        Self { range, scale }
    }

    pub(super) fn map(&self, value: f64) -> f64 {
        let Some((min, max)) = self.range else {
            return f64::NAN;
        };
        if value.is_nan() {
            return f64::NAN;
        }
        let value = if value.is_finite() {
            value
        } else {
            value.clamp(min, max)
        };
        match &self.scale {
            Scale::Affine { center, width } => (value - center) / width,
            Scale::Clipped { center, width } => ((value - center) / width).clamp(0.0, 1.0),
            Scale::Asinh { center, width } => ((value - center) / width).asinh(),
            Scale::SignedLog => value.signum() * value.abs().ln_1p(),
            Scale::Quantiles { sorted, normal } => {
                let rank = rank(sorted, value);
                if *normal { normal_quantile(rank) } else { rank }
            }
        }
    }
}

/// The quantile of sorted numbers, with linear interpolation; 0 if there are none.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a position within the numbers"
)]
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0.0;
    };
    let place = share * last as f64;
    let below = (place.floor() as usize).min(last);
    let above = (below + 1).min(last);
    // Not a difference of the two, which may overflow.
    let part = place - below as f64;
    sorted[below] * (1.0 - part) + sorted[above] * part
}

/// The share of quantiles below a value. Among equal quantiles, the middle one counts.
#[expect(clippy::cast_precision_loss, reason = "at most 10 000 quantiles")]
fn rank(quantiles: &[f64], value: f64) -> f64 {
    let last = (quantiles.len().max(2) - 1) as f64;
    let below = quantiles.partition_point(|&quantile| quantile < value);
    let not_above = quantiles.partition_point(|&quantile| quantile <= value);
    if not_above > below {
        return (below + not_above - 1) as f64 / 2.0 / last;
    }
    match (below.checked_sub(1).map(|at| quantiles[at]), quantiles.get(below)) {
        (Some(left), Some(&right)) => ((below - 1) as f64 + (value - left) / (right - left)) / last,
        (None, _) => 0.0,
        (_, None) => 1.0,
    }
}

/// In two passes, so that neither a large mean nor large values lose digits.
#[expect(clippy::cast_precision_loss, reason = "a number of rows")]
fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    if values.is_empty() {
        return (0.0, 0.0);
    }
    let n = values.len() as f64;
    let mean = values.iter().map(|value| value / n).sum::<f64>();
    // The population's deviation, as is usual for scaling.
    let variance = values
        .iter()
        .map(|value| (value - mean) * (value - mean) / n)
        .sum::<f64>();
    (mean, variance.sqrt())
}
