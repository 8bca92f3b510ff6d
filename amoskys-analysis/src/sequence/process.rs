//! Which process an event is about, who led to it, and how people call it.

use amoskys_core::event::{ActivityAction, Ancestor, Event, Payload};
use amoskys_core::{Name, Timestamp};

use crate::measure::{hash_bytes, mix};

/// Of those that led to a process, how many are named to people.
const NAMED: usize = 4;

/// The processes behind an event, as keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Actors {
    /// The one that acts, then its parent, and so on.
    pub(crate) line: Vec<u64>,
    /// The one that it acts on.
    pub(crate) target: Option<u64>,
}

impl Actors {
    pub(crate) fn of(event: &Event) -> Self {
        let key = |pid, start| process_key(&event.device, pid, start);
        let (pid, own, ancestors, parent, target) = match &event.payload {
            Payload::Process(process) => (
                process.pid,
                key(process.pid, process.start),
                &process.ancestors[..],
                Some((process.parent_pid, process.parent_start)),
                None,
            ),
            Payload::Activity(activity) => (
                activity.pid,
                key(activity.pid, activity.start),
                &activity.ancestors[..],
                None,
                (activity.target_pid != 0).then(|| key(activity.target_pid, activity.target_start)),
            ),
            Payload::Syscall(calls) => (calls.pid, key(calls.pid, calls.start), &[][..], None, None),
            _ => return Self::default(),
        };
        if pid == 0 {
            // Nobody is named.
            return Self::default();
        }
        let mut line = vec![own];
        line.extend(ancestors.iter().map(|one| key(one.pid, one.start)));
        if ancestors.is_empty() {
            line.extend(parent.map(|(pid, start)| key(pid, start)));
        }
        Self { line, target }
    }
}

/// A process, by number and start; another machine's is another.
pub(crate) fn process_key(device: &Name, pid: u32, start: Timestamp) -> u64 {
    mix(hash_bytes(device.as_str().as_bytes()) ^ mix(u64::from(pid) ^ mix(start.nanos().cast_unsigned())))
}

/// The program of the process that acts: its path, or its name if the path is not known.
pub(super) fn program(event: &Event) -> &str {
    let (path, name) = match &event.payload {
        Payload::Process(process) => (&process.executable, &process.command),
        Payload::Activity(activity) => (&activity.executable, &activity.command),
        _ => return "",
    };
    if path.is_empty() { name } else { path }
}

/// What is acted on if it is a file, the process that acts, and who led to it:
/// `/etc/cron.d/x, by bash (4711), started by python3 < systemd`.
pub(super) fn describe(event: &Event) -> String {
    let (pid, ancestors, file): (u32, &[Ancestor], &str) = match &event.payload {
        Payload::Process(process) => (process.pid, &process.ancestors, ""),
        Payload::Activity(activity) => {
            let file = if activity.action == ActivityAction::FileRename {
                &activity.other_path
            } else {
                &activity.path
            };
            (activity.pid, &activity.ancestors, file)
        }
        _ => return String::new(),
    };
    let mut parts = Vec::new();
    if !file.is_empty() {
        parts.push(file.to_owned());
    }
    let name = file_name(program(event));
    if pid != 0 || !name.is_empty() {
        let by = if file.is_empty() { "" } else { "by " };
        parts.push(format!("{by}{name} ({pid})"));
    }
    let names = ancestors.iter().map(|one| file_name(one.executable.as_str()));
    let mut names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    // A program that forks is named once.
    names.dedup();
    names.truncate(NAMED);
    if !names.is_empty() {
        parts.push(format!("started by {}", names.join(" < ")));
    }
    parts.join(", ")
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
