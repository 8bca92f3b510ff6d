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
    /// Whether the steps must be taken by one process and those that descend from it. Otherwise what a process does counts for its
    /// parent too, and goes on in the parent's other children.
    #[serde(default)]
    pub in_line: bool,
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
    /// The same by a program that passes on between a socket and its input and output.
    RelayOut,
    /// A shell starts.
    Shell,
    /// A shell starts that was given neither a script nor a command, so that it waits for some; not one that a login program started.
    IdleShell,
    /// A shell starts below a program that serves the network.
    ServerShell,
    /// A shell starts with the words that tie it to a socket: `/dev/tcp/`, `-e /bin/sh`, and the like.
    SocketShell,
    /// The memory of another process is written, or it is traced.
    Inject,
    /// A module is loaded into the kernel.
    ModuleLoad,
    /// The memory of another process is read.
    MemoryRead,
    /// A process of another user gets the rights of root by a call.
    GainRoot,
    /// A process of another user gets the rights of root by running a program that is marked to be run with its owner's.
    RunAsRoot,
    /// A file is marked to run with the rights of its owner.
    SetUserId,
    /// A job that is run at certain times is written.
    ScheduledJob,
    /// What the system starts is written: services, start-up scripts.
    StartupFile,
    /// What shells run when they start is written.
    ShellStartup,
    /// Keys that may log in are written.
    LoginKeys,
    /// Accounts or their rights are written.
    Accounts,
    /// What is loaded into every program is written.
    Preload,
    /// Logs are removed.
    LogRemoval,
}

/// Directories that anyone may write to.
const TEMPORARY: [&str; 4] = ["/tmp/", "/var/tmp/", "/dev/shm/", "/run/user/"];
const SHELLS: [&str; 8] = ["sh", "bash", "dash", "ash", "zsh", "ksh", "busybox", "fish"];
const FETCHERS: [&str; 8] = ["curl", "wget", "ftp", "tftp", "scp", "sftp", "nc", "ncat"];
/// Programs that serve the network and have no use for a shell, or a bad one.
const SERVERS: [&str; 16] = [
    "nginx",
    "apache2",
    "httpd",
    "lighttpd",
    "caddy",
    "php-fpm",
    "uwsgi",
    "gunicorn",
    "tomcat",
    "postgres",
    "mysqld",
    "mariadbd",
    "redis-server",
    "mongod",
    "memcached",
    "named",
];
/// Programs whose purpose is to start a shell for somebody; some of them ask a directory over the network first.
const LOGINS: [&str; 10] = [
    "sshd",
    "sshd-session",
    "login",
    "su",
    "sudo",
    "doas",
    "agetty",
    "systemd",
    "screen",
    "tmux",
];
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
/// Parts of command lines that start a shell that waits for commands.
const IDLE_WORDS: [&str; 3] = ["sh -i", "/bin/sh |", "/bin/bash |"];
/// Programs that pass on between a socket and their input and output, as they are called and as parts of command lines.
const RELAYS: [&str; 7] = [
    "nc",
    "ncat",
    "netcat",
    "nc.openbsd",
    "nc.traditional",
    "socat",
    "telnet",
];
const RELAY_WORDS: [&str; 5] = ["| nc ", "| ncat ", "|nc ", "| telnet ", "openssl s_client"];

impl Step {
    /// Whether an event is this step; if so, the file it is about, or nothing.
    pub(super) fn matches(self, event: &Event) -> Option<&str> {
        match &event.payload {
            Payload::Activity(activity) => self.of_activity(activity),
            Payload::Process(process) if self == Self::GainRoot => {
                let by_call = process.action == ProcessAction::Credentials;
                (by_call && gains_root(process)).then_some("")
            }
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
            (Self::RelayOut, Did::Connect) if !is_one_of(&activity.command, &RELAYS) => None,
            (Self::ConnectOut | Self::RelayOut, Did::Connect) => {
                let out = activity
                    .remote_address
                    .is_some_and(|address| !address.is_loopback());
                // A connection that is still being made is reported as an error.
                (out && activity.remote_port != 53).then_some("")
            }
            (Self::Inject, Did::MemoryWrite | Did::Ptrace) => yes(activity.target_pid != activity.pid),
            (Self::MemoryRead, Did::MemoryRead) => yes(activity.target_pid != activity.pid),
            // 0o6000: with the rights of the file's owner or group.
            (Self::SetUserId, Did::FileMode) => yes(activity.number & 0o6000 != 0),
            (Self::LogRemoval, Did::FileUnlink) => yes(path.starts_with("/var/log/")),
            (
                Self::ScheduledJob
                | Self::StartupFile
                | Self::ShellStartup
                | Self::LoginKeys
                | Self::Accounts
                | Self::Preload,
                _,
            ) => written(activity).filter(|path| worked && self.is_kept_in(path)),
            _ => None,
        }
    }

