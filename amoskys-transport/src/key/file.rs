use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use amoskys_core::BoxError;
use pem_rfc7468::LineEnding;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::secret_file::read_secret;
use super::{KeyError, PublicKey, Signer};

/// A signing key in a file.
///
/// The file is PKCS#8 (PEM or DER) or 32 raw bytes, and must belong to its owner alone (no permission for group
/// and others). Keys made here are PEM, mode 0600, with the public key beside them in a file that ends in `.pub`.
pub struct FileSigner {
    pair: Ed25519KeyPair,
    public: PublicKey,
    path: PathBuf,
}

const PEM_LABEL: &str = "PRIVATE KEY";
/// What a PKCS#8 key (RFC 8410) has before the 32 bytes of an Ed25519 seed.
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// No key in any of the forms is longer.
const MAX_FILE: u64 = 4 << 10;

impl FileSigner {
    /// Reads a key.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is open to others, or holds no Ed25519 key; or if the public key beside it
    /// is not its own.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        let signer = Self::read(path.as_ref())?;
        if !signer.check_public()? {
            signer.write_public()?;
        }
        Ok(signer)
    }

    /// Whether the key could be opened. Writes nothing.
    pub(crate) fn check(path: &Path) -> Result<(), KeyError> {
        Self::inspect(path).map(|_| ())
    }

    /// The public key of a key that could be opened. Writes nothing.
    pub(crate) fn inspect(path: &Path) -> Result<PublicKey, KeyError> {
        let signer = Self::read(path)?;
        signer.check_public()?;
        Ok(signer.public)
    }

    fn read(path: &Path) -> Result<Self, KeyError> {
        let content = read_secret(path, MAX_FILE)?;
        let pair = parse_secret(&content).map_err(|reason| KeyError::Format {
            what: path.display().to_string(),
            reason,
        })?;
        Self::from_pair(pair, path)
    }

    /// Draws a new key and writes it. The file appears whole or not at all.
    ///
    /// # Errors
    ///
    /// [`KeyError::Exists`] if there is a file of that name; otherwise if the files cannot be written.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        let path = path.as_ref();
        let mut seed = [0; 32];
        SystemRandom::new()
            .fill(&mut seed)
            .map_err(|error| KeyError::Random { source: error.into() })?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed);
        let pair = pair.map_err(|error| KeyError::Random { source: error.into() })?;
        let signer = Self::from_pair(pair, path)?;
        let pem = secret_pem(&seed);
        match write_new(path, pem.as_bytes(), 0o600) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(KeyError::Exists {
                    path: path.to_owned(),
                });
            }
            result => result.map_err(|source| KeyError::Io {
                path: path.to_owned(),
                action: "written",
                source,
            })?,
        }
        signer.write_public()?;
        Ok(signer)
    }

    /// Reads the key, or draws one if there is no file.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open) and [`create`](Self::create).
    pub fn open_or_create(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        match Self::open(&path) {
            Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Self::create(path)
            }
            result => result,
        }
    }

    /// Reads a key that is to take the place of the one in `path`: from the file of that name and `.next`. Writes
    /// nothing. `None` if there is no such file.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub(crate) fn next(path: &Path) -> Result<Option<Self>, KeyError> {
        match Self::read(&next_path(path)) {
            Ok(signer) => Ok(Some(signer)),
            Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts the key in the `.next` file in the place of the one in `path`, which is gone then. Whatever it is interrupted
    /// by, one of the two keys is in `path`, and fits the public key beside it if there is one.
    ///
    /// # Errors
    ///
    /// If the files cannot be written.
    pub(crate) fn switch(path: &Path) -> Result<(), KeyError> {
        let next = next_path(path);
        let failed = |path: &Path, action: &'static str| {
            let path = path.to_owned();
            move |source| KeyError::Io { path, action, source }
        };
        let dir = path
            .parent()
            .filter(|dir| !dir.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let sync = || {
            File::open(dir)
                .and_then(|dir| dir.sync_all())
                .map_err(failed(dir, "synced"))
        };
        for public in [Self::public_path(path), Self::public_path(&next)] {
            match std::fs::remove_file(&public) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(&public, "removed")(error));
                }
                _ => {}
            }
        }
        sync()?;
        std::fs::rename(&next, path).map_err(failed(&next, "renamed"))?;
        sync()?;
        // Writes the public key.
        Self::open(path).map(drop)
    }

    /// Where a key is put that is to take the place of another: beside it, under the same name and `.next`.
    #[must_use]
    pub fn next_path(secret: &Path) -> PathBuf {
        next_path(secret)
    }

    /// The file it was read from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the public key of a secret key is kept.
    #[must_use]
    pub fn public_path(secret: &Path) -> PathBuf {
        secret.with_extension("pub")
    }

    fn from_pair(pair: Ed25519KeyPair, path: &Path) -> Result<Self, KeyError> {
        let public = <[u8; 32]>::try_from(pair.public_key().as_ref()).map_err(|_| KeyError::Format {
            what: path.display().to_string(),
            reason: "its public key has not 32 bytes".to_owned(),
        })?;
        Ok(Self {
            pair,
            public: PublicKey::from_bytes(public),
            path: path.to_owned(),
        })
    }

    /// Whether the public key is beside it. The secret key has no checksum; the public key shows whether it is
    /// still the same.
    fn check_public(&self) -> Result<bool, KeyError> {
        let path = Self::public_path(&self.path);
        match std::fs::read(&path) {
            Ok(content) if PublicKey::parse(&content).is_ok_and(|public| public == self.public) => Ok(true),
            Ok(_) => Err(KeyError::Mismatch {
                secret: self.path.clone(),
                public: path,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(KeyError::Io {
                path,
                action: "read",
                source,
            }),
        }
    }

    fn write_public(&self) -> Result<(), KeyError> {
        let path = Self::public_path(&self.path);
        match write_new(&path, self.public.to_pem().as_bytes(), 0o644) {
            // Someone else may keep keys where nothing can be written, and may have no use for it.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result.map_err(|source| KeyError::Io {
                path,
                action: "written",
                source,
            }),
        }
    }
}

