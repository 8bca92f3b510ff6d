//! Learns what is normal from a recorded log: a baseline, models of windows, and of sequences of system calls.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use amoskys_analysis::model::{DetectorKind, ModelFile, Origin, SiteModel};
use amoskys_analysis::sequence::{Example, ProcessTrace, SequenceError, SequenceParams, TraceAssembler};
use amoskys_analysis::{BaselineBuilder, DetectionConfig};
use amoskys_core::config::Config;
use amoskys_core::event::{Payload, VerdictId};
use amoskys_core::{
    BoxExtractor, Digest, Extractor as _, FeatureVector, LogParts, Open, Opened, Recorded, SealError,
    read_log,
};
use amoskys_features::extract::{ExtractConfig, NetworkExtractor};
use amoskys_transport::protect::{Protection, RevealingOpener};
use amoskys_transport::{Log, LogOptions};
use bytes::Bytes;

use crate::Settings;
use crate::fit::{SETTINGS, Split, Task, fit};
use crate::left_out::divisions;

/// Windows of a kind that are kept. When there are more, every second is left out, and from then on every second new one.
const MOST_WINDOWS: usize = 40_000;
/// Windows of a kind below which nothing is learned.
const FEWEST_WINDOWS: usize = 400;
/// Processes whose calls are collected at once, and stretches of calls in all.
const MOST_PROCESSES: usize = 16_384;
const MOST_STRETCHES: usize = 200_000;
/// Distinct stretches below which nothing is learned.
const FEWEST_STRETCHES: usize = 60;
/// Alerts that are told apart, to say how many there are.
const MOST_ALERTS: usize = 10_000;
/// Calls that are judged together: as the analyzer does.
const STRETCH: usize = 2048;

pub(crate) fn learn(dir: &Path, settings: &Settings) -> Result<ModelFile, Box<dyn Error>> {
    if !dir.is_dir() {
        return Err(format!("{}: there is no such directory", dir.display()).into());
    }
    let mut loader = Config::loader().yaml("agent:\n  name: sentinel\n", "train");
    if let Some(file) = &settings.config {
        loader = loader.file(file);
    }
    let (path, agent) = (dir.to_owned(), settings.agent.clone());
    let config = loader.adjust(move |config| {
        config.log.path = path;
        if let Some(agent) = agent {
            config.agent.name = agent;
        }
    });
    let config = config.load()?.config;
    let mut log = LogParts::from(Log::open(&config.log.path, LogOptions::from(&config))?);
    if let Some(protection) = Protection::of_settings(&config.protect)? {
        log.open = Arc::new(RevealingOpener::new(log.open, protection.reveal()));
    }
    let open = Digesting {
        inner: log.open.clone(),
        digest: Mutex::default(),
    };
    let mut lessons = Lessons::new(&DetectionConfig::from(&config.analysis), settings)?;
    for opened in read_log(&*log.wal, &open) {
        for recorded in opened?.1.into_recorded() {
            lessons.observe(&recorded);
        }
    }
    lessons.finish(open.digest(), settings)
}

/// Digests the records that are read.
struct Digesting {
    inner: Arc<dyn Open>,
    digest: Mutex<Digest>,
}

