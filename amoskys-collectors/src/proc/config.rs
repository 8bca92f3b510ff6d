use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use super::ProcConfigError;

/// What is sampled, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcConfig {
    /// Where `proc` is mounted: another place than `/proc` for the processes of the host, seen from a container.
    /// Default: `/proc`.
    pub root: PathBuf,
    /// Time between two samples of all processes: 10 ms to an hour. What lives shorter may not be seen. Default: 1 s.
    pub period: Duration,
    /// In so many samples it is every process's turn once: command line, users, open files, and what it uses, as
    /// metrics. Default: 10.
    pub rotation: NonZeroU32,
    /// Whether the processes that are there at the start are reported. Default: yes.
    pub report_present: bool,
    /// Whether processes that begin, change and end are reported. Off where the feature `ebpf` reports them, so that
    /// no process is told of twice, by start times that differ by up to a tick. Default: yes.
    pub process_events: bool,
    /// Whether what each process uses is reported as metrics, on its turn. Default: yes.
    pub process_metrics: bool,
    /// Whether load, memory and processor time of the host are reported with every sample. Default: yes.
    pub host_metrics: bool,
    /// Whether listening sockets, users that are logged in, modules of the kernel and mounts are compared, once in each
    /// rotation. Default: yes.
    pub inventory: bool,
    /// Where the system keeps who is logged in (utmp(5)). Systems without such a file have nothing to tell of users.
    /// Default: `/run/utmp`.
    pub utmp: PathBuf,
    /// Bytes of a command line that are kept. Default: 4096.
    pub max_command_line_bytes: usize,
}

impl Default for ProcConfig {
    fn default() -> Self {
        Self {
            root: PathBuf::from("/proc"),
            period: Duration::from_secs(1),
            rotation: NonZeroU32::MIN.saturating_add(9),
            report_present: true,
            process_events: true,
            process_metrics: true,
            host_metrics: true,
            inventory: true,
            utmp: PathBuf::from("/run/utmp"),
            max_command_line_bytes: 4096,
        }
    }
}

impl ProcConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    ///
    /// If a setting is out of range.
    pub fn validate(&self) -> Result<(), ProcConfigError> {
        let range = Duration::from_millis(10)..=Duration::from_secs(3600);
        if !range.contains(&self.period) {
            return Err(ProcConfigError {
                setting: "period",
                value: format!("{:?}", self.period),
                must: "from 10 ms to an hour",
            });
        }
        if !(64..=1 << 20).contains(&self.max_command_line_bytes) {
            return Err(ProcConfigError {
                setting: "max_command_line_bytes",
                value: self.max_command_line_bytes.to_string(),
                must: "from 64 to 1048576",
            });
        }
        Ok(())
    }
}
