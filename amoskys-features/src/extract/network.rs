use std::sync::Arc;
use std::time::Duration;

use amoskys_core::event::Payload;
use amoskys_core::{
    AnalyzerError, Digest, Extractor, FeatureSchema, FeatureVector, Recorded, StreamId, Timestamp,
};
use serde::{Deserialize, Serialize};

use super::catalog::{Catalog, Reads};
use super::contents::Contents;
use super::dns_clients::DnsClients;
use super::fact::{At, Fact};
use super::hosts::Hosts;
use super::pairs::Pairs;
use super::process_tracker::{ProcessState, ProcessTracker};
use super::processes::Processes;
use super::series::SeriesCatalog;
use super::series_tracker::{SeriesState, SeriesTracker};
use super::services::Services;
use super::shapes::Shapes;
use super::syscalls::Syscalls;
use super::targets::Targets;
use super::tracker::{FlowTracker, TrackerConfig, TrackerCounters, TrackerState};
use super::window_set::{CatalogPlan, Plan, WindowSet};
use crate::lru::{Lru, LruState};
use crate::snapshot;
use crate::window::{
    ClockConfig, ClockCounters, Limits, SpecError, StreamClock, Tick, WindowCounters, WindowSpec,
};

/// How features are extracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtractConfig {
    /// How the clock of a stream follows its events.
    pub clock: ClockConfig,
    /// What is remembered of flows.
    pub tracker: TrackerConfig,
    /// Limits of each catalog's windows in each stream.
    pub limits: Limits,
    /// How many streams are kept at once; when one more comes, the windows of the one without events for
    /// longest are closed, and it is forgotten, and counted. Default 1024.
    pub max_streams: usize,
}

impl Default for ExtractConfig {
    fn default() -> Self {
        Self {
            clock: ClockConfig::default(),
            tracker: TrackerConfig::default(),
            limits: Limits::default(),
            max_streams: 1024,
        }
    }
}

/// Features of hosts, pairs of hosts, services and DNS clients over windows of event time, from flow, DNS and
/// ARP events; and, where such catalogs are added, of processes and measurements from theirs.
///
/// Flow records carry counters from the beginning of their flow; each packet is counted once, in the window of
/// the record that first told of it. Each stream has a clock and windows of its own, so that one sensor's clock
/// moves nobody else's windows.
///
/// Vectors come out by the end of their window, then in the order of the catalogs, then of the entities. The
/// same events in the same order give the same vectors bit for bit, also across [`snapshot`](Extractor::snapshot)
/// and [`restore`](Extractor::restore).
///
/// ```
/// use amoskys_core::Extractor as _;
/// use amoskys_features::extract::{ExtractConfig, NetworkExtractor};
///
/// let extractor = NetworkExtractor::standard(ExtractConfig::default());
/// let schema = extractor.schema("host.10s").expect("one of the standard schemas");
/// assert!(schema.index_of("destinations").is_some());
/// let state = extractor.snapshot().expect("a state can be written at any time");
/// # assert!(!state.is_empty());
/// ```
///
/// With windows of one's own choice:
///
/// ```
/// use std::time::Duration;
///
/// use amoskys_features::extract::{ExtractConfig, NetworkExtractor, Pairs};
/// use amoskys_features::window::WindowSpec;
///
/// # fn main() -> Result<(), amoskys_features::window::SpecError> {
/// let ten_minutes = WindowSpec::sliding(Duration::from_secs(600), Duration::from_secs(60))?;
/// let extractor = NetworkExtractor::new(ExtractConfig::default()).with::<Pairs>(ten_minutes);
/// assert_eq!(extractor.schemas().next().map(|schema| schema.name().as_str()), Some("pair.600s"));
/// # Ok(())
/// # }
/// ```
pub struct NetworkExtractor {
    config: ExtractConfig,
    plans: Vec<Box<dyn Plan>>,
    streams: Lru<StreamId, Stream>,
    /// Counters of streams that are forgotten.
    past: ExtractCounters,
    streams_evicted: u64,
}

/// What became of the events, over all streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtractCounters {
    /// The clocks.
    pub clock: ClockCounters,
    /// Flow records.
    pub tracker: TrackerCounters,
    /// Windows, over all catalogs.
    pub windows: WindowCounters,
}

