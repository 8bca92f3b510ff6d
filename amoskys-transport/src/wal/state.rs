//! Small named values beside the log, in sled.
//!
//! Nothing here is needed to read the log. sled is kept off the path of a commit, and is not trusted: each
//! value carries a checksum; where sled fails to open, returns an error or panics, its directory is set aside
//! and an empty one takes its place; and its `flush` is followed by a real `fsync`, which it does not do itself.
//! A disk without room is no damage: what is there stays, and what is stored meanwhile waits in memory.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use amoskys_core::{BoxError, WalError};
use bytes::Bytes;

use super::crypt::{OVERHEAD, decrypt_value, encrypt_value};
use super::log_key::LogKeys;
use super::segment::{lock, sync_dir};

/// Name of sled's directory.
pub(crate) const STATE_DIR: &str = "state";
/// Where a damaged one is kept, until the next one is damaged.
const DAMAGED_DIR: &str = "state.damaged";

const MAX_NAME: usize = 256;
/// The state of all analyzers of a machine with hundreds of metrics takes tens of megabytes.
const MAX_VALUE: usize = 256 << 20;
/// sled puts large values into files of their own, one each; smaller pieces stay in its pages.
const PIECE: usize = 4 << 10;
/// Version, three bytes of padding, length, checksum.
const VALUE_HEADER: usize = 12;
const VALUE_PLAIN: u8 = 1;
const VALUE_ENCRYPTED: u8 = 2;

/// The values.
pub(crate) struct StateStore {
    dir: PathBuf,
    /// If values are encrypted.
    keys: Option<Arc<dyn LogKeys>>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    dirty: bool,
    /// Stored, and perhaps not durable yet.
    unsynced: BTreeMap<String, Bytes>,
}

#[derive(Debug)]
enum Store {
    Sled(sled::Db),
    /// sled cannot even begin anew: values live as long as the process.
    Memory(BTreeMap<String, Bytes>),
    /// The disk has no room: what is stored waits until it has, and what was stored before is not known meanwhile.
    Waiting,
}

impl StateStore {
    /// Opens the store of a log, or begins a new one.
    pub(crate) fn open(log_dir: &Path, keys: Option<Arc<dyn LogKeys>>) -> Self {
        let dir = log_dir.join(STATE_DIR);
        let store = match open_sled(&dir) {
            Ok(db) => Store::Sled(db),
            Err(error) if lacks_room(&dir, &error) => {
                say_waiting(&dir, &error);
                Store::Waiting
            }
            Err(error) => begin_anew(&dir, None, &error),
        };
        let inner = Inner {
            store,
            dirty: false,
            unsynced: BTreeMap::new(),
        };
        Self {
            dir,
            keys,
            inner: Mutex::new(inner),
        }
    }

    pub(crate) fn load(&self, name: &str) -> Option<Bytes> {
        let mut inner = lock(&self.inner);
        match &inner.store {
            Store::Memory(values) => values.get(name).cloned(),
            Store::Waiting => inner.unsynced.get(name).cloned(),
            Store::Sled(db) => match guarded(|| load_pieces(db, self.keys.as_deref(), name)) {
                Ok(value) => value,
                Err(error) => {
                    self.replace(&mut inner, &error);
                    inner.unsynced.get(name).cloned()
                }
            },
        }
    }

    /// Keeps a value. It is durable after the next [`sync`](Self::sync).
    pub(crate) fn store(&self, name: &str, value: &[u8]) -> Result<(), WalError> {
        if name.len() > MAX_NAME || name.contains('\0') || value.len() > MAX_VALUE {
            return Err(WalError::TooLarge {
                bytes: value.len() as u64,
                limit_bytes: MAX_VALUE as u64,
            });
        }
        let mut inner = lock(&self.inner);
        inner.dirty = true;
        inner
            .unsynced
            .insert(name.to_owned(), Bytes::copy_from_slice(value));
        if let Store::Sled(db) = &inner.store
            && let Err(error) = guarded(|| store_pieces(db, self.keys.as_deref(), name, value))
        {
            // With all that is not durable, this value too.
            self.replace(&mut inner, &error);
        } else if let Store::Memory(values) = &mut inner.store {
            values.insert(name.to_owned(), Bytes::copy_from_slice(value));
        }
        Ok(())
    }

