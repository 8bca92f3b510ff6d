use std::sync::{Arc, PoisonError, RwLock};

use amoskys_core::Timestamp;
use amoskys_core::event::{Entity, Evidence, Technique, Verdict};
use serde::{Deserialize, Serialize};

use crate::alert::{Alert, services, shown};
use crate::attack;
use crate::correlation::NORMAL;
use crate::odds::{logit, probability};
use crate::story::machine;

/// How much stronger than what was called normal something may be, in log-odds, before it alerts all the same: odds seven times as high.
pub const MARGIN: f64 = 2.0;
/// The score of what is called normal: low, and shown where quiet verdicts are.
const QUIET: f64 = 0.2;

/// Somebody's word that something is normal here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suppression {
    /// Names it, unique in its list.
    pub id: String,
    /// Whose behaviour: an address or a name as alerts give it, or a machine's name for all that is part of it.
    pub host: String,
    /// Of what kind: a MITRE ATT&CK technique; one without a sub-technique stands for all of its. Any, if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub technique: Option<Technique>,
    /// With whom, as alerts give it: all peers of a verdict must be among these. Anybody, if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<String>,
    /// By which services, as `tcp/22`: all services of a verdict must be among these, and one that is about more than some services is
    /// not covered. Any, if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
    /// Up to which score, above 0 to 1.
    pub up_to: f64,
    /// Until when, in event time, in nanoseconds since the Unix epoch. For good, if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ns: Option<Timestamp>,
    /// Why it is normal.
    pub reason: String,
    /// Who says so.
    pub by: String,
}

impl Suppression {
    /// What covers this alert, and what is like it: the same host, kind, peers and services, up to [`MARGIN`] stronger.
    #[must_use]
    pub fn of_alert(alert: &Alert, reason: &str, by: &str) -> Self {
        Self {
            id: alert.id.to_string(),
            host: alert.host.clone(),
            technique: alert.technique.clone(),
            peers: alert.peers.clone(),
            services: alert.services.clone(),
            up_to: probability(logit(alert.score) + MARGIN),
            until_ns: None,
            reason: reason.to_owned(),
            by: by.to_owned(),
        }
    }

    /// The same until then.
    #[must_use]
    pub const fn until(mut self, end: Timestamp) -> Self {
        self.until_ns = Some(end);
        self
    }

    /// Whether it covers a verdict, with its score.
    #[must_use]
    pub fn covers(&self, verdict: &Verdict) -> bool {
        let whole = shown(&verdict.entity);
        let is_host = whole == self.host || machine(&whole) == self.host;
        is_host
            && verdict.score <= self.up_to
            && self.until_ns.is_none_or(|end| verdict.updated < end)
            && self.technique.as_ref().is_none_or(|technique| {
                verdict
                    .technique
                    .as_ref()
                    .is_some_and(|other| technique == other || technique.as_str() == attack::parent(other))
            })
            && (self.peers.is_empty() || verdict.peers.iter().all(|peer| self.names(peer)))
            && (self.services.is_empty() || self.allows(&services(verdict)))
    }

    fn allows(&self, services: &[String]) -> bool {
        !services.is_empty() && services.iter().all(|service| self.services.contains(service))
    }

    fn names(&self, peer: &Entity) -> bool {
        let (text, address) = (peer.to_string(), shown(peer));
        self.peers.iter().any(|known| *known == text || *known == address)
    }

    /// What is wrong with it, if something is.
    pub(super) fn problem(&self) -> Option<&'static str> {
        let says_nothing = |text: &str| text.trim().is_empty();
        if says_nothing(&self.id) || says_nothing(&self.host) {
            Some("it names no id or no host")
        } else if says_nothing(&self.by) || says_nothing(&self.reason) {
            Some("it does not say who calls this normal, or why")
        } else if !self.services.iter().all(|service| is_service(service)) {
            Some("a service is written as tcp/22, udp/53 or by the number of its protocol, as 132/36412")
        } else if !(self.up_to > 0.0 && self.up_to <= 1.0) {
            Some("up_to must be above 0 and at most 1")
        } else {
            None
        }
    }
}

fn is_service(text: &str) -> bool {
    text.split_once('/').is_some_and(|(protocol, port)| {
        let known = matches!(protocol, "tcp" | "udp" | "sctp") || protocol.parse::<u8>().is_ok();
        known && port.parse::<u16>().is_ok()
    })
}

/// The suppressions in effect: a handle that is shared between the one who analyzes and the one who changes the list.
///
/// A change takes effect with the next verdict.
#[derive(Clone, Debug, Default)]
pub struct Suppressions(Arc<RwLock<Arc<[Suppression]>>>);

impl Suppressions {
    /// A list.
    #[must_use]
    pub fn new(list: Vec<Suppression>) -> Self {
        Self(Arc::new(RwLock::new(list.into())))
    }

    /// Puts another list in its place.
    pub fn set(&self, list: Vec<Suppression>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = list.into();
    }

    /// The list as it is now.
    #[must_use]
    pub fn list(&self) -> Arc<[Suppression]> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lowers the score of a verdict that the list covers, and says whether it did. What lowered it is the first of its evidence; the
    /// title says whose word it was.
    pub(crate) fn apply(&self, verdict: &mut Verdict) -> bool {
        let list = self.list();
        let Some(suppression) = list.iter().find(|suppression| suppression.covers(verdict)) else {
            return false;
        };
        metrics::counter!("amoskys_suppressed_verdicts_total").increment(1);
        let before = verdict.score;
        verdict.score = before.min(QUIET);
        // Somebody's word is no measurement.
        verdict.interval = None;
        let part = Evidence {
            feature: NORMAL.into(),
            value: before,
            contribution: logit(verdict.score) - logit(before),
        };
        verdict.evidence.insert(0, part);
        verdict.title = format!("{} (called normal by {})", verdict.title, suppression.by);
        true
    }
}

/// The score that a verdict had before somebody's word was taken that it is normal; `None` for all others.
#[must_use]
pub fn called_normal(verdict: &Verdict) -> Option<f64> {
    let part = verdict
        .evidence
        .iter()
        .find(|part| part.feature.as_str() == NORMAL);
    part.map(|part| part.value)
}
