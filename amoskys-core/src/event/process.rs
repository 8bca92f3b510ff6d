use crate::id::Name;
use crate::time::Timestamp;

/// A process started, ended or changed.
///
/// A process is named by its number and its start time together, because numbers are used again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessEvent {
    /// What it did.
    pub action: ProcessAction,
    /// Process id.
    pub pid: u32,
    /// When the process started.
    pub start: Timestamp,
    /// Parent's process id.
    pub parent_pid: u32,
    /// When the parent started; [`Timestamp::default`] if not known.
    pub parent_start: Timestamp,
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Path of the executable, as the system names it; may be empty if it could not be read.
    pub executable: String,
    /// Arguments, the first being the name it was called by.
    pub arguments: Vec<String>,
    /// Working directory; empty if not known.
    pub working_directory: String,
    /// Container id; empty outside containers.
    pub container: String,
    /// Exit status, for [`ProcessAction::Exit`].
    pub exit_code: Option<i32>,
    /// Signal that ended it, for [`ProcessAction::Exit`].
    pub exit_signal: Option<u32>,
    /// Name of the program as the kernel keeps it (at most 15 bytes on Linux); empty if not known.
    pub command: String,
    /// What runs the program if it is a script or needs a loader of its own; empty otherwise.
    pub interpreter: String,
    /// The path the program was called by, if it differs from [`executable`](Self::executable).
    pub called_as: String,
    /// The executable is in no directory: it was deleted, or only ever was in memory.
    pub from_memory: bool,
    /// Users, groups and capabilities after the event.
    pub credentials: Option<Credentials>,
    /// The same before the event, if they differ and are known.
    pub previous: Option<Credentials>,
    /// The namespaces it is in.
    pub namespaces: Option<Namespaces>,
    /// The process's id in its own namespace; 0 if not known.
    pub inner_pid: u32,
    /// Number of its control group; 0 if not known.
    pub cgroup: u64,
    /// Who created it: its parent first, then the parent's parent, and so on, as they were at its creation.
    pub ancestors: Vec<Ancestor>,
    /// What it used, for [`ProcessAction::Exit`].
    pub usage: Option<ResourceUsage>,
    /// What the system call returned that was to change its credentials, for [`ProcessAction::Credentials`].
    pub result: Option<i64>,
}

/// A process among those that led to another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ancestor {
    /// Process id.
    pub pid: u32,
    /// When it started.
    pub start: Timestamp,
    /// Path of its executable when it was last seen; empty if not known.
    pub executable: Name,
}

/// Users, groups and capabilities of a process. Capabilities are bit sets: bit `1 << n` is capability number `n`
/// (capabilities(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// Real user.
    pub uid: u32,
    /// Effective user: whose rights it has.
    pub effective_uid: u32,
    /// Saved user: whose rights it may take back.
    pub saved_uid: u32,
    /// Real group.
    pub gid: u32,
    /// Effective group.
    pub effective_gid: u32,
    /// Saved group.
    pub saved_gid: u32,
    /// Capabilities in effect.
    pub effective: u64,
    /// Capabilities it may put into effect.
    pub permitted: u64,
    /// Capabilities it hands on to programs that ask for them.
    pub inheritable: u64,
    /// Capabilities it can ever have.
    pub bounding: u64,
    /// Capabilities it hands on to any program.
    pub ambient: u64,
}

/// Numbers of a process's namespaces, as `/proc/PID/ns` has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Namespaces {
    /// Mounts.
    pub mount: u32,
    /// Process ids.
    pub pid: u32,
    /// Network.
    pub network: u32,
    /// Host names.
    pub uts: u32,
    /// System V and POSIX queues.
    pub ipc: u32,
    /// Control groups.
    pub cgroup: u32,
    /// Users.
    pub user: u32,
}

/// What a process used while it lived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ResourceUsage {
    /// Processor time in its own code, in nanoseconds.
    pub user_ns: u64,
    /// Processor time in the kernel, in nanoseconds.
    pub system_ns: u64,
    /// Page faults without input or output.
    pub minor_faults: u64,
    /// Page faults that waited for a device.
    pub major_faults: u64,
    /// Most memory it had resident at once, in bytes.
    pub max_resident_bytes: u64,
}

/// What a process did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProcessAction {
    /// It was there when observation began.
    #[default]
    Seen,
    /// It was created.
    Fork,
    /// It replaced its program.
    Exec,
    /// It ended.
    Exit,
    /// It changed its user, group or capabilities.
    Credentials,
}
