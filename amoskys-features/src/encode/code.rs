use std::f64::consts::TAU;

use amoskys_core::FeatureDef;
use serde::{Deserialize, Serialize};

use super::Encoder;
use crate::hash::KeyHash;

/// So many categories are kept where the number is not a parameter.
const MAX_CATEGORIES: usize = 65_536;

/// What is fitted for one feature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Code {
    /// It passes through.
    Keep,
    /// The categories with a feature of their own, by value.
    OneHot {
        categories: Vec<f64>,
    },
    Hashing {
        buckets: u16,
    },
    /// Each category with its share, by value.
    Frequency {
        shares: Vec<(f64, f64)>,
    },
    /// The categories by value.
    Ordinal {
        categories: Vec<f64>,
    },
    Cyclic {
        period: f64,
    },
}

impl Code {
    pub(super) fn fit(encoder: Encoder, values: impl Iterator<Item = f64>) -> Self {
        match encoder {
            Encoder::OneHot { max_categories } => Self::OneHot {
                categories: names(commonest(values, usize::from(max_categories))),
            },
            Encoder::Hashing { buckets } => Self::Hashing { buckets },
            Encoder::Frequency => Self::Frequency {
                shares: commonest(values, MAX_CATEGORIES),
            },
            Encoder::Ordinal => Self::Ordinal {
                categories: names(commonest(values, MAX_CATEGORIES)),
            },
            Encoder::Cyclic { period } => Self::Cyclic { period },
        }
    }

    /// Whether it can be applied, wherever it was read from.
    pub(super) fn is_sound(&self) -> bool {
        let ordered = |categories: &[f64]| categories.windows(2).all(|pair| pair[0] < pair[1]);
        match self {
            Self::Keep => true,
            Self::OneHot { categories } | Self::Ordinal { categories } => ordered(categories),
            Self::Hashing { buckets } => (1..=1024).contains(buckets),
            Self::Frequency { shares } => ordered(&shares.iter().map(|entry| entry.0).collect::<Vec<_>>()),
            Self::Cyclic { period } => *period > 0.0,
        }
    }

    /// The features it makes of one.
    pub(super) fn features(&self, feature: &FeatureDef) -> Vec<FeatureDef> {
        let derived = |suffix: &str, what: &str| {
            FeatureDef::new(
                &format!("{}{suffix}", feature.name),
                "",
                &format!("{what} of: {}", feature.description),
            )
        };
        match self {
            Self::Keep => vec![feature.clone()],
            Self::OneHot { categories } => {
                let own = categories
                    .iter()
                    .map(|value| derived(&format!("={value}"), "whether it is this category"));
                own.chain([derived(
                    "=other",
                    "whether it is a category without a feature of its own",
                )])
                .collect()
            }
            Self::Hashing { buckets } => (0..*buckets)
                .map(|bucket| derived(&format!("#{bucket}"), "whether its hash falls here"))
                .collect(),
            Self::Frequency { .. } => vec![derived("~frequency", "share of the category in training")],
            Self::Ordinal { .. } => vec![derived("~ordinal", "place of the category by value")],
            Self::Cyclic { .. } => vec![derived("~sin", "sine"), derived("~cos", "cosine")],
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "at most 65 536 categories")]
    pub(super) fn encode(&self, value: f64, out: &mut Vec<f64>) {
        let place = |categories: &[f64]| {
            categories
                .binary_search_by(|other| other.total_cmp(&plain(value)))
                .ok()
        };
        match self {
            Self::Keep => out.push(value),
            Self::OneHot { categories } => {
                let at = if value.is_nan() {
                    None
                } else {
                    Some(place(categories).unwrap_or(categories.len()))
                };
                push_indicator(out, categories.len() + 1, at);
            }
            Self::Hashing { buckets } => {
                let hash = KeyHash::of_number(plain(value).to_bits()).0 % u64::from(*buckets);
                let at = if value.is_nan() {
                    None
                } else {
                    usize::try_from(hash).ok()
                };
                push_indicator(out, usize::from(*buckets), at);
            }
            Self::Frequency { shares } => {
                let found = shares.binary_search_by(|entry| entry.0.total_cmp(&plain(value)));
                let share = found.map_or(0.0, |at| shares[at].1);
                out.push(if value.is_nan() { f64::NAN } else { share });
            }
            Self::Ordinal { categories } => {
                let at = place(categories).map_or(-1.0, |at| at as f64);
                out.push(if value.is_nan() { f64::NAN } else { at });
            }
            Self::Cyclic { period } => {
                let (sin, cos) = ((value / period).fract() * TAU).sin_cos();
                out.extend([sin, cos]);
            }
        }
    }
}

fn push_indicator(out: &mut Vec<f64>, length: usize, at: Option<usize>) {
    let start = out.len();
    out.resize(start + length, 0.0);
    if let Some(value) = at.and_then(|at| out.get_mut(start + at)) {
        *value = 1.0;
    }
}

/// The commonest categories with their shares, in the order of their values. Among equally common ones the
/// smaller values are kept.
#[expect(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
fn commonest(values: impl Iterator<Item = f64>, most: usize) -> Vec<(f64, f64)> {
    let mut sorted: Vec<f64> = values.filter(|value| !value.is_nan()).map(plain).collect();
    sorted.sort_by(f64::total_cmp);
    let total = sorted.len() as f64;
    let mut counts: Vec<(f64, usize)> = sorted
        .chunk_by(|a, b| a.total_cmp(b).is_eq())
        .map(|same| (same[0], same.len()))
        .collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.total_cmp(&b.0)));
    counts.truncate(most);
    counts.sort_by(|a, b| a.0.total_cmp(&b.0));
    counts
        .into_iter()
        .map(|(value, count)| (value, count as f64 / total))
        .collect()
}

fn names(shares: Vec<(f64, f64)>) -> Vec<f64> {
    shares.into_iter().map(|entry| entry.0).collect()
}

/// Minus zero is zero.
fn plain(value: f64) -> f64 {
    if value == 0.0 { 0.0 } else { value }
}
