use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use amoskys_core::BoxError;
use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use super::error::TlsError;
use super::material::Material;
use super::name::Identity;
use super::validity::Validity;
use crate::key::loose_mode;
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
/// There may also be a file of certificates that were revoked before their time: CRLs of the authorities, PEM, one
/// behind the other. An authority without a CRL in it has revoked nothing. Only the signature of a CRL is looked at, not
/// when the next was to come: that an authority is late should not stop everybody.
///
/// Files are read when settings are made, not before. [`Reloader`](super::Reloader) takes new ones into use while a
/// process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
    crl: Option<PathBuf>,
}

/// No chain of certificates is longer.
const MAX_FILE: u64 = 1 << 20;

impl TlsFiles {
    /// These files, and no CRLs.
    #[must_use]
    pub fn new(ca: impl Into<PathBuf>, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            ca: ca.into(),
            certificate: certificate.into(),
            key: key.into(),
            crl: None,
        }
    }

    /// The file of CRLs. It need not be there.
    #[must_use]
    pub fn crl(mut self, crl: impl Into<PathBuf>) -> Self {
        self.crl = Some(crl.into());
        self
    }

    /// `DIR/ca.pem`, `DIR/NAME.pem` and `DIR/NAME.key`; `DIR/crl.pem` if it is there. In file names, the name is
    /// percent-encoded as in [`Identity::to_uri`].
    #[must_use]
    pub fn in_dir(dir: impl AsRef<Path>, name: &str) -> Self {
        let dir = dir.as_ref();
        let name = spelling::spell(name);
        Self::new(
            dir.join("ca.pem"),
            dir.join(format!("{name}.pem")),
            dir.join(format!("{name}.key")),
        )
        .crl(dir.join("crl.pem"))
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

    /// File of the certificates that were revoked, whether it is there or not.
    #[must_use]
    pub fn crl_file(&self) -> Option<&Path> {
        self.crl.as_deref()
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
        Ok(Material::load(self)?.server)
    }

    /// Settings of a client that shows its certificate, and only talks to servers whose certificate holds the name
    /// it was told.
    ///
    /// # Errors
    ///
    /// If a file cannot be used. That the certificate has expired is no error here: the other side will say so.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        Ok(Material::load(self)?.client)
    }

    /// The own certificate, then intermediate ones; at least one.
    pub(crate) fn chain(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        parse_certificates(&self.certificate, &read(&self.certificate, false)?)
    }

    /// The certificate authorities; at least one.
    pub(crate) fn authorities(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        parse_certificates(&self.ca, &read(&self.ca, false)?)
    }

    pub(crate) fn roots(&self) -> Result<RootCertStore, TlsError> {
        self.roots_of(&self.authorities()?)
    }

    pub(super) fn roots_of(
        &self,
        authorities: &[CertificateDer<'static>],
    ) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for (index, certificate) in authorities.iter().enumerate() {
            roots
                .add(certificate.clone())
                .map_err(|error| TlsError::Certificate {
                    path: self.ca.clone(),
                    number: index + 1,
                    source: error.into(),
                })?;
        }
        Ok(roots)
    }

    /// The own certificate with its key, which is shown to be its key.
    pub(crate) fn certified_key(&self, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        self.pair(self.chain()?, self.secret_key(provider)?)
    }

    pub(super) fn pair(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: Arc<dyn SigningKey>,
    ) -> Result<CertifiedKey, TlsError> {
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
        self.parse_key(&read(&self.key, true)?, provider)
    }

    pub(super) fn parse_key(
        &self,
        content: &[u8],
        provider: &CryptoProvider,
    ) -> Result<Arc<dyn SigningKey>, TlsError> {
        let key = PrivateKeyDer::from_pem_slice(content).map_err(|error| TlsError::Content {
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

    pub(super) fn unusable(&self, error: impl Into<BoxError>) -> TlsError {
        TlsError::Settings {
            certificate: self.certificate.clone(),
            ca: self.ca.clone(),
            source: error.into(),
        }
    }
}

pub(crate) fn parse_certificates(
    path: &Path,
    content: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    parse(path, content, "certificate")
}

pub(super) fn parse_crls(
    path: &Path,
    content: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    parse(path, content, "certificate revocation list")
}

/// All sections of one kind; at least one.
fn parse<T: PemObject>(path: &Path, content: &[u8], wanted: &'static str) -> Result<Vec<T>, TlsError> {
    let failed = |source: BoxError| TlsError::Content {
        path: path.to_owned(),
        wanted,
        source,
    };
    let sections = T::pem_slice_iter(content).collect::<Result<Vec<_>, _>>();
    let sections = sections.map_err(|error| failed(error.into()))?;
    if sections.is_empty() {
        return Err(failed("it has no such section".into()));
    }
    Ok(sections)
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
    if secret && let Some(mode) = loose_mode(&file).map_err(failed)? {
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
