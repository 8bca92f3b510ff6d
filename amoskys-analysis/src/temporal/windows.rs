//! How far out a host's windows lie, of all windows of the baseline: what an isolation forest adds to another's suspicion.
//!
//! **Idea.** The forest was fitted on windows of honest hosts, and the scores of other honest windows give a p-value to each
//! new one. The rarest window of the latest five minutes counts, its p-value times the number of windows it is the rarest of:
//! among many windows one is rare by chance.
//!
//! **Priors.** Up to p = 0.02 nothing; each factor of ten below adds 1.2, at most 3. Without a baseline the layer does not speak
//! of windows.
//!
//! **Cost.** About 1.5 µs for each window that differs from the one before of its host and kind; 0.6 kB for each host and kind
//! of window.

use std::net::IpAddr;

use amoskys_core::{Digest, FeatureVector, Timestamp};
use serde::{Deserialize, Serialize};

use crate::baseline::Normal;
use crate::config::DetectionConfig;
use crate::finding::{Card, Feature, Finding};
use crate::measure::{BoundedMap, Leaky, seconds_between};

/// Seconds for which a window counts.
const MEMORY: f64 = 300.0;
/// A p-value above this is nothing.
const USUAL: f64 = 0.02;

/// The rarest recent window of each host.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rarities {
    hosts: BoundedMap<IpAddr, Rarity>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Rarity {
    p: f64,
    end: Timestamp,
    /// Windows seen of the host, lately.
    windows: Leaky,
    /// The latest window of each kind. Windows overlap, so that the next is often the same.
    #[serde(skip)]
    latest: Vec<Latest>,
}

/// A window, and what the forest said of it.
#[derive(Clone, Debug)]
struct Latest {
    schema: Digest,
    values: Vec<f64>,
    p: f64,
}

impl Latest {
    fn is(&self, vector: &FeatureVector) -> bool {
        let mut pairs = self.values.iter().zip(&vector.values);
        self.schema == vector.schema.digest()
            && self.values.len() == vector.values.len()
            && pairs.all(|(mine, theirs)| mine.to_bits() == theirs.to_bits())
    }
}

impl Rarities {
    pub(crate) fn new(config: &DetectionConfig) -> Self {
        Self {
            hosts: BoundedMap::new(config.capacity.hosts),
        }
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.hosts.evicted()
    }

    pub(crate) fn observe(&mut self, vector: &FeatureVector, normal: &Normal) {
        let Some(host) = vector.entity.host() else { return };
        let known = self.hosts.peek(&host);
        let latest = known.and_then(|known| known.latest.iter().find(|latest| latest.is(vector)));
        if let Some(p) = latest.map(|latest| latest.p) {
            self.note(host, p, vector.end);
        } else if let Some(p) = normal.rarity(vector) {
            self.note(host, p, vector.end).remember(vector, p);
        }
    }

    fn note(&mut self, host: IpAddr, p: f64, end: Timestamp) -> &mut Rarity {
        let fresh = || Rarity {
            p,
            end,
            windows: Leaky::default(),
            latest: Vec::new(),
        };
        let known = self.hosts.entry(&host, fresh);
        known.windows.add(end, 1.0, MEMORY);
        if p <= known.p || !(0.0..MEMORY).contains(&seconds_between(known.end, end)) {
            (known.p, known.end) = (p, end);
        }
        known
    }

    /// The p-value of the host's rarest window, and what it adds.
    fn opinion(&self, host: IpAddr, now: Timestamp) -> Option<(f64, f64)> {
        let rarity = self.hosts.peek(&host)?;
        let p = rarity.p * rarity.windows.read(now, MEMORY).max(1.0);
        if seconds_between(rarity.end, now).abs() > MEMORY || p >= USUAL {
            return None;
        }
        Some((p, (1.2 * (USUAL / p).log10()).min(3.0)))
    }

    /// The rarest recent window of the finding's host, as a term.
    pub(crate) fn judge(&self, finding: &Finding, card: Card) -> Card {
        match self.opinion(finding.accused, finding.span.latest) {
            Some((p, by)) => card.with(Feature::HostRarity, p, by),
            None => card,
        }
    }
}

impl Rarity {
    fn remember(&mut self, vector: &FeatureVector, p: f64) {
        let schema = vector.schema.digest();
        match self.latest.iter_mut().find(|latest| latest.schema == schema) {
            Some(latest) => {
                latest.values.clone_from(&vector.values);
                latest.p = p;
            }
            None => self.latest.push(Latest {
                schema,
                values: vector.values.clone(),
                p,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rarest_of_many_windows_is_no_rarity() {
        let host = IpAddr::from([10, 0, 0, 7]);
        let mut rarities = Rarities::new(&DetectionConfig::default());
        let at = |second: i64| Timestamp::from_secs(1_700_000_000 + second);
        rarities.note(host, 0.002, at(0));
        let (p, by) = rarities.opinion(host, at(1)).unwrap();
        assert!((p - 0.002).abs() < 1e-4 && (by - 1.2).abs() < 0.01, "{p} {by}");
        for n in 1..20 {
            rarities.note(host, 0.5, at(n));
        }
        assert_eq!(
            rarities.opinion(host, at(20)),
            None,
            "one in five hundred, of twenty"
        );
        rarities.note(host, 1e-5, at(21));
        assert!(rarities.opinion(host, at(22)).is_some(), "too rare for chance");
        assert_eq!(rarities.opinion(host, at(400)), None, "long ago");
    }
}
