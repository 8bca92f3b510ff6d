//! What all errors here have in common.

use std::time::Duration;

/// Any error, as the cause of one of ours. Foreign error types stay behind it, so that their versions do not
/// become ours.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remedy {
    /// The same call may succeed later; wait at least this long.
    RetryAfter(Duration),
    /// The item is at fault: count it, leave it out, go on.
    Reject,
    /// The part that failed cannot go on; it must be opened anew or replaced.
    Fatal,
}
