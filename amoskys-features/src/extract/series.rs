use amoskys_core::event::Entity;
use serde::{Deserialize, Serialize};

use super::catalog::{Catalog, Feature, Reads};
use super::fact::{Fact, Sample};
use super::parts::{count, regularity_features};
use crate::aggregate::{Aggregate, Distinct, Merged, Moments, Quantiles, StartTimes, aggregate, ratio};
use crate::hash::KeyHash;

/// Features of a series of measurements: a metric of a device with its labels. The entity is [`Entity::Named`], as in
/// `switch-1/if_in_octets{interface=eth0}`.
///
/// The level of a gauge is its value; of a counter, its increase a second since the sample before.
pub struct SeriesCatalog;

type F = Feature<SeriesAggregate>;

aggregate! {
    /// What is kept for a series.
    pub struct SeriesAggregate {
        samples: u64,
        levels: Moments,
        quantiles: Quantiles,
        values: Distinct,
        changes: Moments,
        sizes: Moments,
        squared: f64,
        ups: u64,
        downs: u64,
        same: u64,
        zeros: u64,
        negative: u64,
        resets: u64,
        gaps: Moments,
        fast: Moments,
        slow: Moments,
        outside: u64,
        judged: u64,
        trend: Trend,
        neighbours: Neighbours,
        starts: StartTimes,
    }
}

/// Sums for a line through the levels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Trend {
    /// The time that others are counted from, in seconds, that none is lost to rounding.
    from: f64,
    times: Moments,
    values: Moments,
    /// Sum of the products of distances from the means.
    products: f64,
}

impl Trend {
    fn add(&mut self, seconds: f64, value: f64) {
        if self.times.count() == 0 {
            self.from = seconds;
        }
        self.merge(&Self::single(seconds, value));
    }

    fn single(seconds: f64, value: f64) -> Self {
        let (mut times, mut values) = (Moments::default(), Moments::default());
        times.add(0.0);
        values.add(value);
        Self {
            from: seconds,
            times,
            values,
            products: 0.0,
        }
    }

    /// Rise a second; NaN for fewer than two times.
    fn slope(&self) -> f64 {
        let deviation = self.times.std_dev();
        if deviation > 0.0 {
            self.products / (deviation * deviation * (count(self.times.count()) - 1.0))
        } else {
            f64::NAN
        }
    }

    /// Correlation of level and time; NaN without slope, or for a level that stays.
    fn correlation(&self) -> f64 {
        let scale = self.times.std_dev() * self.values.std_dev() * (count(self.times.count()) - 1.0);
        if scale > 0.0 {
            (self.products / scale).clamp(-1.0, 1.0)
        } else {
            f64::NAN
        }
    }
}

impl Aggregate for Trend {
    type Sliding = Merged;

    fn merge(&mut self, later: &Self) {
        if later.times.count() == 0 {
            return;
        }
        if self.times.count() == 0 {
            *self = *later;
            return;
        }
        let (n, m) = (count(self.times.count()), count(later.times.count()));
        let shift = later.from - self.from;
        let apart = later.times.mean() + shift - self.times.mean();
        self.products +=
            later.products + apart * (later.values.mean() - self.values.mean()) * (n * m / (n + m));
        self.times.merge(&later.times.shifted(shift));
        self.values.merge(&later.values);
    }
}

/// Sums for the correlation of each level with the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Neighbours {
    before: Moments,
    after: Moments,
    products: f64,
}

impl Neighbours {
    fn add(&mut self, before: f64, after: f64) {
        let mut one = Self::default();
        one.before.add(before);
        one.after.add(after);
        self.merge(&one);
    }

    /// NaN for fewer than three levels, or if they stay.
    fn correlation(&self) -> f64 {
        let scale = self.before.std_dev() * self.after.std_dev() * (count(self.before.count()) - 1.0);
        if scale > 0.0 {
            (self.products / scale).clamp(-1.0, 1.0)
        } else {
            f64::NAN
        }
    }
}

impl Aggregate for Neighbours {
    type Sliding = Merged;

    fn merge(&mut self, later: &Self) {
        if later.before.count() == 0 {
            return;
        }
        if self.before.count() == 0 {
            *self = *later;
            return;
        }
        let (n, m) = (count(self.before.count()), count(later.before.count()));
        let apart = (later.before.mean() - self.before.mean()) * (later.after.mean() - self.after.mean());
        self.products += later.products + apart * (n * m / (n + m));
        self.before.merge(&later.before);
        self.after.merge(&later.after);
    }
}

impl Catalog for SeriesCatalog {
    type Aggregate = SeriesAggregate;

    const NAME: &'static str = "series";
    const READS: Reads = Reads::Metrics;

    fn entity(fact: &Fact<'_>) -> Option<Entity> {
        match fact {
            Fact::Metric { series, .. } => Some(Entity::Named((*series).clone())),
            _ => None,
        }
    }

    fn add(kept: &mut SeriesAggregate, fact: &Fact<'_>) {
        if let Fact::Metric { sample, .. } = fact {
            kept.sample(sample);
        }
    }

