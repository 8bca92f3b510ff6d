//! What is normal here, learned from traffic known to be honest.
//!
//! A baseline is fitted by running the detectors themselves over honest events and writing down what they say. In use it changes
//! the scores in two directions:
//!
//! - *Familiar*: what the same host did to the same target in the baseline, it may do again. If a monitor's
//!   polling reached log-odds of +2 in the baseline, +2 is where its suspicion now begins: the term takes away what the
//!   behaviour had above -4. It does not make the host immune: a scan of a thousand ports by a monitor that used to try ten
//!   still stands out.
//! - *Unfamiliar*: where nothing in the baseline came near a kind of attack, a candidate of that kind means more than the
//!   documented prior says, and the term adds up to 1.5, but no more than by what the candidate exceeds all that was
//!   seen of the kind.
//!
//! Besides, the host's own rate of new connections replaces the prior of the temporal layer, the outcomes of all
//! hosts that of the behavioral layer, and services a host used in the baseline count as known edges for the
//! geometric layer. With feature extractors, an isolation forest is fitted on the windows of all hosts; how far out a window
//! lies, of all windows of the baseline, is one more opinion of the temporal layer.
//!
//! **When it fails.** What was already going on while the baseline was taken counts as normal. A baseline of a few minutes
//! says little: terms grow with the time it covers, up to an hour.

mod fit;
mod store;
mod windows;

use std::collections::BTreeMap;
use std::net::IpAddr;

use amoskys_core::{Digest, FeatureVector};
use serde::{Deserialize, Serialize};

pub use self::fit::BaselineBuilder;
pub use self::store::BaselineError;
use self::windows::{WindowModel, is_of_host};
use crate::behavioral::Chain;
use crate::finding::{Card, Detector, Feature, Finding, Target};
use crate::temporal::Usual;

/// Log-odds up to which a behaviour needs no excuse.
const UNREMARKABLE: f64 = -4.0;
/// Most that an unfamiliar candidate gains.
const UNFAMILIAR: f64 = 1.5;
/// Seconds of baseline that count in full.
const FULL: f64 = 3_600.0;

/// What is normal here: a fitted model of one site. See the [module](self).
///
/// Made by a [`BaselineBuilder`], kept in a file by [`save`](Self::save) and [`load`](Self::load).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Seconds of event time it covers.
    pub(crate) seconds: f64,
    /// Events it was fitted on.
    pub(crate) events: u64,
    /// The highest log-odds of each behaviour.
    pub(crate) familiar: Vec<Behaviour>,
    /// The highest log-odds of each kind of behaviour, by detector.
    pub(crate) highest: Vec<(Detector, f64)>,
    /// Services each host used: client, server, protocol, port.
    pub(crate) edges: Vec<(IpAddr, IpAddr, u8, u16)>,
    /// What is usual of each host's rate of new connections.
    pub(crate) rates: Vec<(IpAddr, Usual)>,
    /// Outcomes of all hosts' attempts to connect.
    pub(crate) outcomes: Chain,
    /// What windows of hosts look like, by schema.
    pub(crate) windows: Vec<WindowModel>,
}

/// What a host did to a target, and how suspicious it looked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Behaviour {
    pub(crate) detector: Detector,
    pub(crate) accused: IpAddr,
    pub(crate) target: Target,
    pub(crate) log_odds: f64,
}

impl Baseline {
    /// The schemas of the windows that it can judge.
    pub fn window_schemas(&self) -> impl Iterator<Item = Digest> {
        self.windows.iter().map(|model| model.schema)
    }

    /// Names the baseline: a digest of everything in it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&postcard::to_allocvec(self).unwrap_or_default())
    }

    /// Seconds of event time it covers.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Events it was fitted on.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// How much it can be trusted, from 0 to 1, by the time it covers.
    fn trust(&self) -> f64 {
        // A quarter of an hour is worth half of an hour.
        (self.seconds / FULL).clamp(0.0, 1.0).sqrt()
    }
}