    /// Whether a file is one of those by which this step is taken.
    fn is_kept_in(self, path: &str) -> bool {
        let below = |folders: &[&str]| folders.iter().any(|folder| path.starts_with(folder));
        let name = file_name(path);
        match self {
            Self::ScheduledJob => {
                below(&[
                    "/etc/cron",
                    "/var/spool/cron/",
                    "/etc/anacrontab",
                    "/var/spool/at/",
                ]) || (path.contains("/systemd/") && name.ends_with(".timer"))
            }
            Self::StartupFile => {
                below(&["/etc/init.d/", "/etc/rc.local", "/etc/rc.d/", "/etc/init/"])
                    || (path.contains("/systemd/") && name.ends_with(".service"))
                    || path.contains("/.config/autostart/")
            }
            Self::ShellStartup => {
                below(&[
                    "/etc/profile",
                    "/etc/bash.bashrc",
                    "/etc/zsh/",
                    "/etc/environment",
                ]) || is_one_of(
                    name,
                    &[
                        ".bashrc",
                        ".bash_profile",
                        ".bash_login",
                        ".profile",
                        ".zshrc",
                        ".zprofile",
                        ".zshenv",
                    ],
                )
            }
            Self::LoginKeys => path.contains("/.ssh/authorized_keys"),
            Self::Accounts => below(&[
                "/etc/passwd",
                "/etc/shadow",
                "/etc/group",
                "/etc/sudoers",
                "/etc/pam.d/",
            ]),
            Self::Preload => below(&["/etc/ld.so.preload"]),
            _ => false,
        }
    }

    fn of_exec(self, process: &ProcessEvent) -> Option<&str> {
        let path = process.executable.as_str();
        let yes = |is: bool| is.then_some(path);
        match self {
            Self::RunFromMemory => yes(process.from_memory || path.starts_with("/memfd:")),
            Self::RunFromTemporary => yes(is_temporary(path)),
            Self::Shell => yes(is_shell(process)),
            Self::IdleShell => {
                let login = process
                    .arguments
                    .first()
                    .is_some_and(|name| name.starts_with('-'));
                yes(is_shell(process)
                    && waits(&process.arguments)
                    && !login
                    && !is_started_by(process, &LOGINS))
            }
            Self::RunAsRoot => yes(gains_root(process)),
            Self::ServerShell => yes(is_shell(process) && is_started_by(process, &SERVERS)),
            Self::SocketShell => {
                let line = process.arguments.join(" ");
                let has = |parts: &[&str]| parts.iter().any(|part| line.contains(part));
                yes(has(&SOCKET_WORDS) || (has(&IDLE_WORDS) && has(&RELAY_WORDS)))
            }
            _ => None,
        }
    }
}

fn is_shell(process: &ProcessEvent) -> bool {
    is_one_of(file_name(&process.executable), &SHELLS)
}

/// Whether a shell with these arguments has nothing to run: options only, and none that brings a command.
fn waits(arguments: &[String]) -> bool {
    arguments.iter().skip(1).all(|word| {
        let short = word.starts_with('-') && !word.starts_with("--");
        (word.starts_with('-') || word.starts_with('+')) && !(short && word.contains('c'))
    })
}

