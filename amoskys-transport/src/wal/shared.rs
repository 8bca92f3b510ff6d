//! What the callers of a log and its thread share: the queue, the plan of the files, and the state of health.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use amoskys_core::{Offset, WalError};
use bytes::Bytes;

use super::crypt::{ENCRYPTED_START, OVERHEAD};
use super::format::{SEGMENT_HEADER, stored_len};
use super::log_key::LogKeys;
use super::segment::{Segment, lock, reserve};
use super::spare::Spare;

/// Called with the durable offset.
pub(crate) type Listener = Box<dyn Fn(Offset) + Send + Sync>;

pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    pub(crate) log: u128,
    pub(crate) segment_bytes: u64,
    /// May change while the log is open.
    pub(crate) budget: AtomicU64,
    pub(crate) record_limit: u64,
    pub(crate) queue_limit: u64,
    pub(crate) state: Mutex<State>,
    /// Something for the log's thread to do.
    pub(crate) work: Condvar,
    /// The durable offset has grown, or the storage failed.
    pub(crate) progress: Condvar,
    /// Written under the lock of `state`, read without.
    pub(crate) durable: AtomicU64,
    pub(crate) listeners: Mutex<Vec<Arc<Listener>>>,
    pub(crate) spare: Spare,
    /// If new segments are encrypted.
    pub(crate) keys: Option<Arc<dyn LogKeys>>,
}

/// All fields change under one lock, which is never held over a write or a sync.
pub(crate) struct State {
    pub(crate) segments: VecDeque<Arc<Segment>>,
    pub(crate) active: Option<Active>,
    /// Planned, not yet written.
    pub(crate) queue: Vec<Queued>,
    pub(crate) queued_bytes: u64,
    /// Bytes of all segments, as planned.
    pub(crate) used_bytes: u64,
    /// Offset of the next record.
    pub(crate) next: u64,
    /// Everything below was trimmed.
    pub(crate) floor: u64,
    /// Segments to be deleted.
    pub(crate) dead: Vec<Arc<Segment>>,
    /// Named values, or the floor, were changed.
    pub(crate) unsaved: bool,
    pub(crate) closing: bool,
    pub(crate) failure: Option<Failure>,
    /// Space ran out; said once.
    pub(crate) out_of_space: bool,
}

/// The segment that is being filled.
pub(crate) struct Active {
    pub(crate) segment: Arc<Segment>,
    /// Where the next record goes.
    pub(crate) pos: u64,
    /// Space is reserved up to here.
    pub(crate) reserved: u64,
    /// When it became the one that is filled, in this process.
    pub(crate) since: Instant,
}

/// A record on its way to its place.
pub(crate) struct Queued {
    pub(crate) segment: Arc<Segment>,
    pub(crate) pos: u64,
    pub(crate) offset: u64,
    /// Of the record as it is here; what is encrypted gets another.
    pub(crate) crc: u32,
    pub(crate) record: Bytes,
    /// Bytes it will take in the segment.
    pub(crate) stored: u64,
}

/// Why the log can no longer be written.
#[derive(Clone)]
pub(crate) struct Failure {
    pub(crate) action: &'static str,
    pub(crate) error: Arc<dyn std::error::Error + Send + Sync>,
}

impl Failure {
    pub(crate) fn new(action: &'static str, error: impl Into<amoskys_core::BoxError>) -> Self {
        Self {
            action,
            error: Arc::from(error.into()),
        }
    }

    pub(crate) fn to_error(&self) -> WalError {
        WalError::Failed {
            action: self.action,
            source: Box::new(SharedCause(self.error.clone())),
        }
    }
}

/// One cause, told to many callers.
#[derive(Debug)]
struct SharedCause(Arc<dyn std::error::Error + Send + Sync>);

