use std::net::IpAddr;

use super::process::Ancestor;
use crate::time::Timestamp;

/// Something a process did that matters to security: to files, peers, other processes, its own memory or the kernel.
///
/// Which of the fields mean something depends on the [`action`](Self::action); the others are empty or zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ActivityEvent {
    /// What it did.
    pub action: ActivityAction,
    /// How it was seen.
    pub via: ActivityVia,
    /// Process id.
    pub pid: u32,
    /// When the process started.
    pub start: Timestamp,
    /// Thread id.
    pub tid: u32,
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Name of the program, as the kernel keeps it (at most 15 bytes on Linux).
    pub command: String,
    /// Path of the executable; empty if not known.
    pub executable: String,
    /// Container id; empty outside containers.
    pub container: String,
    /// Who created the process: its parent first, then the parent's parent, and so on.
    pub ancestors: Vec<Ancestor>,
    /// What the call returned: below zero, the negated error number; `None` if not observed.
    pub result: Option<i64>,
    /// The file, directory or Unix socket it is about.
    pub path: String,
    /// The other path of a renaming, link or mount: the new name, where it leads, or what is mounted.
    pub other_path: String,
    /// A name that is no path: asked for, of a memory file, a module, a BPF program, a type of file system.
    pub name: String,
    /// Flags of the call, as the system numbers them: of opening, mapping, namespaces, mounting.
    pub flags: u64,
    /// What has a number of its own: permissions, the capability, the request of ptrace, the signal, the operation of
    /// io_uring, the type of a BPF program or of a question for a name.
    pub number: u64,
    /// Memory address, size in bytes, or user in the upper and group in the lower 32 bits.
    pub amount: u64,
    /// The peer's address.
    pub remote_address: Option<IpAddr>,
    /// The peer's port.
    pub remote_port: u16,
    /// The own address.
    pub local_address: Option<IpAddr>,
    /// The own port.
    pub local_port: u16,
    /// IP protocol of the socket: 6 TCP, 17 UDP.
    pub protocol: u8,
    /// The other process; 0 if there is none.
    pub target_pid: u32,
    /// When the other process started; [`Timestamp::default`] if not known.
    pub target_start: Timestamp,
    /// Effective user of the other process, if observed.
    pub target_uid: Option<u32>,
}

/// How an activity was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ActivityVia {
    /// As a system call, when it returned.
    #[default]
    Syscall,
    /// As a request in a ring of io_uring, when it was submitted.
    IoUring,
    /// Where the kernel does it, whatever asked for it.
    Kernel,
    /// Not as it happened: what there is was compared with what there was. Who did it is not known unless a process is
    /// named, and several changes in between look like one.
    Comparison,
}

/// What a process did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ActivityAction {
    /// It opened a file.
    #[default]
    FileOpen,
    /// It created a file.
    FileCreate,
    /// It removed a name of a file, or a directory.
    FileUnlink,
    /// It gave a file another name.
    FileRename,
    /// It changed the permissions of a file.
    FileMode,
    /// It changed the owner or group of a file.
    FileOwner,
    /// It made a hard or symbolic link.
    FileLink,
    /// It connected to a peer.
    Connect,
    /// It accepted a connection.
    Accept,
    /// It took an address of its own.
    Bind,
    /// It began to wait for connections.
    Listen,
    /// It sent to a peer without connecting first.
    Send,
    /// It asked for a name.
    DnsQuery,
    /// It asked to trace a process, or controlled one it traces.
    Ptrace,
    /// It read the memory of another process.
    MemoryRead,
    /// It wrote the memory of another process.
    MemoryWrite,
    /// It created a file that exists in memory only.
    MemoryFile,
    /// It mapped memory that is writable and executable at once.
    WritableCode,
    /// It needed a capability; the result says whether it had it.
    CapabilityUse,
    /// It mounted a file system.
    Mount,
    /// It unmounted a file system.
    Unmount,
    /// It left namespaces for new ones.
    Unshare,
    /// It entered a namespace.
    EnterNamespace,
    /// It loaded a module into the kernel.
    ModuleLoad,
    /// It unloaded a module of the kernel.
    ModuleUnload,
    /// It loaded a BPF program into the kernel.
    BpfLoad,
    /// It sent a signal to a process of another user.
    Signal,
    /// It asked for an operation by way of io_uring, which system calls do not show.
    IoUring,
    /// A policy denied it a connection.
    ConnectDenied,
    /// It changed what is in a file.
    FileModify,
    /// It let a user in, and keeps the session: on a terminal ([`path`](ActivityEvent::path)), from a peer.
    LogIn,
    /// The session of a user has ended.
    LogOut,
}

impl ActivityAction {
    /// All actions.
    pub const ALL: [Self; 32] = [
        Self::FileOpen,
        Self::FileCreate,
        Self::FileUnlink,
        Self::FileRename,
        Self::FileMode,
        Self::FileOwner,
        Self::FileLink,
        Self::Connect,
        Self::Accept,
        Self::Bind,
        Self::Listen,
        Self::Send,
        Self::DnsQuery,
        Self::Ptrace,
        Self::MemoryRead,
        Self::MemoryWrite,
        Self::MemoryFile,
        Self::WritableCode,
        Self::CapabilityUse,
        Self::Mount,
        Self::Unmount,
        Self::Unshare,
        Self::EnterNamespace,
        Self::ModuleLoad,
        Self::ModuleUnload,
        Self::BpfLoad,
        Self::Signal,
        Self::IoUring,
        Self::ConnectDenied,
        Self::FileModify,
        Self::LogIn,
        Self::LogOut,
    ];

    /// The name used in configuration, metrics and file formats.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FileOpen => "file_open",
            Self::FileCreate => "file_create",
            Self::FileUnlink => "file_unlink",
            Self::FileRename => "file_rename",
            Self::FileMode => "file_mode",
            Self::FileOwner => "file_owner",
            Self::FileLink => "file_link",
            Self::Connect => "connect",
            Self::Accept => "accept",
            Self::Bind => "bind",
            Self::Listen => "listen",
            Self::Send => "send",
            Self::DnsQuery => "dns_query",
            Self::Ptrace => "ptrace",
            Self::MemoryRead => "memory_read",
            Self::MemoryWrite => "memory_write",
            Self::MemoryFile => "memory_file",
            Self::WritableCode => "writable_code",
            Self::CapabilityUse => "capability_use",
            Self::Mount => "mount",
            Self::Unmount => "unmount",
            Self::Unshare => "unshare",
            Self::EnterNamespace => "enter_namespace",
            Self::ModuleLoad => "module_load",
            Self::ModuleUnload => "module_unload",
            Self::BpfLoad => "bpf_load",
            Self::Signal => "signal",
            Self::IoUring => "io_uring",
            Self::ConnectDenied => "connect_denied",
            Self::FileModify => "file_modify",
            Self::LogIn => "log_in",
            Self::LogOut => "log_out",
        }
    }
}

impl std::fmt::Display for ActivityAction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}
