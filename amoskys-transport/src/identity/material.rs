use std::fmt;
use std::sync::Arc;

use ring::digest::{Context, SHA256};
#[cfg(feature = "bus")]
use rustls::client::danger::ServerCertVerifier as _;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::ring as provider;
#[cfg(feature = "bus")]
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
#[cfg(feature = "bus")]
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::crl;
use super::error::TlsError;
use super::files::{TlsFiles, parse_certificates, parse_crls, read};
use super::name::Identity;
use super::validity::Validity;

/// What the files of a process hold, read together, and the settings made of it.
pub(crate) struct Material {
    pub(crate) identity: Identity,
    pub(crate) validity: Validity,
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) client: Arc<ClientConfig>,
    /// Whether there was a file of CRLs.
    pub(crate) has_crl: bool,
    /// Of the contents of the files.
    pub(crate) digest: [u8; 32],
    #[cfg(feature = "bus")]
    clients: Arc<dyn ClientCertVerifier>,
    #[cfg(feature = "bus")]
    servers: Arc<WebPkiServerVerifier>,
}

impl Material {
    /// Reads each file once.
    pub(crate) fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let unusable = |error: rustls::Error| files.unusable(error);
        let provider = Arc::new(provider::default_provider());
        let mut context = Context::new(&SHA256);
        let mut note = |content: &[u8]| {
            context.update(&(content.len() as u64).to_le_bytes());
            context.update(content);
        };

        let content = read(files.certificate_file(), false)?;
        note(&content);
        let chain = parse_certificates(files.certificate_file(), &content)?;
        let identity = Identity::of_certificate(&chain[0]).map_err(|source| TlsError::Identity {
            path: files.certificate_file().to_owned(),
            source,
        })?;
        let validity = Validity::of_certificate(&chain[0]).map_err(|source| TlsError::Certificate {
            path: files.certificate_file().to_owned(),
            number: 1,
            source: source.into(),
        })?;
        let content = read(files.key_file(), true)?;
        note(&content);
        let own = files.pair(chain, files.parse_key(&content, &provider)?)?;
        let own = Arc::new(SingleCertAndKey::from(own));

        let content = read(files.ca_file(), false)?;
        note(&content);
        let authorities = parse_certificates(files.ca_file(), &content)?;
        let roots = Arc::new(files.roots_of(&authorities)?);
        let mut lists = None;
        if let Some(path) = files.crl_file() {
            lists = match read(path, false) {
                Ok(content) => {
                    note(&content);
                    let lists = parse_crls(path, &content)?;
                    crl::check(path, &lists, &authorities, &provider)?;
                    Some(lists)
                }
                Err(TlsError::Missing { .. }) => None,
                Err(error) => return Err(error),
            };
        }
        let has_crl = lists.is_some();
        let lists = lists.unwrap_or_default();

        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .with_crls(lists.clone())
            .allow_unknown_revocation_status()
            .build()
            .map_err(|error| files.unusable(error))?;
        let servers = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
            .with_crls(lists)
            .allow_unknown_revocation_status()
            .build()
            .map_err(|error| files.unusable(error))?;
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(unusable)?
            .with_client_cert_verifier(clients.clone())
            .with_cert_resolver(own.clone());
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(unusable)?
            .with_webpki_verifier(servers.clone())
            .with_client_cert_resolver(own);
        client.resumption = Resumption::disabled();
        let digest = context.finish();
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Ok(Self {
            identity,
            validity,
            server: Arc::new(server),
            client: Arc::new(client),
            has_crl,
            digest: bytes,
            #[cfg(feature = "bus")]
            clients,
            #[cfg(feature = "bus")]
            servers,
        })
    }

    /// Whether a client that showed these certificates at this time may go on.
    #[cfg(feature = "bus")]
    pub(crate) fn check_client(
        &self,
        chain: &[CertificateDer<'_>],
        at: UnixTime,
    ) -> Result<(), rustls::Error> {
        let (own, others) = chain
            .split_first()
            .ok_or(rustls::Error::NoCertificatesPresented)?;
        self.clients.verify_client_cert(own, others, at).map(|_| ())
    }

    /// Whether a server that showed these certificates at this time may go on.
    #[cfg(feature = "bus")]
    pub(crate) fn check_server(
        &self,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        at: UnixTime,
    ) -> Result<(), rustls::Error> {
        let (own, others) = chain
            .split_first()
            .ok_or(rustls::Error::NoCertificatesPresented)?;
        let verified = self.servers.verify_server_cert(own, others, name, &[], at);
        verified.map(|_| ())
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material")
            .field("identity", &self.identity)
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}
