//! How much do many streams gain by sharing a barrier?
//!
//! A stream's next batch goes to the log once the one before it is durable. One stream pays a barrier for each batch; a
//! thousand of them share it.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use amoskys_core::{Epoch, Event, EventId, Name, Payload, Seal as _, Timestamp, Wal as _, WalError};
use amoskys_transport::{FileSigner, Sealer, SledWal, WalOptions};
use bytes::Bytes;

use crate::events::{EVENT_BYTES, unsealed};

/// Streams of as many agents.
pub(crate) const STREAMS: usize = 1000;
/// Threads that share the streams among them, as a bus's do.
const THREADS: usize = 8;

/// Commits a second: of one stream alone, and of all together.
pub(crate) fn commits_per_second(dir: &Path, time: Duration) -> Result<(f64, f64), Box<dyn Error>> {
    let records = records(dir)?;
    let alone = run(&dir.join("alone"), &records[..1], 1, time)?;
    let together = run(&dir.join("together"), &records, THREADS, time)?;
    Ok((alone, together))
}

/// A sealed batch of one event for each stream.
fn records(dir: &Path) -> Result<Vec<Bytes>, Box<dyn Error>> {
    std::fs::create_dir_all(dir)?;
    let signer = Arc::new(FileSigner::open_or_create(dir.join("key"))?);
    let source = Name::from("bench");
    let record = |n: usize| {
        let mut sealer = Sealer::new(format!("agent-{n}"), Epoch::default(), signer.clone());
        let event = Event {
            id: EventId {
                origin: n as u64,
                ordinal: 0,
            },
            time: Timestamp::from_secs(1_700_000_000),
            payload: Payload::Unknown {
                tag: 99,
                bytes: Bytes::from(vec![n as u8; EVENT_BYTES]),
            },
            ..Event::default()
        };
        Ok(sealer.seal(unsealed(&source, &[event]))?.record)
    };
    (0..STREAMS).map(record).collect()
}

fn run(dir: &Path, records: &[Bytes], threads: usize, time: Duration) -> Result<f64, Box<dyn Error>> {
    let wal = SledWal::open(dir, WalOptions::new().budget_bytes(1 << 40))?;
    let (start, commits) = (Instant::now(), AtomicU64::new(0));
    let part = records.len().div_ceil(threads);
    std::thread::scope(|scope| {
        let workers = records.chunks(part).map(|streams| {
            let (wal, commits) = (&wal, &commits);
            scope.spawn(move || {
                while start.elapsed() < time {
                    let mut last = None;
                    for record in streams {
                        last = Some(append(wal, record)?);
                    }
                    if let Some(last) = last {
                        wal.wait_durable(last)?;
                    }
                    commits.fetch_add(streams.len() as u64, Ordering::Relaxed);
                }
                Ok(())
            })
        });
        let workers: Vec<_> = workers.collect();
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })
    .map_err(|error: WalError| Box::new(error))?;
    let rate = commits.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
    drop(wal);
    std::fs::remove_dir_all(dir)?;
    Ok(rate)
}

/// Appends, and waits a little where too much waits for the disk.
fn append(wal: &SledWal, record: &Bytes) -> Result<amoskys_core::Offset, WalError> {
    loop {
        match wal.append(record.clone()) {
            Err(WalError::Full { .. }) => std::thread::sleep(Duration::from_micros(50)),
            result => return result,
        }
    }
}
