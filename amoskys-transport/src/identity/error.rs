use std::path::PathBuf;

use amoskys_core::{BoxError, Remedy};

/// Why a certificate names nobody.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// It is no certificate that is understood.
    #[error("this is no X.509 certificate that is understood; make it anew")]
    Certificate {
        /// The cause.
        source: BoxError,
    },
    /// It says nothing about Amoskys.
    #[error(
        "the certificate names no identity; make one whose subject alternative names hold one URI of the form amoskys://ROLE/NAME"
    )]
    Missing,
    /// It names several identities.
    #[error("the certificate names {count} identities; make one that holds a single URI amoskys://ROLE/NAME")]
    Several {
        /// How many.
        count: usize,
    },
    /// The URI has another form.
    #[error("the identity {uri:?} is not understood: {reason}")]
    Form {
        /// The URI, cut off if it is long.
        uri: String,
        /// What is wrong, and what to write instead.
        reason: String,
    },
}

/// Why certificates and keys cannot be used for TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// There is no such file.
    #[error("{path} does not exist; put it there, or correct the directory or the name", path = path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file cannot be read.
    #[error("{path} cannot be read; check its owner and mode, and those of the directories above", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Others than the owner may read or write the secret key.
    #[error("{path} has mode {mode:04o}, so that others can use the secret key; make it 0600, and consider the key known to others", path = path.display())]
    LooseMode {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file holds something else.
    #[error("{path} holds no {wanted} in PEM form; put the right file there", path = path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        wanted: &'static str,
        /// What is wrong with it.
        source: BoxError,
    },
    /// A certificate in the file cannot be used.
    #[error("certificate {number} in {path} cannot be used; replace it", path = path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Which one, from 1.
        number: usize,
        /// What is wrong with it.
        source: BoxError,
    },
    /// The own certificate names nobody.
    #[error("{path} says not who this process is", path = path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: IdentityError,
    },
    /// The secret key is of a kind that is not supported.
    #[error("the key in {path} is of a kind that is not supported; use ECDSA (P-256 or P-384), Ed25519 or RSA", path = path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: BoxError,
    },
    /// The key is not that of the certificate.
    #[error("{key} is not the key of {certificate}; put the two that were made together there", key = key.display(), certificate = certificate.display())]
    Mismatch {
        /// File of the certificate.
        certificate: PathBuf,
        /// File of the key.
        key: PathBuf,
    },
    /// A certificate revocation list in the file cannot be used.
    #[error("certificate revocation list {number} in {path} cannot be used; replace the file by what the authority issued", path = path.display())]
    Crl {
        /// The file.
        path: PathBuf,
        /// Which one, from 1.
        number: usize,
        /// What is wrong with it.
        source: BoxError,
    },
    /// The settings cannot be made from the files, though each can be used.
    #[error("no TLS settings can be made with {certificate} and {ca}; make the certificates anew", certificate = certificate.display(), ca = ca.display())]
    Settings {
        /// File of the own certificate.
        certificate: PathBuf,
        /// File of the certificate authorities.
        ca: PathBuf,
        /// The cause.
        source: BoxError,
    },
}

impl TlsError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        Remedy::Fatal
    }
}
