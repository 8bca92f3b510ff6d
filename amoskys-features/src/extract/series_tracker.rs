use std::fmt::Write as _;

use amoskys_core::event::{Event, Metric, MetricKind};
use amoskys_core::{Name, Timestamp};
use serde::{Deserialize, Serialize};

use super::fact::{At, Fact, Sample};
use crate::aggregate::DampedSums;
use crate::lru::{Lru, LruState};

/// How many series are remembered; at about 300 bytes each.
const SERIES: usize = 65_536;
/// A sample counts half as much after 100 s and after 1000 s.
const FAST_HZ: f64 = 0.01;
const SLOW_HZ: f64 = 0.001;

/// Remembers the latest sample of each series of a metric, and its level so far.
pub(crate) struct SeriesTracker {
    series: Lru<Name, Series>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Series {
    time: Timestamp,
    value: f64,
    /// The value less the one before, or a counter's increase a second.
    level: Option<f64>,
    fast: DampedSums,
    slow: DampedSums,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct SeriesState {
    series: LruState<Name, Series>,
}

impl SeriesTracker {
    pub(crate) fn new() -> Self {
        Self {
            series: Lru::new(SERIES),
        }
    }

    pub(crate) fn metric(
        &mut self,
        event: &Event,
        metric: &Metric,
        at: At,
        tell: &mut impl FnMut(At, Fact<'_>),
    ) {
        if !metric.value.is_finite() {
            return;
        }
        let name = series_name(event, metric);
        let (series, evicted) = self.series.get_or_insert(&name, Series::default);
        let is_first = series.time == Timestamp::default() && series.level.is_none() || evicted.is_some();
        let gap = if is_first {
            None
        } else {
            Some(at.time.since(series.time).as_secs_f64())
        };
        let is_reset = metric.kind == MetricKind::Counter && !is_first && metric.value < series.value;
        let level = match (metric.kind, gap) {
            (MetricKind::Gauge, _) => Some(metric.value),
            // A counter that began again tells only what it has counted since.
            (MetricKind::Counter, Some(gap)) if gap > 0.0 => Some(
                if is_reset {
                    metric.value
                } else {
                    metric.value - series.value
                } / gap,
            ),
            _ => None,
        };
        let distance = |sums: &DampedSums, value: f64| {
            let deviation = sums.std_dev();
            (sums.weight() > 1.0 && deviation > 0.0).then(|| (value - sums.mean()) / deviation)
        };
        let sample = Sample {
            time: at.time,
            level,
            before: series.level.filter(|_| !is_first),
            gap,
            is_reset,
            fast: level.and_then(|value| distance(&series.fast, value)),
            slow: level.and_then(|value| distance(&series.slow, value)),
        };
        series.time = at.time;
        series.value = metric.value;
        if let Some(value) = level {
            series.level = level;
            series.fast.add(FAST_HZ, at.time, value);
            series.slow.add(SLOW_HZ, at.time, value);
        }
        tell(
            at,
            Fact::Metric {
                series: &name,
                metric,
                sample: &sample,
            },
        );
    }

    pub(crate) fn state(&self) -> SeriesState {
        SeriesState {
            series: self.series.state(|_, series| series.clone()),
        }
    }

    pub(crate) fn restore(&mut self, state: SeriesState) {
        self.series.restore(state.series);
    }
}

/// Device, metric and labels, as in `switch-1/if_in_octets{interface=eth0}`.
fn series_name(event: &Event, metric: &Metric) -> Name {
    let mut name = format!("{}/{}", event.device, metric.name);
    for (at, (label, value)) in metric.labels.iter().enumerate() {
        // Writing to a string does not fail.
        let _ = write!(name, "{}{label}={value}", if at == 0 { "{" } else { "," });
    }
    if !metric.labels.is_empty() {
        name.push('}');
    }
    Name::from(name.as_str())
}
