use std::path::PathBuf;
use std::time::Duration;

use super::error::ConfigErrors;
use super::loader::{self, Loader};

/// All settings. [`Config::default`] is the built-in defaults; change fields, then [`validate`](Self::validate).
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// Who this agent is.
    pub agent: AgentSettings,
    /// The durable log.
    pub log: LogSettings,
    /// What is encrypted before it is sealed, so that it can be erased.
    pub protect: ProtectSettings,
    /// When events are sealed.
    pub batch: BatchSettings,
    /// The way to the bus, and the bus itself.
    pub bus: BusSettings,
    /// The audit log of what a bus decides.
    pub audit: AuditSettings,
    /// Agents of the predecessor.
    pub legacy: LegacySettings,
    /// Metrics for scraping.
    pub metrics: MetricsSettings,
    /// Health checks.
    pub health: HealthSettings,
    /// Flow metering.
    pub flow: FlowSettings,
    /// Detection.
    pub analysis: AnalysisSettings,
}

impl Config {
    /// Reads settings from files, the environment and code.
    pub fn loader() -> Loader {
        Loader::default()
    }

    /// Checks settings that were changed in code.
    ///
    /// # Errors
    ///
    /// Every setting that is out of range.
    pub fn validate(&self) -> Result<(), ConfigErrors> {
        loader::validate(self)
    }
}

/// Who this agent is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AgentSettings {
    /// Name of the agent, which its streams carry. Default `agent`; different for each agent of a site.
    pub name: String,
}

impl Default for AgentSettings {
    fn default() -> Self {
        Self {
            name: "agent".to_owned(),
        }
    }
}

/// The durable log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogSettings {
    /// Directory of the log; made if it does not exist. Default `data`, in the working directory.
    pub path: PathBuf,
    /// Bytes the records may take on disk. Default 4 GiB.
    pub budget_bytes: u64,
    /// Size at which a new segment file is begun. Default 64 MiB.
    pub segment_bytes: u64,
    /// How long small values beside the log may take to become durable. Default 1 s.
    pub sync_interval: Duration,
    /// What a full log does. Default: it waits.
    pub when_full: WhenFull,
    /// How old records may become, whether they were read or not. Default none: until they were read.
    pub retention: Option<Duration>,
    /// File with the keys the log is encrypted with. Default none: it is not encrypted.
    pub key_file: Option<PathBuf>,
}

/// What a full log does for who wants to append.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// Lets them wait until its readers have come on. Nothing is lost in the log; sources that cannot wait lose, and
    /// count it.
    #[default]
    Wait,
    /// Sheds the oldest records of class bulk, then of class telemetry, and leaves signed gaps in their place. Alerts and
    /// audit are never shed: once there is nothing else, it waits.
    Shed,
}

impl WhenFull {
    /// The names in a configuration.
    pub(super) const NAMES: &[&str] = &["wait", "shed"];

    /// The name in a configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Shed => "shed",
        }
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            path: PathBuf::from("data"),
            budget_bytes: 4 << 30,
            segment_bytes: 64 << 20,
            sync_interval: Duration::from_secs(1),
            when_full: WhenFull::Wait,
            retention: None,
            key_file: None,
        }
    }
}

/// When events are sealed into a batch: at the first of these limits.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchSettings {
    /// Events in a batch. Default 512.
    pub max_events: usize,
    /// Approximate bytes of a batch. Default 256 KiB.
    pub max_bytes: usize,
    /// How long the first event of a batch waits for company. Default 10 ms.
    pub linger: Duration,
}

impl Default for BatchSettings {
    fn default() -> Self {
        Self {
            max_events: 512,
            max_bytes: 256 << 10,
            linger: Duration::from_millis(10),
        }
    }
}

