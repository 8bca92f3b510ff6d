use std::fmt;
use std::time::Duration;

use super::message::{PublishAck, Status};

/// Why an envelope was not taken. Each has its own value of the label `reason` of the counter
/// `amoskys_legacy_refused_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum LegacyReason {
    /// RETRY: too much waits to become durable.
    Busy,
    /// RETRY: the agent sends more than [`Limits::rate`](crate::bus::Limits::rate) and
    /// [`Limits::rates`](crate::bus::Limits::rates) let it.
    Rate,
    /// RETRY: too many of its envelopes were refused, and it is kept out for a while.
    Limited,
    /// RETRY: the bus's log has no room.
    LogFull,
    /// RETRY: the bus is being stopped, or its log has failed.
    Stopping,
    /// INVALID: the envelope is larger than allowed.
    TooLarge,
    /// INVALID: it is no envelope.
    Malformed,
    /// INVALID: there is nothing in it.
    Empty,
    /// INVALID: it has no idempotency key, so that it could not be told when it comes again.
    NoKey,
    /// INVALID: it is so old that it could not be told whether it is here already.
    TooOld,
    /// INVALID: its time is too far ahead of the bus's clock.
    Ahead,
    /// UNAUTHORIZED: the certificate does not say who it is.
    Identity,
    /// UNAUTHORIZED: the certificate is that of somebody who is not in the trust map.
    UnknownAgent,
    /// UNAUTHORIZED: the envelope is not signed, and must be.
    Unsigned,
    /// UNAUTHORIZED: the signature is not that of the agent the certificate names.
    Signature,
}

impl LegacyReason {
    /// All reasons.
    pub const ALL: [Self; 15] = [
        Self::Busy,
        Self::Rate,
        Self::Limited,
        Self::LogFull,
        Self::Stopping,
        Self::TooLarge,
        Self::Malformed,
        Self::Empty,
        Self::NoKey,
        Self::TooOld,
        Self::Ahead,
        Self::Identity,
        Self::UnknownAgent,
        Self::Unsigned,
        Self::Signature,
    ];

    /// The name used in metrics and audit entries.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Rate => "rate",
            Self::Limited => "limited",
            Self::LogFull => "log_full",
            Self::Stopping => "stopping",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::Empty => "empty",
            Self::NoKey => "no_key",
            Self::TooOld => "too_old",
            Self::Ahead => "ahead",
            Self::Identity => "identity",
            Self::UnknownAgent => "unknown_agent",
            Self::Unsigned => "unsigned",
            Self::Signature => "signature",
        }
    }

    pub(crate) const fn status(self) -> Status {
        match self {
            Self::Busy | Self::Rate | Self::Limited | Self::LogFull | Self::Stopping => Status::Retry,
            Self::TooLarge | Self::Malformed | Self::Empty | Self::NoKey | Self::TooOld | Self::Ahead => {
                Status::Invalid
            }
            Self::Identity | Self::UnknownAgent | Self::Unsigned | Self::Signature => Status::Unauthorized,
        }
    }

    /// When it is worth trying again, if nobody knows better.
    const fn back_off(self) -> Duration {
        match self {
            Self::Busy | Self::Rate | Self::Limited => Duration::from_millis(200),
            Self::LogFull => Duration::from_secs(2),
            Self::Stopping => Duration::from_secs(5),
            _ => Duration::ZERO,
        }
    }

    /// Whether an agent that does it again and again is to be kept out. What is too old or too new may be the fault of a
    /// long outage, and of the clock.
    pub(crate) const fn is_offence(self) -> bool {
        matches!(
            self,
            Self::TooLarge
                | Self::Malformed
                | Self::Identity
                | Self::UnknownAgent
                | Self::Unsigned
                | Self::Signature
        )
    }
}

impl fmt::Display for LegacyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an envelope was not taken, with words.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) reason: LegacyReason,
    pub(crate) text: String,
    /// When it is worth trying again; less than a millisecond if never.
    pub(crate) after: Duration,
}

impl Refusal {
    pub(crate) fn new(reason: LegacyReason, text: impl Into<String>) -> Self {
        Self {
            reason,
            text: text.into(),
            after: reason.back_off(),
        }
    }

    /// It is worth trying again after this time.
    pub(crate) fn retry_after(mut self, time: Duration) -> Self {
        self.after = time.max(Duration::from_millis(1));
        self
    }

    pub(crate) fn to_ack(&self) -> PublishAck {
        PublishAck {
            status: self.reason.status() as i32,
            reason: self.text.clone(),
            backoff_hint_ms: i32::try_from(self.after.as_millis()).unwrap_or(i32::MAX),
        }
    }
}
