//! Model files: a fitted model with everything it needs to be used and to be accounted for.
//!
//! A [`ModelFile`] holds the feature schema the model reads, the fitted transforms its vectors go through, the model's
//! parts, and where it comes from: seed, digest of the training data, metrics. [`ForestModel`] is an isolation forest
//! read from one, ready to judge feature vectors; [`TableModel`] is a detector of any [kind](DetectorKind), with a threshold
//! and explanations. [`SiteModel`] is all that was learned from a recorded log: a baseline, models of windows, and of
//! sequences of calls.
//!
//! # Format
//!
//! ```text
//! "AMOSKYSM" | version u16 LE | length u32 LE | header, JSON of that length | blobs, one after another | SHA-256 of all before
//! ```
//!
//! The header names each blob with its kind and length, so that any tool can list a model's contents. The SHA-256 is the
//! model's digest, which every verdict carries.
//!
//! Transforms are opaque here: the crate that made them reads them again, through a function the caller passes.

mod file;
mod forest;
#[cfg(feature = "linfa")]
mod kind;
#[cfg(feature = "linfa")]
mod site;
#[cfg(feature = "linfa")]
mod table;

pub use self::file::{ModelFile, ModelFileError, Origin, StoredTransform, TransformLoader};
pub use self::forest::{ForestModel, Judgement};
#[cfg(feature = "linfa")]
#[cfg_attr(docsrs, doc(cfg(feature = "linfa")))]
pub use self::kind::{AnyDetector, DetectorKind};
#[cfg(feature = "linfa")]
#[cfg_attr(docsrs, doc(cfg(feature = "linfa")))]
pub use self::site::{SiteModel, SiteModelError};
#[cfg(feature = "linfa")]
#[cfg_attr(docsrs, doc(cfg(feature = "linfa")))]
pub use self::table::{Filling, TableModel, TableParts};
