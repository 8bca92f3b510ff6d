//! The table of all settings.

use std::path::PathBuf;
use std::time::Duration;

use super::kind::{Kind, Value};
use super::sections::{Config, WhenFull};
use crate::wire::MAX_EVENTS;

/// A setting: its names, what it is for, and what it takes.
#[derive(Debug)]
pub struct Key {
    name: &'static str,
    former: Option<&'static str>,
    pub(super) kind: Kind,
    about: &'static str,
    /// Sets an allowed value.
    pub(super) set: fn(&mut Config, Value),
    /// The value; `None` if the setting has none.
    pub(super) value: fn(&Config) -> Option<Value>,
}

impl Key {
    /// Its name, as `SECTION.KEY`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The environment variable that sets it, as `AMOSKYS_SECTION_KEY`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.name.replace('.', "_").to_uppercase())
    }

    /// The variable that set it in the predecessor. It still works, with a warning.
    #[must_use]
    pub fn former_variable(&self) -> Option<&'static str> {
        self.former
    }

    /// What it is for, in one or two sentences.
    #[must_use]
    pub fn about(&self) -> &'static str {
        self.about
    }

    /// What it may be set to.
    #[must_use]
    pub fn allowed(&self) -> String {
        self.kind.allowed()
    }

    /// Its value in these settings, as it could be written in a file; `None` if it is not set.
    #[must_use]
    pub fn value_in(&self, config: &Config) -> Option<String> {
        (self.value)(config).map(|value| self.kind.show(&value))
    }

    /// The default, as it could be written in a file; `None` if it is not set.
    #[must_use]
    pub fn default_value(&self) -> Option<String> {
        (self.value)(&Config::default()).map(|value| self.kind.show(&value))
    }
}

/// What the names of our environment variables begin with.
pub(super) const PREFIX: &str = "AMOSKYS_";

/// Variables that begin like ours but are no settings: they are for the tests.
pub(super) const NO_SETTINGS: [&str; 2] = ["AMOSKYS_DATA", "AMOSKYS_REQUIRE_PEERS"];

/// All settings, in order of their sections.
#[must_use]
pub fn keys() -> &'static [Key] {
    KEYS
}

/// A type a setting may have.
trait Setting: Sized {
    fn of(value: Value) -> Option<Self>;
    fn value(&self) -> Option<Value>;
}

macro_rules! whole {
    ($($type:ty),*) => {$(
        impl Setting for $type {
            fn of(value: Value) -> Option<Self> {
                match value {
                    Value::Whole(value) => value.try_into().ok(),
                    _ => None,
                }
            }

            fn value(&self) -> Option<Value> {
                u64::try_from(*self).ok().map(Value::Whole)
            }
        }
    )*};
}

whole!(u16, u32, u64, usize);

macro_rules! other {
    ($($type:ty: $variant:ident),*) => {$(
        impl Setting for $type {
            fn of(value: Value) -> Option<Self> {
                match value {
                    Value::$variant(value) => Some(value),
                    _ => None,
                }
            }

            fn value(&self) -> Option<Value> {
                Some(Value::$variant(self.clone()))
            }
        }
    )*};
}

other!(Duration: Time, f64: Number, String: Text, PathBuf: Path, bool: Switch);

impl Setting for WhenFull {
    fn of(value: Value) -> Option<Self> {
        let Value::Text(name) = value else { return None };
        [Self::Wait, Self::Shed]
            .into_iter()
            .find(|known| known.as_str() == name)
    }

    fn value(&self) -> Option<Value> {
        Some(Value::Text(self.as_str().to_owned()))
    }
}

impl<T: Setting> Setting for Option<T> {
    fn of(value: Value) -> Option<Self> {
        T::of(value).map(Some)
    }

    fn value(&self) -> Option<Value> {
        self.as_ref().and_then(T::value)
    }
}

macro_rules! key_table {
    ($($section:ident.$key:ident $(($former:literal))?: $kind:expr, $about:literal;)*) => {
        const KEYS: &[Key] = &[$(Key {
            name: concat!(stringify!($section), ".", stringify!($key)),
            former: key_table!(@former $($former)?),
            kind: $kind,
            about: $about,
            set: |config, value| {
                if let Some(value) = Setting::of(value) {
                    config.$section.$key = value;
                }
            },
            value: |config| config.$section.$key.value(),
        }),*];
    };
    (@former $former:literal) => { Some($former) };
    (@former) => { None };
}

const fn time(least: Duration, most: Duration) -> Kind {
    Kind::Time { least, most }
}

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const WEIGHT: Kind = Kind::Number {
    least: 0.0,
    most: 1.0,
};

