use std::net::IpAddr;

use amoskys_core::event::{Entity, ScoreInterval, Severity, Technique, Verdict, VerdictId};
use amoskys_core::{Digest, Name, Timestamp};
use serde::{Deserialize, Serialize};

/// An alert as it is written for people and other programs: one JSON object on one line.
///
/// ```json
/// {"id":"…","time_ns":1700000000000000000,"host":"10.0.0.5","peers":["10.0.0.9"],"technique":"T1046",
///  "title":"…","severity":"critical","score":0.97,"interval":{"low":0.91,"high":0.99},
///  "evidence":[{"feature":"failed_ports","value":412.0,"contribution":3.1}],
///  "model":"…","schema":"…","events":{"stream":"sensor-1/telemetry","first":17,"last":951},"story":"…"}
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Names the alert: the same in every update, and when the same input is read again.
    pub id: VerdictId,
    /// Event time at which it was raised, in nanoseconds since the Unix epoch.
    pub time_ns: Timestamp,
    /// The one accused: an address, or a name where no address is meant.
    pub host: String,
    /// Whom it concerns besides, the most affected first; `OWN->PEER` for a connection that a process of the host made.
    pub peers: Vec<String>,
    /// The services that it is about, as `tcp/22`, if it is about nothing but those; left out if not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
    /// MITRE ATT&CK technique, if one fits.
    pub technique: Option<Technique>,
    /// One line for people.
    pub title: String,
    /// How bad, if true.
    pub severity: Severity,
    /// Probability that it is an attack, above 0.7.
    pub score: f64,
    /// Between which bounds the score lies with 90 % confidence; left out where nothing can be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<ScoreInterval>,
    /// What moved the score, strongest first.
    pub evidence: Vec<AlertEvidence>,
    /// Digest of the model that raised it.
    pub model: Digest,
    /// Digest of the schema that the features are from.
    pub schema: Digest,
    /// The events behind it.
    pub events: AlertEvents,
    /// The [story](crate::story) that it is part of: the id of the alert that it began with. `None` where nobody has drawn stories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub story: Option<VerdictId>,
    /// Whether somebody has called it [normal](crate::feedback) after it was raised: it is no alert any more. Left out if not.
    #[serde(default, skip_serializing_if = "is_false")]
    pub normal: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_false(value: &bool) -> bool {
    !value
}

/// One feature behind an alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertEvidence {
    /// Its name.
    pub feature: Name,
    /// Its value.
    pub value: f64,
    /// Its share of the log-odds, positive towards attack.
    pub contribution: f64,
}

/// Consecutive events of one stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertEvents {
    /// The stream as `AGENT/CLASS`. The epoch of the log is left out, so that the same input read again gives the same line.
    pub stream: String,
    /// Number of the first event.
    pub first: u64,
    /// Number of the last event.
    pub last: u64,
}

impl From<&Verdict> for Alert {
    fn from(verdict: &Verdict) -> Self {
        let stream = &verdict.events.stream;
        Self {
            id: verdict.id,
            time_ns: verdict.time,
            host: shown(&verdict.entity),
            peers: once(verdict.peers.iter().map(|peer| match peer {
                Entity::Pair(..) => peer.to_string(),
                other => shown(other),
            })),
            services: services(verdict),
            technique: verdict.technique.clone(),
            title: verdict.title.clone(),
            severity: verdict.severity(),
            score: verdict.score,
            // Of a log that others have written, bounds may be anything.
            interval: verdict
                .interval
                .and_then(|bounds| ScoreInterval::around(verdict.score, bounds.low, bounds.high)),
            evidence: verdict
                .evidence
                .iter()
                .map(|e| AlertEvidence {
                    feature: e.feature.clone(),
                    value: e.value,
                    contribution: e.contribution,
                })
                .collect(),
            model: verdict.model.digest,
            schema: verdict.schema,
            events: AlertEvents {
                stream: format!("{}/{}", stream.agent, stream.class),
                first: verdict.events.first.0,
                last: verdict.events.last.0,
            },
            story: None,
            normal: false,
        }
    }
}

/// The services that a verdict is about, as `tcp/22`: of the accused's own use, or of its peers. None if it is about more than those.
pub(crate) fn services(verdict: &Verdict) -> Vec<String> {
    let own = service(&verdict.entity);
    let of_peers: Vec<Option<String>> = verdict.peers.iter().map(service).collect();
    if own.is_none() && of_peers.iter().any(Option::is_none) {
        return Vec::new();
    }
    once(own.into_iter().chain(of_peers.into_iter().flatten()))
}

/// The service of an entity that is one or uses one, as `tcp/22`.
pub(crate) fn service(entity: &Entity) -> Option<String> {
    match entity {
        Entity::Service(_, protocol, port) | Entity::Client(_, protocol, port) => Some(match *protocol {
            6 => format!("tcp/{port}"),
            17 => format!("udp/{port}"),
            132 => format!("sctp/{port}"),
            other => format!("{other}/{port}"),
        }),
        _ => None,
    }
}

/// Without what was there already.
fn once(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut once: Vec<String> = Vec::new();
    for text in texts {
        if !once.contains(&text) {
            once.push(text);
        }
    }
    once
}

/// An entity for people: its address, or its name where no address is meant.
pub(crate) fn shown(entity: &Entity) -> String {
    entity
        .host()
        .map_or_else(|| entity.to_string(), |host: IpAddr| host.to_string())
}

impl Alert {
    /// The alert as a line of JSON, without the line break.
    ///
    /// # Errors
    ///
    /// Does not fail for an alert made from a verdict.
    pub fn to_line(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}