/// A baseline ready for use: its lists as tables.
#[derive(Clone, Debug, Default)]
pub(crate) struct Normal {
    familiar: BTreeMap<(Detector, IpAddr, Target), f64>,
    highest: BTreeMap<Detector, f64>,
    edges: std::collections::BTreeSet<(IpAddr, IpAddr, u8, u16)>,
    rates: BTreeMap<IpAddr, Usual>,
    windows: Vec<WindowModel>,
    trust: f64,
}

impl Normal {
    pub(crate) fn of(baseline: &Baseline) -> Self {
        Self {
            familiar: baseline
                .familiar
                .iter()
                .map(|b| ((b.detector, b.accused, b.target), b.log_odds))
                .collect(),
            highest: baseline.highest.iter().copied().collect(),
            edges: baseline.edges.iter().copied().collect(),
            rates: baseline.rates.iter().copied().collect(),
            windows: baseline.windows.clone(),
            trust: baseline.trust(),
        }
    }

    /// The finding's card, in the light of the baseline.
    pub(crate) fn judge(&self, finding: &Finding) -> Card {
        let card = finding.card;
        match self
            .familiar
            .get(&(finding.detector, finding.accused, finding.target))
        {
            Some(before) if *before > UNREMARKABLE => {
                card.with(Feature::Familiar, *before, UNREMARKABLE - *before)
            }
            Some(_) => card,
            None => {
                let highest = self
                    .highest
                    .get(&finding.detector)
                    .copied()
                    .unwrap_or(f64::NEG_INFINITY)
                    .max(-8.0);
                let quiet = ((UNREMARKABLE + 2.0 - highest) / 4.0).clamp(0.0, 1.0);
                // What stands out no more than what was seen before is no stranger than that.
                let above = (card.log_odds() - highest).max(0.0);
                card.with(
                    Feature::Unfamiliar,
                    highest,
                    (UNFAMILIAR * quiet * self.trust).min(above),
                )
            }
        }
    }

    /// What is usual of the host's rate of new connections.
    pub(crate) fn usual(&self, host: IpAddr) -> Usual {
        self.rates.get(&host).copied().unwrap_or_default()
    }

    /// The kinds of windows it can judge.
    pub(crate) fn schemas(&self) -> impl Iterator<Item = Digest> {
        self.windows.iter().map(|model| model.schema)
    }

    /// How rare a host's window is among honest ones; `None` for windows of another kind.
    pub(crate) fn rarity(&self, vector: &FeatureVector) -> Option<f64> {
        let digest = vector.schema.digest();
        let model = self
            .windows
            .iter()
            .find(|model| model.schema == digest && is_of_host(vector))?;
        model.rarity(vector)
    }

    /// What a known or new edge says about a channel.
    pub(crate) fn edge(&self, finding: &Finding) -> Option<(f64, f64)> {
        let (server, (protocol, port)) = (finding.target.host?, finding.target.service?);
        if self.trust == 0.0 {
            return None;
        }
        let known = self.edges.contains(&(finding.accused, server, protocol, port));
        Some(if known { (1.0, -2.0) } else { (0.0, self.trust) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::{Mark, Span};

    #[test]
    fn a_candidate_gains_no_more_than_it_stands_out() {
        let normal = Normal {
            highest: BTreeMap::from([(Detector::Beacon, -6.0)]),
            trust: 1.0,
            ..Normal::default()
        };
        let gain = |log_odds: f64| {
            let server = IpAddr::from([198, 51, 100, 7]);
            let finding = Finding {
                detector: Detector::Beacon,
                accused: [10, 0, 0, 7].into(),
                target: Target::service(server, 6, 443),
                peers: vec![server],
                card: Card::new(log_odds),
                title: String::new(),
                span: Span::of(Mark::default()),
            };
            normal.judge(&finding).log_odds() - log_odds
        };
        assert_eq!(gain(-6.5), 0.0);
        assert!((gain(-5.5) - 0.5).abs() < 1e-9);
        assert!((gain(1.0) - UNFAMILIAR).abs() < 1e-9);
    }
}
