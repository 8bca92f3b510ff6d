//! Checks a log offline: signatures, digests, chains, checksums, and that nothing is missing.
//!
//! The verifier reads a log's directory and nothing else. It needs no sled, takes no lock, and changes nothing, so it
//! can be run on a copy, on a read-only disk, or beside the process that writes the log.
//!
//! # What is covered
//!
//! Every byte of the segments (headers, records, padding, the unused rest), of the anchor, of the spare segment, and
//! of the key files beside the log: one that was changed is found. What a later opening of the log has put a signed
//! gap in the place of is reported as explained. `lock` is empty. `state` holds nothing but what can be found again
//! from the log, and is not looked at.
//!
//! # What cannot be seen from one log alone
//!
//! Records cut off the end are noticed by the anchor, which is renewed once a second and when the log is closed; those
//! of the last second before a crash are in no anchor. Who puts back an old copy of the whole directory, anchor
//! included, shows only in comparison with what others hold: with the heads that a bus signs of all streams it has seen
//! ([`Anchors`]), for example. Who has the signing key can write any log, but not one that the bus has seen otherwise.
//!
//! ```
//! use amoskys_transport::{Log, LogOptions, verify::Verifier};
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path();
//! drop(Log::open(path, LogOptions::new())?);
//! let report = Verifier::new(path).run()?;
//! assert!(report.is_clean(), "{report}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod compare;
mod files;
mod inspector;
mod report;
mod run;
mod witness;

pub use self::report::{
    AnchorReport, ExplainedGap, Finding, FindingKind, HandOverReport, Place, Report, SeenReport, SeenStream,
    SeenVerdict, StreamReport,
};
pub use self::run::{Verifier, VerifyError};
pub use self::witness::{Anchors, SeenHeads};
#[cfg(feature = "bus")]
pub(crate) use self::witness::{HEAD_ACTION, HEADS_SOURCE, head_text};
