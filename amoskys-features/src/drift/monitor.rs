use std::sync::Arc;

use amoskys_core::event::{Event, Metric, MetricKind, Payload};
use amoskys_core::{AnalyzerError, Digest, FeatureSchema, FeatureVector, Name, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Adwin, KsDrift, PageHinkley, PsiDrift};
use crate::error::FitError;
use crate::snapshot;

/// Settings of drift detection; all methods are in use.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct DriftConfig {
    /// Values that what follows is compared with, 10 to 4,096. Default 500.
    pub reference: usize,
    /// Latest values that are compared with them, 10 to 4,096. Default 500.
    pub window: usize,
    /// False alarms per comparison, 1e-9 to 0.5. Comparisons are made every quarter of a window. Default 1e-4.
    pub rate: f64,
    /// Bins of the stability index, 2 to 100. Default 10.
    pub bins: usize,
}

impl Default for DriftConfig {
    fn default() -> Self {
        Self {
            reference: 500,
            window: 500,
            rate: 1e-4,
            bins: 10,
        }
    }
}

impl DriftConfig {
    /// Whether every setting is in its range.
    ///
    /// # Errors
    ///
    /// The first that is not.
    pub fn validate(&self) -> Result<(), FitError> {
        let refuse = |parameter, value: String, range| {
            Err(FitError::Parameter {
                parameter,
                value,
                range,
            })
        };
        for (parameter, value) in [("reference", self.reference), ("window", self.window)] {
            if !(10..=4_096).contains(&value) {
                return refuse(parameter, value.to_string(), "between 10 and 4096");
            }
        }
        if !(1e-9..=0.5).contains(&self.rate) {
            return refuse("rate", self.rate.to_string(), "between 1e-9 and 0.5");
        }
        if !(2..=100).contains(&self.bins) {
            return refuse("bins", self.bins.to_string(), "between 2 and 100");
        }
        Ok(())
    }
}

/// How a drift was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DriftMethod {
    /// The population stability index.
    Psi,
    /// The test of Kolmogorov and Smirnov.
    KolmogorovSmirnov,
    /// An adaptive window was cut.
    Adwin,
    /// The test of Page and Hinkley.
    PageHinkley,
}

impl DriftMethod {
    /// The name used in events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Psi => "psi",
            Self::KolmogorovSmirnov => "kolmogorov_smirnov",
            Self::Adwin => "adwin",
            Self::PageHinkley => "page_hinkley",
        }
    }
}

/// A stream is not what it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Drift {
    /// The feature or score that drifted.
    pub stream: Name,
    /// How it was found.
    pub method: DriftMethod,
    /// The index, the statistic, the difference of the means, or the strength of the test.
    pub value: f64,
    /// What the value was compared with; for the test of Kolmogorov and Smirnov, the p-value it has.
    pub reference: f64,
}

impl Drift {
    /// As an event: a metric `feature_drift` with the stream and the method as labels.
    #[must_use]
    pub fn to_event(&self, time: Timestamp, device: Name, source: Name) -> Event {
        let labels = [("stream", self.stream.as_str()), ("method", self.method.as_str())];
        let metric = Metric {
            name: "feature_drift".to_owned(),
            kind: MetricKind::Gauge,
            value: self.value,
            unit: String::new(),
            labels: labels
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        };
        Event {
            time,
            device,
            source,
            payload: Payload::Metric(Box::new(metric)),
            ..Event::default()
        }
    }
}

/// Watches one stream of numbers by all methods.
///
/// A drift makes what comes next the new reference of the method that found it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamDrift {
    name: Name,
    rate: f64,
    every: usize,
    since: usize,
    psi: PsiDrift,
    ks: KsDrift,
    adwin: Adwin,
    page_hinkley: PageHinkley,
}

impl StreamDrift {
    /// For a stream of this name.
    ///
    /// # Errors
    ///
    /// If a setting is out of range.
    pub fn new(name: Name, config: DriftConfig) -> Result<Self, FitError> {
        config.validate()?;
        let every = (config.window / 4).max(1);
        Ok(Self {
            name,
            rate: config.rate,
            every,
            since: 0,
            psi: PsiDrift::new(config.reference, config.window, config.bins),
            ks: KsDrift::new(config.reference, config.window, config.rate),
            adwin: Adwin::new(config.rate),
            page_hinkley: PageHinkley::new(0.25, every as f64 / config.rate),
        })
    }

