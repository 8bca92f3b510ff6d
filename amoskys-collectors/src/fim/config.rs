use std::path::PathBuf;
use std::time::Duration;

use super::FimConfigError;

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FimConfig {
    /// Files, and directories with all that is below them; absolute. One that is not there yet is watched for if its
    /// directory is there.
    pub paths: Vec<PathBuf>,
    /// Files and directories among them that are left out. Default: none.
    pub exclude: Vec<PathBuf>,
    /// Files that are known at most. Further ones are counted as `full`. Default: 200,000.
    pub max_files: usize,
    /// Contents of larger files are not hashed; changes are told by size and time. Default: 1 GiB.
    pub max_hash_bytes: u64,
    /// How long a file that is being written is left alone before it is hashed although nobody has closed it: up to an
    /// hour. Default: 5 s.
    pub settle: Duration,
    /// Time between two scans of everything, which find what the kernel did not report: 1 s to 30 days. Default: 6 h.
    pub rescan: Duration,
}

impl FimConfig {
    /// Watches these paths.
    pub fn new<P: Into<PathBuf>>(paths: impl IntoIterator<Item = P>) -> Self {
        Self {
            paths: paths.into_iter().map(Into::into).collect(),
            exclude: Vec::new(),
            max_files: 200_000,
            max_hash_bytes: 1 << 30,
            settle: Duration::from_secs(5),
            rescan: Duration::from_secs(6 * 3600),
        }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    ///
    /// If a setting is out of range, there is no path, or one is relative.
    pub fn validate(&self) -> Result<(), FimConfigError> {
        let wrong = |setting, value: String, must| Err(FimConfigError { setting, value, must });
        if self.paths.is_empty() {
            return wrong("paths", "empty".to_owned(), "at least one");
        }
        if let Some(path) = self
            .paths
            .iter()
            .chain(&self.exclude)
            .find(|path| !path.is_absolute())
        {
            return wrong("paths", path.display().to_string(), "absolute");
        }
        if self.max_files == 0 {
            return wrong("max_files", "0".to_owned(), "at least 1");
        }
        if self.settle > Duration::from_secs(3600) {
            return wrong("settle", format!("{:?}", self.settle), "up to an hour");
        }
        let range = Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3600);
        if !range.contains(&self.rescan) {
            return wrong("rescan", format!("{:?}", self.rescan), "from 1 s to 30 days");
        }
        Ok(())
    }
}
