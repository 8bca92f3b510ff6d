//! Meters one capture with several threads.
//!
//! There is no thread that reads. Whichever meter runs out of packets reads the next ones, puts each on the list of its
//! meter ([`Divider`]), and goes on with its own; so reading and dividing are shared as evenly as the rest, and a core is
//! never spent on a queue. The packets stay in the buffer they were read into, which all meters look into.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::Builder;

use super::divide::{Divided, Divider};
use super::meter::{FlowHandler, FlowMeter};
use super::{FlowConfig, FlowConfigError, MeterStats};
use crate::capture::{CaptureError, CaptureReader};

/// Who has so many blocks waiting leaves reading to the others.
const ENOUGH: usize = 4;
/// Blocks that may wait for the slowest meter: 4 MiB. Only where one core is much slower than the others there are more than a few.
const MOST: usize = 32;

/// Why metering with several threads failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParallelError {
    /// A setting is out of range.
    #[error("the flow meter's settings are wrong")]
    Config(#[from] FlowConfigError),
    /// The system gave no thread. Nothing has been read.
    #[error("a thread could not be begun")]
    Thread(#[source] std::io::Error),
    /// The capture could not be read to its end. What was read before has been metered.
    #[error("the capture could not be read")]
    Capture(#[from] CaptureError),
}

/// Meters a capture with as many threads as there are handlers, the caller's among them; gives the handlers back, and
/// what became of the packets.
///
/// Flows are divided among the threads by addresses and ports. All meters follow one clock, which sees the times of all
/// packets, so the records are those that one [`FlowMeter`] gives, but for three things: they come in as many orders as
/// there are handlers; their numbers are in order, and unique, but not without gaps; and
/// [`max_flows`](FlowConfig::max_flows) is divided, as is what waits for the rest of a client hello, so that where a table
/// is full other flows are evicted.
///
/// The same capture, settings and number of handlers give the same records to the same handlers.
///
/// # Errors
///
/// If a setting is out of range, a thread cannot be begun, or the capture cannot be read. In the last case the handlers have
/// got all records of what was read, and are lost.
pub fn meter_in_parallel<R: Read + Send, H: FlowHandler + Send>(
    capture: &mut CaptureReader<R>,
    config: &FlowConfig,
    handlers: Vec<H>,
) -> Result<(Vec<H>, MeterStats), ParallelError> {
    let count = handlers.len().max(1);
    let mut meters = Vec::with_capacity(handlers.len());
    let share = u32::try_from(count).unwrap_or(u32::MAX);
    let config = FlowConfig {
        max_flows: config.max_flows.div_ceil(share).max(16),
        ..config.clone()
    };
    for (number, handler) in handlers.into_iter().enumerate() {
        let mut meter = FlowMeter::new(config.clone())?;
        meter.number_flows(number as u64, count as u64);
        meters.push((meter, handler));
    }
    let work = Work::new(Divider::new(capture, count, &config), meters.len());
    let results = std::thread::scope(|scope| {
        let places: Vec<_> = (0..meters.len()).map(|number| Place(&work, number)).collect();
        let mut meters = meters.into_iter().zip(places);
        let first = meters.next();
        let threads: Vec<_> = meters
            .map(|((meter, handler), place)| {
                let work = &work;
                Builder::new().spawn_scoped(scope, move || work.run(meter, handler, place))
            })
            .collect::<std::io::Result<_>>()
            // Those that were begun must not wait for one that was not.
            .inspect_err(|_| lock(&work.waiting).ended = true)?;
        let first = first.map(|((meter, handler), place)| work.run(meter, handler, place));
        let others = threads.into_iter().map(|thread| {
            // A handler's panic is the caller's.
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        Ok(first.into_iter().chain(others).collect::<Vec<_>>())
    })
    .map_err(ParallelError::Thread)?;
    let mut total = MeterStats::default();
    let mut done = Vec::with_capacity(results.len());
    for (handler, stats) in results {
        total.add(&stats);
        done.push(handler);
    }
    (total.times_corrected, total.clock_set_back) = lock(&work.divider).corrections();
    match lock(&work.waiting).failed.take() {
        Some(error) => Err(error.into()),
        None => Ok((done, total)),
    }
}

/// What the threads share.
struct Work<'a, R> {
    /// Taken before `waiting`, never while that is held.
    divider: Mutex<Divider<'a, R>>,
    waiting: Mutex<Waiting>,
    /// Told when blocks are there, or room for more.
    changed: Condvar,
}

/// Blocks on their way.
struct Waiting {
    /// For each meter, in order; none for one whose thread is gone.
    queues: Vec<Option<VecDeque<Arc<Divided>>>>,
    /// Blocks to be filled again, each by the thread that filled it before: half of it is still in that one's own cache.
    free: Vec<Vec<Divided>>,
    /// Threads besides the first that run.
    begun: usize,
    /// Threads that wait for `changed`: telling nobody costs a system call too.
    asleep: usize,
    ended: bool,
    failed: Option<CaptureError>,
}

impl Waiting {
    /// Whether no blocks wait for a meter.
    fn has_none(&self, number: usize) -> bool {
        self.queues[number].as_ref().is_none_or(VecDeque::is_empty)
    }
}

/// What a thread does next.
enum Step {
    Meter(Arc<Divided>),
    /// Read, and wait for whoever is reading if that must be.
    Read {
        wait: bool,
    },
    End,
}

impl<'a, R: Read> Work<'a, R> {
    fn new(divider: Divider<'a, R>, count: usize) -> Self {
        Self {
            divider: Mutex::new(divider),
            waiting: Mutex::new(Waiting {
                queues: (0..count).map(|_| Some(VecDeque::new())).collect(),
                free: (0..count).map(|_| Vec::new()).collect(),
                begun: 0,
                asleep: 0,
                ended: false,
                failed: None,
            }),
            changed: Condvar::new(),
        }
    }

    /// Meters the packets of one list, until there are none.
    fn run<H: FlowHandler>(
        &self,
        mut meter: FlowMeter,
        mut handler: H,
        place: Place<'_, 'a, R>,
    ) -> (H, MeterStats) {
        let number = place.1;
        self.begin(number);
        let mut read = true;
        loop {
            match self.step(number, read) {
                Step::Meter(block) => {
                    meter.push_divided(&block, number, &mut handler);
                    if let Some(block) = Arc::into_inner(block) {
                        lock(&self.waiting).free[block.reader].push(block);
                    }
                    read = true;
                }
                Step::Read { wait } => read = self.read(number, wait),
                Step::End => break,
            }
        }
        meter.finish(&mut handler);
        (handler, meter.stats())
    }

    /// The first thread waits here until all others wait until it has read something. Who is woken is given a core on which
    /// nothing runs; who begins may be left for long on that of the thread which it was begun by.
    fn begin(&self, number: usize) {
        let mut waiting = lock(&self.waiting);
        if number == 0 {
            while waiting.begun + 1 < waiting.queues.len() {
                waiting = self.sleep(waiting);
            }
            return;
        }
        waiting.begun += 1;
        if waiting.begun + 1 == waiting.queues.len() {
            self.tell(waiting);
            waiting = lock(&self.waiting);
        }
        while !waiting.ended && waiting.has_none(number) && waiting.queues[0].is_some() {
            waiting = self.sleep(waiting);
        }
    }

    /// What to do next. If `read` is false, somebody else is reading.
    fn step(&self, number: usize, read: bool) -> Step {
        let mut waiting = lock(&self.waiting);
        loop {
            let longest = waiting.queues.iter().flatten().map(VecDeque::len).max();
            let own = waiting.queues[number].as_ref().map_or(0, VecDeque::len);
            let may_read = !waiting.ended && longest.unwrap_or(0) < MOST;
            // Who has enough leaves reading to the others, which are quicker at the moment: theirs are the same blocks.
            if read && may_read && own < ENOUGH {
                return Step::Read { wait: false };
            }
            let ended = waiting.ended;
            match waiting.queues[number].as_mut().and_then(VecDeque::pop_front) {
                Some(block) => {
                    // There may be room for more.
                    self.tell(waiting);
                    return Step::Meter(block);
                }
                None if ended => return Step::End,
                None if may_read => return Step::Read { wait: true },
                None => {
                    waiting = self.sleep(waiting);
                }
            }
        }
    }

    /// Reads a block and hands it out; false if somebody else is reading.
    fn read(&self, number: usize, wait: bool) -> bool {
        let mut divider = match self.divider.try_lock() {
            Ok(divider) => divider,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) if !wait => return false,
            Err(TryLockError::WouldBlock) => {
                let divider = lock(&self.divider);
                // Whoever was reading has probably left something.
                let waiting = lock(&self.waiting);
                if !waiting.has_none(number) || waiting.ended {
                    return true;
                }
                drop(waiting);
                divider
            }
        };
        let block = divider.next(|| {
            lock(&self.waiting).free[number]
                .pop()
                .unwrap_or_else(|| Divided::by(number))
        });
        let mut waiting = lock(&self.waiting);
        match block {
            Ok(Some(block)) => {
                let block = Arc::new(block);
                for queue in waiting.queues.iter_mut().flatten() {
                    queue.push_back(Arc::clone(&block));
                }
            }
            Ok(None) => waiting.ended = true,
            Err(error) => {
                waiting.ended = true;
                waiting.failed = Some(error);
            }
        }
        self.tell(waiting);
        true
    }
}

impl<R> Work<'_, R> {
    /// Waits for a change of this.
    fn sleep<'w>(&'w self, mut waiting: MutexGuard<'w, Waiting>) -> MutexGuard<'w, Waiting> {
        waiting.asleep += 1;
        let mut waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        waiting.asleep -= 1;
        waiting
    }

    /// Wakes whoever waits for a change of this.
    fn tell(&self, waiting: MutexGuard<'_, Waiting>) {
        let anybody = waiting.asleep > 0;
        drop(waiting);
        if anybody {
            self.changed.notify_all();
        }
    }
}

/// The number of a thread, which leaves when it drops this: one that panics, or never began, must not let others wait for it.
struct Place<'w, 'a, R>(&'w Work<'a, R>, usize);

impl<R> Drop for Place<'_, '_, R> {
    fn drop(&mut self) {
        let mut waiting = lock(&self.0.waiting);
        waiting.queues[self.1] = None;
        self.0.tell(waiting);
    }
}

/// What a thread that panicked has left behind is whole: it panics in a handler, with nothing locked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
