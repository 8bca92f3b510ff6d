use std::collections::BTreeSet;
use std::time::Duration;

use crate::analyzer::Analyzer;
use crate::collector::{BoxCollector, Collector};
use crate::config::BatchSettings;
use crate::event::Class;
use crate::ledger::Ledger;
use crate::memory::PlainSeal;
use crate::record::{BoxRecordSink, BoxRecordSource, RecordSink, RecordSource};
use crate::seal::LogParts;
use crate::sink::{BoxSink, Sink};
use crate::transform::Transform;

use super::merge::MergeOptions;

/// A pipeline, ready to run. See the [module](super) for what it joins and guarantees.
pub struct Pipeline {
    pub(super) name: String,
    pub(super) collectors: Vec<BoxCollector>,
    pub(super) transforms: Vec<Box<dyn Transform>>,
    pub(super) log: LogParts,
    pub(super) analyzers: Vec<Box<dyn Analyzer>>,
    pub(super) sinks: Vec<SinkPart>,
    pub(super) record_sinks: Vec<BoxRecordSink>,
    pub(super) record_source: Option<BoxRecordSource>,
    pub(super) merge: MergeOptions,
    pub(super) until_end: bool,
    pub(super) limits: BatchLimits,
    pub(super) retention: Retention,
    pub(super) checkpoint_every: Duration,
    pub(super) checkpoint_watch: Option<super::analysis::CheckpointWatch>,
    pub(super) drain_timeout: Duration,
    pub(super) ledger: Ledger,
}

pub(super) struct SinkPart {
    pub(super) sink: BoxSink,
    /// `None`: all classes.
    pub(super) class: Option<Class>,
}

impl SinkPart {
    /// Its stage in the ledger, and the name of its bookmark beside the log.
    pub(super) fn stage(&self) -> String {
        format!("sink/{}", self.sink.name())
    }
}

/// When a batch is sealed: at the first of these limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Events in a batch. Default 512, at least 1.
    pub max_events: usize,
    /// Approximate bytes of a batch. Default 256 KiB; at most 16 MiB.
    pub max_bytes: usize,
    /// How long the first event of a batch waits for company. Default 10 ms.
    pub linger: Duration,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self {
            max_events: 512,
            max_bytes: 256 << 10,
            linger: Duration::from_millis(10),
        }
    }
}

impl From<&BatchSettings> for BatchLimits {
    /// The section `batch` of a [`Config`](crate::config::Config).
    fn from(settings: &BatchSettings) -> Self {
        Self {
            max_events: settings.max_events,
            max_bytes: settings.max_bytes,
            linger: settings.linger,
        }
    }
}

/// How long the log keeps records that every reader has dealt with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retention {
    /// Forget them at once. The default.
    #[default]
    Consumed,
    /// Keep them until the byte budget is used up, then forget the oldest.
    UntilFull,
}

impl Pipeline {
    /// Starts to put a pipeline together.
    #[must_use]
    pub fn builder() -> PipelineBuilder {
        PipelineBuilder::default()
    }

    /// The ledger of this pipeline, to be read while it runs.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.ledger.clone()
    }
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline")
            .field("name", &self.name)
            .field("collectors", &self.collectors)
            .field("transforms", &self.transforms.len())
            .field("analyzers", &self.analyzers.len())
            .field("sinks", &self.sinks.len())
            .field("record_sinks", &self.record_sinks)
            .field("record_source", &self.record_source)
            .finish_non_exhaustive()
    }
}

/// Puts a [`Pipeline`] together. Only a collector or a record source is required.
#[derive(Default)]
pub struct PipelineBuilder {
    name: Option<String>,
    collectors: Vec<BoxCollector>,
    transforms: Vec<Box<dyn Transform>>,
    log: Option<LogParts>,
    analyzers: Vec<Box<dyn Analyzer>>,
    sinks: Vec<SinkPart>,
    record_sinks: Vec<BoxRecordSink>,
    record_source: Option<BoxRecordSource>,
    merge: MergeOptions,
    until_end: bool,
    limits: BatchLimits,
    retention: Retention,
    checkpoint_every: Option<Duration>,
    checkpoint_watch: Option<super::analysis::CheckpointWatch>,
    drain_timeout: Option<Duration>,
}

