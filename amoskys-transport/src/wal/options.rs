use std::time::Duration;

use amoskys_core::config::LogSettings;

/// Settings of a [`SledWal`](super::SledWal). Each has a default; set what differs.
///
/// ```
/// let options = amoskys_transport::WalOptions::new().budget_bytes(256 << 20);
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
pub struct WalOptions {
    pub(crate) budget_bytes: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) max_record_bytes: u64,
    pub(crate) max_queued_bytes: u64,
    pub(crate) sync_interval: Duration,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self {
            budget_bytes: 4 << 30,
            segment_bytes: 64 << 20,
            max_record_bytes: 32 << 20,
            max_queued_bytes: 16 << 20,
            sync_interval: Duration::from_secs(1),
        }
    }
}

impl WalOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes the records may take on disk before an append is refused. Default 4 GiB, at least 64 KiB. While
    /// a segment is being prepared for later use, the disk holds one segment more.
    #[must_use]
    pub fn budget_bytes(mut self, bytes: u64) -> Self {
        self.budget_bytes = bytes.max(64 << 10);
        self
    }

    /// Size at which a new segment file is begun, and the grain of trimming. Default 64 MiB, at least 4 KiB,
    /// at most an eighth of the budget.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes.clamp(4 << 10, 1 << 30);
        self
    }

    /// Largest record. Default 32 MiB, at most a quarter of the budget.
    #[must_use]
    pub fn max_record_bytes(mut self, bytes: u64) -> Self {
        self.max_record_bytes = bytes.min(u64::from(u32::MAX) - 64);
        self
    }

    /// Bytes that may wait in memory to be written; beyond it an append is refused until the disk has caught
    /// up. Default 16 MiB. A single record of any allowed size is always taken.
    #[must_use]
    pub fn max_queued_bytes(mut self, bytes: u64) -> Self {
        self.max_queued_bytes = bytes;
        self
    }

    /// How long a value given to [`store`](amoskys_core::Wal::store) may take to become durable, and how old
    /// the signed anchor of a [`Log`](crate::Log) may become. Default 1 s, at least 10 ms.
    #[must_use]
    pub fn sync_interval(mut self, interval: Duration) -> Self {
        self.sync_interval = interval.max(Duration::from_millis(10));
        self
    }

    pub(crate) fn effective_segment_bytes(&self) -> u64 {
        self.segment_bytes.min(self.budget_bytes / 8).max(4 << 10)
    }

    pub(crate) fn effective_record_limit(&self) -> u64 {
        self.max_record_bytes.min(self.budget_bytes / 4)
    }
}

impl From<&LogSettings> for WalOptions {
    /// The section `log` of a [`Config`](amoskys_core::config::Config). Its path is not among the options: it is where
    /// the log is opened.
    fn from(settings: &LogSettings) -> Self {
        Self::new()
            .budget_bytes(settings.budget_bytes)
            .segment_bytes(settings.segment_bytes)
            .sync_interval(settings.sync_interval)
    }
}

#[cfg(test)]
mod tests {
    use amoskys_core::config::Config;

    use super::*;

    #[test]
    fn settings_have_the_same_defaults_and_each_arrives() {
        let same = |a: &WalOptions, b: &WalOptions| format!("{a:?}") == format!("{b:?}");
        assert!(same(
            &WalOptions::from(&LogSettings::default()),
            &WalOptions::new()
        ));
        let loader = Config::loader()
            .set("log.budget_bytes", "64MiB")
            .set("log.segment_bytes", "1MiB")
            .set("log.sync_interval", "50ms");
        let options = WalOptions::from(&loader.load().expect("settings").config.log);
        let expected = WalOptions::new()
            .budget_bytes(64 << 20)
            .segment_bytes(1 << 20)
            .sync_interval(Duration::from_millis(50));
        assert!(same(&options, &expected), "{options:?}");
    }
}
