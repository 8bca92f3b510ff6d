use std::sync::Arc;

use amoskys_core::event::{Event, Metric, ModelRef, Payload, Verdict};
use amoskys_core::{Analyzer, AnalyzerError, Digest, FeatureSchema, Name, Observation, Recorded, Timestamp};
use serde::{Deserialize, Serialize};

use super::config::{AlarmRule, SeriesConfig, SeriesConfigError};
use super::detector::SeriesDetector;
use super::group::{Departure, GroupConfig, GroupError, SeriesGroup};
use super::rate::Rate;
use super::verdict::{Occasion, schema};
use crate::measure::{BoundedMap, seconds_between};
use crate::snapshot;

/// The label of metrics that are those of a process, as the semantic conventions of OpenTelemetry name it and as `/proc` does.
const OF_PROCESS: [&str; 2] = ["pid", "process.pid"];
/// Seconds without a value after which a metric gives its place to another one.
const STALE: f64 = 3_600.0;
/// Values after which a metric is no newcomer any more, as a share of the horizon: before, nothing but silence is told of it.
const NEW: u32 = 4;
/// Characters of a metric's name with its labels that are kept for titles.
const NAME: usize = 96;
/// What titles and evidence compare scores with where alarms come by rate.
const NOMINAL: f64 = 1.0;

/// Settings of a [`MetricDetection`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct MetricsConfig {
    /// Of the detector of each metric.
    pub series: SeriesConfig,
    /// Of the group of each host.
    pub group: GroupConfig,
    /// Metrics that are watched at once, at least 1. Default 1,024. When there are so many, one that has had no value for an hour
    /// gives its place to the next, and is counted as [evicted](MetricDetection::evicted); while there is none, the values of the
    /// next are [passed over](MetricDetection::passed_over), so that those that are known stay known.
    pub metrics: usize,
    /// Metrics beside them of which less than a quarter of a [horizon](SeriesConfig::horizon) is known, at least 1; beyond, the one
    /// without values for longest is forgotten, and counted. Default 4,096: metrics of processes that come and go take no place
    /// from those that stay.
    pub newcomers: usize,
    /// Hosts whose metrics are compared with each other, at least 1. Default 256.
    pub hosts: usize,
    /// Metrics of one host that are compared, the first that come: 0 for none, 64 at most. Default 16.
    pub group_size: usize,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self {
            series: SeriesConfig::default(),
            group: GroupConfig::default(),
            metrics: 1_024,
            newcomers: 4_096,
            hosts: 256,
            group_size: 16,
        }
    }
}

