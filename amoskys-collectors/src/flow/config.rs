use std::str::FromStr;
use std::time::Duration;

use amoskys_core::config::FlowSettings;

/// How flows are metered.
///
/// ```
/// use std::time::Duration;
/// use amoskys_collectors::flow::FlowConfig;
///
/// let config = FlowConfig {
///     idle_timeout: Duration::from_secs(15),
///     ..FlowConfig::default()
/// };
/// config.validate()?;
/// # Ok::<(), amoskys_collectors::flow::FlowConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowConfig {
    /// A flow ends when no packet came for this long, in event time. Default 60 s; at least 100 ms.
    pub idle_timeout: Duration,
    /// A flow that lasts longer ends, and a new one goes on. Default 30 minutes; at least 1 s.
    pub active_timeout: Duration,
    /// Flows never end before the source does: no time-outs, and FIN and RST do not end them. One key is one flow.
    /// Default false.
    pub never_expire: bool,
    /// After both FINs, or a RST, a flow waits this long for stragglers, which would otherwise begin a flow of
    /// their own. Default 1 s; at most 60 s.
    pub linger: Duration,
    /// Whether the first packet of a flow is reported at once. Default true.
    pub start_records: bool,
    /// How often a flow with new packets is reported, in event time; `None` for never. Default 5 s; at least
    /// 100 ms.
    pub update_interval: Option<Duration>,
    /// A pause longer than this parts two periods of activity. Default 5 s.
    pub activity_threshold: Duration,
    /// How many flows may be open at once. When one more comes, the one unused for longest is ended and counted
    /// as evicted. A flow takes about 850 bytes. Default 65 536; 16 to 64 million.
    pub max_flows: u32,
    /// Whether IP fragments after the first belong to the flow of the first, found by the packet's id, instead of one
    /// without ports. One that overtook its first does not. Default false.
    pub follow_fragments: bool,
    /// How many of a flow's first packets are kept one by one. Default and maximum 20.
    pub sequence_length: u8,
    /// Which packets are metered where one carries another. Default: the outer ones.
    pub tunnels: TunnelMode,
    /// Whether to read what clients say in the clear when they begin: TLS and (with the feature `quic`) QUIC client
    /// hellos, and HTTP requests. Default true.
    pub read_payloads: bool,
    /// Of how many payload bytes of each direction, the first ones, the entropy is worked out. Takes a kilobyte a
    /// flow. Default 0: of none.
    pub entropy_bytes: u16,
    /// The packets that come are a sample: one in so many. It is told in the records, whose counts stay those of the
    /// packets that came ([`FlowRecord::scaled`](amoskys_core::event::FlowRecord::scaled)). Default 1: all; at least 1.
    pub sampling_rate: u32,
}

/// Which packets are metered where one carries another, in a tunnel: GRE, VXLAN, Geneve, GTP-U, IP in IP, Teredo.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TunnelMode {
    /// The outer ones: a tunnel is one flow. The default.
    #[default]
    Outer,
    /// The innermost ones; those that carry no other are metered as they are.
    Inner,
    /// Both: each packet is counted in the tunnel's flow and in that of the innermost one.
    Both,
}

impl FromStr for TunnelMode {
    type Err = FlowConfigError;

    fn from_str(text: &str) -> Result<Self, FlowConfigError> {
        match text {
            "outer" => Ok(Self::Outer),
            "inner" => Ok(Self::Inner),
            "both" => Ok(Self::Both),
            _ => Err(error("tunnels", text.to_owned(), "outer, inner or both")),
        }
    }
}

/// The most packets of a flow that can be kept one by one.
pub const MAX_SEQUENCE_LENGTH: u8 = 20;

/// Times longer than this are taken as it: they are as good as never.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);

impl Default for FlowConfig {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(60),
            active_timeout: Duration::from_secs(30 * 60),
            never_expire: false,
            linger: Duration::from_secs(1),
            start_records: true,
            update_interval: Some(Duration::from_secs(5)),
            activity_threshold: Duration::from_secs(5),
            max_flows: 65_536,
            follow_fragments: false,
            sequence_length: MAX_SEQUENCE_LENGTH,
            tunnels: TunnelMode::Outer,
            read_payloads: true,
            entropy_bytes: 0,
            sampling_rate: 1,
        }
    }
}

impl From<&FlowSettings> for FlowConfig {
    /// The section `flow` of a [`Config`](amoskys_core::config::Config); what it does not name has its default.
    fn from(settings: &FlowSettings) -> Self {
        Self {
            idle_timeout: settings.idle_timeout,
            active_timeout: settings.active_timeout,
            update_interval: Some(settings.update_interval),
            max_flows: settings.max_flows,
            ..Self::default()
        }
    }
}

/// A setting is out of range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} is {value}, but must be {range}")]
#[non_exhaustive]
pub struct FlowConfigError {
    /// Name of the setting.
    pub key: &'static str,
    /// What it was set to.
    pub value: String,
    /// What it may be.
    pub range: &'static str,
}

