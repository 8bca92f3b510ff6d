//! The keys a log is encrypted with.

use std::fmt;
use std::path::{Path, PathBuf};

use amoskys_core::BoxError;
use ring::digest::{Context, SHA256};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::key::{KeyError, read_secret, write_new};

/// Names a [`LogKey`], and tells nothing about it: the first 8 bytes of a SHA-256 of the key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogKeyId(pub [u8; 8]);

impl fmt::Display for LogKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for LogKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A key that a log is encrypted with: 32 secret random bytes, overwritten in memory when it is dropped.
#[derive(Clone)]
pub struct LogKey {
    id: LogKeyId,
    secret: Zeroizing<[u8; 32]>,
}

impl LogKey {
    /// The key with these bytes. They must be random, and be used for nothing else.
    #[must_use]
    pub fn from_bytes(secret: [u8; 32]) -> Self {
        let secret = Zeroizing::new(secret);
        let mut hash = Context::new(&SHA256);
        hash.update(b"amoskys log key id\n");
        hash.update(&secret[..]);
        let mut id = [0; 8];
        id.copy_from_slice(&hash.finish().as_ref()[..8]);
        Self {
            id: LogKeyId(id),
            secret,
        }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> LogKeyId {
        self.id
    }

    pub(super) fn secret(&self) -> &[u8] {
        &self.secret[..]
    }
}

impl fmt::Debug for LogKey {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogKey").field(&self.id).finish()
    }
}

/// Has the keys a log is encrypted with: a file ([`FileLogKeys`]), or an embedder's vault.
pub trait LogKeys: Send + Sync {
    /// The key that is to be used from now on. Asked for each time a segment is begun, so that a new key comes into use
    /// without opening the log anew.
    ///
    /// # Errors
    ///
    /// If it cannot be had. The log then takes no more records than fit into the segment that is being filled.
    fn current(&self) -> Result<LogKey, BoxError>;

    /// The key of this name, also one that is not used any more. `None` if there is none.
    ///
    /// # Errors
    ///
    /// If that cannot be told.
    fn by_id(&self, id: LogKeyId) -> Result<Option<LogKey>, BoxError>;
}

/// Keys in a file: a line of 64 hexadecimal digits for each, the current one first. Empty lines, and lines that begin
/// with `#`, mean nothing.
///
/// The file must belong to its owner alone (no permission for group and others). To change the key, put a new line above
/// the others, and open the log again; the old keys are needed as long as there are records encrypted with them.
///
/// Whoever has the disk has this file too, unless it is on another: an encrypted log is worth as much as the place of its
/// key.
#[derive(Clone, Debug)]
pub struct FileLogKeys {
    path: PathBuf,
    keys: Vec<LogKey>,
}

/// Room for some hundred keys.
const MAX_FILE: u64 = 64 << 10;

impl FileLogKeys {
    /// Reads the keys.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is open to others, holds no key, or a line that is none.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        let path = path.as_ref();
        let content = read_secret(path, MAX_FILE)?;
        let text = std::str::from_utf8(&content).map_err(|_| KeyError::LogKey {
            path: path.to_owned(),
            reason: "it is not text".to_owned(),
        })?;
        let mut keys = Vec::new();
        for (n, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let secret = parse(line).ok_or_else(|| KeyError::LogKey {
                path: path.to_owned(),
                reason: format!("line {} has not 64 hexadecimal digits", n + 1),
            })?;
            keys.push(LogKey::from_bytes(*secret));
        }
        if keys.is_empty() {
            return Err(KeyError::LogKey {
                path: path.to_owned(),
                reason: "it is empty".to_owned(),
            });
        }
        Ok(Self {
            path: path.to_owned(),
            keys,
        })
    }

    /// Draws a key and writes it, mode 0600. The file appears whole or not at all.
    ///
    /// # Errors
    ///
    /// [`KeyError::Exists`] if there is a file of that name; otherwise if it cannot be written.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        let path = path.as_ref();
        let mut secret = Zeroizing::new([0; 32]);
        SystemRandom::new()
            .fill(&mut secret[..])
            .map_err(|error| KeyError::Random { source: error.into() })?;
        let digits: Zeroizing<String> =
            Zeroizing::new(secret.iter().map(|byte| format!("{byte:02x}")).collect());
        match write_new(path, format!("{}\n", &*digits).as_bytes(), 0o600) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(KeyError::Exists {
                path: path.to_owned(),
            }),
            Err(source) => Err(KeyError::Io {
                path: path.to_owned(),
                action: "written",
                source,
            }),
            Ok(()) => Self::open(path),
        }
    }

    /// The file they were read from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl LogKeys for FileLogKeys {
    fn current(&self) -> Result<LogKey, BoxError> {
        self.keys.first().cloned().ok_or_else(|| "there is no key".into())
    }

    fn by_id(&self, id: LogKeyId) -> Result<Option<LogKey>, BoxError> {
        Ok(self.keys.iter().find(|key| key.id() == id).cloned())
    }
}

fn parse(line: &str) -> Option<Zeroizing<[u8; 32]>> {
    if line.len() != 64 || !line.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut secret = Zeroizing::new([0; 32]);
    for (at, byte) in secret.iter_mut().enumerate() {
        *byte = u8::from_str_radix(line.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    Some(secret)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_come_back_and_old_ones_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.key");
        let first = FileLogKeys::create(&path).unwrap().current().unwrap();
        assert!(matches!(FileLogKeys::create(&path), Err(KeyError::Exists { .. })));
        let old = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("# new\n{}\n\n{old}", "0a".repeat(32))).unwrap();
        let keys = FileLogKeys::open(&path).unwrap();
        assert_eq!(keys.current().unwrap().id(), LogKey::from_bytes([10; 32]).id());
        assert_eq!(keys.by_id(first.id()).unwrap().unwrap().secret(), first.secret());
        assert!(keys.by_id(LogKeyId([0; 8])).unwrap().is_none());
        assert!(!format!("{keys:?}").contains("0a0a"), "the secret is not shown");
    }

    #[test]
    fn loose_modes_and_nonsense_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.key");
        FileLogKeys::create(&path).unwrap();
        for wrong in ["", "# nothing\n", "0a\n", &"0g".repeat(32), &"0a".repeat(33)] {
            std::fs::write(&path, wrong).unwrap();
            assert!(
                matches!(FileLogKeys::open(&path), Err(KeyError::LogKey { .. })),
                "{wrong}"
            );
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            FileLogKeys::open(&path),
            Err(KeyError::LooseMode { .. })
        ));
    }
}
