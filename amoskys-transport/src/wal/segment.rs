//! Segment files: creating, growing, naming.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use amoskys_core::BoxError;

use super::crypt::{Cipher, ENCRYPTED_START, KeySlot, Lock, SLOTS};
use super::format::{HeaderFault, RECORD_HEADER, SegmentHeader, parse_segment_name, segment_name};
use super::log_key::{LogKey, LogKeyId, LogKeys};
use super::walk::Layout;

/// Name of the file that will become the next segment: zeros only.
pub(crate) const SPARE_FILE: &str = "spare";
/// Name of the file that will replace a segment of which records are given up.
pub(crate) const COMPACT_FILE: &str = "compact";

/// One segment of an open log.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) first: u64,
    pub(crate) mark: u32,
    pub(crate) layout: Layout,
    path: PathBuf,
    /// Kept open while it is written to.
    file: Mutex<Option<Arc<File>>>,
    /// Its size once nothing more is written to it; 0 until then.
    bytes: AtomicU64,
    /// Whether its directory entry is durable.
    named: AtomicBool,
    /// Places of some records, in order, so that reading from the middle need not walk from the start.
    index: Mutex<Vec<(u64, u64)>>,
    /// What could be given up of it, once someone has looked.
    pub(crate) weights: OnceLock<Weights>,
    /// Something in it cannot be read, so it is never rewritten.
    damaged: AtomicBool,
}

/// What could be given up of a segment to which nothing is added any more.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weights {
    /// Bytes of the records of each class that may be shed, the first to go first.
    pub(crate) sheddable: [u64; 2],
    /// Bytes of the records that may expire.
    pub(crate) expirable: u64,
    /// When the newest of those was sealed, in nanoseconds since 1970.
    pub(crate) newest: i64,
}

/// Distance of the entries in [`Segment::index`].
const INDEX_GRAIN: u64 = 256 << 10;

impl Segment {
    /// A segment that is only read, until [`writable`](Self::writable) is called.
    pub(crate) fn existing(path: PathBuf, first: u64, mark: u32, layout: Layout) -> Self {
        let (bytes, named) = (AtomicU64::new(0), AtomicBool::new(true));
        Self {
            first,
            mark,
            layout,
            path,
            file: Mutex::new(None),
            bytes,
            named,
            index: Mutex::default(),
            weights: OnceLock::new(),
            damaged: AtomicBool::new(false),
        }
    }

