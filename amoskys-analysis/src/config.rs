//! What can be set, with its defaults.

use amoskys_core::config::AnalysisSettings;
use serde::{Deserialize, Serialize};

use crate::odds;

/// Probability, by a detector's own evidence, from which others' opinions can make an alert of what it found.
pub(crate) const CANDIDATE: f64 = 0.3;

/// Configuration of [`Detection`](crate::Detection). The defaults need no training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DetectionConfig {
    /// How much each layer counts in the fused score.
    pub weights: Weights,
    /// How likely each kind of attack is before anything is measured.
    pub priors: Priors,
    /// How much is remembered. Memory is bounded by these numbers alone.
    pub capacity: Capacity,
    /// Verdicts with a lower score are kept back; 0 to 1, default 0.3. It changes what is reported, not what
    /// becomes an alert.
    pub report_score: f64,
}

impl Default for DetectionConfig {
    fn default() -> Self {
        Self {
            weights: Weights::default(),
            priors: Priors::default(),
            capacity: Capacity::default(),
            report_score: 0.3,
        }
    }
}

/// How much the log-odds of each layer count. A layer that has nothing to say counts nothing.
///
/// With the defaults one layer raises an alert alone if it is sure (above 0.93), two if each is above 0.79, and
/// three if each is above 0.7.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Weights {
    /// Who talks to whom. Default 0.33.
    pub geometric: f64,
    /// How much, and when. Default 0.33.
    pub temporal: f64,
    /// In what order. Default 0.34.
    pub behavioral: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            geometric: 0.33,
            temporal: 0.33,
            behavioral: 0.34,
        }
    }
}

/// Prior probabilities: of the candidates a detector looks at (a client and a server, a host and a service,
/// a station), the share that is an attack.
///
/// Nobody knows these numbers for a network nobody has looked at. The default of 1 in 400 was chosen so that no
/// single measurement raises an alert: each detector asks for several that agree. A site that is attacked more
/// often than it has false alarms raises them, one that drowns in alerts lowers them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Priors {
    /// A client that fails on many ports of a host, or on one port of many hosts, scans.
    pub scan: f64,
    /// Unfinished connections to a service are a flood.
    pub flood: f64,
    /// A station that claims addresses of others forges them.
    pub spoofing: f64,
    /// Regular connections to a service are a beacon, or uploads of stolen data.
    pub channel: f64,
    /// ICMP echoes between two hosts carry a tunnel.
    pub echo_tunnel: f64,
    /// A large upload takes stolen data away.
    pub volume: f64,
    /// Many short connections to a login service are guesses.
    pub guessing: f64,
    /// Many equal calls to a remote service are an exploit at work.
    pub calls: f64,
    /// Many names below one domain carry a tunnel.
    pub name_tunnel: f64,
    /// An odd TLS handshake is an exploit.
    pub handshake: f64,
}

impl Default for Priors {
    fn default() -> Self {
        const RARE: f64 = 1.0 / 400.0;
        Self {
            scan: RARE,
            flood: RARE,
            spoofing: RARE,
            channel: RARE,
            echo_tunnel: RARE,
            volume: RARE,
            guessing: RARE,
            calls: RARE,
            name_tunnel: RARE,
            handshake: RARE,
        }
    }
}

/// How many of each kind are remembered. Beyond, the one unused for longest is forgotten and counted.
///
/// With the defaults the whole detection needs at most about 40 MB, if every table is full; with a baseline, another 0.6 kB for each
/// host and kind of window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Capacity {
    /// Open flows, about 220 bytes each. Default 16,384.
    pub flows: usize,
    /// Hosts, in each table by host, about 200 bytes each. Default 4,096.
    pub hosts: usize,
    /// Pairs of hosts, or of a host and a service, in each table of those; 200 to 2,000 bytes each. Default
    /// 4,096.
    pub pairs: usize,
    /// Incidents, about 4 kB each. Default 1,024.
    pub incidents: usize,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            flows: 16_384,
            hosts: 4_096,
            pairs: 4_096,
            incidents: 1_024,
        }
    }
}

