use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use amoskys_core::{BoxError, Name};
use rcgen::KeyPair;

use super::authority::{Authority, Request};
use super::error::PkiError;
use crate::check::Problem;
use crate::check::certificates::{self, Wanted};
use crate::identity::files::read;
use crate::identity::{Credentials, Identity, Role, TlsError, TlsFiles};
use crate::key::{replace_file, write_new};
use crate::{FileSigner, Signer, TrustMap, spelling};

/// All the files of a site in one directory: authority, certificates, signing keys, trust map.
///
/// ```text
/// DIR/ca.pem     certificate of the authority       for everybody
/// DIR/ca.key     its secret key, mode 0600          for nobody; keep it in a safe place
/// DIR/NAME.pem   certificate                        for NAME
/// DIR/NAME.key   its secret key, mode 0600          for NAME alone
/// DIR/NAME.sign  Ed25519 signing key, mode 0600     for NAME alone
/// DIR/NAME.pub   its public key                     for NAME and verifiers
/// DIR/trust      trust map: whose key is whose      for the bus and all who read records
/// ```
///
/// In file names, names are percent-encoded as in certificates. [`Credentials::in_dir`] finds the files of one
/// process.
///
/// ```
/// use amoskys_transport::identity::pki::Site;
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("site");
/// let site = Site::new(&path).bus("bus").host("localhost").agent("gateway-3");
/// let done = site.make()?;
/// assert!(done.made.contains(&path.join("gateway-3.pem")));
/// assert!(site.make()?.made.is_empty()); // everything is there
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Site {
    pub(super) dir: PathBuf,
    members: Vec<Identity>,
    hosts: Vec<String>,
    lifetime: Duration,
    force: bool,
    gateway: bool,
}

/// What [`Site::make`] did.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Done {
    /// Files that were made, or replaced if that was allowed.
    pub made: Vec<PathBuf>,
    /// Files that were there, and are as they were.
    pub kept: Vec<PathBuf>,
    /// Names that got a line in a trust map that was there.
    pub trusted: Vec<Name>,
    /// What is wrong with certificates that were there.
    pub problems: Vec<Problem>,
}

const DAY: Duration = Duration::from_secs(86_400);
/// The authority outlives the certificates, so that they can be renewed one by one.
pub(super) const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);
pub(super) const CA: &str = "ca";

impl Site {
    /// The site whose files are in this directory, without members yet. Certificates are valid for 365 days.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            members: Vec::new(),
            hosts: Vec::new(),
            lifetime: 365 * DAY,
            force: false,
            gateway: false,
        }
    }

    /// Adds a bus. It needs at least one [host](Self::host).
    pub fn bus(self, name: impl Into<Name>) -> Self {
        self.member(Role::Bus, name.into())
    }

    /// Whether the bus serves agents of the predecessor too. Default no. The trust map then has a line for the stream that it
    /// seals for them, `NAME-gateway`.
    pub fn gateway(mut self, gateway: bool) -> Self {
        self.gateway = gateway;
        self
    }

    /// Adds a host name or address at which the bus is reached.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.hosts.push(host.into());
        self
    }

    /// Adds an agent.
    pub fn agent(self, name: impl Into<Name>) -> Self {
        self.member(Role::Agent, name.into())
    }

    /// Adds an analyzer.
    pub fn analyzer(self, name: impl Into<Name>) -> Self {
        self.member(Role::Analyzer, name.into())
    }

    /// Sets how long certificates are valid. A new authority is valid for ten years, or as long as they if that is
    /// longer.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Whether to make everything anew that is there: the authority, and certificates, keys and trust map of the
    /// members named. Default no. Certificates of others are then no longer believed, their keys no longer trusted.
    pub fn force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// Makes what is missing, and leaves alone what is there. It may be repeated, also after it was interrupted.
    ///
    /// To renew a certificate for the same key, remove it and make it again.
    ///
    /// # Errors
    ///
    /// If names or hosts cannot be used, what is there cannot be used, or files cannot be written. What was made
    /// before the error stays.
    pub fn make(&self) -> Result<Done, PkiError> {
        self.check_names()?;
        let created = DirBuilder::new().recursive(true).mode(0o700).create(&self.dir);
        created.map_err(|source| io_error(&self.dir, "created", source))?;
        let mut making = Making {
            site: self,
            done: Done::default(),
        };
        let authority = making.authority()?;
        let mut trust = TrustMap::new();
        for member in &self.members {
            making.certificate(authority.as_ref(), member)?;
            let key = making.signing_key(member)?.public_key();
            trust.insert(member.name.clone(), key);
            if self.gateway && member.role == Role::Bus {
                trust.insert(spelling::gateway_of(&member.name), key);
            }
        }
        making.trust(&trust)?;
        Ok(making.done)
    }

    fn member(mut self, role: Role, name: Name) -> Self {
        self.members.push(Identity { role, name });
        self
    }

    fn check_names(&self) -> Result<(), PkiError> {
        if self.members.is_empty() {
            return Err(PkiError::Nobody);
        }
        let mut seen = BTreeSet::new();
        for member in &self.members {
            let name = member.name.as_str();
            let wrong = |reason: &str| PkiError::Name {
                name: name.to_owned(),
                reason: reason.to_owned(),
            };
            spelling::check(name).map_err(|reason| wrong(&reason))?;
            if name == CA {
                return Err(wrong("its files would be those of the certificate authority"));
            }
            if !seen.insert(name) {
                return Err(wrong("it is given twice; each member needs a name of its own"));
            }
        }
        Ok(())
    }
}

struct Making<'a> {
    site: &'a Site,
    done: Done,
}

