use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use amoskys_core::{Offset, Wal, WalError};
use bytes::Bytes;

use super::commit::{Committer, FLOOR};
use super::compact::Sieve;
use super::crypt::Lock;
use super::expiry::Expiry;
use super::format::SEGMENT_HEADER;
use super::lock::{DirLock, cannot};
use super::log_key::LogKeys;
use super::observer::Observer;
use super::options::WalOptions;
use super::read::{Cursors, first_readable, read};
use super::recover::{Recovered, recover};
use super::segment::lock;
use super::shared::{Active, Failure, Shared, State};
use super::spare::Spare;
use super::state::StateStore;

/// The store's name for the note that something durable was found damaged.
const DAMAGED: &str = "log/damaged";
/// The store's name for the oldest offset when gaps were last recorded for what was lost before it.
const EXPLAINED: &str = "log/explained";
/// What callers store has names of its own.
const CALLERS: &str = "user/";

/// A durable log in a directory: group commit with `fdatasync`, bounded by bytes, recovered after `kill -9`,
/// a power cut or damage without help.
///
/// Records lie in append-only segment files. One thread writes and syncs whatever has been queued since the last
/// sync, so that many writers share one barrier. Named values ([`store`](Wal::store)) lie in sled, which is not
/// needed to read the records; a damaged or deleted sled directory is begun anew.
///
/// # Damage
///
/// A record that fails its check is reported by [`read`](Wal::read) as [`WalError::Damaged`] and stays where
/// it is; reading goes on at the offset after the one in the error. Where several records in a row cannot be
/// read, the error names the last of them. What a crash left half written is cut off when the log is opened.
///
/// # Full
///
/// [`WalError::Full`] means that the byte budget is used up, that too much waits to be written, or that the disk
/// has no room; nothing was queued then, and the same append may succeed later. Named values that are stored while the
/// disk has no room are kept in memory and written at a [`sync`](Wal::sync) once it has; those stored before are not
/// lost, but may not be known if the log is opened meanwhile.
///
/// # Closing
///
/// Dropping it writes what is queued, waits until it is durable, and gives reserved space back.
///
/// ```
/// use amoskys_core::{Offset, Wal};
/// use amoskys_transport::{SledWal, WalOptions};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path();
/// let wal = SledWal::open(path, WalOptions::new())?;
/// let offset = wal.append("a record".into())?;
/// wal.wait_durable(offset)?;
/// drop(wal);
///
/// let wal = SledWal::open(path, WalOptions::new())?;
/// assert_eq!(wal.read(Offset(0), 1 << 20)?[0].1, "a record");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SledWal {
    shared: Arc<Shared>,
    store: Arc<StateStore>,
    cursors: Cursors,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// If records may be shed when the log is full.
    shedding: Option<Mutex<Arc<dyn Sieve>>>,
    /// If records may become too old.
    expiry: Mutex<Option<Expiry>>,
    damaged: bool,
    _lock: DirLock,
}

/// Which records a log may give up by itself.
#[derive(Default)]
pub(crate) struct Loss {
    pub(crate) sieve: Option<Arc<dyn Sieve>>,
    /// When the log is full.
    pub(crate) shed: bool,
    /// When they are older than this.
    pub(crate) retention: Option<Duration>,
}

impl SledWal {
    /// Opens the log in a directory, or begins one. Missing directories are created.
    ///
    /// # Errors
    ///
    /// [`WalError::Open`] if the directory is in use, cannot be read or written, or holds a log of a newer
    /// version. Damage is no error.
    pub fn open(dir: impl AsRef<Path>, options: WalOptions) -> Result<Self, WalError> {
        let dir = dir.as_ref();
        create_dir(dir)?;
        let lock = DirLock::take(dir)?;
        Self::open_locked(dir, lock, &options, Known::default(), None, Loss::default(), None)
    }

