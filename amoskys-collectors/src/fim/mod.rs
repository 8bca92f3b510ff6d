//! Integrity of files: [`FimCollector`] watches paths by inotify and says how what is there differs from what was.
//!
//! - [`FileFacts`] is what is known of a file: kind, permissions, owner, size, SHA-256 of its contents.
//! - [`Baseline`] is the facts of all watched files at one time, kept in a file signed with Ed25519 (RFC 8032). Whoever
//!   checks needs the public key only, so what watches cannot approve.
//! - [`FimCollector`] is the source for a pipeline.
//!
//! Symbolic links are never followed: a link is a file whose contents are where it leads.
//!
//! inotify sees files change wherever they are changed on this machine, but not who changed them, and not what another
//! machine does to a shared file system. Only a scan finds the latter.

mod baseline;
mod collector;
mod config;
mod error;
mod facts;
mod scan;
mod watch;
mod worker;

pub use self::baseline::{Baseline, BaselineKey};
pub use self::collector::FimCollector;
pub use self::config::FimConfig;
pub use self::error::{BaselineError, FimConfigError, FimError};
pub use self::facts::{FileFacts, FileKind};
pub use self::scan::ScanCounts;
