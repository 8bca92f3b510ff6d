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
    /// Number of the first of the calls in the thread's own stream, from 0. A run that does not begin where the one
    /// before ended has lost calls.
    pub first: u64,
    /// When the first of the calls was made; [`Timestamp::default`] if not known.
    pub first_time: Timestamp,
}

/// How often a process made which system calls in a period.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SyscallHistogram {
    /// Process id.
    pub pid: u32,
    /// When the process started.
    pub start: Timestamp,
    /// Name of the program, as the kernel keeps it (at most 15 bytes on Linux).
    pub command: String,
    /// The instruction set the numbers belong to, for example `x86_64`.
    pub architecture: String,
    /// Length of the period in nanoseconds. It ends at the event's time.
    pub period_ns: u64,
    /// Calls by number, in order of the numbers; only those that were made.
    pub counts: Vec<CallCount>,
    /// Calls that were counted without their number.
    pub others: u64,
}

/// How often one system call was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CallCount {
    /// The call's number.
    pub number: u32,
    /// How often.
    pub count: u64,
}
