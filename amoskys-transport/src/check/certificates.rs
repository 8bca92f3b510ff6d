//! Whether certificates can be used: present, whole, signed, current, of the right process.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use amoskys_core::error::Chain;
use rustls::crypto::ring;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage};
use x509_cert::der::DateTime;

use super::problem::{Problem, name_setting};
use crate::identity::{Identity, Role, TlsError, TlsFiles, Validity};

/// What the certificates of a process have to be.
pub(crate) struct Wanted<'a> {
    /// Whom they must name.
    pub(crate) identity: &'a Identity,
    /// The names under which others reach it.
    pub(crate) hosts: &'a [String],
    /// What the clock says.
    pub(crate) now: SystemTime,
    /// How long before its end a certificate is complained about.
    pub(crate) soon: Duration,
}

pub(crate) fn check(files: &TlsFiles, wanted: &Wanted<'_>) -> Vec<Problem> {
    let role = wanted.identity.role;
    let mut problems = Vec::new();
    let authorities = files
        .authorities()
        .map_err(|error| problems.push(unusable(&error, role)));
    for certificate in authorities.iter().flatten() {
        problems.extend(life(files.ca_file(), certificate, wanted));
    }
    let roots = authorities.ok().and_then(|_| {
        let roots = files
            .roots()
            .map_err(|error| problems.push(unusable(&error, role)));
        roots.ok()
    });

    let chain = match files.chain() {
        Ok(chain) => chain,
        Err(error) => {
            problems.push(unusable(&error, role));
            Vec::new()
        }
    };
    if let Some((own, intermediates)) = chain.split_first() {
        let path = files.certificate_file();
        let expired = life(path, own, wanted);
        let is_current = expired.is_none();
        problems.extend(expired);
        problems.extend(name(path, own, wanted));
        if let Some(roots) = roots {
            let chain = chain_of(own, intermediates, &roots, wanted);
            // An expired one has been complained about.
            problems.extend(chain.err().filter(|_| is_current).map(|reason| {
                let why = format!("{} does not vouch for it: {reason}", files.ca_file().display());
                Problem::error(
                    path.display(),
                    why,
                    "use a certificate and a CA file that belong together",
                )
            }));
        }
    }
    let provider = ring::default_provider();
    let key = match files.secret_key(&provider) {
        // The certificate's own errors have been said.
        Ok(_) if chain.is_empty() => Ok(()),
        Ok(_) => files.certified_key(&provider).map(|_| ()),
        Err(error) => Err(error),
    };
    problems.extend(key.err().map(|error| unusable(&error, role)));
    problems
}

/// Whether it has expired, will soon, or is not valid yet.
fn life(path: &Path, certificate: &CertificateDer<'_>, wanted: &Wanted<'_>) -> Option<Problem> {
    let what = path.display();
    let validity = match Validity::of_certificate(certificate) {
        Ok(validity) => validity,
        Err(error) => {
            return Some(Problem::error(
                what,
                Chain(&error).to_string(),
                "replace the file",
            ));
        }
    };
    if wanted.now < validity.not_before {
        let why = format!("it is not valid before {}", date(validity.not_before));
        return Some(Problem::error(what, why, "set the clock, or wait"));
    }
    match validity.left(wanted.now) {
        None => {
            let why = format!("it expired at {}", date(validity.not_after));
            Some(Problem::error(what, why, "issue a new one, or set the clock"))
        }
        Some(left) if left < wanted.soon => {
            let days = left.as_secs() / 86_400;
            let why = format!("it expires at {}, in {days} days", date(validity.not_after));
            Some(Problem::warning(what, why, "issue a new one before that"))
        }
        Some(_) => None,
    }
}

/// Whether it names the process, and where it is reached.
fn name(path: &Path, certificate: &CertificateDer<'_>, wanted: &Wanted<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let expected = wanted.identity;
    match Identity::of_certificate(certificate) {
        Err(error) => problems.push(Problem::error(
            path.display(),
            Chain(&error).to_string(),
            format!("issue one with the URI {}", expected.to_uri()),
        )),
        Ok(found) if found != *expected => problems.push(Problem::error(
            path.display(),
            format!("it is for {found}, but this is {expected}"),
            format!(
                "correct {}, or issue a certificate with the URI {}",
                name_setting(expected.role),
                expected.to_uri()
            ),
        )),
        Ok(_) => {}
    }
    for host in wanted.hosts {
        let named = ServerName::try_from(host.as_str()).is_ok_and(|host| {
            EndEntityCert::try_from(certificate)
                .is_ok_and(|certificate| certificate.verify_is_valid_for_subject_name(&host).is_ok())
        });
        if !named {
            problems.push(Problem::error(
                path.display(),
                format!("it is not for the host {host}"),
                "issue one that names every host by which the bus is reached",
            ));
        }
    }
    problems
}

fn chain_of(
    own: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &rustls::RootCertStore,
    wanted: &Wanted<'_>,
) -> Result<(), webpki::Error> {
    let algorithms = ring::default_provider().signature_verification_algorithms.all;
    let now = wanted.now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let usage = match wanted.identity.role {
        Role::Bus => KeyUsage::server_auth(),
        _ => KeyUsage::client_auth(),
    };
    let own = EndEntityCert::try_from(own)?;
    let now = UnixTime::since_unix_epoch(now);
    own.verify_for_usage(algorithms, &roots.roots, intermediates, now, usage, None, None)
        .map(|_| ())
}

fn unusable(error: &TlsError, role: Role) -> Problem {
    let caused = |why: &str, source: &dyn std::error::Error| format!("{why}: {source}");
    match error {
        TlsError::Missing { path, .. } => Problem::error(
            path.display(),
            "it does not exist",
            format!("put it there, or correct bus.cert_dir or {}", name_setting(role)),
        ),
        TlsError::Read { path, source } => Problem::error(
            path.display(),
            caused("it cannot be read", source),
            "check its owner and mode, and those of the directories above",
        ),
        TlsError::LooseMode { path, mode } => Problem::error(
            path.display(),
            format!("its mode is {mode:04o}, so that others can use the secret key"),
            "make it 0600, and consider the key known to others",
        ),
        TlsError::Content { path, wanted, source } => Problem::error(
            path.display(),
            caused(&format!("it holds no {wanted} in PEM form"), &**source),
            "put the right file there",
        ),
        TlsError::Mismatch { certificate, key } => Problem::error(
            key.display(),
            format!("it is not the key of {}", certificate.display()),
            "put the two that were made together there",
        ),
        TlsError::Key { path, source } => Problem::error(
            path.display(),
            caused("the key is of a kind that is not supported", &**source),
            "use ECDSA (P-256 or P-384), Ed25519 or RSA",
        ),
        TlsError::Certificate { path, number, source } => Problem::error(
            path.display(),
            caused(&format!("certificate {number} in it cannot be used"), &**source),
            "replace it",
        ),
        TlsError::Crl { path, number, source } => Problem::error(
            path.display(),
            caused(
                &format!("certificate revocation list {number} in it cannot be used"),
                &**source,
            ),
            "replace it by what the authority issued",
        ),
        TlsError::Identity { path, source } => Problem::error(
            path.display(),
            Chain(source).to_string(),
            "issue a new certificate",
        ),
        TlsError::Settings { certificate, .. } => Problem::error(
            certificate.display(),
            Chain(error).to_string(),
            "make the certificates anew",
        ),
    }
}

/// A moment as people write it, in UTC.
pub(crate) fn date(time: SystemTime) -> String {
    DateTime::from_system_time(time)
        .map_or_else(|_| "a time out of range".to_owned(), |date| date.to_string())
}
