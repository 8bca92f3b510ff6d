use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use amoskys_core::BoxError;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::error::TlsError;
use super::name::Identity;
use super::validity::Validity;
use crate::spelling;

/// The files one process needs for TLS: certificate authorities to believe, its own certificate, and its key.
///
/// All are PEM. The file of authorities may hold several, so that one can be replaced by another without a day on
/// which nobody trusts anybody. The certificate's own comes first in its file, intermediate ones follow. The key's
/// file must belong to its owner alone (no permission for group and others).
///
/// The settings made here allow TLS 1.3 only, with the ring provider and no global default; both sides show a
/// certificate; each connection begins with a full handshake (no session is resumed), so that whoever is connected
/// has shown a certificate that was valid at that time.
///
/// Files are read when settings are made, not before; make new settings to use new certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

/// No chain of certificates is longer.
const MAX_FILE: u64 = 1 << 20;

impl TlsFiles {
    /// These files.
    #[must_use]
    pub fn new(ca: impl Into<PathBuf>, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            ca: ca.into(),
            certificate: certificate.into(),
            key: key.into(),
        }
    }

    /// `DIR/ca.pem`, `DIR/NAME.pem` and `DIR/NAME.key`. In file names, the name is percent-encoded as in
    /// [`Identity::to_uri`].
    #[must_use]
    pub fn in_dir(dir: impl AsRef<Path>, name: &str) -> Self {
        let dir = dir.as_ref();
        let name = spelling::spell(name);
        Self::new(
            dir.join("ca.pem"),
            dir.join(format!("{name}.pem")),
            dir.join(format!("{name}.key")),
        )
    }

    /// File of the certificate authorities.
    #[must_use]
    pub fn ca_file(&self) -> &Path {
        &self.ca
    }

    /// File of the own certificate.
    #[must_use]
    pub fn certificate_file(&self) -> &Path {
        &self.certificate
    }

    /// File of the secret key.
    #[must_use]
    pub fn key_file(&self) -> &Path {
        &self.key
    }

    /// Who the own certificate says this process is.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or names nobody.
    pub fn identity(&self) -> Result<Identity, TlsError> {
        let chain = self.chain()?;
        Identity::of_certificate(&chain[0]).map_err(|source| TlsError::Identity {
            path: self.certificate.clone(),
            source,
        })
    }

    /// How long the own certificate can be used, for a check or a metric.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or holds no certificate.
    pub fn validity(&self) -> Result<Validity, TlsError> {
        let chain = self.chain()?;
        Validity::of_certificate(&chain[0]).map_err(|source| TlsError::Certificate {
            path: self.certificate.clone(),
            number: 1,
            source: source.into(),
        })
    }

    /// Settings of a server that only talks to clients with a certificate.
    ///
    /// # Errors
    ///
    /// If a file cannot be used. That the certificate has expired is no error here: the other side will say so.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        self.identity()?;
        let provider = Arc::new(ring::default_provider());
        let own = self.certified_key(&provider)?;
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()?), provider.clone()).build();
        let verifier = verifier.map_err(|error| self.unusable(error))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| self.unusable(error))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// Settings of a client that shows its certificate, and only talks to servers whose certificate holds the name
    /// it was told.
    ///
    /// # Errors
    ///
    /// If a file cannot be used. That the certificate has expired is no error here: the other side will say so.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        self.identity()?;
        let provider = Arc::new(ring::default_provider());
        let own = self.certified_key(&provider)?;
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| self.unusable(error))?
            .with_root_certificates(self.roots()?)
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }

    /// The own certificate, then intermediate ones; at least one.
    pub(crate) fn chain(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        read_certificates(&self.certificate)
    }

    /// The certificate authorities; at least one.
    pub(crate) fn authorities(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        read_certificates(&self.ca)
    }

    pub(crate) fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for (index, certificate) in self.authorities()?.into_iter().enumerate() {
            roots.add(certificate).map_err(|error| TlsError::Certificate {
                path: self.ca.clone(),
                number: index + 1,
                source: error.into(),
            })?;
        }
        Ok(roots)
    }

    /// The own certificate with its key, which is shown to be its key.
    pub(crate) fn certified_key(&self, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let chain = self.chain()?;
        let key = self.secret_key(provider)?;
        let own = CertifiedKey::new(chain, key);
        match own.keys_match() {
            Ok(()) => Ok(own),
            Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::Mismatch {
                certificate: self.certificate.clone(),
                key: self.key.clone(),
            }),
            Err(error) => Err(TlsError::Certificate {
                path: self.certificate.clone(),
                number: 1,
                source: error.into(),
            }),
        }
    }

    pub(crate) fn secret_key(&self, provider: &CryptoProvider) -> Result<Arc<dyn SigningKey>, TlsError> {
        let content = read(&self.key, true)?;
        let key = PrivateKeyDer::from_pem_slice(&content).map_err(|error| TlsError::Content {
            path: self.key.clone(),
            wanted: "secret key",
            source: error.into(),
        })?;
        let key = provider.key_provider.load_private_key(key);
        key.map_err(|error| TlsError::Key {
            path: self.key.clone(),
            source: error.into(),
        })
    }

    fn unusable(&self, error: impl Into<BoxError>) -> TlsError {
        TlsError::Settings {
            certificate: self.certificate.clone(),
            ca: self.ca.clone(),
            source: error.into(),
        }
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source: BoxError| TlsError::Content {
        path: path.to_owned(),
        wanted: "certificate",
        source,
    };
    let content = read(path, false)?;
    let certificates = CertificateDer::pem_slice_iter(&content).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| failed(error.into()))?;
    if certificates.is_empty() {
        return Err(failed("it has no such section".into()));
    }
    Ok(certificates)
}

pub(crate) fn read(path: &Path, secret: bool) -> Result<Vec<u8>, TlsError> {
    let failed = |source: io::Error| {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => TlsError::Missing { path, source },
            _ => TlsError::Read { path, source },
        }
    };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
    if secret && mode & 0o077 != 0 {
        return Err(TlsError::LooseMode {
            path: path.to_owned(),
            mode,
        });
    }
    let mut content = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut content)
        .map_err(failed)?;
    if content.len() as u64 > MAX_FILE {
        let reason = format!("it is larger than {MAX_FILE} bytes");
        return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, reason)));
    }
    Ok(content)
}
