#[cfg(feature = "bus")]
use std::path::Path;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::credentials::Credentials;
use super::error::TlsError;
use super::files::TlsFiles;
use super::material::Material;
use super::name::Identity;
use super::shared::SharedTls;
use crate::key::{SharedTrust, TrustError, TrustMap};
use crate::swap::Swap;

/// Takes new certificates, keys, CRLs and a new trust map into use while a process runs: all of them, or none.
///
/// Replace files by renaming a finished one, so that none is read half written. One that is found so changes nothing, as
/// does any other that cannot be used: what was in use stays in use, and the error says which file is wrong.
///
/// ```no_run
/// use amoskys_transport::bus::BusOptions;
/// use amoskys_transport::identity::{Credentials, Reloader};
///
/// let reloader = Reloader::open(&Credentials::in_dir("/etc/amoskys", "bus"))?;
/// let options = BusOptions::new("data", reloader.tls(), reloader.trust().clone());
/// // Later, for example when a signal came:
/// match reloader.reload() {
///     Ok(reloaded) => println!("{reloaded:?}"),
///     Err(error) => eprintln!("{error}; what was in use stays in use"),
/// }
/// # let _ = options;
/// # Ok::<(), amoskys_transport::identity::ReloadError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Reloader {
    files: TlsFiles,
    trust_file: Option<PathBuf>,
    tls: SharedTls,
    trust: SharedTrust,
    /// One at a time.
    turn: Arc<Mutex<()>>,
}

/// What was taken into use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reloaded {
    /// A certificate, a key, an authority or a CRL is another than before.
    pub tls: bool,
    /// The trust map is another than before.
    pub trust: bool,
}

/// Why nothing was taken into use. What was in use stays in use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// A certificate, a key or a CRL cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The trust map cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The new certificate is another's.
    #[error("{path} is the certificate of {found}, but this is {own}; put the right one there, or start the process anew", path = path.display())]
    Identity {
        /// File of the certificate.
        path: PathBuf,
        /// Who this process is.
        own: Identity,
        /// Whom the certificate names.
        found: Identity,
    },
    /// The new certificate has expired, or is not valid yet.
    #[error("the certificate in {path} is not valid now; put one there that is, or set the clock", path = path.display())]
    NotValidNow {
        /// File of the certificate.
        path: PathBuf,
    },
    /// The file of CRLs is gone, so that what was revoked would be believed again.
    #[error("{path} is gone, so that revoked certificates would be believed again; put it back, or an empty list of the authority", path = path.display())]
    CrlGone {
        /// The file.
        path: PathBuf,
    },
    /// The trust map is empty, so that everybody would be cut off.
    #[error("{path} holds no key any more, so that every agent would be cut off; put the trust map back", path = path.display())]
    NobodyTrusted {
        /// The file.
        path: PathBuf,
    },
}

impl Reloader {
    /// Reads certificates, key, CRLs and trust map. The signing key is left alone.
    ///
    /// # Errors
    ///
    /// If a file cannot be used.
    pub fn open(credentials: &Credentials) -> Result<Self, ReloadError> {
        let trust = TrustMap::load(&credentials.trust)?;
        let mut reloader = Self::open_tls(&credentials.tls)?;
        reloader.trust = SharedTrust::new(trust);
        reloader.trust_file = Some(credentials.trust.clone());
        Ok(reloader)
    }

    /// Reads certificates, key and CRLs, of a process that has no trust map.
    ///
    /// # Errors
    ///
    /// If a file cannot be used.
    pub fn open_tls(files: &TlsFiles) -> Result<Self, ReloadError> {
        Ok(Self {
            tls: SharedTls {
                material: Arc::new(Swap::new(Material::load(files)?)),
            },
            files: files.clone(),
            trust_file: None,
            trust: SharedTrust::default(),
            turn: Arc::default(),
        })
    }

    /// The certificates, for who connects or is connected to.
    #[must_use]
    pub fn tls(&self) -> &SharedTls {
        &self.tls
    }

    /// The trust map, for who checks records. Without a file of it, it trusts nobody.
    #[must_use]
    pub fn trust(&self) -> &SharedTrust {
        &self.trust
    }

    /// Reads all files, and takes them into use if all of them can be used. Blocks while it reads.
    ///
    /// # Errors
    ///
    /// If a file cannot be used, or would do what nobody can have meant. Then all stays as it was.
    pub fn reload(&self) -> Result<Reloaded, ReloadError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.tls.material.snapshot();
        let new = Material::load(&self.files)?;
        let path = || self.files.certificate_file().to_owned();
        if new.identity != old.identity {
            return Err(ReloadError::Identity {
                path: path(),
                own: old.identity.clone(),
                found: new.identity,
            });
        }
        if let (true, false, Some(crl)) = (old.has_crl, new.has_crl, self.files.crl_file()) {
            return Err(ReloadError::CrlGone { path: crl.to_owned() });
        }
        let is_new = new.digest != old.digest;
        // With one that has expired while it was in use, everything else can still be replaced.
        if new.validity != old.validity && !new.validity.holds(SystemTime::now()) {
            return Err(ReloadError::NotValidNow { path: path() });
        }
        let trust = self.new_trust()?;

        let reloaded = Reloaded {
            tls: is_new,
            trust: trust.is_some(),
        };
        if is_new {
            self.tls.material.replace(new);
        }
        if let Some(trust) = trust {
            self.trust.replace(trust);
        }
        Ok(reloaded)
    }

    /// The trust map in the file, if it is another.
    fn new_trust(&self) -> Result<Option<TrustMap>, ReloadError> {
        let Some(path) = &self.trust_file else {
            return Ok(None);
        };
        let new = TrustMap::load(path)?;
        let old = self.trust.snapshot();
        if new.is_empty() && !old.is_empty() {
            return Err(ReloadError::NobodyTrusted { path: path.clone() });
        }
        Ok((new != *old).then_some(new))
    }

    /// The files that are read.
    #[cfg(feature = "bus")]
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        let files = [
            self.files.ca_file(),
            self.files.certificate_file(),
            self.files.key_file(),
        ];
        let trust = self.trust_file.as_deref();
        files.into_iter().chain(self.files.crl_file()).chain(trust)
    }
}
