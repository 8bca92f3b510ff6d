use std::sync::Arc;

use amoskys_core::event::{Event, Metric, ModelRef, Payload, Verdict};
use amoskys_core::{Analyzer, AnalyzerError, Digest, FeatureSchema, Name, Observation, Recorded};
use serde::{Deserialize, Serialize};

use super::config::{AlarmRule, SeriesConfig, SeriesConfigError};
use super::detector::SeriesDetector;
use super::group::{Departure, GroupConfig, GroupError, SeriesGroup};
use super::rate::Rate;
use super::verdict::{Occasion, schema};
use crate::measure::BoundedMap;
use crate::snapshot;

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
    /// Metrics that are watched at once, at least 1; beyond, the one without values for longest is forgotten, and counted.
    /// Default 1,024.
    pub metrics: usize,
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
/// those that are compared; else when it comes back, or by points that are not finite.
///
/// # Cost
///
/// About 3 µs an event. A metric takes up to 230 kB, reached after ten to twenty horizons; a host with 16 metrics 130 kB more.
#[derive(Debug)]
pub struct MetricDetection {
    config: MetricsConfig,
    model: ModelRef,
    state: State,
}

#[derive(Debug, Serialize, Deserialize)]
struct State {
    metrics: BoundedMap<Key, Watched>,
    hosts: BoundedMap<Name, Host>,
}

/// A hash of source, device, name and labels.
type Key = [u8; 16];

#[derive(Debug, Serialize, Deserialize)]
struct Watched {
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
        for (setting, value) in [("metrics", config.metrics), ("hosts", config.hosts)] {
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
        self.state.metrics.evicted() + self.state.hosts.evicted()
    }

    fn metric(&mut self, recorded: &Recorded, metric: &Metric, verdicts: &mut Vec<Verdict>) {
        let event = &recorded.event;
        let key = key(event, metric);
        if self.state.metrics.peek(&key).is_none() {
            // The settings were checked, so there is a detector.
            let Ok(detector) = SeriesDetector::new(self.config.series) else {
                return;
            };
            let fresh = Watched {
                rate: Rate::default(),
                detector,
            };
            self.state.metrics.entry(&key, || fresh);
        }
        let Some(watched) = self.state.metrics.get(&key) else {
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
        if self.config.group_size < 2 || event.device.as_str().is_empty() {
            return;
        }
        let host = self.state.hosts.entry(&event.device, Host::default);
        let row = host.push(key, metric, value, &self.config);
        if let Some((name, departure)) = row.departure {
            verdicts.push(occasion.departure(&name, &departure, self.config.group.rate));
        }
        for (key, name) in row.absent {
            let watched = self.state.metrics.peek_mut(&key);
            if watched.is_some_and(|watched| watched.detector.absent(event.time)) {
                verdicts.push(occasion.silence(&name, true));
            }
        }
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
