//! Feedback: somebody says "this is normal here", and it takes effect at once.
//!
//! A [`Suppression`] says whose behaviour is normal, of what kind, with whom, up to what strength, until when, and who says so for what
//! reason. A [`Correlation`](crate::Correlation) with [`Suppressions`] lowers the score of verdicts that it covers, so that they are no alerts.
//! They still come out, and [`called_normal`] tells their score before: what is suppressed is seen, and counted.
//!
//! What stands out far above what was called normal still alerts: a suppression drawn from a verdict covers what is up to
//! [`MARGIN`] stronger in log-odds.
//!
//! The list lives in a file ([`SuppressionFile`]) that may be changed while events flow. Each change is an
//! [`AuditEntry`](amoskys_core::event::AuditEntry). The list is an input of the analysis as events are: a snapshot does not hold it.

mod file;
mod list;

pub use self::file::{FeedbackError, SuppressionFile};
pub use self::list::{MARGIN, Suppression, Suppressions, called_normal};