impl DetectionConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    ///
    /// The first setting out of range, with its name and what is allowed.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let Self {
            weights,
            priors,
            capacity,
            report_score,
        } = self;
        if !(0.0..=1.0).contains(report_score) {
            return Err(ConfigError {
                setting: "report_score",
                value: report_score.to_string(),
                allowed: "0 to 1",
            });
        }
        let shares = [
            ("priors.scan", priors.scan),
            ("priors.flood", priors.flood),
            ("priors.spoofing", priors.spoofing),
            ("priors.channel", priors.channel),
            ("priors.echo_tunnel", priors.echo_tunnel),
            ("priors.volume", priors.volume),
            ("priors.guessing", priors.guessing),
            ("priors.calls", priors.calls),
            ("priors.name_tunnel", priors.name_tunnel),
            ("priors.handshake", priors.handshake),
        ];
        for (setting, value) in shares {
            if !(value > 0.0 && value < 1.0) {
                return Err(ConfigError {
                    setting,
                    value: value.to_string(),
                    allowed: "above 0 and below 1",
                });
            }
        }
        let weights = [
            ("weights.geometric", weights.geometric),
            ("weights.temporal", weights.temporal),
            ("weights.behavioral", weights.behavioral),
        ];
        for (setting, value) in weights {
            if !(0.0..=1.0).contains(&value) {
                return Err(ConfigError {
                    setting,
                    value: value.to_string(),
                    allowed: "0 to 1",
                });
            }
        }
        let sizes = [
            ("capacity.flows", capacity.flows),
            ("capacity.hosts", capacity.hosts),
            ("capacity.pairs", capacity.pairs),
            ("capacity.incidents", capacity.incidents),
        ];
        for (setting, value) in sizes {
            if !(16..=16_777_216).contains(&value) {
                return Err(ConfigError {
                    setting,
                    value: value.to_string(),
                    allowed: "16 to 16777216",
                });
            }
        }
        Ok(())
    }

    /// The least log-odds that are reported.
    pub(crate) fn floor(&self) -> f64 {
        odds::logit(self.report_score)
    }

    /// The least log-odds at which a detector speaks. Holding back more than is needed would change what becomes an alert.
    pub(crate) fn speaks_from(&self) -> f64 {
        self.floor().min(odds::logit(CANDIDATE))
    }
}

impl From<&AnalysisSettings> for DetectionConfig {
    /// The section `analysis` of a [`Config`](amoskys_core::config::Config): the weights of the layers, and what is
    /// reported. Priors and capacities have their defaults.
    fn from(settings: &AnalysisSettings) -> Self {
        Self {
            weights: Weights {
                geometric: settings.geometric_weight,
                temporal: settings.temporal_weight,
                behavioral: settings.behavioral_weight,
            },
            report_score: settings.report_score,
            ..Self::default()
        }
    }
}

/// A setting is out of range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting} is {value}; allowed is {allowed}")]
pub struct ConfigError {
    /// Its name.
    pub setting: &'static str,
    /// Its value.
    pub value: String,
    /// What is allowed.
    pub allowed: &'static str,
}

#[cfg(test)]
mod tests {
    use amoskys_core::config::Config;

    use super::*;

    #[test]
    fn settings_have_the_same_defaults_and_each_arrives() {
        let defaults = DetectionConfig::from(&AnalysisSettings::default());
        assert_eq!(defaults, DetectionConfig::default());
        let loader = Config::loader()
            .set("analysis.report_score", "0.5")
            .set("analysis.geometric_weight", "0.2")
            .set("analysis.temporal_weight", "0.4")
            .set("analysis.behavioral_weight", "0.9");
        let config = DetectionConfig::from(&loader.load().unwrap().config.analysis);
        let weights = config.weights;
        assert_eq!(config.report_score, 0.5);
        assert_eq!(
            (weights.geometric, weights.temporal, weights.behavioral),
            (0.2, 0.4, 0.9)
        );
    }

    /// What the table of settings lets through, a detection takes.
    #[test]
    fn the_edges_of_the_settings_are_valid() {
        for key in [
            "report_score",
            "geometric_weight",
            "temporal_weight",
            "behavioral_weight",
        ] {
            for edge in ["0", "1"] {
                let loaded = Config::loader()
                    .set(format!("analysis.{key}"), edge)
                    .load()
                    .unwrap();
                let config = DetectionConfig::from(&loaded.config.analysis);
                assert_eq!(config.validate(), Ok(()), "{key} {edge}");
            }
        }
    }

    #[test]
    fn defaults_are_valid_and_the_error_names_the_setting() {
        assert_eq!(DetectionConfig::default().validate(), Ok(()));
        let mut config = DetectionConfig::default();
        config.priors.flood = f64::NAN;
        assert_eq!(config.validate().unwrap_err().setting, "priors.flood");
        config = DetectionConfig {
            report_score: 1.1,
            ..DetectionConfig::default()
        };
        assert_eq!(config.validate().unwrap_err().setting, "report_score");
        config = DetectionConfig::default();
        config.capacity.pairs = 0;
        assert_eq!(config.validate().unwrap_err().setting, "capacity.pairs");
    }
}
