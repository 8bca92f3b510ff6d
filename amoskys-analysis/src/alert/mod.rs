//! Alerts as lines of JSON, and the file they are kept in.

mod file;
mod line;

pub use self::file::{AlertFile, AlertFileError};
#[cfg(feature = "report")]
pub(crate) use self::line::service;
pub use self::line::{Alert, AlertEvents, AlertEvidence};
pub(crate) use self::line::{services, shown};
