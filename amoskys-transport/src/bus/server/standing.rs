//! Whether a connection that was let in may stay, after certificates or the trust map were replaced.

use std::sync::{Arc, Mutex};

use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::sync::watch;

use super::accept::{Refusal, certificate_reason};
use super::shared::Shared;
use super::succession::believed;
use crate::bus::refuse::RefuseReason;
use crate::identity::Identity;
use crate::key::KeyId;
use crate::wal::segment::lock;

/// Learns of each replacement from the moment it is made on.
pub(crate) struct Changes {
    trust: watch::Receiver<()>,
    tls: Option<watch::Receiver<()>>,
}

/// What a connection was let in with.
pub(crate) struct Standing {
    changes: Changes,
    identity: Identity,
    chain: Vec<CertificateDer<'static>>,
    since: UnixTime,
    /// With which key the last record was sealed.
    key: Arc<Mutex<Option<KeyId>>>,
}

impl Changes {
    /// Must be made before the connection's certificate is looked at.
    pub(crate) fn of(shared: &Shared) -> Self {
        Self {
            trust: shared.options.trust.changes(),
            tls: shared.options.tls.shared().map(|tls| tls.material.changes()),
        }
    }

    /// Waits for the next.
    pub(crate) async fn next(&mut self) {
        let tls = async {
            match &mut self.tls {
                Some(tls) => tls.changed().await,
                None => std::future::pending().await,
            }
        };
        let changed = tokio::select! {
            changed = self.trust.changed() => changed,
            changed = tls => changed,
        };
        if changed.is_err() {
            std::future::pending().await
        }
    }
}

impl Standing {
    pub(crate) fn new(changes: Changes, identity: Identity, chain: Vec<CertificateDer<'static>>) -> Self {
        Self {
            changes,
            identity,
            chain,
            since: UnixTime::now(),
            key: Arc::default(),
        }
    }

    /// Where the key of the last record is to be noted.
    pub(crate) fn key(&self) -> Arc<Mutex<Option<KeyId>>> {
        self.key.clone()
    }

    /// Waits until the connection may no longer stay.
    pub(crate) async fn lost(&mut self, shared: &Shared, is_publisher: bool) -> Refusal {
        loop {
            self.changes.next().await;
            let refusal = self.check_certificate(shared);
            let refusal = refusal.or_else(|| is_publisher.then(|| self.check_trust(shared)).flatten());
            if let Some(refusal) = refusal {
                return refusal;
            }
        }
    }

    fn check_certificate(&self, shared: &Shared) -> Option<Refusal> {
        let material = shared.options.tls.shared()?.material.snapshot();
        let error = material.check_client(&self.chain, self.since).err()?;
        let reason = match &error {
            rustls::Error::InvalidCertificate(error) => certificate_reason(error),
            _ => RefuseReason::BadCertificate,
        };
        let text = format!(
            "the certificate of {} is no longer believed: {error}",
            self.identity
        );
        Some(Refusal::new(reason, text))
    }

    fn check_trust(&self, shared: &Shared) -> Option<Refusal> {
        let name = &self.identity.name;
        let trust = shared.options.trust.snapshot();
        if !trust.knows(name) {
            let text = format!("no key is trusted for agent {name} any more");
            return Some(Refusal::new(RefuseReason::UnknownAgent, text));
        }
        let key = (*lock(&self.key))?;
        let text = match believed(&trust, &shared.journal.keyring(), name, key) {
            Some(known) if known.is_retired => format!("key {key} of agent {name} was retired"),
            Some(_) => return None,
            None => format!("key {key} is not trusted for agent {name} any more"),
        };
        Some(Refusal::new(RefuseReason::KeyRetired, text))
    }
}
