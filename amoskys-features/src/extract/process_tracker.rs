use amoskys_core::event::{Entity, Event, ProcessAction, ProcessEvent, SyscallEvent};
use amoskys_core::{Name, Timestamp};
use serde::{Deserialize, Serialize};

use super::fact::{Ancestry, At, Calls, Fact};
use super::seen::{Seen, SeenState};
use crate::hash::KeyHash;
use crate::lru::{Lru, LruState};

/// How many processes are remembered; at about 100 bytes each.
const PROCESSES: usize = 16_384;
/// How many programs the order of calls is learnt for; at about 9 KiB each.
const PROGRAMS: usize = 256;
/// Programs, pairs of programs and sequences of calls remembered as seen, per kind, and for how long at least.
const SEEN: usize = 131_072;
const HORIZON: std::time::Duration = std::time::Duration::from_secs(86_400);
/// Steps from one call to the next, and calls, hashed into so many counters.
const STEPS: usize = 2048;
const CALLS: usize = 256;

/// Follows processes to their parents, and learns which system calls follow which.
pub(crate) struct ProcessTracker {
    processes: Lru<ProcessKey, Process>,
    programs: Lru<KeyHash, Program>,
    threads: Lru<(KeyHash, u32), [u32; 2]>,
    executables: Seen,
    pairs: Seen,
    trigrams: Seen,
}

/// Device, process id, and start.
type ProcessKey = (KeyHash, u32, Timestamp);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Process {
    executable: KeyHash,
    depth: u32,
    uid: u32,
    started: Timestamp,
    children: u64,
    is_shell: bool,
}

/// How often calls and steps came.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "(Vec<u32>, Vec<u32>)", into = "(Vec<u32>, Vec<u32>)")]
struct Program {
    calls: Vec<u32>,
    steps: Vec<u32>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct ProcessState {
    processes: LruState<ProcessKey, Process>,
    programs: LruState<KeyHash, Program>,
    threads: LruState<(KeyHash, u32), [u32; 2]>,
    executables: SeenState,
    pairs: SeenState,
    trigrams: SeenState,
}

impl ProcessTracker {
    pub(crate) fn new() -> Self {
        let seen = || Seen::new(SEEN, HORIZON);
        Self {
            processes: Lru::new(PROCESSES),
            programs: Lru::new(PROGRAMS),
            threads: Lru::new(PROCESSES),
            executables: seen(),
            pairs: seen(),
            trigrams: seen(),
        }
    }

