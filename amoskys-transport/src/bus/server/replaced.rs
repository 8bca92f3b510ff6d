//! Writes down that certificates or the trust map were replaced.

use std::fmt::Write as _;
use std::sync::Arc;

use amoskys_core::Name;
use amoskys_core::event::AuditOutcome;

use super::shared::Shared;
use super::standing::Changes;
use crate::key::{PublicKey, TrustMap};

/// Keys named in one entry; more are only counted.
const NAMED: usize = 20;

/// What was there last.
pub(crate) struct Replaced {
    changes: Changes,
    trust: Arc<TrustMap>,
    tls: u64,
}

impl Replaced {
    pub(crate) fn new(shared: &Shared) -> Self {
        Self {
            changes: Changes::of(shared),
            trust: shared.options.trust.snapshot(),
            tls: number(shared),
        }
    }

    /// Waits until something is replaced.
    pub(crate) async fn next(&mut self) {
        self.changes.next().await;
    }

    /// Writes down what has been.
    pub(crate) fn note(&mut self, shared: &Shared) {
        let name = shared.name.as_str();
        let audit = |action: &str, reason: String| {
            shared
                .journal
                .audit(name, action, name, AuditOutcome::Success, reason);
        };
        let trust = shared.options.trust.snapshot();
        if !Arc::ptr_eq(&trust, &self.trust) {
            let (added, removed) = (missing(&trust, &self.trust), missing(&self.trust, &trust));
            let retired = list(keys(&trust).filter(|(agent, key)| {
                trust.is_retired(agent, key.id()) && !self.trust.is_retired(agent, key.id())
            }));
            let mut text = format!("keys added: {added}; keys removed: {removed}");
            if retired != "none" {
                let _ = write!(text, "; keys retired: {retired}");
            }
            audit("trust.replaced", text);
            self.trust = trust;
        }
        let tls = number(shared);
        if tls != self.tls {
            self.tls = tls;
            audit(
                "certificates.replaced",
                "certificate, authorities or revoked certificates are others from now on".to_owned(),
            );
        }
    }
}

fn number(shared: &Shared) -> u64 {
    let tls = shared.options.tls.shared();
    tls.map_or(0, |tls| tls.material.number())
}

/// The keys of one map that are not in the other.
fn missing(of: &TrustMap, other: &TrustMap) -> String {
    list(keys(of).filter(|(agent, key)| other.key(agent, key.id()) != Some(*key)))
}

fn keys(of: &TrustMap) -> impl Iterator<Item = (&Name, &PublicKey)> {
    of.iter()
        .flat_map(|(agent, keys)| keys.iter().map(move |key| (agent, key)))
}

/// The names of the first, and how many more there are.
fn list<'a>(mut keys: impl Iterator<Item = (&'a Name, &'a PublicKey)>) -> String {
    let mut text = String::new();
    for (agent, key) in keys.by_ref().take(NAMED) {
        let _ = write!(
            text,
            "{}{} of {agent}",
            if text.is_empty() { "" } else { ", " },
            key.id()
        );
    }
    match keys.count() {
        0 if text.is_empty() => text.push_str("none"),
        0 => {}
        more => {
            let _ = write!(text, " and {more} more");
        }
    }
    text
}