    /// Creates a segment, from the spare file if there is one. It is not yet durable.
    pub(crate) fn create(
        dir: &Path,
        log: u128,
        first: u64,
        mark: u32,
        spare: Option<&Path>,
        key: Option<&LogKey>,
    ) -> io::Result<Self> {
        let locked = key.map(|key| lock_with(key, log, mark)).transpose()?;
        let path = dir.join(segment_name(first));
        let file = match spare {
            Some(spare) => {
                let file = OpenOptions::new().read(true).write(true).open(spare)?;
                std::fs::rename(spare, &path)?;
                file
            }
            None => {
                let mut options = OpenOptions::new();
                options
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .mode(0o600)
                    .open(&path)?
            }
        };
        let created = amoskys_core::Timestamp::now().nanos();
        let header = SegmentHeader {
            log,
            first,
            mark,
            created,
            sparse: None,
            encrypted: locked.is_some(),
        };
        let (slot, layout) = locked.unzip();
        if let Err(error) = file.write_all_at(&beginning(&header, slot.as_ref()), 0) {
            // Out of space: leave nothing that looks like a damaged segment.
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        let file = Mutex::new(Some(Arc::new(file)));
        let (bytes, named) = (AtomicU64::new(0), AtomicBool::new(false));
        Ok(Self {
            first,
            mark,
            layout: layout.unwrap_or_default(),
            path,
            file,
            bytes,
            named,
            index: Mutex::default(),
            weights: OnceLock::new(),
            damaged: AtomicBool::new(false),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it for writing, if it is not.
    pub(crate) fn writable(&self) -> io::Result<Arc<File>> {
        let mut slot = lock(&self.file);
        if let Some(file) = &*slot {
            return Ok(file.clone());
        }
        let file = Arc::new(OpenOptions::new().read(true).write(true).open(&self.path)?);
        *slot = Some(file.clone());
        Ok(file)
    }

    /// The file, for reading.
    pub(crate) fn readable(&self) -> io::Result<Arc<File>> {
        match &*lock(&self.file) {
            Some(file) => Ok(file.clone()),
            None => File::open(&self.path).map(Arc::new),
        }
    }

    /// Its size, if nothing more is written to it.
    pub(crate) fn bytes(&self) -> Option<u64> {
        Some(self.bytes.load(Ordering::Acquire)).filter(|bytes| *bytes > 0)
    }

    /// Nothing will be written to it beyond this size.
    pub(crate) fn set_bytes(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Release);
    }

    /// It is damaged, and is kept as it is.
    pub(crate) fn leave_alone(&self) {
        self.damaged.store(true, Ordering::Relaxed);
    }

    /// Whether nothing wrong with it is known.
    pub(crate) fn is_fit(&self) -> bool {
        !self.damaged.load(Ordering::Relaxed)
    }

    /// Makes its directory entry durable, if it is not.
    pub(crate) fn name_durably(&self, dir: &Path) -> io::Result<()> {
        if !self.named.load(Ordering::Acquire) {
            sync_dir(dir)?;
            self.named.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Nothing will be written to it any more.
    pub(crate) fn retire(&self) {
        *lock(&self.file) = None;
    }

    /// Remembers where a record is. Calls out of order are ignored.
    pub(crate) fn remember(&self, offset: u64, pos: u64) {
        let mut index = lock(&self.index);
        if index
            .last()
            .is_none_or(|(last, at)| offset > *last && pos >= at + INDEX_GRAIN)
        {
            index.push((offset, pos));
        }
    }

    /// A place at or before `offset` to walk from.
    pub(crate) fn place_before(&self, offset: u64) -> (u64, u64) {
        let index = lock(&self.index);
        let at = index.partition_point(|(known, _)| *known <= offset);
        at.checked_sub(1)
            .map_or((self.first, self.layout.start), |at| index[at])
    }
}

/// A segment file found in a directory, before anything is believed about it.
#[derive(Clone, Debug)]
pub(crate) struct SegmentFile {
    pub(crate) path: PathBuf,
    /// By its name.
    pub(crate) first: u64,
}

/// The segment files of a directory, in order of their offsets.
pub(crate) fn list_segments(dir: &Path) -> io::Result<Vec<SegmentFile>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if let Some(first) = entry.file_name().to_str().and_then(parse_segment_name) {
            found.push(SegmentFile {
                path: entry.path(),
                first,
            });
        }
    }
    found.sort_by_key(|file| file.first);
    Ok(found)
}

/// What is known of a segment from its first bytes.
#[derive(Clone, Debug)]
pub(crate) struct Beginning {
    /// The header, if it is intact.
    pub(crate) header: Result<SegmentHeader, HeaderFault>,
    /// The mark of its records: out of the header, or else out of the first record, or else of the others.
    pub(crate) mark: Option<u32>,
    /// If it is encrypted, and that can still be read: what is needed to decrypt it.
    pub(crate) slot: Option<KeySlot>,
    /// Not yet with what decrypts it.
    pub(crate) layout: Layout,
}

impl Beginning {
    /// How its records lie, with these keys.
    ///
    /// # Errors
    ///
    /// The name of the key, if it is not among them.
    pub(crate) fn unlock(&self, keys: Option<&dyn LogKeys>) -> Result<Layout, (LogKeyId, Option<BoxError>)> {
        let (Some(slot), Some(mark)) = (self.slot, self.mark) else {
            return Ok(self.layout.clone());
        };
        let key = keys.map(|keys| keys.by_id(slot.key)).transpose();
        let key = key.map_err(|error| (slot.key, Some(error)))?.flatten();
        // An embedder's keys may not be what it says.
        let key = key.filter(|key| key.id() == slot.key).ok_or((slot.key, None))?;
        let cipher = Cipher::new(&key, &slot, mark).map_err(|error| (slot.key, Some(error.into())))?;
        Ok(Layout {
            lock: Lock::Cipher(Arc::new(cipher)),
            ..self.layout.clone()
        })
    }
}

/// What an encrypted segment is locked with.
pub(crate) fn lock_with(key: &LogKey, log: u128, mark: u32) -> io::Result<(KeySlot, Layout)> {
    let slot = KeySlot::draw(key.id(), log).map_err(io::Error::other)?;
    let cipher = Cipher::new(key, &slot, mark).map_err(io::Error::other)?;
    Ok((slot, Layout::locked(Lock::Cipher(Arc::new(cipher)))))
}

/// The bytes before the first record.
pub(crate) fn beginning(header: &SegmentHeader, slot: Option<&KeySlot>) -> Vec<u8> {
    let mut out = header.encode().to_vec();
    if let Some(slot) = slot {
        for at in SLOTS {
            out.resize(at as usize, 0);
            out.extend_from_slice(&slot.encode());
        }
    }
    out
}

/// Reads the beginning of a segment.
pub(crate) fn read_beginning(source: &impl super::walk::ReadAt) -> io::Result<Beginning> {
    const LEN: usize = ENCRYPTED_START as usize + RECORD_HEADER;
    let mut bytes = vec![0; LEN];
    let n = source.read_at(&mut bytes, 0)?;
    let header = SegmentHeader::decode(&bytes[..n]);
    // Where the header is lost, it still shows whether it was encrypted.
    let mut slot = None;
    if header.map_or(true, |header| header.encrypted) {
        slot = SLOTS
            .iter()
            .find_map(|at| KeySlot::decode(&bytes[*at as usize..n.max(*at as usize)]));
    }
    let mut layout = match slot.is_some() || header.is_ok_and(|header| header.encrypted) {
        true => Layout::locked(Lock::Shut),
        false => Layout::default(),
    };
    let mark = match &header {
        Ok(header) => Some(header.mark),
        // The mark stands in each record header too, under a checksum of its own.
        Err(_) => {
            let record = &bytes[layout.start as usize..];
            let mark = u32::from_le_bytes([record[0], record[1], record[2], record[3]]);
            match super::format::RecordHeader::decode(record, mark) {
                Some(_) if mark != 0 => Some(mark),
                _ => super::mark::find_mark(source)?,
            }
        }
    };
    layout.sparse = header.is_ok_and(|header| header.sparse.is_some());
    Ok(Beginning {
        header,
        mark,
        slot,
        layout,
    })
}

/// Makes creations, renames and removals in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Reserves disk space from `from` to `to`, so that a later write there cannot fail for lack of it, and so that
/// a commit need not grow the file. `false` if the file system cannot.
pub(crate) fn reserve(file: &File, from: u64, to: u64) -> io::Result<bool> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        loop {
            return match fallocate(file, FallocateFlags::empty(), from, to - from) {
                Ok(()) => Ok(true),
                Err(Errno::INTR) => continue,
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(false),
                Err(error) => Err(error.into()),
            };
        }
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = (file, from, to);
        Ok(false)
    }
}

/// Fills a file with zeros up to `bytes` and makes it durable; `false` if cancelled. Writing to blocks that were
/// written before needs no change of the file system's own records, which makes a commit about 1.7 times as fast
/// as writing to blocks that are only reserved (measured on ext4).
pub(crate) fn prepare_spare(path: &Path, bytes: u64, cancel: &AtomicBool) -> io::Result<bool> {
    const STEP: usize = 1 << 20;
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    let zeros = vec![0; STEP];
    let mut pos = 0;
    while pos < bytes {
        if cancel.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let n = usize::try_from(bytes - pos).unwrap_or(STEP).min(STEP);
        file.write_all_at(&zeros[..n], pos)?;
        // In small steps, so that a commit going on meanwhile does not wait behind all of it.
        file.sync_data()?;
        pos += n as u64;
    }
    file.sync_all()?;
    Ok(true)
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while a lock was held leaves plain data behind, which is whole at every step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
