use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::id::{Digest, Name, Seq, StreamId};
use crate::time::Timestamp;

/// What an analyzer concluded about an entity, and why.
///
/// A conclusion that grows (a scan that goes on) keeps its id and raises its revision: a reader keeps the
/// highest revision of each id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Names the conclusion: a hash of model, entity, technique and the first event behind it.
    pub id: VerdictId,
    /// Counts the updates of this conclusion, from 0.
    pub revision: u32,
    /// Event time at which it was first drawn. The same in every revision.
    pub time: Timestamp,
    /// Event time of the latest event behind it.
    pub updated: Timestamp,
    /// Which layer drew it.
    pub layer: Layer,
    /// Who it is about: the one accused.
    pub entity: Entity,
    /// Whom it concerns besides, for example the hosts that were scanned. At most 16, the most affected first.
    pub peers: Vec<Entity>,
    /// MITRE ATT&CK technique, if one fits.
    pub technique: Option<Technique>,
    /// One line for people.
    pub title: String,
    /// Probability that this is an attack, 0 to 1.
    pub score: f64,
    /// Between which bounds the score lies; `None` where nothing honest can be said, as of a written rule.
    #[serde(default)]
    pub interval: Option<ScoreInterval>,
    /// What moved the score, strongest first.
    pub evidence: Vec<Evidence>,
    /// The model that drew it.
    pub model: ModelRef,
    /// Digest of the feature schema the model read.
    pub schema: Digest,
    /// The range of events behind it.
    pub events: EventRange,
}

impl Verdict {
    /// Severity by score: see [`Severity::of_score`].
    #[must_use]
    pub fn severity(&self) -> Severity {
        Severity::of_score(self.score)
    }

    /// Whether the score is above 0.7, which makes a fused verdict an alert.
    #[must_use]
    pub fn is_alert(&self) -> bool {
        self.score > Self::ALERT_SCORE
    }

    /// A fused verdict above this score is an alert.
    pub const ALERT_SCORE: f64 = 0.7;
}

/// Between which bounds a score lies with a confidence of 90 %, by the number of observations behind it.
///
/// It says how much was seen, not how good the model is: data that come otherwise than those a model learned from, and weights that
/// are wrong, are not in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScoreInterval {
    /// The lower bound, 0 to 1, not above the score.
    pub low: f64,
    /// The upper bound, 0 to 1, not below the score.
    pub high: f64,
}

impl ScoreInterval {
    /// The confidence of every interval: in 90 of 100 cases the true value is to be between the bounds.
    pub const CONFIDENCE: f64 = 0.9;

    /// Bounds around a score, in order; `None` unless all are probabilities and the score is between the bounds.
    #[must_use]
    pub fn around(score: f64, low: f64, high: f64) -> Option<Self> {
        (0.0 <= low && low <= score && score <= high && high <= 1.0).then_some(Self { low, high })
    }
}

impl fmt::Display for ScoreInterval {
    /// As `0.62 to 0.91`, or with the precision asked for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        write!(f, "{:.digits$} to {:.digits$}", self.low, self.high)
    }
}

/// Names a verdict: the first 128 bits of a SHA-256.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VerdictId(pub [u8; 16]);

impl VerdictId {
    /// The id of a conclusion by `model` about `entity` that rests on events from `first` on.
    ///
    /// The epoch of the stream is left out on purpose: the same input read again is the same conclusion.
    #[must_use]
    pub fn derive(
        model: &Digest,
        entity: &Entity,
        technique: Option<&Technique>,
        stream: &StreamId,
        first: Seq,
        time: Timestamp,
    ) -> Self {
        let digest = Digest::of_parts([
            &model.0[..],
            entity.to_string().as_bytes(),
            technique.map_or("", Technique::as_str).as_bytes(),
            stream.agent.as_str().as_bytes(),
            stream.class.as_str().as_bytes(),
            &first.0.to_le_bytes(),
            &time.nanos().to_le_bytes(),
        ]);
        let mut id = [0; 16];
        id.copy_from_slice(&digest.0[..16]);
        Self(id)
    }
}

impl fmt::Display for VerdictId {
    /// 32 lower-case hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl Serialize for VerdictId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VerdictId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let id = u128::from_str_radix(&text, 16).map_err(serde::de::Error::custom)?;
        Ok(Self(id.to_be_bytes()))
    }
}

/// Which part of the analysis spoke.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Layer {
    /// Who talks to whom.
    Geometric,
    /// How much, and when.
    Temporal,
    /// In what order.
    Behavioral,
    /// All layers together. The default.
    #[default]
    Fused,
    /// A written rule.
    Rule,
}

/// Whom or what a feature vector or a verdict is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Entity {
    /// A host, by address.
    Host(IpAddr),
    /// Two hosts, the one that began first.
    Pair(IpAddr, IpAddr),
    /// A service: host, IP protocol number and port.
    Service(IpAddr, u8, u16),
    /// A host's use of a service anywhere: client address, IP protocol number and server port.
    Client(IpAddr, u8, u16),
    /// Anything else, by name: a device, a process, a user, a domain.
    Named(Name),
}

impl Entity {
    /// The address of the host that is meant, if it is one: the first of a pair, the client of a service.
    #[must_use]
    pub const fn host(&self) -> Option<IpAddr> {
        match self {
            Self::Host(host) | Self::Pair(host, _) | Self::Service(host, ..) | Self::Client(host, ..) => {
                Some(*host)
            }
            Self::Named(_) => None,
        }
    }
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => host.fmt(f),
            Self::Pair(a, b) => write!(f, "{a}->{b}"),
            Self::Service(host, protocol, port) => write!(f, "{host}:{protocol}/{port}"),
            Self::Client(host, protocol, port) => write!(f, "{host}->{protocol}/{port}"),
            Self::Named(name) => name.fmt(f),
        }
    }
}

/// A MITRE ATT&CK technique, for example `T1046` or `T1110.001`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Technique(Name);

impl Technique {
    /// From its id. The id is not checked against a list, which changes twice a year.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self(Name::from(id))
    }

    /// Its id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for Technique {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How bad, if true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Severity {
    /// A score below 0.3.
    #[default]
    Low,
    /// A score from 0.3 to below 0.6.
    Medium,
    /// A score from 0.6 to below 0.85.
    High,
    /// A score of 0.85 and above.
    Critical,
}

impl Severity {
    /// The severity of a score: below 0.3 low, below 0.6 medium, below 0.85 high, else critical. A score that
    /// is not a number is low.
    #[must_use]
    pub fn of_score(score: f64) -> Self {
        match score {
            s if s >= 0.85 => Self::Critical,
            s if s >= 0.6 => Self::High,
            s if s >= 0.3 => Self::Medium,
            _ => Self::Low,
        }
    }

    /// The name used in alert files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One feature behind a verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Name of the feature, from its schema.
    pub feature: Name,
    /// Its value, in the unit the schema states.
    pub value: f64,
    /// How much it moved the verdict: its share of the log-odds, positive towards attack.
    pub contribution: f64,
}

/// A model: what it is called, and exactly which one it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ModelRef {
    /// Its name.
    pub name: Name,
    /// Its version.
    pub version: Name,
    /// Digest of its parameters.
    pub digest: Digest,
}

/// Consecutive events of one stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EventRange {
    /// The stream.
    pub stream: StreamId,
    /// The first event.
    pub first: Seq,
    /// The last event.
    pub last: Seq,
}