impl FlowConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    ///
    /// The first setting that is out of range.
    pub fn validate(&self) -> Result<(), FlowConfigError> {
        let period = |key, value: Duration, least: Duration, range| {
            if value < least {
                Err(error(key, format!("{value:?}"), range))
            } else {
                Ok(())
            }
        };
        let tenth = Duration::from_millis(100);
        period("idle_timeout", self.idle_timeout, tenth, "at least 100 ms")?;
        period(
            "active_timeout",
            self.active_timeout,
            Duration::from_secs(1),
            "at least 1 s",
        )?;
        if let Some(interval) = self.update_interval {
            period("update_interval", interval, tenth, "at least 100 ms")?;
        }
        if self.linger > Duration::from_secs(60) {
            return Err(error("linger", format!("{:?}", self.linger), "at most 60 s"));
        }
        if !(16..=64_000_000).contains(&self.max_flows) {
            return Err(error("max_flows", self.max_flows.to_string(), "16 to 64000000"));
        }
        if self.sampling_rate == 0 {
            return Err(error("sampling_rate", "0".to_owned(), "at least 1"));
        }
        if self.sequence_length > MAX_SEQUENCE_LENGTH {
            return Err(error(
                "sequence_length",
                self.sequence_length.to_string(),
                "at most 20",
            ));
        }
        Ok(())
    }
}

fn error(key: &'static str, value: String, range: &'static str) -> FlowConfigError {
    FlowConfigError { key, value, range }
}

/// The settings in the form the meter needs: nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) idle: i64,
    pub(super) active: i64,
    pub(super) linger: i64,
    pub(super) update: Option<i64>,
    pub(super) activity: u64,
    pub(super) max_flows: u32,
    pub(super) sequence_length: u8,
    pub(super) start_records: bool,
    pub(super) never_expire: bool,
    pub(super) follow_fragments: bool,
    pub(super) tunnels: TunnelMode,
    pub(super) read_payloads: bool,
    pub(super) entropy_bytes: u16,
    pub(super) sampling_rate: u32,
}

impl Limits {
    pub(super) fn of(config: &FlowConfig) -> Self {
        Self {
            idle: nanos(config.idle_timeout),
            active: nanos(config.active_timeout),
            linger: nanos(config.linger),
            update: config.update_interval.map(nanos),
            activity: nanos(config.activity_threshold).unsigned_abs(),
            max_flows: config.max_flows,
            sequence_length: config.sequence_length,
            start_records: config.start_records,
            never_expire: config.never_expire,
            follow_fragments: config.follow_fragments,
            tunnels: config.tunnels,
            read_payloads: config.read_payloads,
            entropy_bytes: config.entropy_bytes,
            sampling_rate: config.sampling_rate,
        }
    }
}

fn nanos(period: Duration) -> i64 {
    i64::try_from(period.min(LONGEST).as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use amoskys_core::config::Config;

    use super::*;

    #[test]
    fn settings_have_the_same_defaults_and_each_arrives() {
        assert_eq!(FlowConfig::from(&FlowSettings::default()), FlowConfig::default());
        let mut settings = FlowSettings::default();
        settings.idle_timeout = Duration::from_secs(15);
        settings.active_timeout = Duration::from_secs(120);
        settings.update_interval = Duration::from_secs(1);
        settings.max_flows = 100;
        let expected = FlowConfig {
            idle_timeout: Duration::from_secs(15),
            active_timeout: Duration::from_secs(120),
            update_interval: Some(Duration::from_secs(1)),
            max_flows: 100,
            ..FlowConfig::default()
        };
        assert_eq!(FlowConfig::from(&settings), expected);
    }

    /// What the table of settings lets through, the meter takes.
    #[test]
    fn the_edges_of_the_settings_are_valid() {
        for (key, edges) in [
            ("flow.idle_timeout", ["100ms", "1d"]),
            ("flow.active_timeout", ["1s", "1d"]),
            ("flow.update_interval", ["100ms", "1d"]),
            ("flow.max_flows", ["16", "64000000"]),
        ] {
            for edge in edges {
                let loaded = Config::loader().set(key, edge).load().unwrap();
                assert_eq!(FlowConfig::from(&loaded.config.flow).validate(), Ok(()), "{key}");
            }
        }
    }

    #[test]
    fn ranges_are_checked_and_named() {
        assert_eq!(FlowConfig::default().validate(), Ok(()));
        let wrong = FlowConfig {
            max_flows: 1,
            ..FlowConfig::default()
        };
        assert_eq!(
            wrong.validate().unwrap_err().to_string(),
            "max_flows is 1, but must be 16 to 64000000"
        );
        let wrong = FlowConfig {
            idle_timeout: Duration::ZERO,
            ..FlowConfig::default()
        };
        assert_eq!(wrong.validate().unwrap_err().key, "idle_timeout");
    }
}
