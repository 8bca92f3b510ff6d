//! Who is at the other end of a connection, and how each side proves it: mutual TLS.
//!
//! Each process has a certificate with exactly one name of the form `amoskys://ROLE/NAME` among its subject
//! alternative names. The certificate authority says with its signature who may have which name, so whoever holds
//! its key decides who is who; keep it off the machines that only need certificates.
//!
//! Any authority can issue such certificates. A certificate that says what it is for (extended key usage) must be for
//! client authentication, that of a bus for server authentication; only the bus should be for the latter, so that
//! nobody else can pass for it. That of a bus also holds every DNS name and address by which others reach it.
//! [`pki`] makes all that is needed for a start (feature `pki`).
//!
//! Certificates can be revoked before their time, and all files replaced while a process runs: [`Reloader`].
//!
//! ```no_run
//! use amoskys_transport::identity::TlsFiles;
//!
//! let files = TlsFiles::in_dir("/etc/amoskys", "gateway-3"); // ca.pem, gateway-3.pem, gateway-3.key
//! let client = files.client_config()?;
//! # let _ = client;
//! # Ok::<(), amoskys_transport::identity::TlsError>(())
//! ```

mod credentials;
mod crl;
mod error;
mod files;
mod material;
mod name;
#[cfg(feature = "pki")]
#[cfg_attr(docsrs, doc(cfg(feature = "pki")))]
pub mod pki;
mod reload;
mod shared;
mod validity;
#[cfg(feature = "bus")]
mod watch;

pub use self::credentials::Credentials;
pub use self::error::{IdentityError, TlsError};
pub use self::files::TlsFiles;
pub use self::name::{Identity, Role};
pub use self::reload::{ReloadError, Reloaded, Reloader};
pub use self::shared::{ClientTls, ServerTls, SharedTls};
pub use self::validity::Validity;
