//! Looks now and then for records that are older than they may become.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use amoskys_core::Timestamp;

use super::compact::Sieve;
use super::segment::lock;
use super::shared::Shared;

/// A segment is ended after this part of the age, so that records do not become much older than they may.
const PARTS: u32 = 8;

/// The thread that looks. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Expiry {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Expiry {
    pub(crate) fn begin(shared: Arc<Shared>, sieve: Arc<dyn Sieve>, age: Duration) -> std::io::Result<Self> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("amoskys-wal-expiry".to_owned())
            .spawn(move || run(&shared, &*sieve, age, &stopped))?;
        let thread = Some(thread);
        Ok(Self { stop, thread })
    }
}

impl Drop for Expiry {
    fn drop(&mut self) {
        *lock(&self.stop.0) = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, sieve: &dyn Sieve, age: Duration, (stop, changed): &(Mutex<bool>, Condvar)) {
    let part = age / PARTS;
    let pause = part.clamp(Duration::from_millis(100), Duration::from_secs(60));
    let nanos = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
    let mut stopped = lock(stop);
    while !*stopped {
        drop(stopped);
        shared.end_old_segment(part);
        let before = Timestamp::from_nanos(Timestamp::now().nanos().saturating_sub(nanos));
        if let Err(error) = shared.expire(sieve, before) {
            tracing::warn!(%error, "old records could not be given up; it is tried again");
        }
        stopped = lock(stop);
        if !*stopped {
            stopped = changed
                .wait_timeout(stopped, pause)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}
