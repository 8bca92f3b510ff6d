use std::io;
use std::path::PathBuf;

/// A setting is out of range.
#[derive(Debug, thiserror::Error)]
#[error("{setting} is {value}, but must be {must}")]
pub struct FimConfigError {
    /// Which.
    pub setting: &'static str,
    /// What it is.
    pub value: String,
    /// What it must be.
    pub must: &'static str,
}

/// Why watching files failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FimError {
    /// A setting is out of range.
    #[error("the settings of file integrity are wrong")]
    Config(#[from] FimConfigError),
    /// The kernel gives no queue of changes. A user has 128 unless `fs.inotify.max_user_instances` says otherwise.
    #[error("the kernel does not report changes of files")]
    Watch(#[source] io::Error),
    /// The thread that watches could not be started.
    #[error("the thread that watches files could not be started")]
    Thread(#[source] io::Error),
}

/// Why a baseline cannot be used or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BaselineError {
    /// The file cannot be read or written.
    #[error("could not access {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no baseline, or was not signed with this key, or has been changed since.
    #[error("the signature of the baseline does not fit")]
    Signature,
    /// The file was signed, but is not in a form that this version knows.
    #[error("the baseline is not in a known form")]
    Form,
    /// The key is not one.
    #[error("the key of the baseline cannot be used")]
    Key,
}
