//! What the three layers have in common.

use std::collections::BTreeSet;

use amoskys_core::event::Layer;
use serde::{Deserialize, Serialize};

use crate::baseline::Normal;
use crate::finding::{Card, Finding, Mark};
use crate::sighting::Sighting;

/// A layer: detectors of one kind, and what they know.
pub(crate) trait LayerModel {
    /// Which one it is.
    const LAYER: Layer;

    /// Takes a sighting, and appends hypotheses worth reporting.
    fn observe(&mut self, sighting: &Sighting<'_>, mark: Mark, findings: &mut Vec<Finding>);

    /// What this layer can say about another's hypothesis; `None` if nothing.
    fn opinion(&self, finding: &Finding, normal: Option<&Normal>) -> Option<Card>;

    /// Entries forgotten because a table was full.
    fn evicted(&self) -> u64;
}

/// Entities whose score has risen but was not reported yet, to be looked at again at the next tick.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Backlog<K: Ord>(BTreeSet<K>);

impl<K: Ord> Default for Backlog<K> {
    fn default() -> Self {
        Self(BTreeSet::new())
    }
}

/// Entities a backlog holds. Further ones are reported at their next event instead of the next second.
const BACKLOG: usize = 1024;

impl<K: Ord + Copy> Backlog<K> {
    pub(crate) fn add(&mut self, key: K) {
        if self.0.len() < BACKLOG {
            self.0.insert(key);
        }
    }

    /// Takes all out, in the order of the keys.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = K> + use<K> {
        std::mem::take(&mut self.0).into_iter()
    }
}