    /// Makes what was stored durable, as soon as there is room for it. Whether all of it is.
    pub(crate) fn sync(&self) -> bool {
        let mut inner = lock(&self.inner);
        if !inner.dirty {
            return !matches!(inner.store, Store::Memory(_));
        }
        if matches!(inner.store, Store::Waiting) {
            if !has_room(&self.dir) {
                return false;
            }
            inner.store = match open_sled(&self.dir) {
                Ok(db) => Store::Sled(db),
                Err(error) if lacks_room(&self.dir, &error) => return false,
                Err(error) => begin_anew(&self.dir, None, &error),
            };
            self.store_unsynced(&mut inner);
        }
        let flushed = match &inner.store {
            Store::Sled(db) => guarded(|| {
                db.flush()?;
                sync_files(&self.dir)?;
                // A store that was begun anew has a name that is not durable yet.
                Ok(sync_dir(self.dir.parent().unwrap_or(&self.dir))?)
            }),
            Store::Memory(_) => Ok(()),
            Store::Waiting => return false,
        };
        match flushed {
            Ok(()) => {
                inner.unsynced.clear();
                inner.dirty = false;
                !matches!(inner.store, Store::Memory(_))
            }
            Err(error) => {
                self.replace(&mut inner, &error);
                false
            }
        }
    }

    /// Gives up a store that failed, and goes on with another or waits for room.
    fn replace(&self, inner: &mut Inner, error: &BoxError) {
        let old = std::mem::replace(&mut inner.store, Store::Waiting);
        let old = if let Store::Sled(db) = old { Some(db) } else { None };
        if lacks_room(&self.dir, error) && !error.is::<Panicked>() {
            say_waiting(&self.dir, error);
            // Its files are opened again later, and until it is gone they are locked.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(old)));
            return;
        }
        inner.store = begin_anew(&self.dir, old, error);
        self.store_unsynced(inner);
    }

    /// Puts what is not durable yet into a store that was just opened.
    fn store_unsynced(&self, inner: &mut Inner) {
        let stored = match &mut inner.store {
            Store::Sled(db) => guarded(|| {
                let mut values = inner.unsynced.iter();
                values.try_for_each(|(name, value)| store_pieces(db, self.keys.as_deref(), name, value))
            }),
            Store::Memory(values) => {
                values.extend(inner.unsynced.clone());
                Ok(())
            }
            Store::Waiting => Ok(()),
        };
        if let Err(error) = stored {
            // Not tried for ever: with room or without, it is tried again at the next sync.
            say_waiting(&self.dir, &error);
            let failed = std::mem::replace(&mut inner.store, Store::Waiting);
            let _ = catch_unwind(AssertUnwindSafe(|| drop(failed)));
        }
    }
}

impl Drop for StateStore {
    fn drop(&mut self) {
        self.sync();
        let store = std::mem::replace(&mut lock(&self.inner).store, Store::Memory(BTreeMap::new()));
        // sled writes when it is dropped, and can panic there too.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(store)));
    }
}

/// Runs something in sled. Its panics become errors.
fn guarded<T>(work: impl FnOnce() -> Result<T, BoxError>) -> Result<T, BoxError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            Err(Panicked(text.to_owned()).into())
        }
    }
}

/// sled panicked: whatever it holds is not to be touched any more.
#[derive(Debug, thiserror::Error)]
#[error("sled panicked: {0}")]
struct Panicked(String);

/// Below this, sled may not even be able to open.
const ROOM: u64 = 2 << 20;

fn has_room(dir: &Path) -> bool {
    use rustix::fs::{StatVfsMountFlags, statvfs};
    let existing = if dir.exists() {
        dir
    } else {
        dir.parent().unwrap_or(dir)
    };
    statvfs(existing).map_or(true, |disk| {
        !disk.f_flag.contains(StatVfsMountFlags::RDONLY)
            && disk.f_bavail.saturating_mul(disk.f_frsize) >= ROOM
    })
}