/// The way to the bus, and the bus itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BusSettings {
    /// Where agents find the bus, as `HOST:PORT`. Default `localhost:50051`.
    pub address: String,
    /// Name of the bus, which its certificate and the streams of its own carry. Default `bus`.
    pub name: String,
    /// Port the bus listens on. Default 50051.
    pub server_port: u16,
    /// Directory with the certificates and keys of this process. Default none; it must exist.
    pub cert_dir: Option<PathBuf>,
    /// How often a request is repeated before it is given up for now. Default 6.
    pub retry_max: u32,
    /// How long a request may take. Default 1 s.
    pub retry_timeout: Duration,
    /// Events sent in a second at most; 0 for no limit, the default.
    pub send_rate: u32,
    /// How long the bus keeps records that its named readers have released. Default none: until the log's budget is
    /// used up.
    pub retention: Option<Duration>,
    /// Bytes of log the bus keeps. Default none: nine tenths of the log's budget.
    pub retain_bytes: Option<u64>,
    /// Whether agents wait if what its named readers have not read fills the log. Default no: the oldest is deleted.
    pub keep_unread: bool,
    /// Connections at a time, of clients that have said who they are. Default 1024.
    pub max_connections: usize,
    /// The same of one client. Default 16.
    pub max_connections_each: usize,
    /// Connections at a time, of clients that have not said who they are. Default 1024.
    pub max_strangers: usize,
    /// The same of one address. Default 256.
    pub max_strangers_each: usize,
    /// Events the bus takes from each agent in a second; 0 for no limit, the default.
    pub agent_rate: u64,
    /// Bytes of records the bus takes from each agent in a second; 0 for no limit, the default.
    pub agent_bytes: u64,
    /// Other rates for single agents, as `AGENT=EVENTS` or `AGENT=EVENTS/BYTES`, with commas in between. Default none.
    pub agent_rates: Option<String>,
    /// From so many bytes on that were received and are not durable yet, each agent gets a fair share only. Default 64 MiB.
    pub soft_bytes: u64,
    /// With so many, nothing is taken before something is durable. Default 256 MiB.
    pub hard_bytes: u64,
    /// How long a record may wait for room until its agent is turned away. Default none: agents wait.
    pub turn_away_after: Option<Duration>,
    /// The longest that a client is kept out that was refused again and again. Default 60 s.
    pub longest_penalty: Duration,
    /// How often the bus signs where all streams have come to, if one has moved. Default 60 s.
    pub heads_interval: Duration,
    /// A record that was sealed further ahead of the bus's clock is refused. Default one day.
    pub clock_ahead: Duration,
    /// How long a client may take to show its certificate and say what it wants. Default 10 s.
    pub handshake_timeout: Duration,
    /// How long a connection may be silent before it is taken for dead. Default 60 s.
    pub idle_timeout: Duration,
    /// Bytes a connection may have sent that are not durable at the bus yet. Default 8 MiB.
    pub window_bytes: u64,
    /// Streams of one agent. Default 4096.
    pub max_streams: usize,
}

impl Default for BusSettings {
    fn default() -> Self {
        Self {
            address: "localhost:50051".to_owned(),
            name: "bus".to_owned(),
            server_port: 50_051,
            cert_dir: None,
            retry_max: 6,
            retry_timeout: Duration::from_secs(1),
            send_rate: 0,
            retention: None,
            retain_bytes: None,
            keep_unread: false,
            max_connections: 1024,
            max_connections_each: 16,
            max_strangers: 1024,
            max_strangers_each: 256,
            agent_rate: 0,
            agent_bytes: 0,
            agent_rates: None,
            soft_bytes: 64 << 20,
            hard_bytes: 256 << 20,
            turn_away_after: None,
            longest_penalty: Duration::from_secs(60),
            heads_interval: Duration::from_secs(60),
            clock_ahead: Duration::from_secs(86_400),
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            window_bytes: 8 << 20,
            max_streams: 4096,
        }
    }
}

