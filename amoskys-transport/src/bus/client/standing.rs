//! Whether the bus may still be believed, after authorities or CRLs were replaced.

use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::sync::watch;

use super::error::ConnectionError;
use crate::identity::{ClientTls, SharedTls};

/// What the bus at the other end of a connection showed.
pub(crate) struct Standing {
    shared: Option<(SharedTls, watch::Receiver<()>)>,
    address: String,
    server_name: ServerName<'static>,
    chain: Vec<CertificateDer<'static>>,
    since: UnixTime,
}

impl Standing {
    /// Must be made before the bus's certificate is looked at.
    pub(crate) fn new(tls: &ClientTls, address: String, server_name: ServerName<'static>) -> Self {
        let shared = tls.shared().map(|tls| (tls.clone(), tls.material.changes()));
        Self {
            shared,
            address,
            server_name,
            chain: Vec::new(),
            since: UnixTime::now(),
        }
    }

    /// The bus showed this just now, and was believed.
    pub(crate) fn shown(&mut self, chain: &[CertificateDer<'_>]) {
        self.chain = chain.iter().map(|one| one.clone().into_owned()).collect();
        self.since = UnixTime::now();
    }

    /// Waits until the bus can no longer be believed.
    pub(crate) async fn lost(&mut self) -> ConnectionError {
        let Some((tls, changes)) = &mut self.shared else {
            return std::future::pending().await;
        };
        loop {
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
            let material = tls.material.snapshot();
            if let Err(error) = material.check_server(&self.chain, &self.server_name, self.since) {
                return ConnectionError::Untrusted {
                    address: self.address.clone(),
                    source: error.into(),
                };
            }
        }
    }
}