impl PipelineBuilder {
    /// Name of the pipeline, the label `pipeline` of its metrics. Default `amoskys`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Adds a collector.
    #[must_use]
    pub fn collector(mut self, collector: impl Collector + 'static) -> Self {
        self.collectors.push(BoxCollector::new(collector));
        self
    }

    /// Adds a transform. Transforms see each event before it is sealed, in the order they were added.
    #[must_use]
    pub fn transform(mut self, transform: impl Transform + 'static) -> Self {
        self.transforms.push(Box::new(transform));
        self
    }

    /// The log. Default: 64 MiB in memory, sealed without signature, which keeps nothing across restarts.
    #[must_use]
    pub fn log(mut self, log: impl Into<LogParts>) -> Self {
        self.log = Some(log.into());
        self
    }

    /// Adds an analyzer. Its verdicts go into the log as events of class [`Class::Alert`].
    #[must_use]
    pub fn analyzer(mut self, analyzer: impl Analyzer + 'static) -> Self {
        self.analyzers.push(Box::new(analyzer));
        self
    }

    /// Adds a sink that gets every event.
    #[must_use]
    pub fn sink(mut self, sink: impl Sink + 'static) -> Self {
        self.sinks.push(SinkPart {
            sink: BoxSink::new(sink),
            class: None,
        });
        self
    }

    /// Adds a sink that gets the events of one class, for example [`Class::Alert`].
    #[must_use]
    pub fn sink_of(mut self, class: Class, sink: impl Sink + 'static) -> Self {
        self.sinks.push(SinkPart {
            sink: BoxSink::new(sink),
            class: Some(class),
        });
        self
    }

    /// Adds a record sink: it carries the records of the log elsewhere, as they are. The log keeps them until they
    /// are acknowledged there.
    #[must_use]
    pub fn record_sink(mut self, sink: impl RecordSink + 'static) -> Self {
        self.record_sinks.push(BoxRecordSink::new(sink));
        self
    }

    /// Gives the analyzers the records of this source, instead of the pipeline's own log. Their verdicts go into the
    /// own log; where they have come to, and what they know, is kept beside it.
    #[must_use]
    pub fn record_source(mut self, source: impl RecordSource + 'static) -> Self {
        self.record_source = Some(BoxRecordSource::new(source));
        self
    }

    /// How the streams of several agents are merged for the analyzers.
    #[must_use]
    pub fn merge(mut self, options: MergeOptions) -> Self {
        self.merge = options;
        self
    }

    /// Ends the run once every agent that a [record source](Self::record_source) told of has ended, as the agents of
    /// capture files do. Default: no.
    #[must_use]
    pub fn until_end(mut self, until_end: bool) -> Self {
        self.until_end = until_end;
        self
    }

    /// When a batch is sealed.
    #[must_use]
    pub fn limits(mut self, limits: BatchLimits) -> Self {
        self.limits = limits;
        self
    }

    /// How long the log keeps what every reader has dealt with.
    #[must_use]
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// How often the analyzers' state is kept. Default 30 s; it is also kept at the end. After a crash the
    /// log is read again from the last checkpoint.
    #[must_use]
    pub fn checkpoint_every(mut self, interval: Duration) -> Self {
        self.checkpoint_every = Some(interval);
        self
    }