    fn features() -> Vec<Feature<SeriesAggregate>> {
        const ANY: (f64, f64) = (f64::NEG_INFINITY, f64::INFINITY);
        let any = |name, description, value| F::new(name, "", description, value).within(ANY.0, ANY.1);
        let mut features = vec![
            F::new("samples", "", "samples", |w| count(w.samples)),
            any("level_mean", "mean level; NaN without", |w| w.levels.mean()),
            F::new("level_deviation", "", "standard deviation of the level; NaN for fewer than two", |w| w.levels.std_dev()),
            F::new("level_variation", "", "standard deviation / mean of the level; NaN for fewer than two or a mean of 0", |w| {
                w.levels.variation()
            }),
            any("level_min", "smallest level; NaN without", |w| w.levels.min()),
            any("level_max", "largest level; NaN without", |w| w.levels.max()),
            F::new("level_spread", "", "largest less smallest level; NaN without", |w| w.levels.max() - w.levels.min()),
            any("level_p10", "a tenth of the levels are no more; NaN without", |w| w.quantiles.quantile(0.1)),
            any("level_p50", "median level; NaN without", |w| w.quantiles.quantile(0.5)),
            any("level_p90", "nine tenths of the levels are no more; NaN without", |w| w.quantiles.quantile(0.9)),
            any("level_p99", "99 of 100 levels are no more; NaN without", |w| w.quantiles.quantile(0.99)),
            F::new("distinct_levels", "", "distinct levels", |w| w.values.count()),
            any("change_mean", "mean change of the level from sample to sample; NaN without", |w| w.changes.mean()),
            F::new("change_deviation", "", "standard deviation of the changes; NaN for fewer than two", |w| w.changes.std_dev()),
            F::new("change_size_mean", "", "mean size of the changes; NaN without", |w| w.sizes.mean()),
            F::new("change_size_max", "", "largest size of a change; NaN without", |w| w.sizes.max()),
            any("change_max", "largest rise; NaN without", |w| w.changes.max()),
            any("change_min", "largest fall, as a negative number; NaN without", |w| w.changes.min()),
            F::new("energy", "", "sum of the squares of the changes", |w| w.squared).within(0.0, f64::INFINITY),
            F::new("rise_ratio", "", "changes that are rises / changes", |w| ratio(w.ups, w.changes.count())),
            F::new("fall_ratio", "", "changes that are falls / changes", |w| ratio(w.downs, w.changes.count())),
            F::new("same_ratio", "", "samples at the level before / changes, these included", |w| ratio(w.same, w.changes.count())),
            F::new("zero_ratio", "", "levels of 0 / levels", |w| ratio(w.zeros, w.levels.count())),
            F::new("negative_ratio", "", "levels below 0 / levels", |w| ratio(w.negative, w.levels.count())),
            F::new("resets", "", "times that a counter began again", |w| count(w.resets)),
            any("slope", "rise a second of the line through the levels by least squares; NaN for fewer than two times", |w| w.trend.slope()),
            F::new("trend", "", "correlation of level and time; NaN without slope, or for a level that stays", |w| w.trend.correlation())
                .within(-1.0, 1.0),
            F::new("autocorrelation", "", "correlation of each level with the one before; NaN for fewer than three, or a level that stays", |w| {
                w.neighbours.correlation()
            })
            .within(-1.0, 1.0),
            F::new("gap_mean", "s", "mean time between samples; NaN without", |w| w.gaps.mean()),
            F::new("gap_max", "s", "longest time between samples; NaN without", |w| w.gaps.max()),
            any("surprise_fast_mean", "mean distance of a level from the damped mean before (λ = 0.01 a second), in damped deviations; NaN without", |w| {
                w.fast.mean()
            }),
            any("surprise_fast_max", "largest distance by λ = 0.01 a second; NaN without", |w| w.fast.max()),
            any("surprise_fast_min", "smallest distance by λ = 0.01 a second; NaN without", |w| w.fast.min()),
            any("surprise_slow_mean", "mean distance by λ = 0.001 a second; NaN without", |w| w.slow.mean()),
            any("surprise_slow_max", "largest distance by λ = 0.001 a second; NaN without", |w| w.slow.max()),
            any("surprise_slow_min", "smallest distance by λ = 0.001 a second; NaN without", |w| w.slow.min()),
            F::new("outside_ratio", "", "levels more than three damped deviations from the damped mean (λ = 0.001 a second) / levels judged", |w| {
                ratio(w.outside, w.judged)
            }),
        ];
        features.extend(regularity_features());
        features
    }

    fn starts(kept: &SeriesAggregate) -> Option<&StartTimes> {
        Some(&kept.starts)
    }
}

impl SeriesAggregate {
    fn sample(&mut self, sample: &Sample) {
        self.samples += 1;
        self.resets += u64::from(sample.is_reset);
        self.starts.add(sample.time);
        self.gaps.add(sample.gap.unwrap_or(f64::NAN));
        let Some(level) = sample.level else { return };
        self.levels.add(level);
        self.quantiles.add(level);
        self.values.add(KeyHash::of_number(level.to_bits()));
        self.zeros += u64::from(level == 0.0);
        self.negative += u64::from(level < 0.0);
        self.trend.add(
            sample.time.since(amoskys_core::Timestamp::MIN).as_secs_f64(),
            level,
        );
        if let Some(before) = sample.before {
            let change = level - before;
            self.changes.add(change);
            self.sizes.add(change.abs());
            self.squared += change * change;
            self.ups += u64::from(change > 0.0);
            self.downs += u64::from(change < 0.0);
            self.same += u64::from(change == 0.0);
            self.neighbours.add(before, level);
        }
        self.fast.add(sample.fast.unwrap_or(f64::NAN));
        self.slow.add(sample.slow.unwrap_or(f64::NAN));
        if let Some(distance) = sample.slow {
            self.judged += 1;
            self.outside += u64::from(distance.abs() > 3.0);
        }
    }
}
