//! A log of decisions that shows when it was altered: numbered lines of JSON, each with a keyed MAC (HMAC-SHA-256) over
//! itself and the line before.
//!
//! [`AuditLog`] writes one, for whatever has decisions to account for; a [`Bus`](crate::bus::Bus) writes into one if it is
//! given one. [`AuditVerifier`] checks one offline. `docs/formats.md` draws the lines.
//!
//! # What is covered
//!
//! Who does not have the key can read the lines, and neither change, insert, remove nor reorder one unnoticed; nor cut lines
//! off the end, or remove a file, for the *head* beside the log says how far it has come. Who can put back an old copy of
//! log and head together takes away what came since, and only who has seen more can tell: have the lines shipped
//! elsewhere as they are written, or compare with the audit stream in the bus's own log. Who has the key can write any log;
//! it belongs to the writer, and to who checks.
//!
//! What looks like a secret key in PEM form is withheld, and long texts are cut.
//!
//! ```
//! use amoskys_transport::audit::{AuditKey, AuditLog, AuditOptions, AuditVerifier, Entry};
//! use std::sync::Arc;
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("audit.jsonl");
//! let key = Arc::new(AuditKey::open_or_create(dir.path().join("audit.key"))?);
//! let log = AuditLog::open(&path, key.clone(), AuditOptions::default())?;
//! log.append(&Entry::new("root", "certificate.revoked", "gateway-3", "success").reason("stolen"))?;
//! drop(log);
//! let report = AuditVerifier::new(&path).key(key).run()?;
//! assert!(report.is_clean(), "{report}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod chain;
mod check;
mod entry;
mod error;
mod files;
mod key;
mod line;
mod log;
#[cfg(feature = "bus")]
pub(crate) mod queue;

pub use self::chain::AuditFault;
pub use self::check::{AuditFinding, AuditReport, AuditVerifier, check_audit_lines};
pub use self::entry::Entry;
pub use self::error::AuditError;
pub use self::key::{AuditKey, Mac};
pub use self::log::{AuditLog, AuditOptions};
