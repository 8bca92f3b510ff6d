//! The processes there are, and who created them.

use std::collections::HashMap;
use std::fs;

use amoskys_core::Name;
use amoskys_core::event::{Ancestor, Credentials};

use super::clock::BootClock;
use super::container;

/// How many generations an event names.
const GENERATIONS: usize = 8;
/// Processes kept at most. Numbers are used again, and a number has one entry, so few systems have as many.
const MAX_PROCESSES: usize = 1 << 17;

/// What is known of a process.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// Nanoseconds since boot.
    pub(super) start: u64,
    pub(super) parent: (u32, u64),
    pub(super) executable: Name,
    pub(super) container: Name,
    pub(super) cgroup: u64,
    pub(super) credentials: Option<Credentials>,
    /// Parent first, as they were when this one was created.
    pub(super) ancestors: Vec<Ancestor>,
    ended: bool,
}

/// Processes by number. The ancestors of a process are copied when it is created, so they stay what they were when
/// their numbers are given to others, and no process is kept for its descendants' sake.
#[derive(Debug)]
pub(super) struct ProcessTable {
    by_pid: HashMap<u32, Known>,
    clock: BootClock,
}

/// What a record says of a process.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) pid: u32,
    pub(super) start: u64,
    pub(super) parent: (u32, u64),
    /// `None`: that of the parent.
    pub(super) executable: Option<&'a str>,
    pub(super) cgroup: u64,
    pub(super) cgroup_names: [&'a str; 2],
    pub(super) credentials: Credentials,
}

impl ProcessTable {
    pub(super) fn new(clock: BootClock) -> Self {
        Self {
            by_pid: HashMap::new(),
            clock,
        }
    }

    /// A process that is known by this number and start.
    pub(super) fn get(&self, pid: u32, start: u64) -> Option<&Known> {
        self.by_pid.get(&pid).filter(|known| known.start == start)
    }

    /// The process that has this number now.
    pub(super) fn current(&self, pid: u32) -> Option<&Known> {
        self.by_pid.get(&pid).filter(|known| !known.ended)
    }

    /// A process was created, has another program, or was there. What it had before, if it is known.
    pub(super) fn record(&mut self, facts: &Facts<'_>) -> (&Known, Option<Credentials>) {
        let container =
            Name::from(container::of_names(facts.cgroup_names[0], facts.cgroup_names[1]).unwrap_or_default());
        let before = self.get(facts.pid, facts.start).cloned();
        let previous = before.as_ref().and_then(|known| known.credentials);
        let parent = self.get(facts.parent.0, facts.parent.1);
        let ancestors = match &before {
            // It keeps those it was born with, also when its parent has died since.
            Some(known) => known.ancestors.clone(),
            None => self.ancestors_of_child(facts.parent),
        };
        let executable = match (facts.executable, &before, parent) {
            (Some(path), _, _) => Name::from(path),
            (None, Some(known), _) => known.executable.clone(),
            (None, None, Some(parent)) => parent.executable.clone(),
            (None, None, None) => Name::default(),
        };
        self.make_room();
        let known = Known {
            start: facts.start,
            parent: before.as_ref().map_or(facts.parent, |known| known.parent),
            executable,
            container,
            cgroup: facts.cgroup,
            credentials: Some(facts.credentials),
            ancestors,
            ended: false,
        };
        let entry = self.by_pid.entry(facts.pid).insert_entry(known);
        (entry.into_mut(), previous)
    }

    /// The process of an event. One that is not known, because the record of its creation was lost, is looked up in
    /// `/proc` once.
    pub(super) fn seen(&mut self, pid: u32, start: u64, cgroup: u64) -> &Known {
        let is_known = self
            .get(pid, start)
            .is_some_and(|known| known.cgroup == cgroup || cgroup == 0);
        if !is_known {
            self.look_up(pid, start, cgroup);
        }
        &self.by_pid[&pid]
    }

    /// A process has ended. It is kept until its number is used again: its last events may come after.
    pub(super) fn ended(&mut self, pid: u32, start: u64) {
        if let Some(known) = self.by_pid.get_mut(&pid)
            && known.start == start
        {
            known.ended = true;
        }
    }

