//! Which keys descend from which: what was learned from the hand-overs of all agents of a log.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use amoskys_core::Name;

use super::hand_over::HandOver;
use super::header::RawHeader;
use crate::key::{KeyId, PublicKey, TrustMap};

/// Hand-overs of one agent. Whoever needs more has its present key put into the trust maps.
const MOST: usize = 64;

/// Hand-overs that a record shows.
const SHOWN: usize = 16;

/// Hand-overs that both their keys have signed. Whether a key is believed is decided by a trust map: it is if the key it
/// descends from is in the map.
#[derive(Debug, Default)]
pub(crate) struct Keyring {
    agents: RwLock<BTreeMap<Name, Vec<Arc<HandOver>>>>,
    /// Changes with each that is learned.
    number: AtomicU64,
}

/// What became of a hand-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Learned {
    /// It is new.
    New,
    /// It was known.
    Known,
    /// The old key was handed over to another one before, or the new one was used before.
    Contradicts,
    /// The agent has changed its key too often.
    TooMany,
}

impl Keyring {
    /// Takes note of a hand-over.
    pub(crate) fn learn(&self, hand_over: HandOver) -> Learned {
        let mut agents = self.agents.write().unwrap_or_else(PoisonError::into_inner);
        let known = agents.entry(hand_over.agent.clone()).or_default();
        for other in known.iter() {
            if (other.old, other.new) == (hand_over.old, hand_over.new) {
                return Learned::Known;
            }
            if other.old == hand_over.old || other.new == hand_over.new || other.old == hand_over.new {
                return Learned::Contradicts;
            }
        }
        if known.len() >= MOST {
            return Learned::TooMany;
        }
        known.push(Arc::new(hand_over));
        drop(agents);
        self.number.fetch_add(1, Ordering::AcqRel);
        Learned::New
    }

    /// How a key came to sign for an agent: the proofs of the hand-overs that lead to it, the oldest first, each behind its
    /// length. Empty if it took over from none.
    pub(crate) fn lineage(&self, agent: &Name, id: KeyId) -> Vec<u8> {
        let agents = self.read();
        let links = agents.get(agent).map_or(&[][..], Vec::as_slice);
        let before = |id: KeyId| links.iter().find(|link| link.new.id() == id);
        let mut chain = Vec::new();
        let mut at = before(id);
        while let Some(link) = at.filter(|_| chain.len() < SHOWN) {
            chain.push(link);
            at = before(link.old.id());
        }
        let mut out = Vec::new();
        for link in chain.into_iter().rev() {
            let len = u32::try_from(link.proof.len()).unwrap_or(u32::MAX);
            out.extend_from_slice(&len.to_le_bytes());
            out.extend_from_slice(&link.proof);
        }
        out
    }

    /// Takes note of the hand-overs that a record shows, as far as they lead on from a key that is believed.
    pub(crate) fn learn_lineage(&self, header: &RawHeader<'_>, is_believed: impl Fn(KeyId) -> bool) {
        let mut rest = header.lineage;
        for _ in 0..SHOWN {
            let Some((len, behind)) = rest.split_first_chunk() else {
                return;
            };
            let len = u32::from_le_bytes(*len) as usize;
            let Some((proof, behind)) = behind.split_at_checked(len) else {
                return;
            };
            rest = behind;
            let hand_over = HandOver::read(proof).ok().flatten();
            let hand_over = hand_over.filter(|link| link.agent.as_str() == header.agent);
            // The oldest may lead on from a key that is not known here, to one that is.
            if let Some(hand_over) = hand_over.filter(|link| is_believed(link.old.id())) {
                let _ = self.learn(hand_over);
            }
        }
    }

    /// Takes note of the hand-over in a record, if it is one.
    pub(crate) fn observe(&self, record: &[u8]) {
        // Most records are none, which a byte tells.
        if record.get(6) != Some(&2) {
            return;
        }
        match HandOver::read(record) {
            Ok(Some(hand_over)) => {
                let (agent, learned) = (hand_over.agent.clone(), self.learn(hand_over));
                if matches!(learned, Learned::Contradicts | Learned::TooMany) {
                    tracing::warn!(%agent, ?learned, "the hand-over of a key is not followed");
                }
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the hand-over of a key is not followed"),
        }
    }

    /// Differs once something was learned.
    #[cfg(feature = "bus")]
    pub(crate) fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// To which key an agent handed over from this one.
    pub(crate) fn successor(&self, agent: &Name, id: KeyId) -> Option<Arc<HandOver>> {
        let agents = self.read();
        let found = agents.get(agent)?.iter().find(|link| link.old.id() == id);
        found.cloned()
    }

    /// The key of this name by which records of this agent verify: it is in the map, or descends from one that is.
    pub(crate) fn key(&self, trust: &TrustMap, agent: &Name, id: KeyId) -> Option<PublicKey> {
        if let Some(key) = trust.key(agent, id) {
            return Some(*key);
        }
        let agents = self.read();
        let links = agents.get(agent)?;
        let wanted = links.iter().find(|link| link.new.id() == id)?;
        let mut at = wanted;
        // Each key is handed over to once, so that this ends.
        for _ in 0..links.len() {
            if trust.key(agent, at.old.id()) == Some(&at.old) {
                return Some(wanted.new);
            }
            at = links.iter().find(|link| link.new == at.old)?;
        }
        None
    }

    /// The hand-overs of an agent, in the order they were learned.
    pub(crate) fn of(&self, agent: &Name) -> Vec<Arc<HandOver>> {
        self.read().get(agent).cloned().unwrap_or_default()
    }

    /// The hand-overs of all agents.
    pub(crate) fn all(&self) -> Vec<Arc<HandOver>> {
        self.read().values().flatten().cloned().collect()
    }

    /// This key of an agent, those it descends from, and those that descend from it.
    pub(crate) fn related(&self, agent: &Name, key: &PublicKey) -> Vec<PublicKey> {
        let agents = self.read();
        let links = agents.get(agent).map_or(&[][..], Vec::as_slice);
        let mut keys = vec![*key];
        for _ in 0..links.len() {
            let more = links.iter().find_map(|link| {
                let (old, new) = (keys.contains(&link.old), keys.contains(&link.new));
                (old != new).then_some(if old { link.new } else { link.old })
            });
            keys.extend(more);
        }
        keys
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Name, Vec<Arc<HandOver>>>> {
        self.agents.read().unwrap_or_else(PoisonError::into_inner)
    }
}
