use std::collections::HashMap;
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use super::slots::{Entry, Header, SLOT, SlotFault};
use super::{Erased, ProtectError, Subject, SubjectKey, SubjectKeys};
use crate::key::loose_mode;

/// Keys of subjects in a file, mode 0600.
///
/// A new key is on the disk before it is used. A key that is forgotten is overwritten in place, and its slot is used again,
/// so that the file does not grow by forgetting. Of subjects the file has only keyed digests, no names. One process has it
/// open at a time. About 250 bytes of memory for each subject, 128 on the disk.
///
/// What the [module](super) says about copies and media applies to this file.
pub struct FileSubjectKeys {
    path: PathBuf,
    salt: hmac::Key,
    max_subjects: usize,
    inner: Mutex<Inner>,
}

struct Inner {
    file: File,
    keys: HashMap<u128, SubjectKey>,
    /// Slot and key of each subject, by the digest of its name.
    subjects: HashMap<[u8; 32], (u64, u128)>,
    /// Slots without a key, below the last.
    free: Vec<u64>,
    /// Slots in the file.
    slots: u64,
    /// A write failed: the file may hold something else than memory.
    failed: bool,
}

/// How many subjects there may be, unless it is set.
const MAX_SUBJECTS: usize = 1 << 20;

impl FileSubjectKeys {
    /// Opens the file, or begins one.
    ///
    /// # Errors
    ///
    /// If it cannot be read or written, is open to others, in use, damaged, or of a newer version. Damage changes nothing:
    /// a file that is begun anew in its place would erase everybody.
    pub fn open_or_create(path: impl AsRef<Path>) -> Result<Self, ProtectError> {
        match Self::open(&path) {
            Err(ProtectError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Self::create(path.as_ref())?;
                Self::open(path)
            }
            result => result,
        }
    }

    /// Opens a file that is there.
    ///
    /// # Errors
    ///
    /// As [`open_or_create`](Self::open_or_create), and if there is none.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ProtectError> {
        let path = path.as_ref();
        let failed = |source| io_error(path, "opened", source);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(failed)?;
        if let Some(mode) = loose_mode(&file).map_err(failed)? {
            return Err(ProtectError::LooseMode {
                path: path.to_owned(),
                mode,
            });
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(ProtectError::InUse {
                    path: path.to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(io_error(path, "locked", source)),
        }
        let (header, inner) = read(path, file)?;
        Ok(Self {
            path: path.to_owned(),
            salt: hmac::Key::new(hmac::HMAC_SHA256, &header.salt),
            max_subjects: MAX_SUBJECTS,
            inner: Mutex::new(inner),
        })
    }

    /// How many subjects there may be; beyond it, events of further ones are refused. Default 1,048,576.
    #[must_use]
    pub fn max_subjects(mut self, limit: usize) -> Self {
        self.max_subjects = limit;
        self
    }

    /// How many subjects have a key.
    #[must_use]
    pub fn subjects(&self) -> usize {
        self.lock().subjects.len()
    }

    fn create(path: &Path) -> Result<(), ProtectError> {
        let mut salt = [0; 32];
        draw(&mut salt)?;
        match crate::key::write_new(path, &Header { salt }.encode(), 0o600) {
            // Somebody else was quicker.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result.map_err(|source| io_error(path, "written", source)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // The maps are changed after the file only, so a panic in between leaves less in them, never something wrong.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn digest(&self, subject: &Subject) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(hmac::sign(&self.salt, subject.as_str().as_bytes()).as_ref());
        out
    }

    fn put(&self, inner: &mut Inner, slot: u64, bytes: &[u8; SLOT]) -> Result<(), ProtectError> {
        if inner.failed {
            return Err(ProtectError::Failed {
                path: self.path.clone(),
            });
        }
        let written = inner
            .file
            .write_all_at(bytes, slot * SLOT as u64)
            .and_then(|()| inner.file.sync_all());
        written.map_err(|source| {
            // What a failed sync has written and what not cannot be found out.
            inner.failed = true;
            io_error(&self.path, "written", source)
        })
    }
}

impl SubjectKeys for FileSubjectKeys {
    fn key_of(&self, subject: &Subject) -> Result<SubjectKey, ProtectError> {
        let digest = self.digest(subject);
        let mut inner = self.lock();
        if let Some(key) = inner.subjects.get(&digest).and_then(|(_, id)| inner.keys.get(id)) {
            return Ok(key.clone());
        }
        if inner.subjects.len() >= self.max_subjects {
            return Err(ProtectError::Full {
                limit: self.max_subjects,
            });
        }
        let (mut id, mut secret) = ([0; 16], [0; 32]);
        draw(&mut id)?;
        draw(&mut secret)?;
        let id = u128::from_le_bytes(id);
        let entry = Entry {
            id,
            secret,
            subject: digest,
        };
        let slot = inner.free.last().copied().unwrap_or(inner.slots);
        self.put(&mut inner, slot, &entry.encode())?;
        if inner.free.pop().is_none() {
            inner.slots += 1;
        }
        let key = SubjectKey::new(id, &secret);
        inner.keys.insert(id, key.clone());
        inner.subjects.insert(digest, (slot, id));
        Ok(key)
    }

    fn key(&self, id: u128) -> Result<Option<SubjectKey>, ProtectError> {
        Ok(self.lock().keys.get(&id).cloned())
    }

    fn forget(&self, subject: &Subject) -> Result<Erased, ProtectError> {
        let digest = self.digest(subject);
        let mut inner = self.lock();
        let Some((slot, id)) = inner.subjects.get(&digest).copied() else {
            return Ok(Erased::default());
        };
        self.put(&mut inner, slot, &[0; SLOT])?;
        inner.subjects.remove(&digest);
        inner.keys.remove(&id);
        inner.free.push(slot);
        Ok(Erased::new(vec![id]))
    }
}

impl fmt::Debug for FileSubjectKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSubjectKeys")
            .field("path", &self.path)
            .field("subjects", &self.subjects())
            .finish_non_exhaustive()
    }
}

