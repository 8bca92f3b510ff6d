//! Only what a control group does: of one service, one container, or a scenario that is recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use amoskys_core::event::{Ancestor, Payload, ProcessAction};
use amoskys_core::transform::Outcome;
use amoskys_core::{DropReason, Event, Timestamp};

/// Drops the events of all other processes. The sensor in the kernel tells which belong to the group; what others tell,
/// and the ancestors that events name, is known by that. One that was moved into the group is known from its next
/// program on.
pub(crate) struct Scope {
    cgroup: u64,
    /// Those that were in it when this began.
    present: BTreeSet<u32>,
    /// When the process of this number started that was seen in it last.
    known: BTreeMap<u32, Timestamp>,
}

/// The kernel gives no larger numbers, so this is never full before they are used again.
const MAX_PROCESSES: usize = 1 << 22;
/// By the clock that `/proc` tells start times in, they are up to a tick too early.
const TICK_NS: i64 = 20_000_000;
const OTHER_GROUP: DropReason = DropReason::known("other_group");

impl Scope {
    /// The control group of this directory of the unified hierarchy.
    pub(crate) fn open(directory: &Path) -> Result<Self, Box<dyn Error>> {
        let explain = |error| format!("{}: {error}", directory.display());
        let cgroup = std::fs::metadata(directory).map_err(explain)?.ino();
        let processes = std::fs::read_to_string(directory.join("cgroup.procs")).map_err(explain)?;
        Ok(Self {
            cgroup,
            present: processes.lines().filter_map(|line| line.parse().ok()).collect(),
            known: BTreeMap::new(),
        })
    }

    /// What the kernel's filter calls it.
    pub(crate) const fn cgroup(&self) -> u64 {
        self.cgroup
    }

    /// Whether the event is about a process of the group, or about none.
    pub(crate) fn sift(&mut self, event: &mut Event) -> Outcome {
        let keep = match &mut event.payload {
            Payload::Process(process) => {
                let seen = process.action == ProcessAction::Seen && self.present.contains(&process.pid);
                let keep = seen || process.cgroup == self.cgroup;
                if keep && self.known.len() < MAX_PROCESSES {
                    self.known.insert(process.pid, process.start);
                }
                self.cut(&mut process.ancestors);
                keep
            }
            Payload::Activity(activity) => {
                self.cut(&mut activity.ancestors);
                self.knows(activity.pid, activity.start)
            }
            Payload::Metric(metric) => {
                let pid = metric.labels.iter().find(|(name, _)| name == "pid");
                pid.is_none_or(|(_, pid)| pid.parse().is_ok_and(|pid| self.known.contains_key(&pid)))
            }
            _ => true,
        };
        match keep {
            true => Outcome::Keep,
            false => Outcome::Drop(OTHER_GROUP),
        }
    }

    fn knows(&self, pid: u32, start: Timestamp) -> bool {
        let apart = |known: &Timestamp| known.nanos().abs_diff(start.nanos());
        self.known
            .get(&pid)
            .map(apart)
            .is_some_and(|apart| apart < TICK_NS.unsigned_abs())
    }

    /// Ancestors are named up to the first that is not of the group.
    fn cut(&self, ancestors: &mut Vec<Ancestor>) {
        let of_group = |one: &&Ancestor| self.knows(one.pid, one.start);
        let keep = ancestors.iter().take_while(of_group).count();
        ancestors.truncate(keep);
    }
}
