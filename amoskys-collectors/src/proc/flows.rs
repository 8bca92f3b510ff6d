use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use amoskys_core::event::{ActivityAction, ActivityEvent, FlowKey, FlowPhase, FlowRecord, Payload, Value};
use amoskys_core::transform::{Outcome, Transform, TransformError};
use amoskys_core::{Event, Name, Timestamp};

use super::clock::BootClock;
use super::{ProcError, SocketOwners};

/// Names the process behind each flow of this machine, as attributes of the flow's events.
///
/// `process_pid`, `process_start_ns` (nanoseconds since the Unix epoch), `process_command`, and if they are known
/// `process_uid` and `process_container`. A flow keeps the process that was found first, also when that has ended before
/// the flow's last record. Flows that are carried through, or whose socket was gone before it was looked for, have none.
///
/// If the pipeline also has a sensor that tells of processes connecting and accepting (feature `ebpf`), these tell more,
/// and sooner: also of sockets that are gone before they are looked for, and which of a server's processes took a
/// connection. The sensor tells of each peer of a process once.
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
    found: HashMap<(Name, u64), Owner>,
    /// By protocol, own address and peer: what processes were seen to do.
    seen: HashMap<(u8, SocketAddr, SocketAddr), Owner>,
}

/// A process, as flows name it.
#[derive(Clone, Debug)]
struct Owner {
    pid: u32,
    start: Timestamp,
    command: String,
    uid: Option<u32>,
    container: String,
}

/// Flows whose owner is remembered at most. Beyond that, those of all are looked for anew.
const MAX_FLOWS: usize = 1 << 16;
/// Connections seen by a sensor that are remembered at most, likewise.
const MAX_SEEN: usize = 1 << 16;
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
            seen: HashMap::new(),
        })
    }

    /// Remembers which process connected, or took a connection.
    fn note(&mut self, activity: &ActivityEvent) {
        let did = matches!(activity.action, ActivityAction::Connect | ActivityAction::Accept);
        let (Some(local), Some(remote)) = (activity.local_address, activity.remote_address) else {
            return;
        };
        if !did || activity.local_port == 0 || activity.remote_port == 0 {
            return;
        }
        if self.seen.len() >= MAX_SEEN {
            self.seen.clear();
        }
        let key = (
            activity.protocol,
            end(local, activity.local_port),
            end(remote, activity.remote_port),
        );
        let owner = Owner {
            pid: activity.pid,
            start: activity.start,
            command: activity.command.clone(),
            uid: Some(activity.uid),
            container: activity.container.clone(),
        };
        self.seen.insert(key, owner);
    }

    fn of_table(&self, key: &FlowKey) -> Option<Owner> {
        let owners = Arc::clone(&self.owners.lock().unwrap_or_else(PoisonError::into_inner));
        let owner = owners.of_flow(key)?;
        let nanoseconds =
            u128::from(owner.key.start_ticks) * 1_000_000_000 / u128::from(self.ticks_per_second);
        Some(Owner {
            pid: owner.key.pid,
            start: self.clock.start(u64::try_from(nanoseconds).unwrap_or(u64::MAX)),
            command: owner.command.clone(),
            uid: owner.uid,
            container: owner.container.clone(),
        })
    }

    fn owner(&mut self, source: &Name, flow: &FlowRecord) -> Option<Owner> {
        let key = (source.clone(), flow.flow);
        let owner = match self.found.get(&key) {
            Some(owner) => owner.clone(),
            None => {
                let (source, destination) = ends(&flow.key);
                // Of both ends on this machine, the source's.
                let seen = self
                    .seen
                    .get(&(flow.key.protocol, source, destination))
                    .or_else(|| self.seen.get(&(flow.key.protocol, destination, source)));
                match seen {
                    Some(owner) => owner.clone(),
                    None => self.of_table(&flow.key)?,
                }
            }
        };
        if !matches!(flow.phase, FlowPhase::End(_)) {
            if self.found.len() >= MAX_FLOWS {
                self.found.clear();
            }
            self.found.insert(key, owner.clone());
        } else {
            self.found.remove(&key);
            // The same ports may be those of another process next time, which the sensor need not tell of.
            let (source, destination) = ends(&flow.key);
            self.seen.remove(&(flow.key.protocol, source, destination));
            self.seen.remove(&(flow.key.protocol, destination, source));
        }
        Some(owner)
    }
}

impl Transform for FlowOwners {
    fn transform(&mut self, event: &mut Event) -> Result<Outcome, TransformError> {
        let flow = match &event.payload {
            Payload::Flow(flow) => flow,
            Payload::Activity(activity) => {
                self.note(activity);
                return Ok(Outcome::Keep);
            }
            _ => return Ok(Outcome::Keep),
        };
        if let Some(owner) = self.owner(&event.source, flow) {
            let mut set = |name: &str, value| event.attributes.insert(name.to_owned(), value);
            set("process_pid", Value::Uint(owner.pid.into()));
            set("process_start_ns", Value::Int(owner.start.nanos()));
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

fn ends(key: &FlowKey) -> (SocketAddr, SocketAddr) {
    let source = end(key.source, key.source_port);
    (source, end(key.destination, key.destination_port))
}

fn end(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address.to_canonical(), port)
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