    /// Opens a log whose directory is already locked.
    pub(crate) fn open_locked(
        dir: &Path,
        lock: DirLock,
        options: &WalOptions,
        known: Known,
        observer: Option<Box<dyn Observer>>,
        loss: Loss,
        keys: Option<Arc<dyn LogKeys>>,
    ) -> Result<Self, WalError> {
        let current = keys.as_ref().map(|keys| keys.current()).transpose();
        let current = current.map_err(|error| WalError::Open {
            reason: "the key to encrypt it with cannot be had".to_owned(),
            source: Some(error),
        })?;
        let goes_on = |lock: &Lock| match (lock, &current) {
            (Lock::Open, None) => true,
            (Lock::Cipher(cipher), Some(key)) => cipher.of == key.id(),
            _ => false,
        };
        let recovered = recover(dir, known.durable, keys.as_deref(), &goes_on)?;
        if recovered.cut_bytes > 0 {
            tracing::info!(dir = %dir.display(), bytes = recovered.cut_bytes, "cut off what a crash left half written");
        }
        let log = match recovered.log.or(known.log) {
            Some(log) => log,
            None => random_identity()?,
        };
        let store = Arc::new(StateStore::open(dir, keys.clone()));
        let (damaged, next) = (recovered.damaged, recovered.next);
        let state = initial_state(&recovered, &store);
        let segment_bytes = options.effective_segment_bytes();
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            log,
            segment_bytes,
            budget: AtomicU64::new(options.budget_bytes),
            record_limit: options.effective_record_limit(),
            queue_limit: options.max_queued_bytes,
            state: Mutex::new(state),
            work: Condvar::new(),
            progress: Condvar::new(),
            durable: AtomicU64::new(next),
            listeners: Mutex::default(),
            spare: Spare::new(dir, segment_bytes),
            keys,
        });
        {
            let mut state = shared.lock();
            if state.active.is_none() {
                let begun = shared.begin_segment(&mut state);
                // Without any segment nothing would say where the log has come to.
                if let (Err(error), true) = (begun, state.segments.is_empty()) {
                    let reason = format!("no segment can be begun in {}", dir.display());
                    return Err(WalError::Open {
                        reason,
                        source: Some(Box::new(error)),
                    });
                }
            }
            if let Some(last) = state.segments.back() {
                last.name_durably(dir)
                    .map_err(|error| cannot(format!("{} cannot be synced", dir.display()), error))?;
            }
        }
        let committer = Committer {
            shared: shared.clone(),
            store: store.clone(),
            observer,
            interval: options.sync_interval,
            current: None,
            postponed: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("amoskys-wal".to_owned())
            .spawn(move || committer.run());
        let thread =
            thread.map_err(|error| cannot("the log's thread cannot be started".to_owned(), error))?;
        let expiry = match (&loss.sieve, loss.retention) {
            (Some(sieve), Some(age)) => {
                let expiry = Expiry::begin(shared.clone(), sieve.clone(), age);
                Some(expiry.map_err(|error| cannot("the log's thread cannot be started".to_owned(), error))?)
            }
            _ => None,
        };
        let wal = Self {
            shedding: loss.sieve.filter(|_| loss.shed).map(Mutex::new),
            expiry: Mutex::new(expiry),
            shared,
            store,
            cursors: Cursors::default(),
            thread: Mutex::new(Some(thread)),
            damaged,
            _lock: lock,
        };
        if damaged {
            wal.note_damage();
        }
        Ok(wal)
    }

    /// Writes what is queued, makes everything durable and stops. Later appends fail; reading goes on.
    ///
    /// The same happens when the log is dropped; this is for callers who cannot tell when its last owner goes.
    pub fn close(&self) {
        drop(lock(&self.expiry).take());
        self.shared.lock().closing = true;
        self.shared.work.notify_all();
        if let Some(thread) = lock(&self.thread).take() {
            // A panic in it was reported when it happened.
            let _ = thread.join();
        }
        self.store.sync();
        self.shared.progress.notify_all();
    }

    /// Offset of the next record.
    pub(crate) fn next(&self) -> Offset {
        Offset(self.shared.lock().next)
    }

    /// Whether the log could have this budget without being opened anew: its segments and its largest record must fit.
    #[cfg(feature = "bus")]
    pub(crate) fn allows_budget(&self, bytes: u64) -> bool {
        bytes / 8 >= self.shared.segment_bytes && bytes / 4 >= self.shared.record_limit
    }

    /// Gives the log another budget, which it [allows](Self::allows_budget). If it has more than that already, it is full
    /// until something is trimmed.
    #[cfg(feature = "bus")]
    pub(crate) fn set_budget(&self, bytes: u64) {
        self.shared
            .budget
            .store(bytes, std::sync::atomic::Ordering::Relaxed);
    }

    /// As [`append`](Wal::append), also where the byte budget is used up: for what must be written before anything can
    /// be deleted.
    pub(crate) fn append_beyond_budget(&self, record: Bytes) -> Result<Offset, WalError> {
        self.shared.enqueue(record, u64::MAX)
    }

    /// The oldest offset that is kept, trimmed or not.
    pub(crate) fn oldest(&self) -> Offset {
        let state = self.shared.lock();
        Offset(state.segments.front().map_or(state.next, |segment| segment.first))
    }

    /// First offset and bytes of each segment, in order. The last is being filled, and its bytes are 0.
    #[cfg(feature = "bus")]
    pub(crate) fn segment_sizes(&self) -> Vec<(Offset, u64)> {
        let state = self.shared.lock();
        let sizes = state
            .segments
            .iter()
            .map(|segment| (Offset(segment.first), segment.bytes().unwrap_or(0)));
        sizes.collect()
    }

    /// As [`read`](Wal::read), also below what was trimmed, as long as it is there.
    pub(crate) fn read_kept(&self, from: Offset, max_bytes: usize) -> Result<Vec<(Offset, Bytes)>, WalError> {
        read(&self.shared, &self.cursors, from.max(self.oldest()), max_bytes)
    }

    /// Whether something durable was found damaged or missing, now or earlier, and not yet explained.
    pub(crate) fn damage_noted(&self) -> bool {
        self.damaged || self.store.load(DAMAGED).is_some_and(|note| !note.is_empty())
    }

    pub(crate) fn note_damage(&self) {
        self.keep_note(DAMAGED, b"1");
    }

    pub(crate) fn damage_explained(&self) {
        self.keep_note(DAMAGED, b"");
        self.keep_note(EXPLAINED, &self.oldest().0.to_le_bytes());
    }

    /// Whether gaps were recorded for what was lost before this offset, at which the log begins.
    pub(crate) fn is_explained_from(&self, oldest: Offset) -> bool {
        let note = self.store.load(EXPLAINED);
        note.is_some_and(|note| note == oldest.0.to_le_bytes()[..])
    }

    fn keep_note(&self, name: &str, note: &[u8]) {
        if self.store.load(name).is_some_and(|kept| kept == note) {
            return;
        }
        if let Err(error) = self.store.store(name, note) {
            tracing::warn!(%error, "a note about damage could not be kept");
        }
        self.shared.lock().unsaved = true;
        self.shared.work.notify_one();
    }
}