    pub(crate) fn process(
        &mut self,
        event: &Event,
        record: &ProcessEvent,
        at: At,
        tell: &mut impl FnMut(At, Fact<'_>),
    ) {
        let device = KeyHash::of(event.device.as_str().as_bytes());
        let key = (device, record.pid, record.start);
        let parent_key = (device, record.parent_pid, record.parent_start);
        let executable = KeyHash::of(record.executable.as_bytes());
        let parent = self.processes.get(&parent_key).cloned();
        let before = self.processes.get(&key).cloned();
        let mut ancestry = Ancestry {
            is_parent_known: parent.is_some(),
            depth: parent.as_ref().map_or(0, |parent| parent.depth.saturating_add(1)),
            is_parent_shell: parent.as_ref().is_some_and(|parent| parent.is_shell),
            became_root: before.as_ref().is_some_and(|before| before.uid != 0) && record.uid == 0,
            ..Ancestry::default()
        };
        match record.action {
            ProcessAction::Exec => {
                ancestry.is_new_executable = self.executables.is_new(device.and(executable), at.time);
                // Of a process that was forked from its parent, the parent's program; of one that calls exec again, its own.
                let from = before
                    .as_ref()
                    .or(parent.as_ref())
                    .map(|process| process.executable);
                ancestry.is_new_pair =
                    from.is_some_and(|from| self.pairs.is_new(device.and(from).and(executable), at.time));
            }
            ProcessAction::Fork => {
                if let Some(parent) = self.processes.get(&parent_key) {
                    parent.children = parent.children.saturating_add(1);
                    ancestry.siblings = parent.children;
                }
            }
            _ => {}
        }
        let started = before.as_ref().map(|process| process.started);
        if record.action == ProcessAction::Exit {
            ancestry.lifetime = started.map(|started| at.time.since(started).as_secs_f64());
            self.processes.remove(&key);
        } else {
            let process = Process {
                executable,
                depth: ancestry.depth,
                uid: record.uid,
                started: started.unwrap_or(if record.start == Timestamp::default() {
                    at.time
                } else {
                    record.start
                }),
                children: before.map_or(0, |before| before.children),
                is_shell: is_shell(&record.executable),
            };
            let (entry, _) = self.processes.get_or_insert(&key, || process.clone());
            *entry = process;
        }
        tell(
            at,
            Fact::Process {
                device: &event.device,
                record,
                ancestry: &ancestry,
            },
        );
    }

    #[expect(clippy::cast_possible_truncation, reason = "hashed into a few counters")]
    pub(crate) fn syscalls(
        &mut self,
        event: &Event,
        record: &SyscallEvent,
        at: At,
        tell: &mut impl FnMut(At, Fact<'_>),
    ) {
        let device = KeyHash::of(event.device.as_str().as_bytes());
        let command = device.and(KeyHash::of(record.command.as_bytes()));
        let (program, _) = self.programs.get_or_insert(&command, Program::default);
        let thread_key = (
            device.and(KeyHash::of_number(record.start.nanos().cast_unsigned())),
            record.tid,
        );
        let (last, _) = self.threads.get_or_insert(&thread_key, || [u32::MAX; 2]);
        let mut surprises = Vec::with_capacity(record.numbers.len());
        let mut new_trigrams = 0;
        for &number in &record.numbers {
            let [first, second] = *last;
            if second != u32::MAX {
                let step = KeyHash::of_number(u64::from(second) << 32 | u64::from(number)).0 as usize % STEPS;
                let call = KeyHash::of_number(u64::from(second)).0 as usize % CALLS;
                // Laplace's rule, as if each of 256 next calls had come once in 256.
                let (seen, all) = (f64::from(program.steps[step]), f64::from(program.calls[call]));
                surprises.push(((all + 1.0) / (seen + 1.0 / 256.0)).log2().max(0.0));
                program.steps[step] = program.steps[step].saturating_add(1);
                program.calls[call] = program.calls[call].saturating_add(1);
                if first != u32::MAX {
                    let trigram = KeyHash::of_number(u64::from(first) << 32 | u64::from(second));
                    let trigram = command.and(trigram).and(KeyHash::of_number(u64::from(number)));
                    new_trigrams += u64::from(self.trigrams.is_new(trigram, at.time));
                }
            }
            *last = [second, number];
        }
        tell(
            at,
            Fact::Syscalls {
                device: &event.device,
                record,
                calls: &Calls {
                    surprises,
                    new_trigrams,
                },
            },
        );
    }

    pub(crate) fn state(&self) -> ProcessState {
        ProcessState {
            processes: self.processes.state(|_, process| process.clone()),
            programs: self.programs.state(|_, program| program.clone()),
            threads: self.threads.state(|_, last| *last),
            executables: self.executables.state(),
            pairs: self.pairs.state(),
            trigrams: self.trigrams.state(),
        }
    }

    pub(crate) fn restore(&mut self, state: ProcessState) {
        self.processes.restore(state.processes);
        self.programs.restore(state.programs);
        self.threads.restore(state.threads);
        self.executables.restore(state.executables);
        self.pairs.restore(state.pairs);
        self.trigrams.restore(state.trigrams);
    }
}

impl Default for Program {
    fn default() -> Self {
        Self {
            calls: vec![0; CALLS],
            steps: vec![0; STEPS],
        }
    }
}

impl TryFrom<(Vec<u32>, Vec<u32>)> for Program {
    type Error = &'static str;

    fn try_from((calls, steps): (Vec<u32>, Vec<u32>)) -> Result<Self, Self::Error> {
        if calls.len() == CALLS && steps.len() == STEPS {
            Ok(Self { calls, steps })
        } else {
            Err("not the counters of a program")
        }
    }
}

impl From<Program> for (Vec<u32>, Vec<u32>) {
    fn from(program: Program) -> Self {
        (program.calls, program.steps)
    }
}

/// Whether the program is a command line.
pub(crate) fn is_shell(executable: &str) -> bool {
    let name = executable.rsplit('/').next().unwrap_or_default();
    matches!(
        name,
        "sh" | "bash" | "dash" | "zsh" | "ksh" | "ash" | "csh" | "tcsh" | "fish" | "busybox"
    )
}

/// Whom facts about a process are about: its device and number.
pub(crate) fn process_entity(device: &Name, command: &str, pid: u32) -> Entity {
    Entity::Named(Name::from(format!("{device}/{command}[{pid}]").as_str()))
}
