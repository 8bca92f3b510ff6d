use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::id::Offset;
use crate::wal::{Wal, WalError};

/// A log in memory: every record is "durable" at once, and gone with the last clone.
///
/// It keeps the protocol of [`Wal`] and the byte budget, so that what is tested against it meets no surprise
/// with a log on disk. Clones share the records, which is how a test opens "the same log" again.
#[derive(Clone)]
pub struct MemoryWal(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    budget_bytes: u64,
    used_bytes: u64,
    first: u64,
    records: VecDeque<Bytes>,
    values: BTreeMap<String, Bytes>,
    notify: Vec<Arc<dyn Fn(Offset) + Send + Sync>>,
}

impl MemoryWal {
    /// An empty log of at most `budget_bytes` of records.
    #[must_use]
    pub fn new(budget_bytes: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            budget_bytes,
            ..State::default()
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for MemoryWal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.lock();
        f.debug_struct("MemoryWal")
            .field("first", &state.first)
            .field("records", &state.records.len())
            .field("used_bytes", &state.used_bytes)
            .finish_non_exhaustive()
    }
}

impl State {
    fn end(&self) -> u64 {
        self.first + self.records.len() as u64
    }
}

impl Wal for MemoryWal {
    fn append(&self, record: Bytes) -> Result<Offset, WalError> {
        let (offset, durable, notify) = {
            let mut state = self.lock();
            let bytes = record.len() as u64;
            if bytes > state.budget_bytes {
                return Err(WalError::TooLarge {
                    bytes,
                    limit_bytes: state.budget_bytes,
                });
            }
            if state.used_bytes + bytes > state.budget_bytes {
                return Err(WalError::Full {
                    used_bytes: state.used_bytes,
                    budget_bytes: state.budget_bytes,
                });
            }
            state.used_bytes += bytes;
            let offset = Offset(state.end());
            state.records.push_back(record);
            (offset, Offset(state.end()), state.notify.clone())
        };
        for notify in notify {
            notify(durable);
        }
        Ok(offset)
    }

    fn durable(&self) -> Offset {
        Offset(self.lock().end())
    }

    fn wait_durable(&self, _: Offset) -> Result<(), WalError> {
        Ok(())
    }

    fn on_durable(&self, notify: Box<dyn Fn(Offset) + Send + Sync>) {
        self.lock().notify.push(Arc::from(notify));
    }

    fn first(&self) -> Offset {
        Offset(self.lock().first)
    }

    fn read(&self, from: Offset, max_bytes: usize) -> Result<Vec<(Offset, Bytes)>, WalError> {
        let state = self.lock();
        let skip = usize::try_from(from.0.saturating_sub(state.first)).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let mut records = Vec::new();
        for (at, record) in state.records.iter().enumerate().skip(skip) {
            bytes += record.len();
            if bytes > max_bytes && !records.is_empty() {
                break;
            }
            records.push((Offset(state.first + at as u64), record.clone()));
        }
        Ok(records)
    }

    fn trim(&self, to: Offset) -> Result<(), WalError> {
        let mut state = self.lock();
        while state.first < to.0 {
            let Some(record) = state.records.pop_front() else {
                break;
            };
            state.used_bytes -= record.len() as u64;
            state.first += 1;
        }
        Ok(())
    }

    fn load(&self, name: &str) -> Result<Option<Bytes>, WalError> {
        Ok(self.lock().values.get(name).cloned())
    }

    fn store(&self, name: &str, value: &[u8]) -> Result<(), WalError> {
        self.lock()
            .values
            .insert(name.to_owned(), Bytes::copy_from_slice(value));
        Ok(())
    }

    fn used_bytes(&self) -> u64 {
        self.lock().used_bytes
    }

    fn budget_bytes(&self) -> u64 {
        self.lock().budget_bytes
    }
}