    /// Calls `watch` with what becomes of the [checkpoints](Self::checkpoint_every): with `None` when the analysis begins and whenever one
    /// was kept, and with the reason whenever one could not be. Made for a health check. It is called from the analysis' own thread
    /// and must return quickly.
    ///
    /// An analysis that cannot keep its state goes on. The log keeps what a restart would need until it is full; then it forgets what
    /// was analyzed, rather than to let collectors wait for a disk that nobody mends. `amoskys_unkept_records_total` counts those
    /// records. A restart goes on from the last checkpoint that was kept, without them, and its ledger says `missing`.
    #[must_use]
    pub fn watch_checkpoints(mut self, watch: impl Fn(Option<&str>) + Send + Sync + 'static) -> Self {
        self.checkpoint_watch = Some(Box::new(watch));
        self
    }

    /// How long sinks may take after the end to write what is left. Default 30 s. What they do not write stays
    /// in the log.
    #[must_use]
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = Some(timeout);
        self
    }

    /// The pipeline.
    ///
    /// # Errors
    ///
    /// If there is nothing to collect or read, two parts have the same name, or a limit is out of range.
    pub fn build(self) -> Result<Pipeline, BuildError> {
        if self.collectors.is_empty() && self.record_source.is_none() {
            return Err(BuildError::NoCollector);
        }
        let mut names = BTreeSet::from([super::analysis::SOURCE.to_owned()]);
        for name in self.collectors.iter().map(Collector::source) {
            if name.is_empty() || !names.insert(name.to_owned()) {
                return Err(BuildError::Name {
                    kind: "collector",
                    name: name.to_owned(),
                });
            }
        }
        let mut names = BTreeSet::new();
        for name in self.record_sinks.iter().map(RecordSink::name) {
            if name.is_empty() || !names.insert(name.to_owned()) {
                return Err(BuildError::Name {
                    kind: "record sink",
                    name: name.to_owned(),
                });
            }
        }
        if self.record_source.is_some() && self.analyzers.is_empty() {
            return Err(BuildError::NoAnalyzer);
        }
        let mut names = BTreeSet::new();
        for name in self.sinks.iter().map(|part| part.sink.name()) {
            if name.is_empty() || !names.insert(name.to_owned()) {
                return Err(BuildError::Name {
                    kind: "sink",
                    name: name.to_owned(),
                });
            }
        }
        if self.limits.max_events == 0 {
            return Err(BuildError::Limit {
                key: "max_events",
                range: "at least 1",
            });
        }
        if self.limits.max_bytes == 0 || self.limits.max_bytes > 16 << 20 {
            return Err(BuildError::Limit {
                key: "max_bytes",
                range: "1 byte to 16 MiB",
            });
        }
        let name = self.name.unwrap_or_else(|| "amoskys".to_owned());
        Ok(Pipeline {
            log: self.log.unwrap_or_else(|| PlainSeal::memory_log(&name, 64 << 20)),
            name,
            collectors: self.collectors,
            transforms: self.transforms,
            analyzers: self.analyzers,
            sinks: self.sinks,
            record_sinks: self.record_sinks,
            record_source: self.record_source,
            merge: self.merge,
            until_end: self.until_end,
            limits: self.limits,
            retention: self.retention,
            checkpoint_every: self.checkpoint_every.unwrap_or(Duration::from_secs(30)),
            checkpoint_watch: self.checkpoint_watch,
            drain_timeout: self.drain_timeout.unwrap_or(Duration::from_secs(30)),
            ledger: Ledger::new(),
        })
    }
}

impl std::fmt::Debug for PipelineBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PipelineBuilder")
            .field("collectors", &self.collectors)
            .finish_non_exhaustive()
    }
}

/// Why a pipeline cannot be put together as asked. Nothing has been started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// There is nothing to collect or read.
    #[error("a pipeline needs a collector or a record source")]
    NoCollector,
    /// Records would be read for nobody.
    #[error("a record source needs an analyzer")]
    NoAnalyzer,
    /// Positions are kept by name, so names must be there and differ.
    #[error("the {kind} name {name:?} is empty, reserved, or used twice")]
    Name {
        /// `collector`, `sink` or `record sink`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A limit is out of range.
    #[error("{key} must be {range}")]
    Limit {
        /// Which.
        key: &'static str,
        /// What it may be.
        range: &'static str,
    },
}
