//! From records to events: names processes, resolves paths, and says what the numbers mean.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use amoskys_core::event::{
    ActivityAction, ActivityEvent, ActivityVia, Credentials, Namespaces, Payload, ProcessAction,
    ProcessEvent, ResourceUsage, SyscallEvent,
};

use super::clock::BootClock;
use super::record::{Activity, EventKind, Exit, Header, Present, Process, RawCredentials, Sequence, text};
use super::table::{Facts, Known, ProcessTable};
use crate::packet::dns::DnsDecoder;

/// Turns records into payloads.
pub(super) struct Decoder {
    pub(super) table: ProcessTable,
    pub(super) clock: BootClock,
    page_bytes: u64,
    dns: DnsDecoder,
}

impl Decoder {
    pub(super) fn new(clock: BootClock) -> Self {
        Self {
            table: ProcessTable::new(clock),
            clock,
            page_bytes: rustix::param::page_size() as u64,
            dns: DnsDecoder::new(),
        }
    }

    /// A process that was there at the start.
    pub(super) fn present(&mut self, present: &Present<'_>) -> Payload {
        let header = Header {
            kind: EventKind::Fork,
            time: 0,
            pid: present.pid,
            tid: present.pid,
            start: present.start,
            uid: present.uid,
            gid: present.gid,
            cgroup: 0,
            command: present.command,
        };
        let link = |name| {
            let path = std::fs::read_link(format!("/proc/{}/{name}", present.pid));
            path.map(|path| path.to_string_lossy().into_owned())
                .unwrap_or_default()
        };
        let executable = link("exe");
        let mut event = self.describe(
            &header,
            &present.process,
            Some(&executable),
            present.cgroups.map(text),
        );
        event.action = ProcessAction::Seen;
        event.previous = None;
        event.working_directory = link("cwd");
        let arguments = std::fs::read(format!("/proc/{}/cmdline", present.pid)).unwrap_or_default();
        event.arguments = split_arguments(&arguments);
        Payload::Process(Box::new(event))
    }

    /// A process was created, has another program, or other credentials.
    pub(super) fn process(&mut self, header: &Header, process: &Process<'_>) -> Payload {
        let is_exec = header.kind == EventKind::Exec;
        let executable = is_exec.then(|| text(process.executable));
        let mut event = self.describe(header, process, executable.as_deref(), process.cgroups.map(text));
        match header.kind {
            EventKind::Exec => {
                event.action = ProcessAction::Exec;
                event.arguments = split_arguments(process.arguments);
                event.working_directory = text(process.directory);
                let (called_as, interpreter) = (text(process.called_as), text(process.interpreter));
                if interpreter != called_as {
                    event.interpreter = interpreter;
                }
                if called_as != event.executable {
                    event.called_as = called_as;
                }
                event.from_memory = process.links == 0;
            }
            EventKind::Credentials => {
                event.action = ProcessAction::Credentials;
                event.result = Some(process.result);
            }
            _ => {
                event.action = ProcessAction::Fork;
                event.previous = None;
            }
        }
        Payload::Process(Box::new(event))
    }

    fn describe(
        &mut self,
        header: &Header,
        process: &Process<'_>,
        executable: Option<&str>,
        cgroup_names: [String; 2],
    ) -> ProcessEvent {
        let credentials = credentials(&process.credentials);
        let facts = Facts {
            pid: header.pid,
            start: header.start,
            parent: (process.parent_pid, process.parent_start),
            executable,
            cgroup: header.cgroup,
            cgroup_names: [&cgroup_names[0], &cgroup_names[1]],
            credentials,
        };
        let clock = self.clock;
        let (known, previous) = self.table.record(&facts);
        let [mount, pid, network, uts, ipc, cgroup, user] = process.namespaces;
        ProcessEvent {
            pid: header.pid,
            start: clock.start(header.start),
            parent_pid: process.parent_pid,
            parent_start: clock.start(process.parent_start),
            uid: credentials.effective_uid,
            gid: credentials.effective_gid,
            executable: known.executable.to_string(),
            container: known.container.to_string(),
            command: text(&header.command),
            credentials: Some(credentials),
            previous: previous.filter(|previous| *previous != credentials),
            namespaces: Some(Namespaces {
                mount,
                pid,
                network,
                uts,
                ipc,
                cgroup,
                user,
            }),
            inner_pid: process.inner_pid,
            cgroup: header.cgroup,
            ancestors: known.ancestors.clone(),
            ..ProcessEvent::default()
        }
    }