impl Digesting {
    fn digest(&self) -> Digest {
        *self.digest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open for Digesting {
    fn open(&self, record: &Bytes) -> Result<Opened, SealError> {
        let mut digest = self.digest.lock().unwrap_or_else(PoisonError::into_inner);
        *digest = Digest::of_parts([&digest.0[..], &record[..]]);
        self.inner.open(record)
    }
}

/// What is collected while the log is read.
struct Lessons {
    baseline: BaselineBuilder,
    extractor: NetworkExtractor,
    vectors: Vec<FeatureVector>,
    windows: BTreeMap<String, Windows>,
    calls: Calls,
    events: u64,
    alerts: BTreeSet<VerdictId>,
}

impl Lessons {
    fn new(config: &DetectionConfig, settings: &Settings) -> Result<Self, Box<dyn Error>> {
        let extractor = || NetworkExtractor::standard(ExtractConfig::default());
        let own = extractor();
        let mut windows = BTreeMap::new();
        for name in &settings.windows {
            if own.schema(name).is_none() {
                let known: Vec<&str> = own.schemas().map(|schema| schema.name().as_str()).collect();
                return Err(format!("there are no windows {name}; there are {}", known.join(", ")).into());
            }
            windows.insert(name.clone(), Windows::default());
        }
        Ok(Self {
            baseline: BaselineBuilder::new(config, vec![Box::new(extractor()) as BoxExtractor])?,
            extractor: own,
            vectors: Vec::new(),
            windows,
            calls: Calls::new()?,
            events: 0,
            alerts: BTreeSet::new(),
        })
    }

    fn observe(&mut self, recorded: &Recorded) {
        if let Payload::Verdict(verdict) = &recorded.event.payload {
            if verdict.is_alert() && self.alerts.len() < MOST_ALERTS {
                self.alerts.insert(verdict.id);
            }
            return;
        }
        self.events += 1;
        self.baseline.observe(recorded);
        self.calls.observe(recorded);
        self.extractor.observe(recorded, &mut self.vectors);
        for vector in self.vectors.drain(..) {
            if let Some(windows) = self.windows.get_mut(vector.schema.name().as_str()) {
                windows.add(vector);
            }
        }
    }

    fn finish(self, data: Digest, settings: &Settings) -> Result<ModelFile, Box<dyn Error>> {
        if self.events == 0 {
            return Err("there are no events in the log".into());
        }
        if !self.alerts.is_empty() {
            eprintln!(
                "the log holds {} alerts: what led to them will be normal to the model",
                self.alerts.len()
            );
        }
        let mut metrics = BTreeMap::new();
        let mut site = SiteModel::new().with_baseline(self.baseline.finish());
        for (name, windows) in self.windows {
            let count = windows.rows.len();
            if count < FEWEST_WINDOWS {
                eprintln!("windows {name}: {count} are too few to learn from, {FEWEST_WINDOWS} are needed");
                continue;
            }
            let file = windows.fit(data, settings)?;
            for (metric, value) in &file.origin.metrics {
                metrics.insert(format!("{name}.{metric}"), *value);
            }
            site = site.with_windows(file);
        }
        if let Some((file, false_alarms)) = self.calls.fit(data, settings)? {
            metrics.insert("sequences.false_alarms".to_owned(), false_alarms);
            site = site.with_sequences(file)?;
        }
        let origin = Origin {
            seed: settings.seed,
            training_data: data,
            training_rows: self.events,
            metrics,
        };
        let mut file = site.to_file(origin)?;
        let parameters = BTreeMap::from([
            ("false_alarms", settings.false_alarms.to_string()),
            ("windows", settings.windows.join(",")),
        ]);
        file.put(SETTINGS, &parameters)?;
        Ok(file)
    }
}

/// Windows of one kind, in order of time.
#[derive(Default)]
struct Windows {
    rows: Vec<FeatureVector>,
    stride: usize,
    seen: usize,
}

impl Windows {
    fn add(&mut self, vector: FeatureVector) {
        self.seen += 1;
        if !self.seen.is_multiple_of(self.stride.max(1)) {
            return;
        }
        self.rows.push(vector);
        if self.rows.len() >= MOST_WINDOWS {
            let mut keep = false;
            self.rows.retain(|_| {
                keep = !keep;
                keep
            });
            self.stride = self.stride.max(1) * 2;
        }
    }

    /// The last fifth is for measuring. Windows overlap, and those of one service resemble each other: what the threshold is set on
    /// are scores of entities, or of stretches of time, that were left out.
    fn fit(self, data: Digest, settings: &Settings) -> Result<ModelFile, Box<dyn Error>> {
        let rows = self.rows.len();
        let known = rows * 8 / 10;
        let divisions = divisions(&self.rows, known);
        // One entity in one stretch of time: there is nothing to leave out but its end.
        let fitted = if divisions.is_empty() {
            rows * 6 / 10
        } else {
            known
        };
        let schema = self
            .rows
            .first()
            .map(|row| row.schema.clone())
            .ok_or("there are no windows")?;
        let kind = match settings.detector {
            Some(kind) if kind.needs_labels() => {
                return Err(format!("{kind} needs labels, which a log does not have").into());
            }
            kind => kind.unwrap_or(DetectorKind::Ensemble),
        };
        let task = Task {
            schema: &schema,
            vectors: &self.rows,
            labels: None,
            kind,
            split: Split {
                fit: (0..fitted).collect(),
                calibrate: (fitted..known).collect(),
                test: (known..rows).collect(),
                divisions,
            },
            data,
        };
        let mut settings = settings.clone();
        settings.name = Some(format!("windows {}", schema.name()));
        // The rate is one of the calibration's choosing where it holds too few windows for the one asked for.
        let calibrated = if fitted < known { known - fitted } else { known };
        settings.false_alarms = settings.false_alarms.max(1.5 / calibrated as f64);
        fit(&task, &settings)
    }
}

/// The calls of processes, in stretches.
struct Calls {
    assembler: TraceAssembler,
    stretches: Vec<(String, Vec<u32>)>,
    /// Stretches that were too many.
    left: u64,
}

impl Calls {
    fn new() -> Result<Self, SequenceError> {
        Ok(Self {
            assembler: TraceAssembler::new(STRETCH, MOST_PROCESSES)?,
            stretches: Vec::new(),
            left: 0,
        })
    }

    fn observe(&mut self, recorded: &Recorded) {
        for trace in self.assembler.observe(recorded) {
            self.add(trace);
        }
    }

    fn add(&mut self, trace: ProcessTrace) {
        if self.stretches.len() < MOST_STRETCHES {
            self.stretches.push((trace.command, trace.calls));
        } else {
            self.left += 1;
        }
    }

    /// The model, and the share of its last fifth that would be alarms. `None` if there are no calls, or too few.
    fn fit(mut self, data: Digest, settings: &Settings) -> Result<Option<(ModelFile, f64)>, Box<dyn Error>> {
        let forgotten = self.assembler.evicted();
        let silent = TraceAssembler::new(STRETCH, MOST_PROCESSES)?;
        for trace in std::mem::replace(&mut self.assembler, silent).finish() {
            self.add(trace);
        }
        if self.stretches.is_empty() {
            return Ok(None);
        }
        if forgotten + self.left > 0 {
            eprintln!(
                "system calls: {forgotten} processes of too many at once, and {} stretches of too many, are left out",
                self.left
            );
        }
        let held = self.stretches.len() * 8 / 10;
        let (known, test) = self.stretches.split_at(held);
        let distinct: BTreeSet<&[u32]> = known.iter().map(|(_, calls)| calls.as_slice()).collect();
        if distinct.len() < FEWEST_STRETCHES {
            eprintln!(
                "system calls: {} distinct traces of {} are too few to learn from, {FEWEST_STRETCHES} are needed",
                distinct.len(),
                known.len()
            );
            return Ok(None);
        }
        let examples: Vec<Example<'_>> = known
            .iter()
            .map(|(program, calls)| Example { program, calls })
            .collect();
        let usual = SequenceParams::default();
        // Where too few are held out for the rate asked for, it is the lowest that they can promise.
        let held_out = (distinct.len() / usual.held_out) as f64;
        let params = SequenceParams {
            false_alarms: settings.false_alarms.max(1.5 / (held_out + 1.0)),
            ..usual
        };
        let model = match params.fit(&examples) {
            Ok(model) => model,
            Err(error) => {
                eprintln!("system calls: {} traces, and no model: {error}", known.len());
                return Ok(None);
            }
        };
        let mut scorer = model.traces().scorer();
        let alarms = test
            .iter()
            .filter(|(_, calls)| model.threshold().is_alarm(scorer.score(calls).value))
            .count();
        let false_alarms = alarms as f64 / test.len().max(1) as f64;
        let origin = Origin {
            seed: settings.seed,
            training_data: data,
            training_rows: self.stretches.len() as u64,
            metrics: BTreeMap::from([
                ("false_alarms".to_owned(), false_alarms),
                ("false_alarms_promised".to_owned(), params.false_alarms),
                ("distinct_traces".to_owned(), distinct.len() as f64),
            ]),
        };
        Ok(Some((model.to_file("sequences", "1", origin)?, false_alarms)))
    }
}
