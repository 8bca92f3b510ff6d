use std::collections::{BTreeMap, BTreeSet};

use amoskys_core::Name;

use super::{KeyId, PublicKey};

/// Which keys sign for which agent. An agent may have several: an old key and a new one.
///
/// A key may be retired: it signs nothing new, but what it signed before still verifies. A key that an agent handed its
/// stream over to need not be in the map; it is believed as long as the key it descends from is, retired or not.
///
/// ```
/// use amoskys_transport::{PublicKey, TrustMap};
///
/// let key = PublicKey::from_bytes([7; 32]);
/// let trust = TrustMap::new().allow("gateway-3", key);
/// assert!(trust.key(&"gateway-3".into(), key.id()).is_some());
/// assert!(trust.key(&"gateway-4".into(), key.id()).is_none());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustMap {
    agents: BTreeMap<Name, Vec<PublicKey>>,
    retired: BTreeSet<(Name, KeyId)>,
}

impl TrustMap {
    /// Trusts nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets a key sign for an agent.
    #[must_use]
    pub fn allow(mut self, agent: impl Into<Name>, key: PublicKey) -> Self {
        self.insert(agent.into(), key);
        self
    }

    /// Lets a key sign for an agent.
    pub fn insert(&mut self, agent: Name, key: PublicKey) {
        let keys = self.agents.entry(agent).or_default();
        if !keys.contains(&key) {
            keys.push(key);
        }
    }

    /// Says that a key signs nothing new for an agent, but that its old records still verify.
    #[must_use]
    pub fn retire(mut self, agent: impl Into<Name>, key: PublicKey) -> Self {
        self.insert_retired(agent.into(), key);
        self
    }

    /// Says that a key signs nothing new for an agent, but that its old records still verify.
    pub fn insert_retired(&mut self, agent: Name, key: PublicKey) {
        self.retired.insert((agent.clone(), key.id()));
        self.insert(agent, key);
    }

    /// Whether a key of this agent is in the map, and retired.
    #[must_use]
    pub fn is_retired(&self, agent: &Name, id: KeyId) -> bool {
        !self.retired.is_empty() && self.retired.contains(&(agent.clone(), id))
    }

    /// The key of this name by which records of this agent verify, retired or not.
    #[must_use]
    pub fn key(&self, agent: &Name, id: KeyId) -> Option<&PublicKey> {
        self.agents.get(agent)?.iter().find(|key| key.id() == id)
    }

    /// Whether some key is known for this agent, retired or not.
    #[must_use]
    pub fn knows(&self, agent: &Name) -> bool {
        self.agents.contains_key(agent)
    }

    /// The agents and their keys, retired ones too.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &[PublicKey])> {
        self.agents.iter().map(|(agent, keys)| (agent, keys.as_slice()))
    }

    /// Puts all of another map into this one.
    pub fn extend(&mut self, other: &Self) {
        for (agent, keys) in other.iter() {
            keys.iter().for_each(|key| self.insert(agent.clone(), *key));
        }
        self.retired.extend(other.retired.iter().cloned());
    }

    /// Whether nobody is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.agents.is_empty()
    }
}