impl Making<'_> {
    /// The authority, made if there is none; `None` if its key is elsewhere.
    fn authority(&mut self) -> Result<Option<Authority>, PkiError> {
        let files = TlsFiles::in_dir(&self.site.dir, CA);
        let (certificate, key) = (files.ca_file(), files.key_file());
        let lifetime = self.site.lifetime.max(AUTHORITY_LIFETIME);
        let (has_certificate, has_key) = (self.is_there(certificate), self.is_there(key));
        if !has_certificate {
            // The key is written first, so a key alone was left by an interruption, or has lost its certificate.
            let authority = match has_key {
                true => Authority::with_key(read_key(key)?, lifetime)?,
                false => Authority::create(lifetime)?,
            };
            match has_key {
                true => self.done.kept.push(key.to_owned()),
                false => self.write(key, &authority.key_pem(), 0o600)?,
            }
            self.write(certificate, &authority.certificate_pem(), 0o644)?;
            return Ok(Some(authority));
        }
        self.done.kept.push(certificate.to_owned());
        if !has_key {
            return Ok(None);
        }
        self.done.kept.push(key.to_owned());
        match Authority::of(&files.authorities()?, read_key(key)?)? {
            Some(authority) => Ok(Some(authority)),
            None => Err(PkiError::Present {
                source: TlsError::Mismatch {
                    certificate: certificate.to_owned(),
                    key: key.to_owned(),
                },
            }),
        }
    }

    fn certificate(&mut self, authority: Option<&Authority>, member: &Identity) -> Result<(), PkiError> {
        let files = TlsFiles::in_dir(&self.site.dir, member.name.as_str());
        let (certificate, key) = (files.certificate_file(), files.key_file());
        let (has_certificate, has_key) = (self.is_there(certificate), self.is_there(key));
        let hosts: &[String] = match member.role {
            Role::Bus => &self.site.hosts,
            _ => &[],
        };
        if has_certificate && !has_key {
            return Err(PkiError::Incomplete {
                missing: key.to_owned(),
                present: certificate.to_owned(),
            });
        }
        if has_certificate {
            let wanted = Wanted {
                identity: member,
                hosts,
                now: SystemTime::now(),
                soon: 30 * DAY,
            };
            let found = certificates::check(&files, &wanted);
            // What is wrong with the authority concerns all, and is said once.
            let new = found
                .into_iter()
                .filter(|problem| !self.done.problems.contains(problem));
            let new: Vec<_> = new.collect();
            self.done.problems.extend(new);
            self.done.kept.extend([certificate.to_owned(), key.to_owned()]);
            return Ok(());
        }
        let ca = TlsFiles::in_dir(&self.site.dir, CA);
        let authority = authority.ok_or_else(|| PkiError::NoAuthorityKey {
            key: ca.key_file().to_owned(),
        })?;
        if authority.validity().left(SystemTime::now()).is_none() {
            return Err(PkiError::AuthorityExpired {
                certificate: ca.ca_file().to_owned(),
            });
        }
        if member.role == Role::Bus && hosts.is_empty() {
            return Err(PkiError::NoHost {
                bus: member.name.to_string(),
            });
        }
        let request = Request::new(member.clone(), self.site.lifetime);
        let mut request = hosts
            .iter()
            .fold(request, |request, host| request.host(host.as_str()));
        if has_key {
            request = request.key_pem(read_key(key)?.serialize_pem());
        }
        let issued = authority.issue(&request)?;
        match has_key {
            true => self.done.kept.push(key.to_owned()),
            false => self.write(key, &issued.key_pem, 0o600)?,
        }
        self.write(certificate, &issued.certificate_pem, 0o644)
    }

    fn signing_key(&mut self, member: &Identity) -> Result<FileSigner, PkiError> {
        let secret = Credentials::in_dir(&self.site.dir, member.name.as_str()).signing_key;
        let public = FileSigner::public_path(&secret);
        if self.site.force {
            for path in [&public, &secret] {
                match std::fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(io_error(path, "removed", error));
                    }
                    _ => {}
                }
            }
        }
        let list = match self.is_there(&secret) {
            true => &mut self.done.kept,
            false => &mut self.done.made,
        };
        let signer = FileSigner::open_or_create(&secret)?;
        list.extend([secret, public]);
        Ok(signer)
    }

    fn trust(&mut self, trust: &TrustMap) -> Result<(), PkiError> {
        let path = Credentials::in_dir(&self.site.dir, CA).trust;
        if self.is_there(&path) {
            self.done.trusted = trust.add_to(&path)?;
            self.done.kept.push(path);
        } else {
            trust.save(&path)?;
            self.done.made.push(path);
        }
        Ok(())
    }

    /// Whether there is a file that shall stay.
    fn is_there(&self, path: &Path) -> bool {
        // A link that leads nowhere is there as well.
        !self.site.force && path.symlink_metadata().is_ok()
    }

    fn write(&mut self, path: &Path, content: &str, mode: u32) -> Result<(), PkiError> {
        let write = if self.site.force { replace_file } else { write_new };
        write(path, content.as_bytes(), mode).map_err(|source| io_error(path, "written", source))?;
        self.done.made.push(path.to_owned());
        Ok(())
    }
}

pub(super) fn read_key(path: &Path) -> Result<KeyPair, PkiError> {
    let unusable = |source: BoxError| TlsError::Content {
        path: path.to_owned(),
        wanted: "secret key",
        source,
    };
    let pem = String::from_utf8(read(path, true)?).map_err(|error| unusable(error.into()))?;
    Ok(KeyPair::from_pem(&pem).map_err(|error| unusable(error.into()))?)
}

pub(super) fn io_error(path: &Path, action: &'static str, source: io::Error) -> PkiError {
    PkiError::Io {
        path: path.to_owned(),
        action,
        source,
    }
}