/// Whether it failed for lack of room and not for damage.
fn lacks_room(dir: &Path, error: &BoxError) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let kind = match error.downcast_ref::<sled::Error>() {
        Some(sled::Error::Io(error)) => Some(error.kind()),
        _ => error.downcast_ref::<std::io::Error>().map(std::io::Error::kind),
    };
    matches!(kind, Some(QuotaExceeded | ReadOnlyFilesystem | StorageFull)) || !has_room(dir)
}

fn say_waiting(dir: &Path, error: &BoxError) {
    tracing::warn!(
        dir = %dir.display(),
        %error,
        "no room for the store beside the log: what is stored is kept in memory until there is; make room on the disk"
    );
}

/// Opens sled. One that was closed a moment ago may still hold its lock.
fn open_sled(dir: &Path) -> Result<sled::Db, BoxError> {
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        match try_open_sled(dir) {
            Err(error) if error.to_string().contains("acquire lock") && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(_) if remove_unfinished(dir) => {}
            result => return result,
        }
    }
}

/// Removes snapshots that a crash left half written, which sled takes for damaged ones. Says whether there were any.
fn remove_unfinished(dir: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return false;
    };
    let mut any = false;
    for path in entries.flatten().map(|entry| entry.path()) {
        let unfinished = path.extension().is_some_and(|ending| ending == "generating");
        any |= unfinished && std::fs::remove_file(path).is_ok();
    }
    any
}

fn try_open_sled(dir: &Path) -> Result<sled::Db, BoxError> {
    guarded(|| {
        // Without its own flush thread, which would end the process if a flush failed.
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(2 << 20)
            .flush_every_ms(None);
        Ok(config.mode(sled::Mode::LowSpace).open()?)
    })
}

fn begin_anew(dir: &Path, old: Option<sled::Db>, error: &BoxError) -> Store {
    tracing::warn!(
        dir = %dir.display(),
        %error,
        "the store beside the log is damaged; it is set aside and begun anew, and what was in it is found again from the log"
    );
    // Dropping it would write into the damaged files, or panic, or wait for a lock nobody will release.
    std::mem::forget(old);
    let aside = dir.with_file_name(DAMAGED_DIR);
    let moved = std::fs::remove_dir_all(&aside)
        .or_else(ignore_missing)
        .and_then(|()| std::fs::rename(dir, &aside));
    if let Err(error) = moved.or_else(ignore_missing) {
        tracing::warn!(dir = %dir.display(), %error, "cannot set it aside");
    }
    match open_sled(dir) {
        Ok(db) => Store::Sled(db),
        Err(error) => {
            tracing::warn!(%error, "the store beside the log cannot be used; positions are kept in memory only");
            Store::Memory(BTreeMap::new())
        }
    }
}

fn ignore_missing(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound {
        Ok(())
    } else {
        Err(error)
    }
}

/// `name`, a zero, and the number of the piece.
fn piece_key(name: &str, piece: u32) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len() + 5);
    key.extend_from_slice(name.as_bytes());
    key.push(0);
    key.extend_from_slice(&piece.to_be_bytes());
    key
}

fn store_pieces(db: &sled::Db, keys: Option<&dyn LogKeys>, name: &str, value: &[u8]) -> Result<(), BoxError> {
    let encrypted;
    let (version, value) = match keys {
        Some(keys) => {
            encrypted = encrypt_value(&keys.current()?, name, value)?;
            (VALUE_ENCRYPTED, &encrypted[..])
        }
        None => (VALUE_PLAIN, value),
    };
    let mut whole = Vec::with_capacity(VALUE_HEADER + value.len());
    whole.extend_from_slice(&[version, 0, 0, 0]);
    whole.extend_from_slice(&u32::try_from(value.len())?.to_le_bytes());
    whole.extend_from_slice(&crc32fast::hash(value).to_le_bytes());
    whole.extend_from_slice(value);
    let mut batch = sled::Batch::default();
    let mut count = 0;
    for piece in whole.chunks(PIECE) {
        batch.insert(piece_key(name, count), piece);
        count += 1;
    }
    // A longer value may have been there before.
    for key in db
        .range(piece_key(name, count)..=piece_key(name, u32::MAX))
        .keys()
    {
        batch.remove(key?);
    }
    Ok(db.apply_batch(batch)?)
}