key_table! {
    agent.name: Kind::Name { most_bytes: 255 },
        "Name of the agent, which its streams carry; different for each agent of a site.";

    log.path ("IS_WAL_PATH"): Kind::NewDirectory,
        "Directory of the durable log; made if it does not exist. (It was a file in the predecessor.)";
    log.budget_bytes: Kind::Bytes { least: 64 << 10, most: 1 << 50 },
        "Bytes the records may take on disk; what happens when they are used up, `when_full` says.";
    log.segment_bytes: Kind::Bytes { least: 4 << 10, most: 1 << 30 },
        "Size at which a new segment file is begun, and the grain in which space is freed; in effect at most an \
         eighth of the budget.";
    log.sync_interval: time(Duration::from_millis(10), MINUTE),
        "How long consumers' positions may take to become durable. Events do not wait for it.";
    log.when_full: Kind::Choice(WhenFull::NAMES),
        "What a full log does: it lets collectors wait, or sheds the oldest bulk, then telemetry, and leaves signed gaps in \
         their place. Alerts and audit are never shed.";
    log.retention: time(SECOND, Duration::from_secs(86_400 * 3650)),
        "How old records of an agent's log may become, read or not, of whatever class; what is older leaves signed gaps. \
         Until they were read, if not set.";
    log.key_file: Kind::File,
        "File with the keys the log is encrypted with: a line of 64 hexadecimal digits for each, the current one first; mode \
         0600. Not encrypted, if not set.";

    protect.rules: Kind::Name { most_bytes: 64 << 10 },
        "Whose data an event is, so that it is encrypted before it is sealed and can be erased by forgetting a key:          attribute:NAME, uid:LEAST, device, or address:NETWORK (as 10.0.0.0/8), with commas in between; the first that knows          decides. Nothing is protected, if not set.";
    protect.key_file: Kind::NewFile,
        "File with the keys of those whose data it is; made if it does not exist. Needed with protect.rules.";
    protect.keep_clear: Kind::Name { most_bytes: 64 << 10 },
        "Attributes of protected events that stay in the clear, with commas in between.";

    batch.max_events: Kind::Count { least: 1, most: MAX_EVENTS as u64 },
        "A batch is sealed when it has this many events.";
    batch.max_bytes ("IS_MAX_ENV_BYTES"): Kind::Bytes { least: 1, most: 16 << 20 },
        "A batch is sealed when it has about this many bytes.";
    batch.linger: time(Duration::ZERO, MINUTE),
        "A batch is sealed when its first event has waited this long.";

    bus.address ("IS_BUS_ADDRESS"): Kind::Address,
        "Where agents find the bus.";
    bus.name: Kind::Name { most_bytes: 255 },
        "Name of the bus, which its certificate and the streams of its own carry.";
    bus.server_port ("BUS_SERVER_PORT"): Kind::Port,
        "Port the bus listens on.";
    bus.cert_dir ("IS_CERT_DIR"): Kind::Directory,
        "Directory with the certificates and keys of this process.";
    bus.retry_max ("IS_RETRY_MAX"): Kind::Count { least: 0, most: 20 },
        "How often a request to the bus is repeated before it is given up for now.";
    bus.retry_timeout ("IS_RETRY_TIMEOUT"): time(MS, HOUR),
        "How long a request to the bus may take.";
    bus.send_rate ("IS_SEND_RATE"): Kind::Count { least: 0, most: 1_000_000_000 },
        "Events sent to the bus in a second at most; 0 for no limit.";
    bus.retention: time(SECOND, Duration::from_secs(86_400 * 3650)),
        "How long the bus keeps records that its named readers have released; until the log's budget is used up, if not \
         set.";
    bus.retain_bytes: Kind::Bytes { least: 64 << 10, most: 1 << 50 },
        "Bytes of log the bus keeps: the oldest records beyond it are deleted once its named readers have released them. Nine \
         tenths of the log's budget, if not set.";
    bus.keep_unread: Kind::Switch,
        "What happens when the log's budget is used up by records that a named reader has not released: the oldest are deleted \
         and the reader is told, or, with true, agents wait.";
    bus.max_connections: Kind::Count { least: 1, most: 1_000_000 },
        "Connections to the bus at a time, of clients that have said who they are; more are refused.";
    bus.max_connections_each: Kind::Count { least: 1, most: 1_000_000 },
        "The same of one agent or analyzer.";
    bus.max_strangers: Kind::Count { least: 1, most: 1_000_000 },
        "Connections to the bus at a time, of clients that have not said yet who they are; one that took its time makes room for \
         the next.";
    bus.max_strangers_each: Kind::Count { least: 1, most: 1_000_000 },
        "The same of one address; of IPv6, of one /64.";
    bus.agent_rate: Kind::Count { least: 0, most: 1_000_000_000 },
        "Events the bus takes from each agent in a second; 0 for no limit. What is more waits at the agent.";
    bus.agent_bytes: Kind::Bytes { least: 0, most: 1 << 40 },
        "Bytes of records the bus takes from each agent in a second; 0 for no limit.";
    bus.agent_rates: Kind::Name { most_bytes: 1 << 20 },
        "Other rates for single agents, as AGENT=EVENTS or AGENT=EVENTS/BYTES, with commas in between; a comma or an equals \
         sign in a name is written %2C or %3D.";
    bus.soft_bytes: Kind::Bytes { least: 64 << 10, most: 1 << 40 },
        "From so many bytes on that the bus has received and that are not durable there yet, each agent gets a fair share \
         only.";
    bus.hard_bytes: Kind::Bytes { least: 64 << 10, most: 1 << 40 },
        "With so many, the bus takes nothing before something is durable; at least bus.soft_bytes, and 40MiB in effect.";
    bus.turn_away_after: time(Duration::from_millis(100), HOUR),
        "An agent whose record had to wait this long for room is turned away, and told when to come again; agents wait, if \
         not set.";
    bus.longest_penalty: time(Duration::ZERO, HOUR),
        "The longest that a client is kept out that the bus had to refuse again and again; 0s keeps nobody out.";

    bus.heads_interval: time(MS, Duration::from_secs(86_400)),
        "How often the bus signs where all streams have come to, if one has moved.";
    bus.clock_ahead: time(MINUTE, Duration::from_secs(86_400 * 3650)),
        "A record that was sealed further ahead of the bus's clock is refused.";
    bus.handshake_timeout: time(Duration::from_millis(100), HOUR),
        "How long a client may take to show its certificate and say what it wants.";
    bus.idle_timeout: time(Duration::from_secs(20), DAY),
        "How long a connection may be silent before it is taken for dead; clients say something every ten seconds.";
    bus.window_bytes: Kind::Bytes { least: 64 << 10, most: 1 << 40 },
        "Bytes a connection may have sent that are not durable at the bus yet.";
    bus.max_streams: Kind::Count { least: 1, most: 1_000_000_000 },
        "Streams of one agent, which has up to four for each life of its log; more are refused.";

    audit.dir: Kind::NewDirectory,
        "Directory of the audit log of what the bus decides, beside that in its own log; none, if not set.";
    audit.key: Kind::File,
        "File with the key of the audit log, 32 bytes or 64 hexadecimal digits, mode 0600; one is drawn in audit.dir, if not \
         set.";
    audit.file_bytes: Kind::Bytes { least: 128 << 10, most: 1 << 40 },
        "How large a file of the audit log may become before the next is begun.";
    audit.files: Kind::Count { least: 1, most: 1_000_000 },
        "How many older files of the audit log are kept.";

    legacy.trust_map: Kind::File,
        "The predecessor's trust map, YAML; the bus serves agents of the predecessor whose signing keys it names. It serves \
         none, if neither this nor legacy.allow_unsigned is set.";
    legacy.allow_unsigned: Kind::Switch,
        "Whether agents of the predecessor may send envelopes without a signature; without a trust map, everyone with a \
         certificate may.";
    legacy.window: time(MINUTE, Duration::from_secs(86_400 * 365)),
        "How old an envelope may be when it comes, and how long one that comes again is recognised.";
    legacy.index_bytes: Kind::Bytes { least: 32 << 10, most: 1 << 36 },
        "Memory for the keys of envelopes that are stored, about 20 bytes for each. With too little, the window is shorter \
         for agents that send much.";
    legacy.max_in_flight: Kind::Count { least: 4, most: 1_000_000 },
        "Envelopes that may wait to become durable, of all agents together, a quarter of it of each; who sends more is told when \
         to come again.";
    legacy.max_in_flight_bytes: Kind::Bytes { least: 128 << 10, most: 1 << 40 },
        "Bytes of envelopes that may be coming in or wait to become durable, a quarter of it of each agent.";

    metrics.port ("IS_METRICS_PORT"): Kind::Port,
        "Port on which metrics are served; not served if not set.";

    health.port ("IS_HEALTH_PORT"): Kind::Port,
        "Port on which health checks are answered; not answered if not set.";

    flow.idle_timeout: time(Duration::from_millis(100), DAY),
        "A flow ends when no packet came for this long, in event time.";
    flow.active_timeout: time(SECOND, DAY),
        "A flow that lasts longer ends, and a new one goes on.";
    flow.update_interval: time(Duration::from_millis(100), DAY),
        "How often a flow with new packets is reported, in event time.";
    flow.max_flows: Kind::Count { least: 16, most: 64_000_000 },
        "How many flows may be open at once; each takes about 700 bytes of memory.";

    analysis.report_score: Kind::Number { least: 0.0, most: 1.0 },
        "Verdicts with a lower score are kept back. It does not change what becomes an alert.";
    analysis.geometric_weight: WEIGHT,
        "How much the geometric layer counts: who talks to whom.";
    analysis.temporal_weight: WEIGHT,
        "How much the temporal layer counts: how much, and when.";
    analysis.behavioral_weight: WEIGHT,
        "How much the behavioral layer counts: in what order.";
    analysis.checkpoint_interval: time(Duration::from_millis(100), HOUR),
        "How often what the analyzers know is written down.";
    analysis.max_wait: time(Duration::ZERO, DAY),
        "How long an event waits for agents that are behind in event time.";
}

/// Where the setting of this name is in the table.
pub(super) fn find(name: &str) -> Option<usize> {
    KEYS.iter().position(|key| key.name == name)
}

/// The known name most like an unknown one.
pub(super) fn nearest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .min_by_key(|name| strsim::damerau_levenshtein(unknown, name))
}