    /// A process ended.
    pub(super) fn exit(&mut self, header: &Header, exit: &Exit) -> Payload {
        let clock = self.clock;
        let known = self.table.seen(header.pid, header.start, 0);
        let signal = exit.status & 0x7f;
        let event = ProcessEvent {
            action: ProcessAction::Exit,
            pid: header.pid,
            start: clock.start(header.start),
            parent_pid: known.parent.0,
            parent_start: clock.start(known.parent.1),
            uid: header.uid,
            gid: header.gid,
            executable: known.executable.to_string(),
            container: known.container.to_string(),
            command: text(&header.command),
            exit_code: (signal == 0).then_some((exit.status >> 8 & 0xff) as i32),
            exit_signal: (signal != 0).then_some(signal),
            cgroup: header.cgroup,
            ancestors: known.ancestors.clone(),
            usage: Some(ResourceUsage {
                user_ns: exit.user_ns,
                system_ns: exit.system_ns,
                minor_faults: exit.minor_faults,
                major_faults: exit.major_faults,
                max_resident_bytes: exit.max_rss_pages.saturating_mul(self.page_bytes),
            }),
            ..ProcessEvent::default()
        };
        self.table.ended(header.pid, header.start);
        Payload::Process(Box::new(event))
    }

    /// A run of system calls.
    pub(super) fn sequence(&mut self, header: &Header, sequence: &Sequence<'_>) -> Payload {
        let numbers = sequence.calls.chunks_exact(2);
        Payload::Syscall(Box::new(SyscallEvent {
            pid: header.pid,
            start: self.clock.start(header.start),
            tid: header.tid,
            command: text(&header.command),
            architecture: std::env::consts::ARCH.to_owned(),
            numbers: numbers
                .map(|pair| u32::from(u16::from_ne_bytes([pair[0], pair[1]])))
                .collect(),
            return_value: None,
            first: sequence.first,
            first_time: self.clock.time(sequence.first_time),
        }))
    }

    /// Something else a process did. `None` if its path, once resolved, is not one that `is_watched`.
    pub(super) fn activity(
        &mut self,
        header: &Header,
        activity: &Activity<'_>,
        is_watched: impl Fn(&str) -> bool,
    ) -> Option<Payload> {
        let action = action(header.kind)?;
        let [flags, number, amount, _] = activity.arguments;
        let clock = self.clock;
        let mut event = ActivityEvent {
            action,
            via: match activity.via {
                0 => ActivityVia::Syscall,
                1 => ActivityVia::IoUring,
                _ => ActivityVia::Kernel,
            },
            result: (activity.via != 1).then_some(activity.result),
            flags,
            number,
            amount,
            remote_address: address(activity.family, &activity.remote),
            remote_port: activity.remote_port,
            local_address: address(activity.family, &activity.local),
            local_port: activity.local_port,
            protocol: u8::try_from(activity.protocol).unwrap_or_default(),
            target_pid: activity.target_pid,
            ..ActivityEvent::default()
        };
        if header.kind == EventKind::Dns {
            let message = self.dns.decode(activity.texts[0], 0);
            let question = message.questions.first()?;
            event.name.clone_from(&question.name);
            event.number = question.qtype.into();
        } else {
            event.path = text(activity.texts[0]);
            event.other_path = text(activity.texts[1]);
            event.name = text(activity.texts[2]);
        }
        if is_file(header.kind) {
            let resolved = [&mut event.path, &mut event.other_path].map(resolve);
            if resolved.contains(&true) && !is_watched(&event.path) && !is_watched(&event.other_path) {
                return None;
            }
        }
        if activity.target_pid != 0 {
            let start = match activity.target_start {
                0 => self.table.current(activity.target_pid).map(|known| known.start),
                start => Some(start),
            };
            event.target_start = start.map(|start| clock.start(start)).unwrap_or_default();
            event.target_uid = (activity.target_start != 0).then_some(activity.target_uid);
        }
        let known = self.table.seen(header.pid, header.start, header.cgroup);
        name(&mut event, header, known, clock);
        Some(Payload::Activity(Box::new(event)))
    }
}