impl Wal for SledWal {
    fn append(&self, record: Bytes) -> Result<Offset, WalError> {
        self.shared.enqueue(record, self.shared.budget_bytes())
    }

    fn durable(&self) -> Offset {
        Offset(self.shared.durable())
    }

    fn wait_durable(&self, offset: Offset) -> Result<(), WalError> {
        if offset.0 < self.shared.durable() {
            return Ok(());
        }
        let mut state = self.shared.lock();
        loop {
            if offset.0 < self.shared.durable() {
                return Ok(());
            }
            if let Some(failure) = &state.failure {
                return Err(failure.to_error());
            }
            if offset.0 >= state.next {
                let cause = format!("record {offset} was never appended");
                return Err(Failure::new("waited for a record", cause).to_error());
            }
            state = self
                .shared
                .progress
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn on_durable(&self, notify: Box<dyn Fn(Offset) + Send + Sync>) {
        lock(&self.shared.listeners).push(Arc::new(notify));
    }

    fn first(&self) -> Offset {
        Offset(first_readable(&self.shared.lock()).min(self.shared.durable()))
    }

    fn read(&self, from: Offset, max_bytes: usize) -> Result<Vec<(Offset, Bytes)>, WalError> {
        let from = from.max(Offset(first_readable(&self.shared.lock())));
        let result = read(&self.shared, &self.cursors, from, max_bytes);
        if matches!(result, Err(WalError::Damaged { .. })) {
            self.note_damage();
        }
        result
    }

    fn trim(&self, to: Offset) -> Result<(), WalError> {
        let mut state = self.shared.lock();
        if let Some(failure) = &state.failure {
            return Err(failure.to_error());
        }
        let to = to.0.min(self.shared.durable());
        if to <= state.floor {
            return Ok(());
        }
        state.floor = to;
        state.unsaved = true;
        // With everything trimmed, the segment being filled goes too once it is worth it.
        let worth = |active: &Active| active.pos > self.shared.segment_bytes / 2;
        if to == state.next && state.active.as_ref().is_some_and(worth) {
            // Without room for a new one the old one stays for now.
            let _ = self.shared.begin_segment(&mut state);
        }
        state.bury();
        drop(state);
        self.shared.work.notify_one();
        Ok(())
    }

    fn shed(&self) -> Result<bool, WalError> {
        let Some(sieve) = &self.shedding else {
            return Ok(false);
        };
        // One at a time; who waited may find room.
        let sieve = lock(sieve);
        if !self.shared.lacks_room() {
            return Ok(true);
        }
        self.shared.shed(&**sieve)
    }

    fn load(&self, name: &str) -> Result<Option<Bytes>, WalError> {
        Ok(self.store.load(&format!("{CALLERS}{name}")))
    }

    fn store(&self, name: &str, value: &[u8]) -> Result<(), WalError> {
        self.store.store(&format!("{CALLERS}{name}"), value)?;
        self.shared.lock().unsaved = true;
        self.shared.work.notify_one();
        Ok(())
    }

    fn sync(&self) -> Result<(), WalError> {
        if self.store.sync() {
            return Ok(());
        }
        Err(WalError::Failed {
            action: "made the values beside it durable",
            source: "they are in memory: the disk has no room for them, or their directory cannot be used"
                .into(),
        })
    }

    fn used_bytes(&self) -> u64 {
        self.shared.lock().used_bytes
    }

    fn budget_bytes(&self) -> u64 {
        self.shared.budget_bytes()
    }
}

impl Drop for SledWal {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for SledWal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SledWal")
            .field("dir", &self.shared.dir)
            .field("durable", &self.durable())
            .finish_non_exhaustive()
    }
}

/// What is known of a log from outside its segments.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    /// Everything below was durable once.
    pub(crate) durable: u64,
    /// The log's identity, if no segment says.
    pub(crate) log: Option<u128>,
}

