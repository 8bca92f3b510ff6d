use std::path::{Path, PathBuf};

use super::files::TlsFiles;
use crate::spelling;

/// Everything by which one process shows who it is, and knows who others are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Credentials {
    /// Certificates, and the key of its own.
    pub tls: TlsFiles,
    /// File of the Ed25519 key it signs with; see [`FileSigner`](crate::FileSigner).
    pub signing_key: PathBuf,
    /// File that says who signs with which key; see [`TrustMap::load`](crate::TrustMap::load).
    pub trust: PathBuf,
}

impl Credentials {
    /// As they lie in a directory: `DIR/ca.pem`, `DIR/NAME.pem`, `DIR/NAME.key`, `DIR/NAME.sign` and `DIR/trust`. In
    /// file names, the name is percent-encoded as in [`Identity::to_uri`](super::Identity::to_uri).
    ///
    /// ```
    /// use std::path::Path;
    ///
    /// use amoskys_transport::identity::Credentials;
    ///
    /// let files = Credentials::in_dir("/etc/amoskys", "ward 3");
    /// assert_eq!(files.signing_key, Path::new("/etc/amoskys/ward%203.sign"));
    /// ```
    #[must_use]
    pub fn in_dir(dir: impl AsRef<Path>, name: &str) -> Self {
        let dir = dir.as_ref();
        Self {
            tls: TlsFiles::in_dir(dir, name),
            signing_key: dir.join(format!("{}.sign", spelling::spell(name))),
            trust: dir.join("trust"),
        }
    }
}