/// What is known about one stream.
struct Stream {
    clock: StreamClock,
    tracker: FlowTracker,
    /// Boxed, for most streams tell of none.
    processes: Option<Box<ProcessTracker>>,
    series: Option<Box<SeriesTracker>>,
    sets: Vec<Box<dyn WindowSet>>,
    /// The watermark the windows have been closed by.
    closed: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct StreamState {
    clock: StreamClock,
    tracker: TrackerState,
    processes: Option<ProcessState>,
    series: Option<SeriesState>,
    sets: Vec<Vec<u8>>,
    closed: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct ExtractorState {
    streams: LruState<StreamId, StreamState>,
    past: ExtractCounters,
    streams_evicted: u64,
}

impl NetworkExtractor {
    /// An extractor without catalogs.
    #[must_use]
    pub fn new(config: ExtractConfig) -> Self {
        Self {
            config,
            plans: Vec::new(),
            streams: Lru::new(config.max_streams),
            past: ExtractCounters::default(),
            streams_evicted: 0,
        }
    }

    /// All catalogs of this crate over windows of 10 s, one ending each second, and of 60 s, one ending every
    /// 10 s.
    #[must_use]
    pub fn standard(config: ExtractConfig) -> Self {
        let windows = [(10, 1), (60, 10)].map(|(length, slide)| {
            WindowSpec::sliding(Duration::from_secs(length), Duration::from_secs(slide))
        });
        let with_all = |extractor: Self, spec: Result<WindowSpec, SpecError>| match spec {
            Ok(spec) => extractor
                .with::<Hosts>(spec)
                .with::<Pairs>(spec)
                .with::<Services>(spec)
                .with::<DnsClients>(spec),
            Err(_) => extractor,
        };
        windows.into_iter().fold(Self::new(config), with_all)
    }

    /// Every catalog of this crate over windows: those of the network over 10 s, 60 s and 300 s, those of processes and
    /// system calls over 10 s and 60 s, that of measurements over 300 s and 3600 s, each ending six times as often or
    /// so.
    #[must_use]
    pub fn full(config: ExtractConfig) -> Self {
        let window = |length: u64, slide: u64| {
            WindowSpec::sliding(Duration::from_secs(length), Duration::from_secs(slide)).ok()
        };
        let mut extractor = Self::standard(config);
        if let Some(long) = window(300, 60) {
            extractor = extractor
                .with::<Hosts>(long)
                .with::<Pairs>(long)
                .with::<Services>(long)
                .with::<DnsClients>(long);
        }
        for spec in [window(10, 1), window(60, 10), window(300, 60)]
            .into_iter()
            .flatten()
        {
            extractor = extractor
                .with::<Targets>(spec)
                .with::<Shapes>(spec)
                .with::<Contents>(spec);
        }
        for spec in [window(10, 1), window(60, 10)].into_iter().flatten() {
            extractor = extractor.with::<Processes>(spec).with::<Syscalls>(spec);
        }
        for spec in [window(300, 60), window(3600, 600)].into_iter().flatten() {
            extractor = extractor.with::<SeriesCatalog>(spec);
        }
        extractor
    }

    /// Adds a catalog over windows of this specification. Adding the same catalog with windows of another length
    /// gives vectors of both.
    ///
    /// Catalogs are added before the first event; in a stream that has begun, a new one has no effect.
    #[must_use]
    pub fn with<C: Catalog>(mut self, spec: WindowSpec) -> Self {
        self.plans.push(Box::new(CatalogPlan::<C>::new(spec)));
        self
    }

    /// The schemas of the vectors it gives, in the order of the catalogs.
    pub fn schemas(&self) -> impl Iterator<Item = &Arc<FeatureSchema>> {
        self.plans.iter().map(|plan| plan.schema())
    }

    /// The schema of this name, for example `host.10s`.
    #[must_use]
    pub fn schema(&self, name: &str) -> Option<&Arc<FeatureSchema>> {
        self.schemas().find(|schema| schema.name().as_str() == name)
    }

    /// What became of the events so far.
    #[must_use]
    pub fn counters(&self) -> ExtractCounters {
        self.streams
            .iter()
            .fold(self.past, |all, (_, stream)| all.and(&stream.counters()))
    }

    /// Streams forgotten because there were too many.
    #[must_use]
    pub const fn streams_evicted(&self) -> u64 {
        self.streams_evicted
    }

    /// How many entities are kept now, over all streams and catalogs.
    #[must_use]
    pub fn entities(&self) -> usize {
        let of_stream = |stream: &Stream| stream.sets.iter().map(|set| set.entities()).sum::<usize>();
        self.streams.iter().map(|(_, stream)| of_stream(stream)).sum()
    }

    /// What a state must agree about to be continued here.
    fn identity(&self) -> Result<Digest, AnalyzerError> {
        let config = postcard::to_allocvec(&self.config).map_err(unwritten)?;
        let mut parts = vec![b"network extractor 2".to_vec(), config];
        for plan in &self.plans {
            parts.push(plan.schema().digest().0.to_vec());
            parts.push(plan.spec().slide().as_nanos().to_le_bytes().to_vec());
        }
        Ok(Digest::of_parts(parts.iter().map(Vec::as_slice)))
    }

    /// Whether any catalog needs such events; all need the clock.
    fn reads(&self, payload: &Payload) -> bool {
        let reads = match payload {
            Payload::Punctuation(_) => return true,
            Payload::Flow(_) | Payload::Dns(_) | Payload::Arp(_) => Reads::Network,
            Payload::Process(_) => Reads::Processes,
            Payload::Syscall(_) => Reads::Syscalls,
            Payload::Metric(_) => Reads::Metrics,
            _ => return false,
        };
        self.plans.iter().any(|plan| plan.reads() == reads)
    }

    fn new_stream(config: &ExtractConfig, plans: &[Box<dyn Plan>]) -> Stream {
        Stream {
            clock: StreamClock::new(config.clock),
            tracker: FlowTracker::new(config.tracker),
            processes: None,
            series: None,
            sets: plans.iter().map(|plan| plan.start(config.limits)).collect(),
            closed: Timestamp::MIN,
        }
    }
}

impl Extractor for NetworkExtractor {
    fn observe(&mut self, event: &Recorded, features: &mut Vec<FeatureVector>) {
        if !self.reads(&event.event.payload) {
            return;
        }
        let Self {
            config,
            plans,
            streams,
            past,
            streams_evicted,
        } = self;
        let (stream, evicted) = streams.get_or_insert(&event.stream, || Self::new_stream(config, plans));
        if let Some((id, mut old)) = evicted {
            let begun = features.len();
            old.finish(&id, features, None);
            sort(&mut features[begun..]);
            *past = past.and(&old.counters());
            *streams_evicted += 1;
        }
        let begun = features.len();
        stream.observe(event, features);
        sort(&mut features[begun..]);
    }

    /// Catalogs whose vectors are of other schemas are left out. After the first event it has no effect.
    fn restrict(&mut self, schemas: &[Digest]) {
        if self.streams.len() == 0 {
            self.plans
                .retain(|plan| schemas.contains(&plan.schema().digest()));
        }
    }

    fn snapshot(&self) -> Result<Vec<u8>, AnalyzerError> {
        let state = ExtractorState {
            streams: self
                .streams
                .state(|_, stream| stream.state())
                .transpose()
                .map_err(unwritten)?,
            past: self.past,
            streams_evicted: self.streams_evicted,
        };
        snapshot::encode(self.identity()?, &state).map_err(unwritten)
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), AnalyzerError> {
        let state: ExtractorState = snapshot::decode(self.identity()?, snapshot)?;
        let restored = state.streams.try_map(|stream| {
            let mut restored = Self::new_stream(&self.config, &self.plans);
            restored.restore(stream).map(|()| restored)
        })?;
        self.streams.restore(restored);
        self.past = state.past;
        self.streams_evicted = state.streams_evicted;
        Ok(())
    }
}

impl Stream {
    fn observe(&mut self, event: &Recorded, features: &mut Vec<FeatureVector>) {
        let time = event.event.time;
        let id = &event.stream;
        if let Payload::Punctuation(punctuation) = &event.event.payload {
            self.clock
                .punctuation(time, Duration::from_nanos(punctuation.lateness_ns));
            self.advance(id, features);
            if punctuation.end {
                self.finish(id, features, None);
                self.clock.forget();
            }
            return;
        }
        match self.clock.event(time) {
            Tick::Believed => {}
            Tick::Implausible => return,
            Tick::Reset { since } => self.finish(id, features, Some(since)),
        }
        let at = At { time, seq: event.seq };
        let Self {
            tracker,
            processes,
            series,
            sets,
            ..
        } = self;
        let mut tell = |at: At, fact: Fact<'_>| sets.iter_mut().for_each(|set| set.add(at, &fact));
        match &event.event.payload {
            Payload::Flow(record) => tracker.flow(event.event.id, record, at, &mut tell),
            Payload::Dns(record) => tracker.dns(record, at, &mut tell),
            Payload::Arp(record) => tell(at, Fact::Arp(record)),
            Payload::Process(record) => processes
                .get_or_insert_with(|| Box::new(ProcessTracker::new()))
                .process(&event.event, record, at, &mut tell),
            Payload::Syscall(record) => processes
                .get_or_insert_with(|| Box::new(ProcessTracker::new()))
                .syscalls(&event.event, record, at, &mut tell),
            Payload::Metric(metric) => series
                .get_or_insert_with(|| Box::new(SeriesTracker::new()))
                .metric(&event.event, metric, at, &mut tell),
            _ => {}
        }
        self.advance(id, features);
    }

    /// Closes what the clock has left behind.
    fn advance(&mut self, id: &StreamId, features: &mut Vec<FeatureVector>) {
        let watermark = self.clock.watermark();
        if watermark <= self.closed {
            return;
        }
        self.closed = watermark;
        let Self { tracker, sets, .. } = self;
        // What nobody answered in time belongs to windows that may be about to close.
        tracker.advance(watermark, &mut |at, fact| {
            sets.iter_mut().for_each(|set| set.add(at, &fact))
        });
        for set in sets {
            set.advance(watermark, id, features);
        }
    }

    /// Closes everything: the source has ended, or its time begins anew.
    fn finish(&mut self, id: &StreamId, features: &mut Vec<FeatureVector>, since: Option<Timestamp>) {
        let Self { tracker, sets, .. } = self;
        tracker.advance(Timestamp::MAX, &mut |at, fact| {
            sets.iter_mut().for_each(|set| set.add(at, &fact))
        });
        tracker.forget_flows(since);
        for set in sets {
            set.finish(id, features);
        }
        self.closed = Timestamp::MIN;
    }

    fn counters(&self) -> ExtractCounters {
        let windows = self.sets.iter().map(|set| set.counters());
        ExtractCounters {
            clock: self.clock.counters(),
            tracker: self.tracker.counters(),
            windows: windows.fold(WindowCounters::default(), |all, set| all.and(&set)),
        }
    }

    fn state(&self) -> Result<StreamState, postcard::Error> {
        Ok(StreamState {
            clock: self.clock.clone(),
            tracker: self.tracker.state(),
            processes: self.processes.as_ref().map(|processes| processes.state()),
            series: self.series.as_ref().map(|series| series.state()),
            sets: self.sets.iter().map(|set| set.save()).collect::<Result<_, _>>()?,
            closed: self.closed,
        })
    }

    fn restore(&mut self, state: StreamState) -> Result<(), AnalyzerError> {
        if state.sets.len() != self.sets.len() {
            return Err(AnalyzerError::Snapshot {
                reason: "it holds another number of catalogs".to_owned(),
                source: None,
            });
        }
        for (set, bytes) in self.sets.iter_mut().zip(&state.sets) {
            set.load(bytes)?;
        }
        self.clock = state.clock;
        self.tracker.restore(state.tracker);
        self.processes = state.processes.map(|state| {
            let mut processes = Box::new(ProcessTracker::new());
            processes.restore(state);
            processes
        });
        self.series = state.series.map(|state| {
            let mut series = Box::new(SeriesTracker::new());
            series.restore(state);
            series
        });
        self.closed = state.closed;
        Ok(())
    }
}

impl ExtractCounters {
    const fn and(&self, other: &Self) -> Self {
        Self {
            clock: self.clock.and(&other.clock),
            tracker: self.tracker.and(&other.tracker),
            windows: self.windows.and(&other.windows),
        }
    }
}

/// Orders vectors of several catalogs, each in order, by the end of their windows. The sort is stable, so that
/// catalogs and entities keep their order.
fn sort(features: &mut [FeatureVector]) {
    features.sort_by_key(|vector| vector.end);
}

fn unwritten(error: postcard::Error) -> AnalyzerError {
    AnalyzerError::Snapshot {
        reason: "the state could not be written".to_owned(),
        source: Some(error.into()),
    }
}
