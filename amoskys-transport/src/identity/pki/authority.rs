use std::fmt;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData,
    RevokedCertParams, SanType, SerialNumber,
};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::{CertificateDer, ServerName};
use x509_cert::der::{Decode, Encode};

use super::error::PkiError;
use crate::identity::{Identity, Role, Validity};
use crate::spelling;

/// A certificate authority that vouches for the identities of one site. Its key decides who is who.
///
/// ```
/// use std::time::Duration;
///
/// use amoskys_transport::identity::pki::{Authority, Request};
/// use amoskys_transport::identity::{Identity, Role};
///
/// let day = Duration::from_secs(86_400);
/// let authority = Authority::create(365 * day)?;
/// let bus = Identity { role: Role::Bus, name: "bus".into() };
/// let issued = authority.issue(&Request::new(bus, 90 * day).host("bus.example").host("192.0.2.7"))?;
/// assert!(issued.certificate_pem.starts_with("-----BEGIN CERTIFICATE"));
/// # Ok::<(), amoskys_transport::identity::pki::PkiError>(())
/// ```
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    validity: Validity,
}

/// What a certificate shall say.
#[derive(Clone, Debug)]
pub struct Request {
    identity: Identity,
    hosts: Vec<String>,
    validity: Validity,
    key_pem: Option<String>,
}

/// A certificate and its key.
#[derive(Clone)]
#[non_exhaustive]
pub struct Issued {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// Its secret key, PKCS#8 PEM.
    pub key_pem: String,
}

/// Clocks of machines that should accept a certificate at once may be behind by this much.
const SKEW: Duration = Duration::from_secs(60 * 60);
/// The longest common name (X.520).
const MAX_COMMON_NAME: usize = 64;

impl Authority {
    /// A new authority with a new key (ECDSA P-256), valid from an hour ago for so long from now on.
    ///
    /// # Errors
    ///
    /// If no key can be drawn.
    pub fn create(lifetime: Duration) -> Result<Self, PkiError> {
        Self::with_key(new_key()?, lifetime)
    }