    fn look_up(&mut self, pid: u32, start: u64, cgroup: u64) {
        let container = Name::from(container::of_process(pid).unwrap_or_default());
        if let Some(known) = self.by_pid.get_mut(&pid)
            && known.start == start
        {
            // It was moved to another group.
            (known.cgroup, known.container) = (cgroup, container);
            return;
        }
        self.make_room();
        let executable = fs::read_link(format!("/proc/{pid}/exe"))
            .map(|path| Name::from(path.to_string_lossy().as_ref()))
            .unwrap_or_default();
        let parent = parent_of(pid)
            .and_then(|parent| Some((parent, self.current(parent)?.start)))
            .unwrap_or_default();
        let known = Known {
            start,
            parent,
            executable,
            container,
            cgroup,
            credentials: None,
            ancestors: self.ancestors_of_child(parent),
            ended: false,
        };
        self.by_pid.insert(pid, known);
    }

    fn ancestors_of_child(&self, (pid, start): (u32, u64)) -> Vec<Ancestor> {
        if pid == 0 {
            return Vec::new();
        }
        let known = self.get(pid, start);
        let parent = Ancestor {
            pid,
            start: self.clock.start(start),
            executable: known.map(|known| known.executable.clone()).unwrap_or_default(),
        };
        let further = known
            .into_iter()
            .flat_map(|known| known.ancestors.iter().cloned());
        [parent].into_iter().chain(further).take(GENERATIONS).collect()
    }

    /// Forgets those that have ended when there are too many, and all if that does not help.
    fn make_room(&mut self) {
        if self.by_pid.len() < MAX_PROCESSES {
            return;
        }
        self.by_pid.retain(|_, known| !known.ended);
        if self.by_pid.len() >= MAX_PROCESSES {
            tracing::warn!("more processes than the table holds: ancestors are found anew");
            self.by_pid.clear();
        }
    }
}

/// The fourth field of `/proc/PID/stat`; the second may contain anything, but ends with the last parenthesis.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn facts(pid: u32, start: u64, parent: (u32, u64), executable: Option<&str>) -> Facts<'_> {
        Facts {
            pid,
            start,
            parent,
            executable,
            cgroup: 1,
            cgroup_names: ["", ""],
            credentials: Credentials::default(),
        }
    }

    fn chain(table: &ProcessTable, pid: u32, start: u64) -> Vec<(u32, String)> {
        let known = table.get(pid, start).unwrap();
        let all = known.ancestors.iter();
        all.map(|one| (one.pid, one.executable.to_string())).collect()
    }

    #[test]
    fn ancestors_survive_that_their_numbers_are_used_again() {
        let mut table = ProcessTable::new(BootClock::default());
        table.record(&facts(1, 10, (0, 0), Some("/init")));
        table.record(&facts(50, 20, (1, 10), Some("/bin/sh")));
        table.record(&facts(60, 30, (50, 20), None));
        table.record(&facts(60, 30, (50, 20), Some("/bin/ls")));
        let expected = vec![(50, "/bin/sh".to_owned()), (1, "/init".to_owned())];
        assert_eq!(chain(&table, 60, 30), expected);

        // The shell ends, another program gets its number, and the child's parent is another by now.
        table.ended(50, 20);
        assert!(table.current(50).is_none());
        table.record(&facts(50, 40, (1, 10), Some("/bin/other")));
        table.record(&facts(60, 30, (1, 10), Some("/bin/cat")));
        assert_eq!(chain(&table, 60, 30), expected);
        assert_eq!(table.get(60, 30).unwrap().parent, (50, 20));
        assert!(table.get(50, 20).is_none());
        assert_eq!(table.current(50).unwrap().start, 40);
    }

    #[test]
    fn a_chain_of_forks_does_not_grow() {
        let mut table = ProcessTable::new(BootClock::default());
        table.record(&facts(1, 1, (0, 0), Some("/init")));
        for number in 2..1000 {
            table.record(&facts(
                number,
                number.into(),
                (number - 1, (number - 1).into()),
                None,
            ));
            table.ended(number - 1, (number - 1).into());
        }
        assert_eq!(chain(&table, 999, 999).len(), GENERATIONS);
        assert_eq!(table.get(999, 999).unwrap().executable.as_str(), "/init");
    }

    #[test]
    fn the_state_before_is_told_once() {
        let mut table = ProcessTable::new(BootClock::default());
        assert_eq!(table.record(&facts(5, 5, (0, 0), Some("/a"))).1, None);
        let root = Credentials {
            effective: 7,
            ..Credentials::default()
        };
        let mut changed = facts(5, 5, (0, 0), None);
        changed.credentials = root;
        assert_eq!(table.record(&changed).1, Some(Credentials::default()));
        assert_eq!(table.record(&changed).1, Some(root));
    }
}
