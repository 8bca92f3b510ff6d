//! Which keys a bus believes an agent by, as they hand over one to the next.

use amoskys_core::Name;
use amoskys_core::event::AuditOutcome;

use super::shared::Shared;
use crate::bus::refuse::RefuseReason;
use crate::key::{KeyId, PublicKey, TrustMap};
use crate::seal::hand_over::{HandOver, MAX_HAND_OVER};
use crate::seal::header::SIGNATURE;
use crate::seal::{Keyring, Learned};

/// What an agent may show in its hello.
const MOST: usize = 64;

/// A key that is believed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Believed {
    pub(crate) key: PublicKey,
    /// The map says that it signs nothing new.
    pub(crate) is_retired: bool,
}

/// The key of this name, if records of this agent may be signed by it.
pub(crate) fn believed(trust: &TrustMap, keyring: &Keyring, agent: &Name, id: KeyId) -> Option<Believed> {
    let key = keyring.key(trust, agent, id)?;
    let is_retired = trust.is_retired(agent, id);
    Some(Believed { key, is_retired })
}

/// Learns from the hand-overs that an agent shows when it connects, so that it can go on where the bus does not have, or
/// no longer has, the records of them. Only a key that may sign now can hand over in this way.
pub(crate) fn offered(shared: &Shared, agent: &Name, proofs: &[Vec<u8>]) {
    let keyring = shared.journal.keyring();
    for proof in proofs.iter().take(MOST) {
        if proof.len() > MAX_HAND_OVER + SIGNATURE {
            return;
        }
        let Ok(Some(hand_over)) = HandOver::read(proof) else {
            return;
        };
        if hand_over.agent != *agent {
            return;
        }
        let trust = shared.options.trust.snapshot();
        let known = keyring.successor(agent, hand_over.old.id());
        if known.is_some_and(|known| known.new == hand_over.new) {
            continue;
        }
        match believed(&trust, &keyring, agent, hand_over.old.id()) {
            Some(old) if !old.is_retired => take(shared, hand_over, "as the agent shows by"),
            _ => return,
        }
    }
}

/// Learns from a hand-over, and writes it down.
pub(crate) fn take(shared: &Shared, hand_over: HandOver, how: &str) {
    let (agent, old, new) = (hand_over.agent.clone(), hand_over.old, hand_over.new);
    let learned = shared.journal.keyring().learn(hand_over);
    let pem = new.to_pem();
    let line = pem.lines().nth(1).unwrap_or_default();
    let text = match learned {
        Learned::Known => return,
        Learned::New => {
            let text = format!(
                "key {} took over from {}, {how} a hand-over that both have signed; its line in the trust map would be: \
                 {agent} ed25519 {line}",
                new.id(),
                old.id()
            );
            text
        }
        Learned::Contradicts | Learned::TooMany => {
            let text = format!(
                "the hand-over from key {} to {} is not followed: {}",
                old.id(),
                new.id(),
                match learned {
                    Learned::TooMany => "the agent has changed its key too often",
                    _ => "one of the keys has handed over or taken over before",
                }
            );
            // As often as the agent likes to show it.
            return shared.audit_refusal(RefuseReason::KeyRetired, agent.as_str(), agent.as_str(), &text);
        }
    };
    metrics::counter!("amoskys_bus_hand_overs_total", "agent" => agent.to_string()).increment(1);
    let (name, outcome) = (agent.as_str(), AuditOutcome::Success);
    shared.journal.audit(name, "key.handed_over", name, outcome, text);
}