    /// Takes a value, and appends the drifts it completes. One that is not finite is left out.
    pub fn push(&mut self, value: f64, drifts: &mut Vec<Drift>) {
        if !value.is_finite() {
            return;
        }
        let mut tell = |method, value, reference| {
            drifts.push(Drift {
                stream: self.name.clone(),
                method,
                value,
                reference,
            });
        };
        self.psi.push(value);
        self.since += 1;
        if self.since >= self.every {
            self.since = 0;
            let limit = self.psi.limit(self.rate);
            if let Some(index) = self.psi.value().filter(|index| *index > limit) {
                tell(DriftMethod::Psi, index, limit);
                self.psi.reset();
            }
        }
        if let Some(test) = self.ks.push(value)
            && self.ks.is_drift(&test)
        {
            tell(DriftMethod::KolmogorovSmirnov, test.statistic, test.p_value);
            self.ks.reset();
        }
        if let Some(cut) = self.adwin.push(value) {
            tell(DriftMethod::Adwin, cut.after - cut.before, cut.before);
        }
        if let Some(drift) = self.page_hinkley.push(value) {
            tell(DriftMethod::PageHinkley, drift.strength, 1.0);
        }
    }

    /// The stability index, once there are enough values.
    #[must_use]
    pub fn stability_index(&self) -> Option<f64> {
        self.psi.value()
    }
}

/// Watches every feature of vectors of one schema.
#[derive(Clone, Debug)]
pub struct DriftMonitor {
    schema: Arc<FeatureSchema>,
    identity: Digest,
    streams: Vec<StreamDrift>,
    /// Vectors of another schema.
    refused: u64,
}

impl DriftMonitor {
    /// For vectors of this schema.
    ///
    /// # Errors
    ///
    /// If a setting is out of range.
    pub fn new(schema: Arc<FeatureSchema>, config: DriftConfig) -> Result<Self, FitError> {
        let stream = |feature: &amoskys_core::FeatureDef| StreamDrift::new(feature.name.clone(), config);
        let streams = schema.features().iter().map(stream).collect::<Result<_, _>>()?;
        let mut settings = Vec::new();
        for size in [config.reference, config.window, config.bins] {
            settings.extend((size as u64).to_le_bytes());
        }
        settings.extend(config.rate.to_le_bytes());
        let identity = Digest::of_parts([&b"drift"[..], &schema.digest().0, &settings]);
        Ok(Self {
            schema,
            identity,
            streams,
            refused: 0,
        })
    }

    /// Takes a vector, and appends the drifts it completes. One of another schema is counted, and changes nothing else.
    pub fn observe(&mut self, vector: &FeatureVector, drifts: &mut Vec<Drift>) {
        let same =
            Arc::ptr_eq(&vector.schema, &self.schema) || vector.schema.digest() == self.schema.digest();
        if !same || vector.values.len() != self.streams.len() {
            self.refused += 1;
            return;
        }
        for (stream, &value) in self.streams.iter_mut().zip(&vector.values) {
            stream.push(value, drifts);
        }
    }

    /// The streams, in the order of the schema.
    #[must_use]
    pub fn streams(&self) -> &[StreamDrift] {
        &self.streams
    }

    /// Vectors of another schema that came.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// The state, to go on from elsewhere.
    ///
    /// # Errors
    ///
    /// If it cannot be encoded.
    pub fn snapshot(&self) -> Result<Vec<u8>, AnalyzerError> {
        snapshot::encode(self.identity, &(&self.streams, self.refused)).map_err(|error| {
            AnalyzerError::Snapshot {
                reason: "it cannot be encoded".to_owned(),
                source: Some(error.into()),
            }
        })
    }

    /// Goes on from a state of a monitor with the same schema and settings.
    ///
    /// # Errors
    ///
    /// If it is not such a state; the monitor is then as it was before.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), AnalyzerError> {
        let (streams, refused): (Vec<StreamDrift>, u64) = snapshot::decode(self.identity, bytes)?;
        (self.streams, self.refused) = (streams, refused);
        Ok(())
    }
}