fn load_pieces(db: &sled::Db, keys: Option<&dyn LogKeys>, name: &str) -> Result<Option<Bytes>, BoxError> {
    let mut whole = Vec::new();
    for entry in db.range(piece_key(name, 0)..=piece_key(name, u32::MAX)) {
        whole.extend_from_slice(&entry?.1);
        if whole.len() > VALUE_HEADER + MAX_VALUE + 24 + OVERHEAD {
            return Err("a value is longer than any that was stored".into());
        }
    }
    if whole.is_empty() {
        return Ok(None);
    }
    let Some((header, value)) = whole.split_first_chunk::<VALUE_HEADER>() else {
        return Err("a value is shorter than its header".into());
    };
    if header[0] > VALUE_ENCRYPTED {
        // Of a newer version: as good as lost, but no sign of damage.
        tracing::warn!(
            name,
            "a value beside the log was stored by a newer version and is not used"
        );
        return Ok(None);
    }
    let stored_len = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    let crc = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    if value.len() as u64 != u64::from(stored_len) || crc32fast::hash(value) != crc {
        return Err(format!("the value {name} fails its check").into());
    }
    if header[0] == VALUE_ENCRYPTED {
        let plain = keys.and_then(|keys| decrypt_value(keys, name, value));
        if plain.is_none() {
            // As good as lost; with its key it is there again.
            tracing::warn!(
                name,
                "a value beside the log is encrypted with a key that is not among those given"
            );
        }
        return Ok(plain.map(Bytes::from));
    }
    Ok(Some(Bytes::from(whole).slice(VALUE_HEADER..)))
}

/// Makes every file of sled durable, and their directories.
fn sync_files(dir: &Path) -> Result<(), BoxError> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_files(&entry.path())?;
        } else if let Ok(file) = std::fs::File::open(entry.path()) {
            // A file that is gone meanwhile was replaced by one that is synced too.
            file.sync_all()?;
        }
    }
    Ok(sync_dir(dir)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_small_and_large_values() {
        let dir = tempfile::tempdir().unwrap();
        let large: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
        {
            let store = StateStore::open(dir.path(), None);
            store.store("a", b"1").unwrap();
            store.store("ab", b"2").unwrap();
            store.store("large", &large).unwrap();
            store.store("shrunk", &large).unwrap();
            store.store("shrunk", b"short").unwrap();
            store.store("empty", b"").unwrap();
        }
        let store = StateStore::open(dir.path(), None);
        assert_eq!(store.load("a").as_deref(), Some(&b"1"[..]));
        assert_eq!(store.load("ab").as_deref(), Some(&b"2"[..]));
        assert_eq!(store.load("large").as_deref(), Some(&large[..]));
        assert_eq!(store.load("shrunk").as_deref(), Some(&b"short"[..]));
        assert_eq!(store.load("empty").as_deref(), Some(&b""[..]));
        assert_eq!(store.load("b"), None);
    }

    #[test]
    fn begins_anew_when_its_files_are_damaged() {
        let dir = tempfile::tempdir().unwrap();
        StateStore::open(dir.path(), None).store("a", b"1").unwrap();
        let conf = dir.path().join(STATE_DIR).join("conf");
        std::fs::write(&conf, [0xff; 100]).unwrap();
        let store = StateStore::open(dir.path(), None);
        assert_eq!(store.load("a"), None);
        store.store("a", b"2").unwrap();
        assert!(dir.path().join(DAMAGED_DIR).exists());
        drop(store);
        assert_eq!(
            StateStore::open(dir.path(), None).load("a").as_deref(),
            Some(&b"2"[..])
        );
    }
}