    /// An authority with a key that is there.
    pub(super) fn with_key(key: KeyPair, lifetime: Duration) -> Result<Self, PkiError> {
        let validity = valid_for(lifetime);
        let mut params = CertificateParams::default();
        // Each key has a name of its own, so that several authorities can stand in one file.
        let hash = digest(&SHA256, &key.subject_public_key_info());
        let hash: String = hash.as_ref()[..4]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("Amoskys authority {hash}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_life(&mut params, validity)?;
        let certificate = params.self_signed(&key).map_err(failed("the authority"))?;
        Ok(Self {
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
            validity,
        })
    }

    /// The authority of a key, whose certificate is one of these; `None` if none of them is.
    pub(super) fn of(
        certificates: &[CertificateDer<'static>],
        key: KeyPair,
    ) -> Result<Option<Self>, PkiError> {
        let public = key.subject_public_key_info();
        let own = certificates.iter().find(|certificate| {
            x509_cert::Certificate::from_der(certificate)
                .and_then(|certificate| certificate.tbs_certificate.subject_public_key_info.to_der())
                .is_ok_and(|found| found == public)
        });
        let Some(own) = own else { return Ok(None) };
        let validity = Validity::of_certificate(own).map_err(failed("a certificate of this authority"))?;
        let issuer = Issuer::from_ca_cert_der(own, key).map_err(failed("a certificate of this authority"))?;
        Ok(Some(Self {
            issuer,
            certificate: own.clone(),
            validity,
        }))
    }

    /// Its certificate: what others need in order to believe it.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its certificate, PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        to_pem(&self.certificate)
    }

    /// Its secret key, PKCS#8 PEM.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// How long it can be used.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Issues a certificate. It never outlives the authority.
    ///
    /// A bus may answer connections and make them; agents and analyzers may only make them, so that none of them
    /// can pass for the bus.
    ///
    /// # Errors
    ///
    /// If a name or host cannot be used, or no key can be drawn.
    pub fn issue(&self, request: &Request) -> Result<Issued, PkiError> {
        let identity = &request.identity;
        let name = identity.name.as_str();
        spelling::check(name).map_err(|reason| PkiError::Name {
            name: name.to_owned(),
            reason,
        })?;
        let what = || format!("the certificate of {identity}");
        let key = match &request.key_pem {
            Some(pem) => KeyPair::from_pem(pem).map_err(failed(what()))?,
            None => new_key()?,
        };
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let common = name
            .char_indices()
            .take_while(|(at, c)| at + c.len_utf8() <= MAX_COMMON_NAME);
        let common: String = common.map(|(_, c)| c).collect();
        params.distinguished_name.push(DnType::CommonName, common);
        let uri = identity.to_uri().try_into().map_err(failed(what()))?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        for host in &request.hosts {
            params.subject_alt_names.push(host_name(host)?);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if identity.role == Role::Bus {
            params
                .extended_key_usages
                .push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.use_authority_key_identifier_extension = true;
        let validity = Validity {
            not_after: request.validity.not_after.min(self.validity.not_after),
            ..request.validity
        };
        set_life(&mut params, validity)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed(what()))?;
        Ok(Issued {
            certificate_pem: to_pem(certificate.der()),
            key_pem: key.serialize_pem(),
        })
    }

    /// A list (CRL, PEM) that says that these certificates, and no others, are revoked: all that were revoked and have
    /// not expired must be among them each time. The next list is said to come after `next`.
    ///
    /// # Errors
    ///
    /// If one is no certificate.
    pub fn revoke(&self, certificates: &[CertificateDer<'_>], next: Duration) -> Result<String, PkiError> {
        let what = "the list of revoked certificates";
        let now = SystemTime::now();
        let mut revoked_certs = Vec::new();
        for certificate in certificates {
            let certificate = x509_cert::Certificate::from_der(certificate).map_err(failed(what))?;
            revoked_certs.push(RevokedCertParams {
                serial_number: SerialNumber::from_slice(certificate.tbs_certificate.serial_number.as_bytes()),
                revocation_time: now.into(),
                reason_code: None,
                invalidity_date: None,
            });
        }
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let number = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        let params = CertificateRevocationListParams {
            this_update: now.into(),
            next_update: now
                .checked_add(next.clamp(Duration::from_secs(60), MAX_LIFETIME))
                .unwrap_or(now)
                .into(),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).map_err(failed(what))?;
        list.pem().map_err(failed(what))
    }
}

impl Request {
    /// A certificate for this identity, valid from an hour ago for so long from now on.
    #[must_use]
    pub fn new(identity: Identity, lifetime: Duration) -> Self {
        Self {
            identity,
            hosts: Vec::new(),
            validity: valid_for(lifetime),
            key_pem: None,
        }
    }

    /// Also names a host, by DNS name or address, at which the holder is reached.
    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.hosts.push(host.into());
        self
    }

    /// Sets from when to when it is valid, to the second.
    #[must_use]
    pub fn validity(mut self, validity: Validity) -> Self {
        self.validity = validity;
        self
    }

    /// For a key that is there (PKCS#8 PEM), to renew a certificate. Default: a new key, ECDSA P-256.
    #[must_use]
    pub fn key_pem(mut self, pem: impl Into<String>) -> Self {
        self.key_pem = Some(pem.into());
        self
    }
}

impl fmt::Debug for Authority {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Issued {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("certificate_pem", &self.certificate_pem)
            .finish_non_exhaustive()
    }
}

fn failed<E: std::error::Error + Send + Sync + 'static>(
    what: impl Into<String>,
) -> impl FnOnce(E) -> PkiError {
    let what = what.into();
    |error| PkiError::Make {
        what,
        source: error.into(),
    }
}

fn new_key() -> Result<KeyPair, PkiError> {
    KeyPair::generate().map_err(failed("a key"))
}

fn valid_for(lifetime: Duration) -> Validity {
    let now = SystemTime::now();
    Validity {
        not_before: now.checked_sub(SKEW).unwrap_or(now),
        // A lifetime without sense ends where dates do (RFC 5280, section 4.1.2.5.2).
        not_after: now.checked_add(lifetime.min(MAX_LIFETIME)).unwrap_or(now),
    }
}

const MAX_LIFETIME: Duration = Duration::from_secs(1000 * 365 * 86_400);

fn set_life(params: &mut CertificateParams, validity: Validity) -> Result<(), PkiError> {
    let mut serial = [0; 16];
    SystemRandom::new()
        .fill(&mut serial)
        .map_err(failed("a serial number"))?;
    // A serial number is positive, and of full length.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = validity.not_before.into();
    params.not_after = validity.not_after.into();
    Ok(())
}

fn host_name(host: &str) -> Result<SanType, PkiError> {
    let wrong = || PkiError::Host {
        host: host.to_owned(),
    };
    match ServerName::try_from(host).map_err(|_| wrong())? {
        ServerName::DnsName(name) => {
            let name = name.as_ref().to_owned();
            name.try_into().map(SanType::DnsName).map_err(|_| wrong())
        }
        ServerName::IpAddress(address) => Ok(SanType::IpAddress(std::net::IpAddr::from(address))),
        _ => Err(wrong()),
    }
}

fn to_pem(certificate: &CertificateDer<'_>) -> String {
    // Fails only for labels and lengths that this is not.
    pem_rfc7468::encode_string("CERTIFICATE", pem_rfc7468::LineEnding::LF, certificate).unwrap_or_default()
}
