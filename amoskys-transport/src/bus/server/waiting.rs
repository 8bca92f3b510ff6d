//! Who waits for room in the log, since when, and why there is none.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::wal::segment::lock;

#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    records: usize,
    since: Option<(Instant, String)>,
}

/// One that waits, until this is dropped.
#[derive(Debug)]
pub(crate) struct Waiter(Waiting);

impl Waiting {
    pub(crate) fn enter(&self, why: String) -> Waiter {
        let mut state = lock(&self.0);
        state.records += 1;
        state.since.get_or_insert_with(|| (Instant::now(), why));
        Waiter(self.clone())
    }

    /// Why there has been no room for at least this long.
    pub(crate) fn longer_than(&self, time: Duration) -> Option<String> {
        let state = lock(&self.0);
        let (since, why) = state.since.as_ref()?;
        (since.elapsed() >= time).then(|| why.clone())
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut state = lock(&self.0.0);
        state.records = state.records.saturating_sub(1);
        if state.records == 0 {
            state.since = None;
        }
    }
}
