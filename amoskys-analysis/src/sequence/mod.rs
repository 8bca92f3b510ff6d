//! In what order things happen: models of the system calls of processes, learned from normal ones, and rules for known patterns.
//!
//! - [`TraceModel`] ranks whole traces; [`Threshold`] says from where on a score is an alarm.
//! - [`CallModel`] says how surprising each call is after those before it.
//! - [`SequenceModel`] is both, per program, with its threshold, in one model file.
//! - [`PatternRule`]s are known-bad patterns that can be read.
//! - [`TraceAssembler`] puts the calls of processes together from events.
//! - [`SequenceAnalyzer`] gives verdicts by model and rules; `SigmaAnalyzer` (feature `sigma`) by Sigma rules.
//!
//! `docs/sequences.md` in the repository says what each assumes, when it fails, and what was measured.

mod analyzer;
mod assembly;
mod calls;
mod error;
mod gram;
mod model;
mod process;
mod rules;
#[cfg(feature = "sigma")]
mod sigma;
mod threshold;
mod trace;

pub use self::analyzer::{SequenceAnalyzer, SequenceAnalyzerParams};
pub use self::assembly::{ProcessTrace, TraceAssembler};
pub use self::calls::{CallChance, CallModel, CallParams, Position};
pub use self::error::SequenceError;
pub use self::model::{Example, SequenceModel, SequenceParams, sequence_schema};
pub(crate) use self::process::Actors;
pub use self::rules::{PatternRule, Step, pattern_rules};
#[cfg(feature = "sigma")]
#[cfg_attr(docsrs, doc(cfg(feature = "sigma")))]
pub use self::sigma::{RefusedRule, SigmaAnalyzer, SigmaError};
pub use self::threshold::Threshold;
pub use self::trace::{TraceModel, TraceParams, TraceScore, TraceScorer};
