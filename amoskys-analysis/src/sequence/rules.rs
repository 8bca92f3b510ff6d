//! Known-bad patterns in what processes do, as rules that can be read and changed.

use amoskys_core::Event;
use amoskys_core::event::{ActivityAction, ActivityEvent, Payload, ProcessAction, ProcessEvent};
use serde::{Deserialize, Serialize};

/// A pattern: steps of one process, or of it and its children, in order, within a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PatternRule {
    /// A short name, unique among the rules.
    pub name: String,
    /// One line for people.
    pub title: String,
    /// MITRE ATT&CK technique.
    pub technique: String,
    /// Probability that it is an attack when all steps were seen.
    pub score: f64,
    /// Seconds from the first step to the last.
    pub within_seconds: f64,
    /// Whether all steps must be about the same file.
    pub same_file: bool,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

/// One step of a [`PatternRule`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Step {
    /// Memory that was writable is made executable: `mprotect` or `mmap` with both rights.
    WritableCode,
    /// A file that exists in memory only is created.
    MemoryFile,
    /// A program runs that is in no directory.
    RunFromMemory,
    /// A file is created in a place that anyone may write to, or by a program that fetches files.
    Download,
    /// A file is made executable.
    MakeExecutable,
    /// A program runs from a place that anyone may write to.
    RunFromTemporary,
    /// A connection goes out to a host that is not this one.
    ConnectOut,
    /// A shell starts.
    Shell,
    /// A shell starts with the words that tie it to a socket: `/dev/tcp/`, `-e /bin/sh`, and the like.
    SocketShell,
    /// The memory of another process is written, or it is traced.
    Inject,
    /// A module is loaded into the kernel.
    ModuleLoad,
}

/// Directories that anyone may write to.
const TEMPORARY: [&str; 4] = ["/tmp/", "/var/tmp/", "/dev/shm/", "/run/user/"];
const SHELLS: [&str; 8] = ["sh", "bash", "dash", "ash", "zsh", "ksh", "busybox", "fish"];
const FETCHERS: [&str; 8] = ["curl", "wget", "ftp", "tftp", "scp", "sftp", "nc", "ncat"];
/// Parts of command lines that tie a shell to a socket.
const SOCKET_WORDS: [&str; 9] = [
    "/dev/tcp/",
    "/dev/udp/",
    "-e /bin/sh",
    "-e /bin/bash",
    "-c /bin/sh",
    "-c /bin/bash",
    "exec:/bin/sh",
    "exec:/bin/bash",
    "exec:'bash",
];

impl Step {
    /// Whether an event is this step; if so, the file it is about, or nothing.
    pub(super) fn matches(self, event: &Event) -> Option<&str> {
        match &event.payload {
            Payload::Activity(activity) => self.of_activity(activity),
            Payload::Process(process) if process.action == ProcessAction::Exec => self.of_exec(process),
            _ => None,
        }
    }

    fn of_activity(self, activity: &ActivityEvent) -> Option<&str> {
        use ActivityAction as Did;
        let worked = activity.result.is_none_or(|result| result >= 0);
        let path = activity.path.as_str();
        let yes = |is: bool| (worked && is).then_some(path);
        match (self, activity.action) {
            (Self::WritableCode, Did::WritableCode) | (Self::MemoryFile, Did::MemoryFile) => yes(true),
            (Self::ModuleLoad, Did::ModuleLoad) => yes(true),
            (Self::Download, Did::FileCreate) => {
                yes(is_temporary(path) || is_one_of(&activity.command, &FETCHERS))
            }
            // 0o111: executable for anyone at all.
            (Self::MakeExecutable, Did::FileMode) => yes(activity.number & 0o111 != 0),
            (Self::ConnectOut, Did::Connect) => {
                let out = activity
                    .remote_address
                    .is_some_and(|address| !address.is_loopback());
                // A connection that is still being made is reported as an error.
                (out && activity.remote_port != 53).then_some("")
            }
            (Self::Inject, Did::MemoryWrite | Did::Ptrace) => yes(activity.target_pid != activity.pid),
            _ => None,
        }
    }

    fn of_exec(self, process: &ProcessEvent) -> Option<&str> {
        let path = process.executable.as_str();
        let yes = |is: bool| is.then_some(path);
        match self {
            Self::RunFromMemory => yes(process.from_memory || path.starts_with("/memfd:")),
            Self::RunFromTemporary => yes(is_temporary(path)),
            Self::Shell => yes(is_one_of(file_name(path), &SHELLS)),
            Self::SocketShell => {
                let line = process.arguments.join(" ");
                yes(SOCKET_WORDS.iter().any(|words| line.contains(words)))
            }
            _ => None,
        }
    }
}

fn is_temporary(path: &str) -> bool {
    TEMPORARY.iter().any(|directory| path.starts_with(directory))
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn is_one_of(name: &str, names: &[&str]) -> bool {
    names.contains(&name)
}

/// The rules of this version.
#[must_use]
pub fn pattern_rules() -> Vec<PatternRule> {
    let rule =
        |name: &str, title: &str, technique: &str, score, within_seconds, same_file, steps: &[Step]| {
            PatternRule {
                name: name.to_owned(),
                title: title.to_owned(),
                technique: technique.to_owned(),
                score,
                within_seconds,
                same_file,
                steps: steps.to_vec(),
            }
        };
    use Step::*;
    vec![
        rule(
            "download-run",
            "a file was fetched, made executable and run",
            "T1105",
            0.85,
            600.0,
            true,
            &[Download, MakeExecutable, RunFromTemporary],
        ),
        rule(
            "memory-run",
            "a program was run from memory, from no file",
            "T1620",
            0.85,
            600.0,
            false,
            &[MemoryFile, RunFromMemory],
        ),
        rule(
            "written-code",
            "writable memory was made executable, then a connection went out and a shell started",
            "T1055",
            0.85,
            60.0,
            false,
            &[WritableCode, ConnectOut, Shell],
        ),
        rule(
            "reverse-shell",
            "a shell was tied to a socket",
            "T1059.004",
            0.9,
            60.0,
            false,
            &[SocketShell],
        ),
        rule(
            "connect-shell",
            "a program from a place that anyone may write to connected out, then started a shell",
            "T1059.004",
            0.85,
            60.0,
            false,
            &[RunFromTemporary, ConnectOut, Shell],
        ),
        rule(
            "inject",
            "a program from a place that anyone may write to wrote into another process",
            "T1055",
            0.85,
            600.0,
            false,
            &[RunFromTemporary, Inject],
        ),
    ]
}
