use std::io;
use std::time::Duration;

/// What is sampled, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostConfig {
    /// Time between two samples: 100 ms to an hour. What lives shorter may not be seen. Default: 5 s, because a sample
    /// costs ten times what one of `proc` does, and more.
    pub period: Duration,
    /// Whether the processes that are there at the start are reported. Default: yes.
    pub report_present: bool,
    /// In so many samples what each process uses is reported once, as metrics; 0 for never. Default: 12.
    pub metrics_every: u32,
    /// Whether load and memory of the host are reported with every sample. Default: yes.
    pub host_metrics: bool,
    /// Bytes of a command line that are kept. Default: 4096.
    pub max_command_line_bytes: usize,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            period: Duration::from_secs(5),
            report_present: true,
            metrics_every: 12,
            host_metrics: true,
            max_command_line_bytes: 4096,
        }
    }
}

impl HostConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    ///
    /// If a setting is out of range.
    pub fn validate(&self) -> Result<(), HostConfigError> {
        let range = Duration::from_millis(100)..=Duration::from_secs(3600);
        if !range.contains(&self.period) {
            return Err(HostConfigError {
                setting: "period",
                value: format!("{:?}", self.period),
                must: "from 100 ms to an hour",
            });
        }
        if !(64..=1 << 20).contains(&self.max_command_line_bytes) {
            return Err(HostConfigError {
                setting: "max_command_line_bytes",
                value: self.max_command_line_bytes.to_string(),
                must: "from 64 to 1048576",
            });
        }
        Ok(())
    }
}

/// A setting of the collector is out of range.
#[derive(Debug, thiserror::Error)]
#[error("{setting} is {value}, but must be {must}")]
pub struct HostConfigError {
    /// Which.
    pub setting: &'static str,
    /// What it is.
    pub value: String,
    /// What it must be.
    pub must: &'static str,
}

/// Why the machine could not be sampled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// A setting is out of range.
    #[error("the settings of the collector of the host are wrong")]
    Config(#[from] HostConfigError),
    /// The library does not know this system.
    #[error("processes of this system cannot be listed")]
    Unsupported,
    /// The thread that samples could not be started.
    #[error("the thread that samples the host could not be started")]
    Thread(#[source] io::Error),
}
