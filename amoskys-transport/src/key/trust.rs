use std::collections::BTreeMap;

use amoskys_core::Name;

use super::{KeyId, PublicKey};

/// Which keys sign for which agent. An agent may have several: an old key and a new one.
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

    /// The key of this name that may sign for this agent.
    #[must_use]
    pub fn key(&self, agent: &Name, id: KeyId) -> Option<&PublicKey> {
        self.agents.get(agent)?.iter().find(|key| key.id() == id)
    }

    /// Whether some key may sign for this agent.
    #[must_use]
    pub fn knows(&self, agent: &Name) -> bool {
        self.agents.contains_key(agent)
    }

    /// The agents and their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &[PublicKey])> {
        self.agents.iter().map(|(agent, keys)| (agent, keys.as_slice()))
    }

    /// Whether nobody is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.agents.is_empty()
    }
}