/// Why a [`MetricDetection`] cannot be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsConfigError {
    /// A setting of the detector is out of range.
    #[error("the settings of a series are wrong")]
    Series(#[from] SeriesConfigError),
    /// A setting of the groups is out of range.
    #[error("the settings of a group are wrong")]
    Group(#[from] GroupError),
    /// A limit is zero, or more than 64 metrics are to be compared.
    #[error("{setting} is {value}, which is out of range")]
    Limit {
        /// Its name.
        setting: &'static str,
        /// What it was set to.
        value: usize,
    },
}

/// Watches metrics: an [`Analyzer`] with a [`SeriesDetector`] for each metric and a [`SeriesGroup`] for each host.
///
/// A series is what one source reports of one device under one name and set of labels. A counter is watched by its rise per
/// second. An alarm is a verdict of the temporal layer about the metric, with the device as peer, or about the device if one
/// metric departs from the others. An alarm at the threshold has a probability of 0.31, one with twice the score 0.67.
///
/// Other events are passed over. A metric that stops is noticed while other metrics of its device still come, if it is one of
/// those that are compared; else when it comes back, or by points that are not finite. Metrics of processes, which have a label
/// `pid`, are not compared with each other: they come and go.
///
/// # Cost
///
/// About 3 µs an event. A newcomer takes up to 6 kB, a metric up to 50 kB, reached after about 17 horizons, and a host with 16
/// metrics 100 kB more: with the default settings 100 MB at the very most, and a snapshot three quarters of that. The test
/// `memory_is_capped` holds it to this.
#[derive(Debug)]
pub struct MetricDetection {
    config: MetricsConfig,
    model: ModelRef,
    state: State,
}

#[derive(Debug, Serialize, Deserialize)]
struct State {
    metrics: BoundedMap<Key, Watched>,
    newcomers: BoundedMap<Key, Watched>,
    /// Values of newcomers for which there was no place.
    passed_over: u64,
    hosts: BoundedMap<Name, Host>,
}

/// A hash of source, device, name and labels.
type Key = [u8; 16];

#[derive(Debug, Serialize, Deserialize)]
struct Watched {
    /// When its last value came.
    last: Timestamp,
    rate: Rate,
    detector: SeriesDetector,
}

/// The metrics of a host, and how they move together.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Host {
    members: Vec<Member>,
    group: Option<SeriesGroup>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Member {
    key: Key,
    name: String,
    /// Its value in the row that is being filled.
    value: Option<f64>,
}

impl MetricDetection {
    /// A detection that has seen nothing.
    ///
    /// # Errors
    ///
    /// If a setting is out of range.
    pub fn new(config: MetricsConfig) -> Result<Self, MetricsConfigError> {
        config.series.validate()?;
        SeriesGroup::new(config.group_size.max(2), config.group)?;
        for (setting, value) in [
            ("metrics", config.metrics),
            ("newcomers", config.newcomers),
            ("hosts", config.hosts),
        ] {
            if value == 0 {
                return Err(MetricsConfigError::Limit { setting, value });
            }
        }
        let settings = serde_json::to_vec(&config).unwrap_or_default();
        let version = env!("CARGO_PKG_VERSION");
        let parts: [&[u8]; 3] = [version.as_bytes(), &settings, &schema().digest().0];
        Ok(Self {
            config,
            model: ModelRef {
                name: Name::from("amoskys-metrics"),
                version: Name::from(version),
                digest: Digest::of_parts(parts),
            },
            state: State {
                metrics: BoundedMap::new(config.metrics),
                newcomers: BoundedMap::new(config.newcomers),
                passed_over: 0,
                hosts: BoundedMap::new(config.hosts),
            },
        })
    }

    /// The schema of the evidence in verdicts.
    #[must_use]
    pub fn evidence_schema() -> Arc<FeatureSchema> {
        schema().clone()
    }

    /// Metrics and hosts forgotten because there were too many.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        let State {
            metrics,
            newcomers,
            hosts,
            ..
        } = &self.state;
        metrics.evicted() + newcomers.evicted() + hosts.evicted()
    }

    /// Values that were not looked at, because as many metrics as are watched at once are better known and still come.
    #[must_use]
    pub const fn passed_over(&self) -> u64 {
        self.state.passed_over
    }

    /// How many metrics are watched, newcomers among them.
    #[must_use]
    pub fn watched(&self) -> usize {
        self.state.metrics.len() + self.state.newcomers.len()
    }

    fn metric(&mut self, recorded: &Recorded, metric: &Metric, verdicts: &mut Vec<Verdict>) {
        let event = &recorded.event;
        let key = key(event, metric);
        let Some(watched) = self.state.watched(&key, event.time, &self.config) else {
            return;
        };
        let value = watched.rate.push(metric.kind, event.time, metric.value);
        let reading = watched.detector.push(event.time, value);
        let threshold = match self.config.series.alarm {
            AlarmRule::Threshold(threshold) => threshold,
            AlarmRule::Rate(_) => NOMINAL,
        };
        let occasion = Occasion {
            model: &self.model,
            recorded,
            threshold,
        };
        if let Some(cause) = reading.alarm {
            verdicts.push(occasion.alarm(&name(metric), value, &reading, cause));
        }
        let of_process = |(label, _): &(String, String)| OF_PROCESS.contains(&label.as_str());
        if self.config.group_size < 2
            || event.device.as_str().is_empty()
            || metric.labels.iter().any(of_process)
        {
            return;
        }
        let host = self.state.hosts.entry(&event.device, Host::default);
        let row = host.push(key, metric, value, &self.config);
        if let Some((name, departure)) = row.departure {
            verdicts.push(occasion.departure(&name, &departure, self.config.group.rate));
        }
        for (key, name) in row.absent {
            let State {
                metrics, newcomers, ..
            } = &mut self.state;
            let watched = metrics.peek_mut(&key).or_else(|| newcomers.peek_mut(&key));
            if watched.is_some_and(|watched| watched.detector.absent(event.time)) {
                verdicts.push(occasion.silence(&name, true));
            }
        }
    }
}

