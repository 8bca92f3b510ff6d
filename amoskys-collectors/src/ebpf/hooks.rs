//! Which program belongs where.

use super::record::EventKind as Kind;

/// Where a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A tracepoint with types.
    Tracepoint(&'static str),
    /// The return of a system call.
    Call(&'static str),
    /// The beginning of a function of the kernel.
    Entry(&'static str),
    /// The end of a function of the kernel.
    Exit(&'static str),
    /// The beginning of a function of the kernel, by a breakpoint.
    Kprobe(&'static str),
    /// A question to the security modules.
    Lsm(&'static str),
}

/// A program of the object of events.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hook {
    pub(super) program: &'static str,
    pub(super) place: Place,
    /// It is attached if one of these is wanted.
    pub(super) kinds: &'static [Kind],
    /// It is attached only if this program is not: that sees the same, and costs less or sees more.
    pub(super) unless: Option<&'static str>,
}

const fn at(program: &'static str, tracepoint: &'static str, kinds: &'static [Kind]) -> Hook {
    Hook {
        program,
        place: Place::Tracepoint(tracepoint),
        kinds,
        unless: None,
    }
}

const fn call(program: &'static str, name: &'static str, kinds: &'static [Kind]) -> Hook {
    Hook {
        program,
        place: Place::Call(name),
        kinds,
        unless: None,
    }
}

/// One of those that not all kernels take.
const fn extra(
    program: &'static str,
    place: Place,
    kinds: &'static [Kind],
    unless: Option<&'static str>,
) -> Hook {
    Hook {
        program,
        place,
        kinds,
        unless,
    }
}

const URING: &[Kind] = &[Kind::IoUring, Kind::Open, Kind::Rename, Kind::Unlink];
const OPENING: &[Kind] = &[Kind::Open, Kind::Create];

/// All programs that report events. Calls that only old tables have are there on x86-64 alone.
pub(super) const HOOKS: &[Hook] = &[
    at("on_exec", "sched_process_exec", &[Kind::Exec]),
    at("on_fork", "sched_process_fork", &[Kind::Fork]),
    at("on_exit", "sched_process_exit", &[Kind::Exit]),
    at("on_signal", "signal_generate", &[Kind::Signal]),
    at("on_capability", "cap_capable", &[Kind::Capability]),
    extra(
        "exit_capability",
        Place::Exit("cap_capable"),
        &[Kind::Capability],
        Some("on_capability"),
    ),
    at("on_uring", "io_uring_submit_req", URING),
    extra(
        "on_uring_sqe",
        Place::Tracepoint("io_uring_submit_sqe"),
        URING,
        Some("on_uring"),
    ),
    extra(
        "enter_commit",
        Place::Entry("commit_creds"),
        &[Kind::Credentials],
        None,
    ),
    extra(
        "probe_commit",
        Place::Kprobe("commit_creds"),
        &[Kind::Credentials],
        Some("enter_commit"),
    ),
    extra("judge_open", Place::Lsm("file_open"), OPENING, None),
    extra(
        "enter_open",
        Place::Entry("security_file_open"),
        OPENING,
        Some("judge_open"),
    ),
    #[cfg(target_arch = "x86_64")]
    call("call_open", "open", OPENING),
    call("call_openat", "openat", OPENING),
    call("call_openat2", "openat2", OPENING),
    #[cfg(target_arch = "x86_64")]
    call("call_creat", "creat", OPENING),
    call("call_open_by_handle_at", "open_by_handle_at", &[Kind::Open]),
    call("call_truncate", "truncate", &[Kind::Open]),
    #[cfg(target_arch = "x86_64")]
    call("call_mknod", "mknod", &[Kind::Create]),
    call("call_mknodat", "mknodat", &[Kind::Create]),
    #[cfg(target_arch = "x86_64")]
    call("call_unlink", "unlink", &[Kind::Unlink]),
    call("call_unlinkat", "unlinkat", &[Kind::Unlink]),
    #[cfg(target_arch = "x86_64")]
    call("call_rmdir", "rmdir", &[Kind::Unlink]),
    #[cfg(target_arch = "x86_64")]
    call("call_rename", "rename", &[Kind::Rename]),
    call("call_renameat", "renameat", &[Kind::Rename]),
    call("call_renameat2", "renameat2", &[Kind::Rename]),
    #[cfg(target_arch = "x86_64")]
    call("call_chmod", "chmod", &[Kind::Chmod]),
    call("call_fchmod", "fchmod", &[Kind::Chmod]),
    call("call_fchmodat", "fchmodat", &[Kind::Chmod]),
    call("call_fchmodat2", "fchmodat2", &[Kind::Chmod]),
    #[cfg(target_arch = "x86_64")]
    call("call_chown", "chown", &[Kind::Chown]),
    #[cfg(target_arch = "x86_64")]
    call("call_lchown", "lchown", &[Kind::Chown]),
    call("call_fchown", "fchown", &[Kind::Chown]),
    call("call_fchownat", "fchownat", &[Kind::Chown]),
    #[cfg(target_arch = "x86_64")]
    call("call_link", "link", &[Kind::Link]),
    call("call_linkat", "linkat", &[Kind::Link]),
    #[cfg(target_arch = "x86_64")]
    call("call_symlink", "symlink", &[Kind::Link]),
    call("call_symlinkat", "symlinkat", &[Kind::Link]),
    call("call_connect", "connect", &[Kind::Connect]),
    call("call_accept", "accept", &[Kind::Accept]),
    call("call_accept4", "accept4", &[Kind::Accept]),
    call("call_bind", "bind", &[Kind::Bind]),
    call("call_listen", "listen", &[Kind::Listen]),
    call("call_sendto", "sendto", &[Kind::Send, Kind::Dns]),
    call("call_sendmsg", "sendmsg", &[Kind::Send, Kind::Dns]),
    call("call_sendmmsg", "sendmmsg", &[Kind::Send, Kind::Dns]),
    call("call_ptrace", "ptrace", &[Kind::Ptrace]),
    call("call_process_vm_readv", "process_vm_readv", &[Kind::MemoryRead]),
    call(
        "call_process_vm_writev",
        "process_vm_writev",
        &[Kind::MemoryWrite],
    ),
    call("call_memfd_create", "memfd_create", &[Kind::MemoryFile]),
    call("call_mmap", "mmap", &[Kind::WritableMap]),
    call("call_mprotect", "mprotect", &[Kind::WritableProtect]),
    call("call_pkey_mprotect", "pkey_mprotect", &[Kind::WritableProtect]),
    call("call_mount", "mount", &[Kind::Mount]),
    call("call_move_mount", "move_mount", &[Kind::Mount]),
    call("call_umount", "umount", &[Kind::Unmount]),
    call("call_unshare", "unshare", &[Kind::Unshare]),
    call("call_setns", "setns", &[Kind::EnterNamespace]),
    call("call_init_module", "init_module", &[Kind::ModuleLoad]),
    call("call_finit_module", "finit_module", &[Kind::ModuleLoad]),
    call("call_delete_module", "delete_module", &[Kind::ModuleUnload]),
    call("call_bpf", "bpf", &[Kind::BpfLoad]),
    call("call_setuid", "setuid", &[Kind::Credentials]),
    call("call_setgid", "setgid", &[Kind::Credentials]),
    call("call_setreuid", "setreuid", &[Kind::Credentials]),
    call("call_setregid", "setregid", &[Kind::Credentials]),
    call("call_setresuid", "setresuid", &[Kind::Credentials]),
    call("call_setresgid", "setresgid", &[Kind::Credentials]),
    call("call_setfsuid", "setfsuid", &[Kind::Credentials]),
    call("call_setfsgid", "setfsgid", &[Kind::Credentials]),
    call("call_setgroups", "setgroups", &[Kind::Credentials]),
    call("call_capset", "capset", &[Kind::Credentials]),
];

impl Place {
    /// How tables name it.
    pub(super) fn name(self) -> String {
        match self {
            Self::Tracepoint(name) => format!("tracepoint {name}"),
            Self::Call(name) => format!("call {name}"),
            Self::Entry(name) => format!("fentry {name}"),
            Self::Exit(name) => format!("fexit {name}"),
            Self::Kprobe(name) => format!("kprobe {name}"),
            Self::Lsm(name) => format!("lsm {name}"),
        }
    }
}
