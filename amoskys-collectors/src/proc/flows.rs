use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use amoskys_core::event::{FlowPhase, FlowRecord, Payload, Value};
use amoskys_core::transform::{Outcome, Transform, TransformError};
use amoskys_core::{Event, Name};

use super::clock::BootClock;
use super::{ProcError, SocketOwner, SocketOwners};

/// Names the process behind each flow of this machine, as attributes of the flow's events.
///
/// `process_pid`, `process_start_ns` (nanoseconds since the Unix epoch), `process_command`, and if they are known
/// `process_uid` and `process_container`. A flow keeps the process that was found first, also when that has ended before
/// the flow's last record. Flows that are carried through, or whose socket was gone before it was looked for, have none.
///
/// A thread reads sockets every so often; the transform itself never waits for it. The thread ends within a tenth of a
/// second after the transform is dropped.
///
/// ```
/// use std::time::Duration;
/// use amoskys_collectors::proc::FlowOwners;
/// use amoskys_core::pipeline::Pipeline;
///
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let pipeline = Pipeline::builder().transform(FlowOwners::start("/proc", Duration::from_secs(1))?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FlowOwners {
    /// As they were found last.
    owners: Arc<Mutex<Arc<SocketOwners>>>,
    clock: BootClock,
    ticks_per_second: u64,
    /// By source and number of the flow.
    found: HashMap<(Name, u64), SocketOwner>,
}

/// Flows whose owner is remembered at most. Beyond that, those of all are looked for anew.
const MAX_FLOWS: usize = 1 << 16;
/// How soon it is noticed that nobody wants to know any more.
const LOOK: Duration = Duration::from_millis(100);

impl FlowOwners {
    /// Reads the sockets once, and from then on with this pause, of at least a tenth of a second.
    ///
    /// # Errors
    ///
    /// If `proc` is not mounted there, or the thread cannot be started.
    pub fn start(root: impl AsRef<Path>, pause: Duration) -> Result<Self, ProcError> {
        let root = root.as_ref().to_owned();
        let owners = Arc::new(Mutex::new(Arc::new(read(&root)?)));
        let shared = Arc::downgrade(&owners);
        std::thread::Builder::new()
            .name("amoskys-sockets".to_owned())
            .spawn(move || refresh(&root, pause, &shared))
            .map_err(ProcError::Thread)?;
        Ok(Self {
            owners,
            clock: BootClock::new(),
            ticks_per_second: rustix::param::clock_ticks_per_second().max(1),
            found: HashMap::new(),
        })
    }

    fn owner(&mut self, source: &Name, flow: &FlowRecord) -> Option<SocketOwner> {
        let key = (source.clone(), flow.flow);
        let owner = match self.found.get(&key) {
            Some(owner) => owner.clone(),
            None => {
                let owners = Arc::clone(&self.owners.lock().unwrap_or_else(PoisonError::into_inner));
                owners.of_flow(&flow.key)?.clone()
            }
        };
        if !matches!(flow.phase, FlowPhase::End(_)) {
            if self.found.len() >= MAX_FLOWS {
                self.found.clear();
            }
            self.found.insert(key, owner.clone());
        } else {
            self.found.remove(&key);
        }
        Some(owner)
    }
}

impl Transform for FlowOwners {
    fn transform(&mut self, event: &mut Event) -> Result<Outcome, TransformError> {
        let Payload::Flow(flow) = &event.payload else {
            return Ok(Outcome::Keep);
        };
        if let Some(owner) = self.owner(&event.source, flow) {
            let nanoseconds =
                u128::from(owner.key.start_ticks) * 1_000_000_000 / u128::from(self.ticks_per_second);
            let start = self.clock.start(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
            let mut set = |name: &str, value| event.attributes.insert(name.to_owned(), value);
            set("process_pid", Value::Uint(owner.key.pid.into()));
            set("process_start_ns", Value::Int(start.nanos()));
            set("process_command", Value::Text(owner.command));
            if let Some(uid) = owner.uid {
                set("process_uid", Value::Uint(uid.into()));
            }
            if !owner.container.is_empty() {
                set("process_container", Value::Text(owner.container));
            }
        }
        Ok(Outcome::Keep)
    }
}

fn read(root: &Path) -> Result<SocketOwners, ProcError> {
    let mut owners = SocketOwners::open(root)?;
    owners.refresh()?;
    Ok(owners)
}

fn refresh(root: &Path, pause: Duration, shared: &Weak<Mutex<Arc<SocketOwners>>>) {
    let mut latest = Instant::now();
    loop {
        std::thread::sleep(LOOK);
        let Some(shared) = shared.upgrade() else {
            return;
        };
        if latest.elapsed() < pause {
            continue;
        }
        match read(root) {
            Ok(owners) => *shared.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(owners),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "sockets cannot be listed"
                );
            }
        }
        latest = Instant::now();
    }
}
