use std::path::PathBuf;

use amoskys_core::{BoxError, Remedy};

use crate::identity::TlsError;
use crate::{KeyError, TrustError};

/// Why certificates and keys cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// Nobody is named to make certificates for.
    #[error("nobody is named to make certificates for; name a bus, an agent or an analyzer")]
    Nobody,
    /// A name cannot be used.
    #[error("the name {name:?} cannot be used: {reason}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate of a bus must say where it is reached.
    #[error("no host is named for the bus {bus}; name every host name and address by which others reach it")]
    NoHost {
        /// The bus.
        bus: String,
    },
    /// It is neither a DNS name nor an address.
    #[error(
        "the host {host:?} is neither a DNS name nor an IP address; leave out the port and anything else around it"
    )]
    Host {
        /// What was given.
        host: String,
    },
    /// One of two files that belong together is missing.
    #[error("{missing} is missing, though {present} is there; put it back, or remove {present} to have both made anew", missing = missing.display(), present = present.display())]
    Incomplete {
        /// The file that is missing.
        missing: PathBuf,
        /// The file that is there.
        present: PathBuf,
    },
    /// The key of the certificate authority is needed to issue certificates.
    #[error("{key} is needed to issue certificates, and is missing; bring it back for as long as this takes", key = key.display())]
    NoAuthorityKey {
        /// File of the key.
        key: PathBuf,
    },
    /// The authority's certificate can no longer vouch for anything.
    #[error("{certificate} has expired; a new certificate authority is needed", certificate = certificate.display())]
    AuthorityExpired {
        /// File of the certificate.
        certificate: PathBuf,
    },
    /// The files cannot be read or written.
    #[error("{path} cannot be {action}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The cause.
        source: std::io::Error,
    },
    /// A certificate cannot be made.
    #[error("{what} cannot be made")]
    Make {
        /// Which one.
        what: String,
        /// The cause.
        source: BoxError,
    },
    /// A certificate or key that is there cannot be used.
    #[error("what is there cannot be used")]
    Present {
        /// Which, and why.
        #[from]
        source: TlsError,
    },
    /// A signing key cannot be read or made.
    #[error("a signing key cannot be had")]
    SigningKey {
        /// Which, and why.
        #[from]
        source: KeyError,
    },
    /// The trust map cannot be read or written.
    #[error("the keys cannot be entered into the trust map")]
    Trust {
        /// Why.
        #[from]
        source: TrustError,
    },
}

impl PkiError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        Remedy::Fatal
    }
}
