use std::fmt;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use amoskys_core::{Digest, Shutdown};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use super::scan::{Files, scan};
use super::{BaselineError, FileFacts, FileKind, FimConfig, ScanCounts};

/// The facts of all watched files at one time.
///
/// # The file
///
/// ```text
/// | "AMOSKFIM" 8 | version 1 | count 8 | count times an entry | signature of all before 64 |   little-endian
/// entry: | path length 4 | path | kind 1 | mode 4 | uid 4 | gid 4 | size 8 | modified 8 | hashed 1 | sha256 32 if so |
/// ```
///
/// Entries are in the order of their paths. The same files give the same bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Baseline {
    pub(super) files: Files,
}

/// A key that baselines are signed with: Ed25519 (RFC 8032).
pub struct BaselineKey(Ed25519KeyPair);

const MAGIC: &[u8; 9] = b"AMOSKFIM\x01";
const SIGNATURE_BYTES: usize = 64;

impl Baseline {
    /// Scans what is there now. Blocks, for as long as it takes to read all files.
    #[must_use]
    pub fn scan(config: &FimConfig) -> (Self, ScanCounts) {
        let (mut files, mut counts) = (Files::new(), ScanCounts::default());
        for path in &config.paths {
            scan(path, config, &Shutdown::new(), &mut files, &mut counts, |_| {});
        }
        (Self { files }, counts)
    }

    /// The files, in the order of their paths.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &FileFacts)> {
        self.files.iter().map(|(path, facts)| (path.as_path(), facts))
    }

    /// Writes a signed file. It takes the place of one that is there at once, or not at all.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn save(&self, path: &Path, key: &BaselineKey) -> Result<(), BaselineError> {
        let bytes = self.sign(key);
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let new = PathBuf::from(name);
        let write = || {
            let mut file = std::fs::File::create(&new)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            std::fs::rename(&new, path)
        };
        write().map_err(|source| BaselineError::File {
            path: path.to_owned(),
            source,
        })
    }

    /// Reads a file that was signed with the key that this is the public one of.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is not what was signed.
    pub fn load(path: &Path, public_key: &[u8; 32]) -> Result<Self, BaselineError> {
        let bytes = std::fs::read(path).map_err(|source| BaselineError::File {
            path: path.to_owned(),
            source,
        })?;
        Self::verify(&bytes, public_key)
    }

    /// The bytes of a signed file.
    #[must_use]
    pub fn sign(&self, key: &BaselineKey) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend((self.files.len() as u64).to_le_bytes());
        for (path, facts) in &self.files {
            let path = path.as_os_str().as_bytes();
            bytes.extend(u32::try_from(path.len()).unwrap_or(u32::MAX).to_le_bytes());
            bytes.extend(path);
            bytes.push(facts.kind as u8);
            for number in [facts.mode, facts.uid, facts.gid] {
                bytes.extend(number.to_le_bytes());
            }
            bytes.extend(facts.size.to_le_bytes());
            bytes.extend(facts.modified_ns.to_le_bytes());
            bytes.push(u8::from(facts.sha256.is_some()));
            if let Some(digest) = facts.sha256 {
                bytes.extend(digest.0);
            }
        }
        let signature = key.0.sign(&bytes);
        bytes.extend(signature.as_ref());
        bytes
    }

    /// Reads the bytes of a signed file. Nothing is decoded before the signature is known to fit.
    ///
    /// # Errors
    ///
    /// If the signature does not fit, or what was signed is no baseline.
    pub fn verify(bytes: &[u8], public_key: &[u8; 32]) -> Result<Self, BaselineError> {
        let end = bytes
            .len()
            .checked_sub(SIGNATURE_BYTES)
            .ok_or(BaselineError::Signature)?;
        let (signed, signature) = bytes.split_at(end);
        UnparsedPublicKey::new(&ED25519, public_key)
            .verify(signed, signature)
            .map_err(|_| BaselineError::Signature)?;
        decode(signed).ok_or(BaselineError::Form)
    }
}

fn decode(signed: &[u8]) -> Option<Baseline> {
    let mut rest = signed.strip_prefix(MAGIC)?;
    let count = u64::from_le_bytes(take(&mut rest)?);
    let mut files = Files::new();
    for _ in 0..count {
        let length = usize::try_from(u32::from_le_bytes(take(&mut rest)?)).ok()?;
        let (path, after) = rest.split_at_checked(length)?;
        rest = after;
        let [kind] = take(&mut rest)?;
        let kind = match kind {
            0 => FileKind::File,
            1 => FileKind::Directory,
            2 => FileKind::Link,
            3 => FileKind::Special,
            _ => return None,
        };
        let mut facts = FileFacts {
            kind,
            mode: u32::from_le_bytes(take(&mut rest)?),
            uid: u32::from_le_bytes(take(&mut rest)?),
            gid: u32::from_le_bytes(take(&mut rest)?),
            size: u64::from_le_bytes(take(&mut rest)?),
            modified_ns: i64::from_le_bytes(take(&mut rest)?),
            sha256: None,
        };
        facts.sha256 = match take(&mut rest)? {
            [0] => None,
            [1] => Some(Digest(take(&mut rest)?)),
            _ => return None,
        };
        let path = std::ffi::OsString::from_vec(path.to_vec());
        files.insert(path.into(), facts);
    }
    rest.is_empty().then_some(Baseline { files })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*taken)
}

impl BaselineKey {
    /// The key with this seed, 32 secret random bytes.
    ///
    /// # Errors
    ///
    /// If it cannot be used.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, BaselineError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed);
        pair.map(Self).map_err(|_| BaselineError::Key)
    }

    /// What is needed to check.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        let key = self.0.public_key().as_ref();
        // An Ed25519 key has 32 bytes, always.
        key.first_chunk().copied().unwrap_or_default()
    }
}

impl fmt::Debug for BaselineKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The secret half is for nobody's eyes.
        f.debug_struct("BaselineKey").finish_non_exhaustive()
    }
}