/// The audit log of what a bus decides.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditSettings {
    /// Its directory. Default none: what is decided stands in the bus's own log only.
    pub dir: Option<PathBuf>,
    /// File with its key. Default none: one is drawn in the directory.
    pub key: Option<PathBuf>,
    /// How large a file may become. Default 16 MiB.
    pub file_bytes: u64,
    /// How many older files are kept. Default 8.
    pub files: usize,
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self {
            dir: None,
            key: None,
            file_bytes: 16 << 20,
            files: 8,
        }
    }
}

/// What is encrypted event by event before it is sealed, so that what is known of somebody can be erased.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProtectSettings {
    /// Whose data an event is. Default none: nothing is protected.
    pub rules: Option<String>,
    /// File with the keys of those whose data it is. Default none.
    pub key_file: Option<PathBuf>,
    /// Attributes that stay in the clear. Default none.
    pub keep_clear: Option<String>,
}

/// Agents of the predecessor, at the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LegacySettings {
    /// Their trust map, YAML. Default none.
    pub trust_map: Option<PathBuf>,
    /// Whether envelopes may come without a signature. Default no.
    pub allow_unsigned: bool,
    /// How old an envelope may be when it comes. Default 7 days.
    pub window: Duration,
    /// Memory for the keys of envelopes that are stored. Default 64 MiB.
    pub index_bytes: u64,
    /// Envelopes that may wait to become durable, of all agents together. Default 8192.
    pub max_in_flight: usize,
    /// Bytes of envelopes that may be coming in or wait to become durable. Default 32 MiB.
    pub max_in_flight_bytes: u64,
}

impl LegacySettings {
    /// Whether agents of the predecessor are served.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.trust_map.is_some() || self.allow_unsigned
    }
}

impl Default for LegacySettings {
    fn default() -> Self {
        Self {
            trust_map: None,
            allow_unsigned: false,
            window: Duration::from_secs(7 * 86_400),
            index_bytes: 64 << 20,
            max_in_flight: 8192,
            max_in_flight_bytes: 32 << 20,
        }
    }
}

/// Metrics for scraping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MetricsSettings {
    /// Port they are served on. Default none: they are not served.
    pub port: Option<u16>,
}

/// Health checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HealthSettings {
    /// Port they are answered on. Default none: they are not answered.
    pub port: Option<u16>,
}

/// Flow metering.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlowSettings {
    /// A flow ends when no packet came for this long, in event time. Default 60 s.
    pub idle_timeout: Duration,
    /// A flow that lasts longer ends, and a new one goes on. Default 30 minutes.
    pub active_timeout: Duration,
    /// How often a flow with new packets is reported, in event time. Default 5 s.
    pub update_interval: Duration,
    /// How many flows may be open at once; each takes about 700 bytes of memory. Default 65 536.
    pub max_flows: u32,
}

impl Default for FlowSettings {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(60),
            active_timeout: Duration::from_secs(30 * 60),
            update_interval: Duration::from_secs(5),
            max_flows: 65_536,
        }
    }
}

/// Detection.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AnalysisSettings {
    /// Verdicts with a lower score are kept back. Default 0.3. It does not change what becomes an alert.
    pub report_score: f64,
    /// How much the geometric layer counts: who talks to whom. Default 0.33.
    pub geometric_weight: f64,
    /// How much the temporal layer counts: how much, and when. Default 0.33.
    pub temporal_weight: f64,
    /// How much the behavioral layer counts: in what order. Default 0.34.
    pub behavioral_weight: f64,
    /// How often what the analyzers know is written down. Default 30 s.
    pub checkpoint_interval: Duration,
    /// How long an event waits for agents that are behind in event time. Default 10 s.
    pub max_wait: Duration,
}

impl Default for AnalysisSettings {
    fn default() -> Self {
        Self {
            report_score: 0.3,
            geometric_weight: 0.33,
            temporal_weight: 0.33,
            behavioral_weight: 0.34,
            checkpoint_interval: Duration::from_secs(30),
            max_wait: Duration::from_secs(10),
        }
    }
}
