//! What all errors here have in common.

use std::time::Duration;

/// Any error, as the cause of one of ours. Foreign error types stay behind it, so that their versions do not
/// become ours.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// An error and all its causes on one line, for whoever reports last.
///
/// ```
/// use amoskys_core::error::Chain;
///
/// let cause = std::io::Error::other("no such device");
/// let error = amoskys_core::WalError::Failed { action: "was writing", source: Box::new(cause) };
/// let line = Chain(&error).to_string();
/// assert_eq!(line, "the log's storage failed while it was writing: no such device");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a>(pub &'a (dyn std::error::Error + 'a));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

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