impl fmt::Display for SharedCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for SharedCause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(crate) fn budget_bytes(&self) -> u64 {
        self.budget.load(Ordering::Relaxed)
    }

    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    pub(crate) fn enqueue(&self, record: Bytes, budget_bytes: u64) -> Result<Offset, WalError> {
        let len = record.len() as u64;
        if len > self.record_limit {
            return Err(WalError::TooLarge {
                bytes: len,
                limit_bytes: self.record_limit,
            });
        }
        let (crc, stored, beginning) = match self.keys {
            None => (crc32fast::hash(&record), stored_len(len), SEGMENT_HEADER as u64),
            Some(_) => (0, stored_len(len + OVERHEAD as u64), ENCRYPTED_START),
        };
        let mut state = self.lock();
        state.check()?;
        if state.queued_bytes > 0 && state.queued_bytes + stored > self.queue_limit {
            return Err(WalError::Full {
                used_bytes: state.queued_bytes,
                budget_bytes: self.queue_limit,
            });
        }
        // A segment's header comes on top where one must be begun.
        if state.used_bytes + stored + beginning > budget_bytes {
            return Err(WalError::Full {
                used_bytes: state.used_bytes,
                budget_bytes,
            });
        }
        let (segment, pos) = self.place(&mut state, stored)?;
        let offset = state.next;
        segment.remember(offset, pos);
        state.queue.push(Queued {
            segment,
            pos,
            offset,
            crc,
            record,
            stored,
        });
        state.queued_bytes += stored;
        state.used_bytes += stored;
        state.next += 1;
        drop(state);
        self.work.notify_one();
        Ok(Offset(offset))
    }

    /// Finds a place for a record and reserves it.
    fn place(&self, state: &mut State, stored: u64) -> Result<(Arc<Segment>, u64), WalError> {
        let full = |active: &Active| {
            active.pos > active.segment.layout.start && active.pos + stored > self.segment_bytes
        };
        if state.active.as_ref().is_none_or(full) {
            self.begin_segment(state)?;
        }
        let Some(active) = &mut state.active else {
            return Err(closed());
        };
        if active.pos + stored > active.reserved
            && let Err(error) = self.extend(active, stored)
        {
            return Err(self.no_space_or_failed(state, "reserved space", error));
        }
        let Some(active) = &mut state.active else {
            return Err(closed());
        };
        let pos = active.pos;
        active.pos += stored;
        // Late enough that a small log never does, early enough to be ready in time.
        if pos <= self.segment_bytes / 2
            && active.pos > self.segment_bytes / 2
            && self.segment_bytes >= SPARE_FROM
        {
            self.spare.begin();
        }
        let segment = active.segment.clone();
        state.out_of_space = false;
        Ok((segment, pos))
    }

    /// Begins a new segment at the next offset.
    pub(crate) fn begin_segment(&self, state: &mut State) -> Result<(), WalError> {
        let spare = self.spare.take();
        let mark = match new_mark() {
            Ok(mark) => mark,
            Err(error) => return Err(Failure::new("drew a random number", error).to_error()),
        };
        let key = match self.keys.as_ref().map(|keys| keys.current()).transpose() {
            Ok(key) => key,
            Err(error) => return Err(Failure::new("asked for its key", error).to_error()),
        };
        let spare_path = spare.map(|(path, _)| path);
        match Segment::create(&self.dir, self.log, state.next, mark, spare_path, key.as_ref()) {
            Ok(segment) => {
                let segment = Arc::new(segment);
                if let Some(active) = &state.active {
                    active.segment.set_bytes(active.pos);
                }
                let pos = segment.layout.start;
                let reserved = spare.map_or(pos, |(_, bytes)| bytes);
                state.used_bytes += pos;
                state.segments.push_back(segment.clone());
                state.active = Some(Active {
                    segment,
                    pos,
                    reserved,
                    since: Instant::now(),
                });
                Ok(())
            }
            Err(error) => Err(self.no_space_or_failed(state, "began a segment", error)),
        }
    }

    /// Ends the segment that is being filled if it was for this long, so that its records can expire.
    pub(crate) fn end_old_segment(&self, age: Duration) {
        let mut state = self.lock();
        let is_old =
            |active: &Active| active.pos > active.segment.layout.start && active.since.elapsed() >= age;
        if state.check().is_ok() && state.active.as_ref().is_some_and(is_old) {
            // Without room for a new one the old one stays for now.
            let _ = self.begin_segment(&mut state);
        }
    }

    /// Whether records wait for room on the disk or in the budget. The reserve is what a pipeline keeps for alerts and
    /// audit.
    pub(crate) fn lacks_room(&self) -> bool {
        let state = self.lock();
        let budget = self.budget_bytes();
        let reserve = (budget / 8).min(4 << 20);
        state.out_of_space || state.used_bytes > budget - reserve
    }

    /// Reserves more space for the active segment: as much as it has, so that a small log stays small.
    fn extend(&self, active: &mut Active, stored: u64) -> io::Result<()> {
        let needed = active.pos + stored;
        let step = active.pos.clamp(256 << 10, 8 << 20);
        let wanted = (active.reserved + step).min(self.segment_bytes).max(needed);
        let file = active.segment.writable()?;
        // Where the file system cannot reserve, a write tells whether there is room.
        active.reserved = try_reserve(&file, active.reserved, wanted, needed)?.unwrap_or(u64::MAX);
        Ok(())
    }

    fn no_space_or_failed(&self, state: &mut State, action: &'static str, error: io::Error) -> WalError {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        if !matches!(error.kind(), StorageFull | QuotaExceeded) {
            // What was queued before can still be written.
            return Failure::new(action, error).to_error();
        }
        if !std::mem::replace(&mut state.out_of_space, true) {
            tracing::warn!(dir = %self.dir.display(), %error, "no space for the log; it takes no records until there is");
        }
        WalError::Full {
            used_bytes: state.used_bytes,
            budget_bytes: state.used_bytes,
        }
    }

    /// Everything below `durable` is durable: tells everybody.
    pub(crate) fn publish(&self, durable: u64, written_bytes: u64) {
        {
            let mut state = self.lock();
            state.queued_bytes = state.queued_bytes.saturating_sub(written_bytes);
            self.durable.store(durable, Ordering::Release);
        }
        self.progress.notify_all();
        self.tell_listeners(durable);
    }

    /// Nothing can be written any more: tells everybody.
    pub(crate) fn give_up(&self, failure: Failure) {
        tracing::error!(dir = %self.dir.display(), error = %failure.error, "the log's storage failed while it {}", failure.action);
        {
            let mut state = self.lock();
            state.failure.get_or_insert(failure);
            state.queue.clear();
            state.queued_bytes = 0;
        }
        self.progress.notify_all();
        self.tell_listeners(self.durable());
    }

    fn tell_listeners(&self, durable: u64) {
        // Called without the lock, so that a listener may register another.
        let listeners = lock(&self.listeners).clone();
        for listener in listeners {
            let call = std::panic::AssertUnwindSafe(|| listener(Offset(durable)));
            if std::panic::catch_unwind(call).is_err() {
                tracing::error!("a listener of the log panicked");
            }
        }
    }
}

