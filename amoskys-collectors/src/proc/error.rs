use std::io;
use std::path::PathBuf;

/// A setting of the collector is out of range.
#[derive(Debug, thiserror::Error)]
#[error("{setting} is {value}, but must be {must}")]
pub struct ProcConfigError {
    /// Which.
    pub setting: &'static str,
    /// What it is.
    pub value: String,
    /// What it must be.
    pub must: &'static str,
}

/// Why processes could not be listed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcError {
    /// A setting is out of range.
    #[error("the settings of the collector of processes are wrong")]
    Config(#[from] ProcConfigError),
    /// The file system `proc` is not there, or may not be read.
    #[error("could not read {}", path.display())]
    Root {
        /// Where it was looked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The thread that samples could not be started.
    #[error("the thread that samples processes could not be started")]
    Thread(#[source] io::Error),
}
