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
