//! What costs more than a sample: read when a process is first seen, and on its turn.

use amoskys_core::event::{Credentials, Namespaces};
use rustix::io::Errno;

use super::procfs::Procfs;
use super::{container, parse};

/// What is known of a process beyond its sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Details {
    pub(super) executable: String,
    pub(super) from_memory: bool,
    pub(super) arguments: Vec<String>,
    pub(super) working_directory: String,
    pub(super) credentials: Option<Credentials>,
    pub(super) inner_pid: u32,
    pub(super) container: String,
    pub(super) namespaces: Option<Namespaces>,
}

/// Reads details, and counts what may not be read.
#[derive(Debug)]
pub(super) struct Reader {
    max_command_line_bytes: usize,
    buffer: Vec<u8>,
    /// Files of processes that may not be read.
    pub(super) refused: u64,
}

/// Lines of `status` before the capabilities hold groups, of which a user may have thousands.
const BUFFER_BYTES: usize = 1 << 16;

impl Reader {
    pub(super) fn new(max_command_line_bytes: usize) -> Self {
        Self {
            max_command_line_bytes,
            buffer: vec![0; BUFFER_BYTES.max(max_command_line_bytes)],
            refused: 0,
        }
    }

    /// What can be read of it; what cannot is empty.
    pub(super) fn read(&mut self, procfs: &Procfs, pid: u32) -> Details {
        let executable = self.allowed(procfs.link_of(pid, "exe")).unwrap_or_default();
        let (executable, from_memory) = match executable.strip_suffix(" (deleted)") {
            Some(path) => (path.to_owned(), true),
            None => (executable, false),
        };
        let command_line = self.max_command_line_bytes;
        let arguments = self
            .file(procfs, pid, "cmdline", command_line)
            .map(arguments)
            .unwrap_or_default();
        let (credentials, inner_pid) = self
            .file(procfs, pid, "status", BUFFER_BYTES)
            .map(|status| (parse::credentials(status), parse::inner_pid(status)))
            .unwrap_or_default();
        let container = self
            .file(procfs, pid, "cgroup", BUFFER_BYTES)
            .and_then(|groups| container::of_groups(std::str::from_utf8(groups).ok()?))
            .unwrap_or_default()
            .to_owned();
        let working_directory = self.allowed(procfs.link_of(pid, "cwd")).unwrap_or_default();
        Details {
            executable,
            from_memory,
            arguments,
            working_directory,
            credentials,
            inner_pid: inner_pid.unwrap_or_default(),
            container,
            namespaces: self.namespaces(procfs, pid),
        }
    }

    /// Bytes read from and written to devices, and open files.
    pub(super) fn usage(&mut self, procfs: &Procfs, pid: u32) -> (Option<(u64, u64)>, Option<u64>) {
        let io = self
            .file(procfs, pid, "io", BUFFER_BYTES)
            .and_then(parse::device_bytes);
        (io, self.allowed(procfs.open_files(pid)))
    }

    fn namespaces(&mut self, procfs: &Procfs, pid: u32) -> Option<Namespaces> {
        let mut number = |kind: &str| {
            let link = self.allowed(procfs.link_of(pid, &format!("ns/{kind}")))?;
            let (_, number) = link.strip_suffix(']')?.split_once('[')?;
            number.parse().ok()
        };
        Some(Namespaces {
            mount: number("mnt")?,
            pid: number("pid")?,
            network: number("net")?,
            uts: number("uts")?,
            ipc: number("ipc")?,
            cgroup: number("cgroup")?,
            user: number("user")?,
        })
    }

    fn file(&mut self, procfs: &Procfs, pid: u32, file: &str, limit: usize) -> Option<&[u8]> {
        let limit = limit.min(self.buffer.len());
        let read = procfs.read_of(pid, file, &mut self.buffer[..limit]);
        let bytes = self.allowed(read)?;
        self.buffer.get(..bytes)
    }

    fn allowed<T>(&mut self, result: Result<T, Errno>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(Errno::ACCESS | Errno::PERM) => {
                self.refused += 1;
                None
            }
            // It has ended, or is a thread of the kernel, which has neither program nor files.
            Err(_) => None,
        }
    }
}

/// Arguments end with a zero each; what a process has written over them may not.
fn arguments(command_line: &[u8]) -> Vec<String> {
    let command_line = command_line.strip_suffix(b"\0").unwrap_or(command_line);
    if command_line.is_empty() {
        return Vec::new();
    }
    command_line
        .split(|byte| *byte == 0)
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect()
}
