//! In what order things happen: models of the system calls of processes, learned from normal ones.
//!
//! - [`TraceModel`] ranks whole traces; [`Threshold`] says from where on a score is an alarm.
//! - [`CallModel`] says how surprising each call is after those before it.
//!
//! `docs/sequences.md` in the repository says what each assumes, when it fails, and what was measured.

mod calls;
mod error;
mod gram;
mod threshold;
mod trace;

pub use self::calls::{CallChance, CallModel, CallParams, Position};
pub use self::error::SequenceError;
pub use self::threshold::Threshold;
pub use self::trace::{TraceModel, TraceParams, TraceScore, TraceScorer};