fn is_started_by(process: &ProcessEvent, programs: &[&str]) -> bool {
    let parent = process.ancestors.first();
    // Some name themselves with a version: `php-fpm8.2`.
    let name = parent.map_or("", |parent| file_name(parent.executable.as_str()));
    let name = name.trim_end_matches(|last: char| last.is_ascii_digit() || last == '.');
    is_one_of(name, programs)
}

/// Whether a process that had not the rights of root has them now.
fn gains_root(process: &ProcessEvent) -> bool {
    let (Some(before), Some(after)) = (&process.previous, &process.credentials) else {
        return false;
    };
    // Who has the rights of root by another number already gains none.
    let had = before.uid == 0 || before.saved_uid == 0;
    let worked = process.result.is_none_or(|result| result >= 0);
    worked && !had && before.effective_uid != 0 && after.effective_uid == 0
}

/// The file that an activity writes, or gives this name.
fn written(activity: &ActivityEvent) -> Option<&str> {
    use ActivityAction as Did;
    match activity.action {
        // Of a link this is where it lies; the other path is what it leads to.
        Did::FileCreate | Did::FileModify | Did::FileLink => Some(&activity.path),
        Did::FileRename => Some(&activity.other_path),
        // O_WRONLY or O_RDWR.
        Did::FileOpen => (activity.flags & 0o3 != 0).then_some(activity.path.as_str()),
        _ => None,
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
///
/// Those with a score below one half are hints: what administrators do too, and what nobody needs to hear of, unless it is done by
/// those who are accused already. A [`Correlation`](crate::Correlation) knows.
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
                in_line: false,
                steps: steps.to_vec(),
            }
        };
    let in_line = |rule: PatternRule| PatternRule {
        in_line: true,
        ..rule
    };
    let hint = |name: &str, title: &str, technique: &str, score, step| {
        rule(name, title, technique, score, 0.0, false, &[step])
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
        in_line(rule(
            "shell-out",
            "a program that had connected out became or started a shell that waits for commands",
            "T1059.004",
            0.85,
            10.0,
            false,
            &[ConnectOut, IdleShell],
        )),
        rule(
            "relayed-shell",
            "a shell that waits for commands and a program that passes on to a socket were started together",
            "T1059.004",
            0.85,
            10.0,
            false,
            &[IdleShell, RelayOut],
        ),
        rule(
            "server-shell",
            "a program that serves the network started a shell",
            "T1059.004",
            0.6,
            0.0,
            false,
            &[ServerShell],
        ),
        hint(
            "root-call",
            "the rights of root were gained by a call",
            "T1548",
            0.1,
            GainRoot,
        ),
        hint(
            "root-program",
            "a program marked for it was run with the rights of root",
            "T1548.001",
            0.1,
            RunAsRoot,
        ),
        hint(
            "set-user-id",
            "a file was marked to run with its owner's rights",
            "T1548.001",
            0.25,
            SetUserId,
        ),
        hint(
            "scheduled-job",
            "a job to be run at certain times was written",
            "T1053.003",
            0.2,
            ScheduledJob,
        ),
        hint(
            "startup-file",
            "what the system starts was changed",
            "T1543.002",
            0.2,
            StartupFile,
        ),
        hint(
            "shell-startup",
            "what shells run when they start was changed",
            "T1546.004",
            0.2,
            ShellStartup,
        ),
        hint(
            "login-keys",
            "keys that may log in were changed",
            "T1098.004",
            0.2,
            LoginKeys,
        ),
        hint(
            "accounts",
            "accounts or their rights were changed",
            "T1098",
            0.2,
            Accounts,
        ),
        hint(
            "preload",
            "what is loaded into every program was changed",
            "T1574.006",
            0.6,
            Preload,
        ),
        hint(
            "trace",
            "another process was traced or its memory written",
            "T1055",
            0.25,
            Inject,
        ),
        hint(
            "memory-read",
            "the memory of another process was read",
            "T1003.007",
            0.25,
            MemoryRead,
        ),
        hint(
            "kernel-module",
            "a module was loaded into the kernel",
            "T1547.006",
            0.2,
            ModuleLoad,
        ),
        hint("log-removal", "logs were removed", "T1070.002", 0.2, LogRemoval),
    ]
}
