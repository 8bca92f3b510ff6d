//! How busy a host is: what the temporal layer adds to another's suspicion.
//!
//! **Idea.** The rate at which a host begins connections, over about ten seconds, is compared with what is usual. The
//! logarithm of such rates is roughly normal: the prior is a median of 0.3 a second and a spread of a factor of
//! 4.5 (one standard deviation), as of workstations and small servers. A baseline replaces both, for each host.
//!
//! **Priors.** Nothing up to 1.5 standard deviations above the median, then 1.2 for each further one, at most 4. It speaks
//! about scans, floods, guesses and repeated calls only; being slow exonerates nobody.
//!
//! **Fails** for servers that call many others by design until a baseline has shown it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::baseline::Normal;
use crate::config::DetectionConfig;
use crate::finding::{Card, Family, Feature, Finding, Mark};
use crate::measure::{BoundedMap, Leaky};
use crate::sighting::Sighting;

/// Memory of the rate, in seconds.
const MEMORY: f64 = 10.0;

/// What is usual, of the natural logarithm of the rate per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Usual {
    pub(crate) center: f64,
    pub(crate) spread: f64,
}

impl Default for Usual {
    fn default() -> Self {
        Self {
            center: 0.3_f64.ln(),
            spread: 1.5,
        }
    }
}

/// The rates of all hosts.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rates {
    starts: BoundedMap<IpAddr, Rate>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Rate {
    now: Leaky,
    /// The highest since it was quiet, so that a burst still counts when its outcome is known.
    peak: Leaky,
}

impl Rates {
    pub(crate) fn new(config: &DetectionConfig) -> Self {
        Self {
            starts: BoundedMap::new(config.capacity.hosts),
        }
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.starts.evicted()
    }

    pub(crate) fn observe(&mut self, sighting: &Sighting<'_>, mark: Mark) {
        if let Sighting::Opened { contact, .. } = sighting {
            let rate = self.starts.entry(&contact.client, Rate::default);
            let now = rate.now.add(mark.time, 1.0, MEMORY);
            let peak = rate.peak.read(mark.time, 6.0 * MEMORY);
            if now > peak {
                rate.peak.add(mark.time, now - peak, 6.0 * MEMORY);
            }
        }
    }

    /// Connections begun per second, at the latest peak.
    pub(crate) fn rate(&self, host: IpAddr, now: amoskys_core::Timestamp) -> f64 {
        self.starts
            .peek(&host)
            .map_or(0.0, |rate| rate.peak.read(now, 6.0 * MEMORY) / MEMORY)
    }

    /// The rate of the finding's host, as a term.
    pub(crate) fn judge(&self, finding: &Finding, normal: Option<&Normal>, card: Card) -> Card {
        let concerned = matches!(
            finding.detector.family(),
            Family::Scan | Family::Flood | Family::Guessing | Family::Calls
        );
        let usual = normal.map_or_else(Usual::default, |normal| normal.usual(finding.accused));
        let rate = self.rate(finding.accused, finding.span.latest);
        let surprise = |rate: f64| (rate.max(1e-9).ln() - usual.center) / usual.spread;
        if !concerned || surprise(rate) <= 1.5 {
            return card;
        }
        let by = |rate: f64| (1.2 * (surprise(rate) - 1.5)).clamp(0.0, 4.0);
        card.with(Feature::StartRate, rate, by(rate))
            .open_by_count(rate * MEMORY, |begun| by(begun / MEMORY))
    }
}
