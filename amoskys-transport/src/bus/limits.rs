use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use amoskys_core::Name;
use amoskys_core::config::BusSettings;

use super::frame::MAX_FRAME;
use crate::swap::Swap;

/// What a bus grants to its clients. Each limit has a default, and all of them can be changed while the bus runs:
/// [`Bus::set_limits`](super::Bus::set_limits), [`Reconfigurer`](super::Reconfigurer).
///
/// ```
/// use amoskys_transport::bus::{Limits, Rate};
///
/// let mut limits = Limits::default();
/// limits.rate = Rate { events: 5_000, bytes: 4 << 20 };
/// limits.rates.insert("core-switch".into(), Rate::UNLIMITED);
/// assert_eq!(limits.rate_of(&"core-switch".into()), Rate::UNLIMITED);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Connections at a time of clients that have said who they are. Default 1024; more are refused.
    pub connections: usize,
    /// The same of one agent or analyzer. Default 16.
    pub connections_of_one: usize,
    /// Connections at a time of clients that have not said who they are and what they want. Default 1024. When there are as
    /// many, one that has taken its time has to make room for the next.
    pub strangers: usize,
    /// The same of one address; of IPv6, of one /64. Default 256.
    pub strangers_of_address: usize,
    /// From so many bytes on that were received and are not durable yet, those of all agents together, each agent gets a
    /// fair share only. Default 64 MiB.
    pub soft_bytes: u64,
    /// With so many, nothing more is taken before something is durable. Default 256 MiB, at least the soft limit and the
    /// largest frame. It bounds the memory of the bus, together with the number of connections.
    pub hard_bytes: u64,
    /// What an agent may send. Default no limit.
    pub rate: Rate,
    /// What these agents may send instead.
    pub rates: BTreeMap<Name, Rate>,
    /// How long a record may be kept waiting by these limits before its connection is ended, so that its memory is free for
    /// others; the agent still has it, and is told when to come again. Default none: agents wait.
    pub turn_away_after: Option<Duration>,
    /// The longest that a client is kept out that was refused again and again. Default 60 s; zero keeps nobody out.
    pub longest_penalty: Duration,
}

/// What one agent may send in a second, on all its connections together. It may save up a second's worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Events in a second; 0 for no limit.
    pub events: u64,
    /// Bytes of sealed records in a second; 0 for no limit.
    pub bytes: u64,
}

impl Rate {
    /// No limit.
    pub const UNLIMITED: Self = Self { events: 0, bytes: 0 };

    pub(crate) fn is_unlimited(self) -> bool {
        self == Self::UNLIMITED
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_of_one: 16,
            strangers: 1024,
            strangers_of_address: 256,
            soft_bytes: 64 << 20,
            hard_bytes: 256 << 20,
            rate: Rate::UNLIMITED,
            rates: BTreeMap::new(),
            turn_away_after: None,
            longest_penalty: Duration::from_secs(60),
        }
    }
}

impl Limits {
    /// The limits in the section `bus` of a [`Config`](amoskys_core::config::Config).
    ///
    /// # Errors
    ///
    /// If they contradict each other, or the rates of single agents cannot be read.
    pub fn of_settings(settings: &BusSettings) -> Result<Self, LimitsError> {
        let limits = Self {
            connections: settings.max_connections,
            connections_of_one: settings.max_connections_each,
            strangers: settings.max_strangers,
            strangers_of_address: settings.max_strangers_each,
            soft_bytes: settings.soft_bytes,
            hard_bytes: settings.hard_bytes,
            rate: Rate {
                events: settings.agent_rate,
                bytes: settings.agent_bytes,
            },
            rates: settings
                .agent_rates
                .as_deref()
                .map_or(Ok(BTreeMap::new()), parse_rates)?,
            turn_away_after: settings.turn_away_after,
            longest_penalty: settings.longest_penalty,
        };
        if limits.hard_bytes < limits.soft_bytes {
            return Err(LimitsError::SoftAboveHard {
                soft_bytes: limits.soft_bytes,
                hard_bytes: limits.hard_bytes,
            });
        }
        Ok(limits)
    }

    /// What this agent may send.
    #[must_use]
    pub fn rate_of(&self, agent: &Name) -> Rate {
        self.rates.get(agent).copied().unwrap_or(self.rate)
    }

    /// Whether any agent's rate is limited.
    pub(crate) fn has_rates(&self) -> bool {
        !self.rate.is_unlimited() || self.rates.values().any(|rate| !rate.is_unlimited())
    }