/// Segments smaller than this are not worth preparing.
const SPARE_FROM: u64 = 8 << 20;

impl State {
    /// Gives up the segments that are trimmed as a whole.
    pub(crate) fn bury(&mut self) {
        while self
            .segments
            .get(1)
            .is_some_and(|second| second.first <= self.floor)
        {
            let Some(segment) = self.segments.pop_front() else {
                break;
            };
            self.used_bytes = self.used_bytes.saturating_sub(segment.bytes().unwrap_or(0));
            self.dead.push(segment);
        }
    }

    /// Whether this is still one of the segments.
    pub(crate) fn holds(&self, segment: &Arc<Segment>) -> bool {
        let at = self.segments.partition_point(|other| other.first < segment.first);
        self.segments
            .get(at)
            .is_some_and(|other| Arc::ptr_eq(other, segment))
    }

    pub(crate) fn check(&self) -> Result<(), WalError> {
        match &self.failure {
            Some(failure) => Err(failure.to_error()),
            None if self.closing => Err(closed()),
            None => Ok(()),
        }
    }
}

pub(crate) fn closed() -> WalError {
    Failure::new("was being closed", "the log is closed").to_error()
}

/// Reserves up to `wanted`, or only up to `needed` if there is no more. `None` if the file system cannot.
fn try_reserve(file: &File, from: u64, wanted: u64, needed: u64) -> io::Result<Option<u64>> {
    match reserve(file, from, wanted) {
        Ok(supported) => Ok(supported.then_some(wanted)),
        Err(_) if needed < wanted => Ok(reserve(file, from, needed)?.then_some(needed)),
        Err(error) => Err(error),
    }
}

pub(crate) fn new_mark() -> Result<u32, ring::error::Unspecified> {
    use ring::rand::SecureRandom;
    let random = ring::rand::SystemRandom::new();
    loop {
        let mut bytes = [0; 4];
        random.fill(&mut bytes)?;
        let mark = u32::from_le_bytes(bytes);
        if mark != 0 {
            return Ok(mark);
        }
    }
}