fn name(event: &mut ActivityEvent, header: &Header, known: &Known, clock: BootClock) {
    event.pid = header.pid;
    event.start = clock.start(header.start);
    event.tid = header.tid;
    event.uid = header.uid;
    event.gid = header.gid;
    event.command = text(&header.command);
    event.executable = known.executable.to_string();
    event.container = known.container.to_string();
    event.ancestors.clone_from(&known.ancestors);
}

fn action(kind: EventKind) -> Option<ActivityAction> {
    use ActivityAction as A;
    use EventKind as K;
    Some(match kind {
        K::Exec | K::Fork | K::Exit | K::Credentials | K::Sequence | K::Histogram => return None,
        K::Open => A::FileOpen,
        K::Create => A::FileCreate,
        K::Unlink => A::FileUnlink,
        K::Rename => A::FileRename,
        K::Chmod => A::FileMode,
        K::Chown => A::FileOwner,
        K::Link => A::FileLink,
        K::Connect => A::Connect,
        K::Accept => A::Accept,
        K::Bind => A::Bind,
        K::Listen => A::Listen,
        K::Send => A::Send,
        K::Dns => A::DnsQuery,
        K::Ptrace => A::Ptrace,
        K::MemoryRead => A::MemoryRead,
        K::MemoryWrite => A::MemoryWrite,
        K::MemoryFile => A::MemoryFile,
        K::WritableMap | K::WritableProtect => A::WritableCode,
        K::Capability => A::CapabilityUse,
        K::Mount => A::Mount,
        K::Unmount => A::Unmount,
        K::Unshare => A::Unshare,
        K::EnterNamespace => A::EnterNamespace,
        K::ModuleLoad => A::ModuleLoad,
        K::ModuleUnload => A::ModuleUnload,
        K::BpfLoad => A::BpfLoad,
        K::Signal => A::Signal,
        K::IoUring => A::IoUring,
        K::Denied => A::ConnectDenied,
    })
}

const fn is_file(kind: EventKind) -> bool {
    matches!(kind as u16, 5..=11)
}

fn address(family: u16, bytes: &[u8; 16]) -> Option<IpAddr> {
    let [a, b, c, d, ..] = *bytes;
    match family {
        4 => Some(Ipv4Addr::new(a, b, c, d).into()),
        6 => Some(Ipv6Addr::from(*bytes).into()),
        _ => None,
    }
}

fn credentials(raw: &RawCredentials) -> Credentials {
    let [uid, effective_uid, saved_uid, _] = raw.users;
    let [gid, effective_gid, saved_gid, _] = raw.groups;
    let [effective, permitted, inheritable, bounding, ambient] = raw.capabilities;
    Credentials {
        uid,
        effective_uid,
        saved_uid,
        gid,
        effective_gid,
        saved_gid,
        effective,
        permitted,
        inheritable,
        bounding,
        ambient,
    }
}

fn split_arguments(bytes: &[u8]) -> Vec<String> {
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    let arguments = bytes.split(|byte| *byte == 0);
    arguments
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect()
}

/// Takes `.`, `..` and double slashes out of an absolute path; true if there were any. Symbolic links are not followed:
/// by now they may lead elsewhere.
fn resolve(path: &mut String) -> bool {
    let is_plain = |path: &str| {
        path.len() <= 1
            || path
                .split('/')
                .skip(1)
                .all(|part| !matches!(part, "" | "." | ".."))
    };
    if !path.starts_with('/') || is_plain(path) {
        return false;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    *path = format!("/{}", parts.join("/"));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lose_what_leads_nowhere() {
        for (given, resolved) in [
            ("/etc/passwd", None),
            ("/", None),
            ("", None),
            ("etc", None),
            ("/tmp/../etc/passwd", Some("/etc/passwd")),
            ("/etc//./shadow", Some("/etc/shadow")),
            ("/../../..", Some("/")),
            ("/etc/..a", None),
        ] {
            let mut path = given.to_owned();
            assert_eq!(resolve(&mut path), resolved.is_some(), "{given}");
            assert_eq!(path, resolved.unwrap_or(given));
        }
    }

    #[test]
    fn arguments_are_split_at_their_ends() {
        assert_eq!(split_arguments(b"ls\0-l\0\0"), ["ls", "-l", ""]);
        assert_eq!(split_arguments(b"cut in the mi"), ["cut in the mi"]);
        assert!(split_arguments(b"").is_empty());
    }
}