impl State {
    /// What is known of a metric that has a value now. `None` if it has to wait for a place.
    fn watched(&mut self, key: &Key, now: Timestamp, config: &MetricsConfig) -> Option<&mut Watched> {
        if self.metrics.peek(key).is_none() {
            let new = u64::from((config.series.horizon.get() / NEW).max(1));
            let is_new = |watched: &Watched| {
                let (values, missing) = watched.detector.counts();
                values + missing < new
            };
            if self.newcomers.peek(key).is_none_or(is_new) {
                if self.newcomers.peek(key).is_none() {
                    // The settings were checked, so there is a detector.
                    let fresh = Watched {
                        last: now,
                        rate: Rate::default(),
                        detector: SeriesDetector::new(config.series).ok()?,
                    };
                    self.newcomers.entry(key, || fresh);
                }
                let watched = self.newcomers.get(key)?;
                watched.last = now;
                return Some(watched);
            }
            let has_place = self.metrics.len() < self.metrics.limit()
                || self
                    .metrics
                    .oldest()
                    .is_some_and(|oldest| seconds_between(oldest.last, now) > STALE);
            if !has_place {
                self.newcomers.get(key);
                self.passed_over = self.passed_over.saturating_add(1);
                return None;
            }
            let known = self.newcomers.remove(key)?;
            self.metrics.entry(key, || known);
        }
        let watched = self.metrics.get(key)?;
        watched.last = now;
        Some(watched)
    }
}

/// What a row of a host's metrics tells.
#[derive(Default)]
struct Row {
    departure: Option<(String, Departure)>,
    /// Metrics that did not come with it.
    absent: Vec<(Key, String)>,
}

impl Host {
    /// Takes a value. A row is complete when one of its metrics comes again: then it is judged.
    fn push(&mut self, key: Key, metric: &Metric, value: f64, config: &MetricsConfig) -> Row {
        let known = self.members.iter().position(|member| member.key == key);
        let at = match known {
            Some(at) => at,
            None if self.members.len() < config.group_size => {
                self.members.push(Member {
                    key,
                    name: name(metric),
                    value: None,
                });
                // Another metric, other relations: they are learned anew.
                self.group = None;
                self.members.len() - 1
            }
            None => return Row::default(),
        };
        let mut row = Row::default();
        if self.members[at].value.is_some() && self.members.len() >= 2 {
            row.absent = self.absent();
            row.departure = self.row(config);
        }
        self.members[at].value = Some(value);
        row
    }

    fn absent(&self) -> Vec<(Key, String)> {
        let absent = self.members.iter().filter(|member| member.value.is_none());
        absent.map(|member| (member.key, member.name.clone())).collect()
    }

    fn row(&mut self, config: &MetricsConfig) -> Option<(String, Departure)> {
        let row: Vec<f64> = self
            .members
            .iter_mut()
            .map(|member| member.value.take().unwrap_or(f64::NAN))
            .collect();
        if self.group.is_none() {
            self.group = SeriesGroup::new(row.len(), config.group).ok();
        }
        let departure = self.group.as_mut()?.push(&row).ok()?.alarm?;
        let name = self.members.get(departure.series)?.name.clone();
        Some((name, departure))
    }
}

fn key(event: &Event, metric: &Metric) -> Key {
    let mut parts: Vec<&[u8]> = vec![
        event.source.as_str().as_bytes(),
        event.device.as_str().as_bytes(),
        metric.name.as_bytes(),
    ];
    for (name, value) in &metric.labels {
        parts.push(name.as_bytes());
        parts.push(value.as_bytes());
    }
    let digest = Digest::of_parts(parts);
    let mut key = [0; 16];
    key.copy_from_slice(&digest.0[..16]);
    key
}

/// The metric for people: `name{label=value}`, cut where it is too long.
fn name(metric: &Metric) -> String {
    let mut name = metric.name.clone();
    if !metric.labels.is_empty() {
        let labels: Vec<String> = metric
            .labels
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        name = format!("{name}{{{}}}", labels.join(","));
    }
    match name.char_indices().nth(NAME) {
        Some((end, _)) => name[..end].to_owned(),
        None => name,
    }
}

impl Analyzer for MetricDetection {
    fn model(&self) -> ModelRef {
        self.model.clone()
    }

    fn observe(
        &mut self,
        observation: Observation<'_>,
        verdicts: &mut Vec<Verdict>,
    ) -> Result<(), AnalyzerError> {
        if let Observation::Event(recorded) = observation
            && let Payload::Metric(metric) = &recorded.event.payload
        {
            self.metric(recorded, metric, verdicts);
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<Vec<u8>, AnalyzerError> {
        snapshot::encode(self.model.digest, &self.state)
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), AnalyzerError> {
        self.state = snapshot::decode(self.model.digest, bytes)?;
        Ok(())
    }
}
