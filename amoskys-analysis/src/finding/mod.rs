//! What a detector says: whom it accuses of what, how sure it is, and why.

mod card;
mod detector;
mod feature;
mod place;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub(crate) use self::card::Card;
pub(crate) use self::detector::{Detector, Family, layer_of};
pub(crate) use self::feature::Feature;
pub use self::feature::evidence_schema;
pub(crate) use self::place::{Mark, Span, Streams};

/// Peers a finding names, as many as a verdict may.
pub(crate) const PEERS: usize = 16;

/// A hypothesis: this host does this.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Finding {
    /// Who says so.
    pub(crate) detector: Detector,
    /// The host accused.
    pub(crate) accused: IpAddr,
    /// At what it is aimed.
    pub(crate) target: Target,
    /// Whom it concerns, the most affected first, at most [`PEERS`].
    pub(crate) peers: Vec<IpAddr>,
    /// The score and its reasons.
    pub(crate) card: Card,
    /// One line for people.
    pub(crate) title: String,
    /// The events behind it.
    pub(crate) span: Span,
}

/// At what an attack is aimed, as far as it is one thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Target {
    /// The host, if it is one.
    pub(crate) host: Option<IpAddr>,
    /// IP protocol and port of the service, if it is one.
    pub(crate) service: Option<(u8, u16)>,
    /// Hash of the name, if it is one.
    pub(crate) name: Option<u64>,
}

impl Target {
    pub(crate) const fn host(host: IpAddr) -> Self {
        Self {
            host: Some(host),
            service: None,
            name: None,
        }
    }

    pub(crate) const fn service(host: IpAddr, protocol: u8, port: u16) -> Self {
        Self {
            host: Some(host),
            service: Some((protocol, port)),
            name: None,
        }
    }

    /// Whether it is one service of one host, so that two findings about it are about the same connections.
    pub(crate) const fn is_exact(&self) -> bool {
        self.host.is_some() && self.service.is_some() && self.name.is_none()
    }
}

/// Lets through what is news: a higher score, or a second gone by since the last time.
///
/// A flood makes each of its packets a reason to speak; people and disks need to hear it once a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Gate {
    spoke: Option<(amoskys_core::Timestamp, f64)>,
}

impl Gate {
    /// Whether to speak now; if so, this counts as spoken.
    pub(crate) fn pass(&mut self, now: amoskys_core::Timestamp, log_odds: f64) -> bool {
        let news = self.spoke.is_none_or(|(at, before)| {
            log_odds > before + 0.5 || !(0.0..1.0).contains(&crate::measure::seconds_between(at, now))
        });
        if news {
            self.spoke = Some((now, log_odds));
        }
        news
    }
}