fn initial_state(recovered: &Recovered, store: &StateStore) -> State {
    let segments: VecDeque<_> = recovered.segments.iter().cloned().collect();
    let active = recovered.tail.zip(segments.back()).map(|(pos, segment)| {
        // Open again for appending.
        segment.set_bytes(0);
        Active {
            segment: segment.clone(),
            pos,
            reserved: pos,
            since: Instant::now(),
        }
    });
    let sealed: u64 = segments.iter().filter_map(|segment| segment.bytes()).sum();
    let floor = store
        .load(FLOOR)
        .and_then(|floor| floor[..].try_into().ok().map(u64::from_le_bytes));
    let mut state = State {
        used_bytes: sealed
            + active
                .as_ref()
                .map_or(0, |active| active.pos.max(SEGMENT_HEADER as u64)),
        segments,
        active,
        queue: Vec::new(),
        queued_bytes: 0,
        next: recovered.next,
        floor: floor.unwrap_or(0).min(recovered.next),
        dead: Vec::new(),
        unsaved: false,
        closing: false,
        failure: None,
        out_of_space: false,
    };
    // Trimmed before, and not deleted before the log was closed.
    state.bury();
    state
}

pub(crate) fn create_dir(dir: &Path) -> Result<(), WalError> {
    use std::os::unix::fs::DirBuilderExt;
    let created = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    created.map_err(|error| cannot(format!("{} cannot be created", dir.display()), error))?;
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        // A name that is lost with the power would take the log with it.
        let _ = super::segment::sync_dir(parent);
    }
    Ok(())
}

fn random_identity() -> Result<u128, WalError> {
    use ring::rand::SecureRandom;
    let mut bytes = [0; 16];
    let filled = ring::rand::SystemRandom::new().fill(&mut bytes);
    filled.map_err(|error| WalError::Open {
        reason: "no random number could be drawn".to_owned(),
        source: Some(Box::new(error)),
    })?;
    Ok(u128::from_le_bytes(bytes))
}
