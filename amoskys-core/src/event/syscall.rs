use crate::time::Timestamp;

/// A run of system calls of one process, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SyscallEvent {
    /// Process id.
    pub pid: u32,
    /// When the process started.
    pub start: Timestamp,
    /// Thread id of the calls.
    pub tid: u32,
    /// Name of the program, as the kernel keeps it (at most 15 bytes on Linux).
    pub command: String,
    /// The instruction set the numbers belong to, for example `x86_64`.
    pub architecture: String,
    /// The calls' numbers in order.
    pub numbers: Vec<u32>,
    /// Return value of the last call, if observed.
    pub return_value: Option<i64>,
}