impl Signer for FileSigner {
    fn public_key(&self) -> PublicKey {
        self.public
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], BoxError> {
        Ok(self.pair.sign(message).as_ref().try_into()?)
    }
}

impl fmt::Debug for FileSigner {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSigner")
            .field("path", &self.path)
            .field("key", &self.public.id())
            .finish_non_exhaustive()
    }
}

fn next_path(secret: &Path) -> PathBuf {
    let mut name = secret.as_os_str().to_owned();
    name.push(".next");
    name.into()
}

/// What the file of a key made here holds.
pub(crate) fn secret_pem(seed: &[u8; 32]) -> String {
    let der = [&PKCS8_PREFIX[..], seed].concat();
    // Fails only for labels and lengths that this is not.
    pem_rfc7468::encode_string(PEM_LABEL, LineEnding::LF, &der).unwrap_or_default()
}

/// Whether a key file is exactly as it would be written: of a PEM file, also its line breaks.
pub(crate) fn is_canonical_secret(content: &[u8]) -> bool {
    if !content.starts_with(b"-----") {
        return true;
    }
    match pem_rfc7468::decode_vec(content) {
        Ok((label, der)) => {
            pem_rfc7468::encode_string(label, LineEnding::LF, &der).is_ok_and(|pem| pem.as_bytes() == content)
        }
        Err(_) => false,
    }
}

fn parse_secret(content: &[u8]) -> Result<Ed25519KeyPair, String> {
    if content.len() == 32 {
        return Ed25519KeyPair::from_seed_unchecked(content).map_err(|error| error.to_string());
    }
    let decoded;
    let der = if content.starts_with(b"-----") {
        let (label, der) = pem_rfc7468::decode_vec(content).map_err(|error| error.to_string())?;
        if label != PEM_LABEL {
            return Err(format!("the PEM block is \"{label}\", not \"{PEM_LABEL}\""));
        }
        decoded = der;
        &decoded
    } else {
        content
    };
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|error| error.to_string())
}

/// Writes a file that must not exist: whole or not at all, durable when this returns.
pub(crate) fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let dir = path
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = dir.join(name);
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()?;
            // Unlike a rename, a link does not replace what is there.
            std::fs::hard_link(&temporary, path)
        });
    let _ = std::fs::remove_file(&temporary);
    written?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn creates_once_and_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.key");
        let created = FileSigner::open_or_create(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        let opened = FileSigner::open_or_create(&path).unwrap();
        assert_eq!(created.public_key(), opened.public_key());
        assert!(matches!(FileSigner::create(&path), Err(KeyError::Exists { .. })));
        let signature = created.sign(b"message").unwrap();
        assert!(opened.public_key().verify(b"message", &signature));
        assert!(!opened.public_key().verify(b"messagf", &signature));
        let public = std::fs::read(dir.path().join("agent.pub")).unwrap();
        assert_eq!(PublicKey::parse(&public).unwrap(), created.public_key());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn refuses_a_key_that_others_can_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.key");
        FileSigner::create(&path).unwrap();
        for loose in [0o640, 0o604, 0o620, 0o610] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(loose)).unwrap();
            let error = FileSigner::open(&path).unwrap_err();
            assert!(
                matches!(error, KeyError::LooseMode { mode, .. } if mode == loose),
                "{error}"
            );
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        FileSigner::open(&path).unwrap();
    }

    #[test]
    fn refuses_a_secret_that_does_not_fit_its_public_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.key");
        FileSigner::create(&path).unwrap();
        std::fs::write(&path, [7; 32]).unwrap();
        assert!(matches!(FileSigner::open(&path), Err(KeyError::Mismatch { .. })));
        std::fs::remove_file(dir.path().join("agent.pub")).unwrap();
        FileSigner::open(&path).unwrap();
    }

    #[test]
    fn reads_raw_der_and_pem() {
        let dir = tempfile::tempdir().unwrap();
        let seed = [9; 32];
        let der = [&PKCS8_PREFIX[..], &seed].concat();
        let pem = secret_pem(&seed);
        let forms: [&[u8]; 3] = [&seed, &der, pem.as_bytes()];
        let keys = forms.map(|form| {
            let path = dir.path().join(format!("{}.key", form.len()));
            write_new(&path, form, 0o600).unwrap();
            FileSigner::open(&path).unwrap().public_key()
        });
        assert_eq!(keys[0], keys[1]);
        assert_eq!(keys[0], keys[2]);
        for wrong in [&b""[..], b"-----BEGIN PRIVATE KEY-----\n", &[0; 31], &[0x30; 48]] {
            assert!(parse_secret(wrong).is_err());
        }
    }
}
