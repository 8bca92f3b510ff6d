use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;

use rustix::io::Errno;

use super::ProcError;
use super::parse::process_stat;
use super::procfs::Procfs;

/// The processes there are, by `/proc/PID/stat` alone.
///
/// A process that is sampled again costs no allocation. What begins and ends between two samples is not seen; a number
/// that is given to another process in between is told by the start time.
///
/// ```
/// use amoskys_collectors::proc::ProcessTable;
///
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut table = ProcessTable::open("/proc")?;
/// table.sample()?;
/// let busiest = table.processes().max_by_key(|process| process.user_ticks + process.system_ticks);
/// println!("{:?}", busiest.map(|process| process.command().into_owned()));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ProcessTable {
    procfs: Procfs,
    processes: HashMap<u32, Row>,
    round: u64,
}

#[derive(Debug)]
struct Row {
    sample: ProcessSample,
    /// When it was last seen.
    round: u64,
}

/// Names a process for as long as the machine runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessKey {
    /// Process id.
    pub pid: u32,
    /// When it started, in clock ticks since boot.
    pub start_ticks: u64,
}

/// A process as it was when it was sampled last. Fields mean what they mean in [`ProcessStat`](super::parse::ProcessStat).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented where they are decoded")]
pub struct ProcessSample {
    pub key: ProcessKey,
    pub parent_pid: u32,
    pub state: u8,
    pub threads: u32,
    pub minor_faults: u64,
    pub major_faults: u64,
    pub user_ticks: u64,
    pub system_ticks: u64,
    pub virtual_bytes: u64,
    pub resident_pages: u64,
    /// Most pages that were resident in any sample.
    pub max_resident_pages: u64,
    command: [u8; 15],
    command_bytes: u8,
}

/// What changed between two samples, by number of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sampled {
    /// Processes that were not there before: at the first sample, all.
    pub started: Vec<ProcessSample>,
    /// Processes that are gone, as they were last seen.
    pub ended: Vec<ProcessSample>,
    /// Processes whose program has another name now.
    pub renamed: Vec<ProcessKey>,
    /// Processes sampled.
    pub read: u64,
    /// Processes that ended while they were listed.
    pub vanished: u64,
    /// Processes that may not be looked at. Those that `hidepid` hides are not even listed.
    pub refused: u64,
    /// Processes whose line could not be decoded. They are taken to be unchanged.
    pub malformed: u64,
}

/// Longer than any line of `/proc/PID/stat`: 52 numbers of up to 20 digits, and a name of up to 64 bytes.
const STAT_BYTES: usize = 2048;

impl ProcessTable {
    /// Opens a mounted `proc`, usually `/proc`. Nothing is sampled yet.
    ///
    /// # Errors
    ///
    /// If it is not there.
    pub fn open(root: impl AsRef<Path>) -> Result<Self, ProcError> {
        Ok(Self {
            procfs: Procfs::open(root.as_ref())?,
            processes: HashMap::new(),
            round: 0,
        })
    }

    /// Samples all processes.
    ///
    /// # Errors
    ///
    /// If processes cannot be listed. That one of them cannot be read is no error: it is counted.
    pub fn sample(&mut self) -> Result<Sampled, ProcError> {
        let Self {
            procfs,
            processes,
            round,
        } = self;
        *round += 1;
        let mut sampled = Sampled::default();
        let mut line = [0; STAT_BYTES];
        procfs.each_pid(|pid| {
            let stat = match procfs.read_of(pid, "stat", &mut line) {
                Ok(bytes) => process_stat(&line[..bytes]).filter(|stat| stat.pid == pid),
                Err(Errno::SRCH | Errno::NOENT) => {
                    sampled.vanished += 1;
                    return;
                }
                Err(_) => {
                    sampled.refused += 1;
                    return;
                }
            };
            let Some(stat) = stat else {
                sampled.malformed += 1;
                if let Some(row) = processes.get_mut(&pid) {
                    row.round = *round;
                }
                return;
            };
            sampled.read += 1;
            let mut sample = ProcessSample::from(stat);
            match processes.entry(pid) {
                Entry::Occupied(mut row) => {
                    let row = row.get_mut();
                    let before = row.sample;
                    if before.key == sample.key {
                        sample.max_resident_pages = sample.max_resident_pages.max(before.max_resident_pages);
                        if before.command_bytes() != sample.command_bytes() {
                            sampled.renamed.push(sample.key);
                        }
                    } else {
                        sampled.ended.push(before);
                        sampled.started.push(sample);
                    }
                    *row = Row {
                        sample,
                        round: *round,
                    };
                }
                Entry::Vacant(row) => {
                    sampled.started.push(sample);
                    row.insert(Row {
                        sample,
                        round: *round,
                    });
                }
            }
        })?;
        processes.retain(|_, row| {
            let is_there = row.round == *round;
            if !is_there {
                sampled.ended.push(row.sample);
            }
            is_there
        });
        sampled.started.sort_unstable_by_key(|process| process.key);
        sampled.ended.sort_unstable_by_key(|process| process.key);
        sampled.renamed.sort_unstable();
        Ok(sampled)
    }

    /// The processes of the last sample, in no particular order.
    pub fn processes(&self) -> impl Iterator<Item = &ProcessSample> {
        self.processes.values().map(|row| &row.sample)
    }

    /// The process that had this number in the last sample.
    #[must_use]
    pub fn process(&self, pid: u32) -> Option<&ProcessSample> {
        self.processes.get(&pid).map(|row| &row.sample)
    }

    /// Samples one process again; as it was if it is gone. What it tells of a name is not told again.
    pub(super) fn look_again(&mut self, pid: u32) -> Option<ProcessSample> {
        let row = self.processes.get_mut(&pid)?;
        let mut line = [0; STAT_BYTES];
        let bytes = self.procfs.read_of(pid, "stat", &mut line).unwrap_or_default();
        if let Some(stat) = process_stat(&line[..bytes]) {
            let mut sample = ProcessSample::from(stat);
            if sample.key == row.sample.key {
                sample.max_resident_pages = sample.max_resident_pages.max(row.sample.max_resident_pages);
                row.sample = sample;
            }
        }
        Some(row.sample)
    }

    pub(super) const fn procfs(&self) -> &Procfs {
        &self.procfs
    }
}

impl ProcessSample {
    /// Name of the program as the kernel keeps it, at most 15 bytes.
    #[must_use]
    pub fn command(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(self.command_bytes())
    }

    fn command_bytes(&self) -> &[u8] {
        self.command
            .get(..usize::from(self.command_bytes))
            .unwrap_or_default()
    }
}

impl From<super::parse::ProcessStat<'_>> for ProcessSample {
    fn from(stat: super::parse::ProcessStat<'_>) -> Self {
        let mut command = [0; 15];
        // Threads of the kernel have longer names here, but no others to tell them from by.
        let bytes = stat.command.len().min(command.len());
        command[..bytes].copy_from_slice(&stat.command[..bytes]);
        Self {
            key: ProcessKey {
                pid: stat.pid,
                start_ticks: stat.start_ticks,
            },
            parent_pid: stat.parent_pid,
            state: stat.state,
            threads: stat.threads,
            minor_faults: stat.minor_faults,
            major_faults: stat.major_faults,
            user_ticks: stat.user_ticks,
            system_ticks: stat.system_ticks,
            virtual_bytes: stat.virtual_bytes,
            resident_pages: stat.resident_pages,
            max_resident_pages: stat.resident_pages,
            command,
            command_bytes: u8::try_from(bytes).unwrap_or_default(),
        }
    }
}
