use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use amoskys_core::Name;
use amoskys_core::config::{Config, WhenFull};

use crate::key::{SharedTrust, Signer};
use crate::seal::{Check, Compression};
use crate::wal::{LogKeys, WalOptions};

/// Settings of a [`Log`](super::Log). Each has a default; set what differs.
#[derive(Clone)]
pub struct LogOptions {
    pub(crate) agent: Name,
    pub(crate) signer: Option<Arc<dyn Signer>>,
    pub(crate) key_file: Option<PathBuf>,
    pub(crate) trust: SharedTrust,
    pub(crate) check: Check,
    pub(crate) compression: Compression,
    pub(crate) wal: WalOptions,
    pub(crate) when_full: WhenFull,
    pub(crate) retention: Option<Duration>,
    pub(crate) log_keys: Option<Arc<dyn LogKeys>>,
    pub(crate) log_key_file: Option<PathBuf>,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            agent: "agent".into(),
            signer: None,
            key_file: None,
            trust: SharedTrust::default(),
            check: Check::Form,
            compression: Compression::None,
            wal: WalOptions::default(),
            when_full: WhenFull::default(),
            retention: None,
            log_keys: None,
            log_key_file: None,
        }
    }
}

impl LogOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Name of the agent that seals, at most 255 bytes. Default `agent`. It must be the same each time a log is
    /// opened, and different for each agent of a site.
    #[must_use]
    pub fn agent(mut self, agent: impl Into<Name>) -> Self {
        self.agent = agent.into();
        self
    }

    /// Signs with this. Default: the [key file](Self::key_file).
    #[must_use]
    pub fn signer(mut self, signer: Arc<dyn Signer>) -> Self {
        self.signer = Some(signer);
        self
    }

    /// Where the signing key is; drawn and written if the file does not exist. The agent's epoch is counted in a
    /// file beside it. Default: `keys/agent.key` in the log's directory.
    #[must_use]
    pub fn key_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.key_file = Some(path.into());
        self
    }

    /// Further keys whose records are opened, for example those the agent had before. Its present key is always
    /// trusted. With a [`SharedTrust`], of a [`Reloader`](crate::identity::Reloader) for example, the map can be replaced
    /// while the log is open.
    #[must_use]
    pub fn trust(mut self, trust: impl Into<SharedTrust>) -> Self {
        self.trust = trust.into();
        self
    }

    /// How much is checked when records are read back. Default [`Check::Form`]: the log has a checksum of its
    /// own, and the [verifier](crate::verify) looks at the signatures.
    #[must_use]
    pub fn check(mut self, check: Check) -> Self {
        self.check = check;
        self
    }

    /// Compresses batches. Default [`Compression::None`].
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Settings of the log files: budget, segment size and so on.
    #[must_use]
    pub fn wal(mut self, wal: WalOptions) -> Self {
        self.wal = wal;
        self
    }

    /// What a full log does for who wants to append. Default [`WhenFull::Wait`]. Records that are shed, bulk before
    /// telemetry and never alerts or audit, leave signed gaps in their place; the bus and the
    /// [verifier](crate::verify) are told the reason.
    #[must_use]
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// How old records may become, of whatever class, alerts and audit too, whether they were read or not. What is older
    /// leaves signed gaps in its place. Default none: they are kept until they were read and are trimmed. The wall clock
    /// decides, and a segment goes as a whole, so that records become up to a quarter older than this.
    #[must_use]
    pub fn retention(mut self, age: Duration) -> Self {
        self.retention = Some(age);
        self
    }

    /// Encrypts the log with these keys: every record from now on, and the values beside it. What is there in plain text
    /// stays readable, and is not encrypted later. The names of agents, and how many records there are, are seen without
    /// a key, in the anchor. Default: nothing is encrypted.
    #[must_use]
    pub fn log_keys(mut self, keys: Arc<dyn LogKeys>) -> Self {
        self.log_keys = Some(keys);
        self
    }

    /// Encrypts the log with the [keys in a file](crate::FileLogKeys), which must exist when the log is opened.
    #[must_use]
    pub fn log_key_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.log_key_file = Some(path.into());
        self
    }
}

impl From<&Config> for LogOptions {
    /// The agent's name, and the section `log`. Open the log at `config.log.path`.
    fn from(config: &Config) -> Self {
        let mut options = Self::new()
            .agent(config.agent.name.as_str())
            .wal(WalOptions::from(&config.log))
            .when_full(config.log.when_full);
        options.retention = config.log.retention;
        options.log_key_file.clone_from(&config.log.key_file);
        options
    }
}

impl std::fmt::Debug for LogOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogOptions")
            .field("agent", &self.agent)
            .field("wal", &self.wal)
            .finish_non_exhaustive()
    }
}