fn read(path: &Path, file: File) -> Result<(Header, Inner), ProtectError> {
    let failed = |source| io_error(path, "read", source);
    let fault = |byte: u64, fault| match fault {
        SlotFault::Damaged(reason) => ProtectError::Damaged {
            path: path.to_owned(),
            byte,
            reason,
        },
        SlotFault::Version(found) => ProtectError::Version {
            path: path.to_owned(),
            found,
        },
    };
    let bytes = file.metadata().map_err(failed)?.len();
    // The last slot may be cut off by a crash; its key was never used.
    let slots = bytes / SLOT as u64;
    if slots == 0 {
        return Err(fault(0, SlotFault::Damaged("it is cut off")));
    }
    let mut slot = [0; SLOT];
    file.read_exact_at(&mut slot, 0).map_err(failed)?;
    let header = Header::decode(&slot).map_err(|reason| fault(0, reason))?;
    let mut inner = Inner {
        file,
        keys: HashMap::new(),
        subjects: HashMap::new(),
        free: Vec::new(),
        slots,
        failed: false,
    };
    let mut chunk = vec![0; SLOT << 9];
    let mut at = 1;
    while at < slots {
        let count = usize::try_from(slots - at).unwrap_or(usize::MAX).min(1 << 9);
        let part = &mut chunk[..count * SLOT];
        inner.file.read_exact_at(part, at * SLOT as u64).map_err(failed)?;
        for bytes in part.as_chunks::<SLOT>().0 {
            match Entry::decode(bytes).map_err(|reason| fault(at * SLOT as u64, reason))? {
                None => inner.free.push(at),
                Some(entry) => {
                    let twice = inner.subjects.insert(entry.subject, (at, entry.id)).is_some();
                    let key = SubjectKey::new(entry.id, &entry.secret);
                    if twice || inner.keys.insert(entry.id, key).is_some() {
                        let reason = "a subject or key is there twice";
                        return Err(fault(at * SLOT as u64, SlotFault::Damaged(reason)));
                    }
                }
            }
            at += 1;
        }
    }
    Ok((header, inner))
}

fn draw(out: &mut [u8]) -> Result<(), ProtectError> {
    SystemRandom::new().fill(out).map_err(|_| ProtectError::Random)
}

fn io_error(path: &Path, action: &'static str, source: io::Error) -> ProtectError {
    ProtectError::Io {
        path: path.to_owned(),
        action,
        source,
    }
}
