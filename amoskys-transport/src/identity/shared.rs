use std::fmt;
use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig};

use super::error::TlsError;
use super::files::TlsFiles;
use super::material::Material;
use super::name::Identity;
use super::validity::Validity;
use crate::swap::Swap;

/// Certificates, keys and CRLs of a process that can be replaced while it runs. Copies of this handle share them.
///
/// A [`Bus`](crate::bus::Bus), a publisher and a subscription begin each connection with what is there then. Connections
/// that are open go on, but for those whose other side showed a certificate that has been revoked since, or whose authority
/// is no longer believed: they end at once. [`Reloader`](super::Reloader) replaces what is there.
#[derive(Clone, Debug)]
pub struct SharedTls {
    pub(crate) material: Arc<Swap<Material>>,
}

impl SharedTls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// If a file cannot be used. That the certificate has expired is no error here.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self {
            material: Arc::new(Swap::new(Material::load(files)?)),
        })
    }

    /// Who this process is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.material.snapshot().identity.clone()
    }

    /// How long the own certificate can be used.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.material.snapshot().validity
    }

    /// Settings for the next connection of a server; see [`TlsFiles::server_config`].
    #[must_use]
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.material.snapshot().server.clone()
    }

    /// Settings for the next connection of a client; see [`TlsFiles::client_config`].
    #[must_use]
    pub fn client_config(&self) -> Arc<ClientConfig> {
        self.material.snapshot().client.clone()
    }
}

/// TLS settings of a server: such as stay for the life of the process, or [`SharedTls`].
#[derive(Clone)]
pub struct ServerTls(Source<ServerConfig>);

/// TLS settings of a client: such as stay for the life of the process, or [`SharedTls`].
#[derive(Clone)]
pub struct ClientTls(Source<ClientConfig>);

#[derive(Clone)]
enum Source<T> {
    Fixed(Arc<T>),
    Shared(SharedTls),
}

impl ServerTls {
    /// Settings for the next connection.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        match &self.0 {
            Source::Fixed(config) => config.clone(),
            Source::Shared(tls) => tls.server_config(),
        }
    }

    /// If they can be replaced.
    #[cfg(feature = "bus")]
    pub(crate) fn shared(&self) -> Option<&SharedTls> {
        match &self.0 {
            Source::Fixed(_) => None,
            Source::Shared(tls) => Some(tls),
        }
    }
}

impl ClientTls {
    /// Settings for the next connection.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        match &self.0 {
            Source::Fixed(config) => config.clone(),
            Source::Shared(tls) => tls.client_config(),
        }
    }

    /// If they can be replaced.
    #[cfg(feature = "bus")]
    pub(crate) fn shared(&self) -> Option<&SharedTls> {
        match &self.0 {
            Source::Fixed(_) => None,
            Source::Shared(tls) => Some(tls),
        }
    }
}

impl From<Arc<ServerConfig>> for ServerTls {
    fn from(config: Arc<ServerConfig>) -> Self {
        Self(Source::Fixed(config))
    }
}

impl From<Arc<ClientConfig>> for ClientTls {
    fn from(config: Arc<ClientConfig>) -> Self {
        Self(Source::Fixed(config))
    }
}

impl From<&SharedTls> for ServerTls {
    fn from(tls: &SharedTls) -> Self {
        Self(Source::Shared(tls.clone()))
    }
}

impl From<&SharedTls> for ClientTls {
    fn from(tls: &SharedTls) -> Self {
        Self(Source::Shared(tls.clone()))
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls")
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls")
    }
}
