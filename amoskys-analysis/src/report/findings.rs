//! The verdicts of the report: the latest revision of each, and no more of them than a page can show.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use amoskys_core::Timestamp;
use amoskys_core::event::{Entity, Layer, Verdict, VerdictId};

use super::format::foreign;
use crate::feedback::called_normal;

/// Verdicts by id; the strongest, if there are too many.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    verdicts: BTreeMap<VerdictId, Verdict>,
    forgotten: bool,
}

/// An alert with the number it has in all figures of the page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbered<'a> {
    pub(super) number: usize,
    pub(super) verdict: &'a Verdict,
}

const MOST_VERDICTS: usize = 1_000;
const MOST_EVIDENCE: usize = 16;
const MOST_PEERS: usize = 16;
const MOST_TITLE_CHARS: usize = 160;

impl Findings {
    /// Adds a verdict, or a newer revision of one.
    pub(super) fn add(&mut self, verdict: &Verdict) {
        if self
            .verdicts
            .get(&verdict.id)
            .is_some_and(|known| known.revision > verdict.revision)
        {
            return;
        }
        self.verdicts.insert(verdict.id, abridged(verdict));
        if self.verdicts.len() > MOST_VERDICTS {
            self.forgotten = true;
            let weakest = self.verdicts.values().min_by(|a, b| {
                is_alert(a)
                    .cmp(&is_alert(b))
                    .then(a.score.total_cmp(&b.score))
                    .then(b.id.cmp(&a.id))
            });
            if let Some(id) = weakest.map(|verdict| verdict.id) {
                self.verdicts.remove(&id);
            }
        }
    }

    /// When the verdict of this id was last updated, and its score then.
    pub(super) fn latest(&self, id: &VerdictId) -> Option<(Timestamp, f64)> {
        self.verdicts
            .get(id)
            .map(|verdict| (verdict.updated, verdict.score))
    }

    /// The alerts in order of time, numbered from 1.
    pub(super) fn alerts(&self) -> Vec<Numbered<'_>> {
        let mut alerts: Vec<_> = self
            .verdicts
            .values()
            .filter(|verdict| is_alert(verdict))
            .collect();
        alerts.sort_by_key(|verdict| (verdict.time, verdict.id));
        alerts
            .into_iter()
            .zip(1..)
            .map(|(verdict, number)| Numbered { number, verdict })
            .collect()
    }

    /// Verdicts that somebody called normal, in order of time, with the score that they had before.
    pub(super) fn normal(&self) -> Vec<(&Verdict, f64)> {
        let normal = |verdict| called_normal(verdict).map(|before| (verdict, before));
        let mut all: Vec<_> = self.verdicts.values().filter_map(normal).collect();
        all.sort_by_key(|(verdict, _)| (verdict.time, verdict.id));
        all
    }

    /// Other verdicts that are no alerts, the highest score first.
    pub(super) fn others(&self) -> Vec<&Verdict> {
        let mut others: Vec<_> = self
            .verdicts
            .values()
            .filter(|verdict| !is_alert(verdict) && called_normal(verdict).is_none())
            .collect();
        others.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id)));
        others
    }

    /// Whether weaker verdicts were forgotten.
    pub(super) fn is_partial(&self) -> bool {
        self.forgotten
    }
}

/// Whether it is an alert: the layers below fusion may be sure of themselves and still be overruled.
pub(super) fn is_alert(verdict: &Verdict) -> bool {
    matches!(verdict.layer, Layer::Fused | Layer::Rule) && verdict.is_alert()
}

/// The hosts accused by alerts.
pub(super) fn accused(alerts: &[Numbered<'_>]) -> BTreeSet<IpAddr> {
    alerts
        .iter()
        .filter_map(|alert| alert.verdict.entity.host())
        .collect()
}

/// Pairs of an accused host and one it is accused of having harmed, with the number of the first such alert.
pub(super) fn accused_pairs(alerts: &[Numbered<'_>]) -> BTreeMap<(IpAddr, IpAddr), usize> {
    let mut pairs = BTreeMap::new();
    for Numbered { number, verdict } in alerts {
        let Some(host) = verdict.entity.host() else {
            continue;
        };
        let named = match verdict.entity {
            Entity::Pair(_, other) => Some(other),
            _ => None,
        };
        for peer in verdict.peers.iter().filter_map(Entity::host).chain(named) {
            pairs.entry((host, peer)).or_insert(*number);
        }
    }
    pairs
}

/// A copy of bounded size: a verdict may have come from anywhere.
fn abridged(verdict: &Verdict) -> Verdict {
    Verdict {
        id: verdict.id,
        revision: verdict.revision,
        time: verdict.time,
        updated: verdict.updated,
        layer: verdict.layer,
        entity: verdict.entity.clone(),
        peers: verdict.peers.iter().take(MOST_PEERS).cloned().collect(),
        technique: verdict.technique.clone(),
        title: foreign(&verdict.title, MOST_TITLE_CHARS),
        score: verdict.score,
        interval: verdict.interval,
        evidence: verdict.evidence.iter().take(MOST_EVIDENCE).cloned().collect(),
        model: verdict.model.clone(),
        schema: verdict.schema,
        events: verdict.events.clone(),
    }
}