    pub(crate) fn effective_hard_bytes(&self) -> u64 {
        self.hard_bytes.max(self.soft_bytes).max(MAX_FRAME as u64)
    }
}

/// Why limits cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitsError {
    /// The hard limit would be reached before the soft one.
    #[error(
        "bus.soft_bytes is {soft_bytes}, above bus.hard_bytes, which is {hard_bytes}; raise the one or lower the other"
    )]
    SoftAboveHard {
        /// The soft limit.
        soft_bytes: u64,
        /// The hard limit.
        hard_bytes: u64,
    },
    /// An entry of `bus.agent_rates` is not of the form `AGENT=EVENTS` or `AGENT=EVENTS/BYTES`.
    #[error(
        "bus.agent_rates: {entry} is not of the form AGENT=EVENTS or AGENT=EVENTS/BYTES, with whole numbers and 0 for no limit"
    )]
    Rates {
        /// The entry.
        entry: String,
    },
}

/// Reads `AGENT=EVENTS` or `AGENT=EVENTS/BYTES`, several of them with commas in between. In a name, a comma and an equals
/// sign are written as in a URL, `%2C` and `%3D`.
fn parse_rates(text: &str) -> Result<BTreeMap<Name, Rate>, LimitsError> {
    let mut rates = BTreeMap::new();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let wrong = || LimitsError::Rates {
            entry: entry.to_owned(),
        };
        let (name, rate) = entry.split_once('=').ok_or_else(wrong)?;
        let (events, bytes) = rate.split_once('/').unwrap_or((rate, "0"));
        let number = |text: &str| text.trim().parse::<u64>().map_err(|_| wrong());
        let name = percent_encoding::percent_decode_str(name.trim()).decode_utf8();
        let name = name.ok().filter(|name| !name.is_empty()).ok_or_else(wrong)?;
        let rate = Rate {
            events: number(events)?,
            bytes: number(bytes)?,
        };
        rates.insert(Name::from(&*name), rate);
    }
    Ok(rates)
}

/// Limits that can be replaced while they are in force. Copies of this handle share them.
#[derive(Clone, Debug)]
pub struct SharedLimits(Arc<Swap<Limits>>);

impl SharedLimits {
    /// Begins with these.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Swap::new(limits)))
    }

    /// The limits as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Limits> {
        self.0.snapshot()
    }

    /// Learns of each replacement from now on.
    pub(crate) fn changes(&self) -> tokio::sync::watch::Receiver<()> {
        self.0.changes()
    }

    /// Puts others in their place, for all who share them. Returns those that were there.
    pub fn replace(&self, limits: Limits) -> Arc<Limits> {
        self.0.replace(limits)
    }
}

impl Default for SharedLimits {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_the_same_defaults_and_each_arrives() {
        assert_eq!(
            Limits::of_settings(&BusSettings::default()),
            Ok(Limits::default())
        );
        let mut settings = BusSettings::default();
        settings.max_connections = 1;
        settings.max_connections_each = 2;
        settings.max_strangers = 11;
        settings.max_strangers_each = 12;
        settings.soft_bytes = 3 << 20;
        settings.hard_bytes = 4 << 20;
        settings.agent_rate = 5;
        settings.agent_bytes = 6;
        settings.agent_rates = Some("core=0, edge%2C1 = 7/8,".to_owned());
        settings.turn_away_after = Some(Duration::from_secs(9));
        settings.longest_penalty = Duration::from_secs(10);
        let limits = Limits::of_settings(&settings).unwrap();
        assert_eq!((limits.connections, limits.connections_of_one), (1, 2));
        assert_eq!((limits.strangers, limits.strangers_of_address), (11, 12));
        assert_eq!((limits.soft_bytes, limits.hard_bytes), (3 << 20, 4 << 20));
        assert_eq!(limits.rate_of(&"any".into()), Rate { events: 5, bytes: 6 });
        assert_eq!(limits.rate_of(&"core".into()), Rate::UNLIMITED);
        assert_eq!(limits.rate_of(&"edge,1".into()), Rate { events: 7, bytes: 8 });
        assert_eq!(limits.turn_away_after, Some(Duration::from_secs(9)));
        assert_eq!(limits.longest_penalty, Duration::from_secs(10));
        assert!(limits.has_rates() && !Limits::default().has_rates());

        for wrong in ["core", "=5", "core=many", "core=1/2/3", "core=-1", "%ff=1"] {
            let error = parse_rates(wrong).unwrap_err();
            assert!(error.to_string().contains(wrong), "{error}");
        }
        settings.soft_bytes = 5 << 20;
        Limits::of_settings(&settings).unwrap_err();
    }
}
