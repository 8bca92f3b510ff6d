use std::fmt;

/// Why a bus refused a connection or a record. Each has its own value of the label `reason` of the counter
/// `amoskys_bus_refused_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RefuseReason {
    /// Something that this version does not know.
    Other,
    /// The client showed no certificate.
    NoCertificate,
    /// The client's certificate is of an authority that is not trusted here.
    UnknownAuthority,
    /// The client's certificate has expired.
    CertificateExpired,
    /// The client's certificate cannot be used for another reason.
    BadCertificate,
    /// There was no TLS connection for another reason.
    Handshake,
    /// The client's certificate does not say who it is.
    Identity,
    /// This identity may not do that.
    Role,
    /// The other side speaks another version of the protocol.
    Version,
    /// What came is no frame, or out of place.
    Protocol,
    /// More was sent than was allowed.
    Credit,
    /// There are too many connections.
    Busy,
    /// Nothing came for too long.
    Idle,
    /// The bus is being stopped.
    Stopping,
    /// The bus's log has failed.
    LogFailed,
    /// No key is trusted for this agent.
    UnknownAgent,
    /// The certificate is another agent's than the one that sealed the record.
    AgentMismatch,
    /// The record is signed with a key that is not trusted for its agent.
    UnknownKey,
    /// The record's signature is wrong: its header was altered.
    Signature,
    /// The record's payload is not the one that was signed.
    Payload,
    /// What came is no sealed record.
    Malformed,
    /// The record is larger than the bus's log takes.
    TooLarge,
    /// The agent has too many streams.
    TooManyStreams,
    /// The record is so old that the bus cannot tell whether it is the one it has.
    Behind,
    /// Records before this one are missing.
    Ahead,
    /// The bus has another record of the same number: two logs of one agent went different ways.
    Fork,
    /// The key that sealed the record, or those before it on the connection, may sign nothing new: it was retired or taken
    /// out of the trust map, or has handed over to another.
    KeyRetired,
    /// The client's certificate has been revoked.
    CertificateRevoked,
    /// The client was refused again and again, and has to wait before it may come again.
    Limited,
    /// The client's certificate is not valid yet.
    CertificateNotYetValid,
    /// The record is of a stream of another agent.
    WrongStream,
    /// The record was sealed too far ahead of the bus's clock.
    Clock,
    /// The client speaks no version of TLS that is allowed here.
    Downgrade,
    /// The client does not believe that this is the bus it wants: the bus's certificate is of another name or authority, or may
    /// not be used for a bus. Not something a bus says, but what a client has said to it.
    Distrusted,
}

impl RefuseReason {
    /// All reasons.
    pub const ALL: [Self; 34] = [
        Self::Other,
        Self::NoCertificate,
        Self::UnknownAuthority,
        Self::CertificateExpired,
        Self::BadCertificate,
        Self::Handshake,
        Self::Identity,
        Self::Role,
        Self::Version,
        Self::Protocol,
        Self::Credit,
        Self::Busy,
        Self::Idle,
        Self::Stopping,
        Self::LogFailed,
        Self::UnknownAgent,
        Self::AgentMismatch,
        Self::UnknownKey,
        Self::Signature,
        Self::Payload,
        Self::Malformed,
        Self::TooLarge,
        Self::TooManyStreams,
        Self::Behind,
        Self::Ahead,
        Self::Fork,
        Self::KeyRetired,
        Self::CertificateRevoked,
        Self::Limited,
        Self::CertificateNotYetValid,
        Self::WrongStream,
        Self::Clock,
        Self::Downgrade,
        Self::Distrusted,
    ];

    /// The name used in metrics, reports and audit entries.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::NoCertificate => "no_certificate",
            Self::UnknownAuthority => "unknown_authority",
            Self::CertificateExpired => "certificate_expired",
            Self::BadCertificate => "bad_certificate",
            Self::Handshake => "handshake",
            Self::Identity => "identity",
            Self::Role => "role",
            Self::Version => "version",
            Self::Protocol => "protocol",
            Self::Credit => "credit",
            Self::Busy => "busy",
            Self::Idle => "idle",
            Self::Stopping => "stopping",
            Self::LogFailed => "log_failed",
            Self::UnknownAgent => "unknown_agent",
            Self::AgentMismatch => "agent_mismatch",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Payload => "payload",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::TooManyStreams => "too_many_streams",
            Self::Behind => "behind",
            Self::Ahead => "ahead",
            Self::Fork => "fork",
            Self::KeyRetired => "key_retired",
            Self::CertificateRevoked => "certificate_revoked",
            Self::Limited => "limited",
            Self::CertificateNotYetValid => "certificate_not_yet_valid",
            Self::WrongStream => "wrong_stream",
            Self::Clock => "clock",
            Self::Downgrade => "downgrade",
            Self::Distrusted => "distrusted",
        }
    }

    /// As it stands in a frame.
    pub(crate) fn code(self) -> i32 {
        self as i32
    }

    pub(crate) fn of_code(code: i32) -> Self {
        let known = Self::ALL.into_iter().find(|reason| reason.code() == code);
        known.unwrap_or(Self::Other)
    }
}

impl fmt::Display for RefuseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_description() {
        for (at, reason) in RefuseReason::ALL.into_iter().enumerate() {
            assert_eq!(usize::try_from(reason.code()), Ok(at));
            assert_eq!(RefuseReason::of_code(reason.code()), reason);
        }
        assert_eq!(RefuseReason::of_code(34), RefuseReason::Other);
        let proto = include_str!("../../proto/amoskys/v1/bus.proto");
        for reason in RefuseReason::ALL {
            let line = format!(
                "REFUSE_REASON_{} = {};",
                reason.as_str().to_uppercase(),
                reason.code()
            );
            assert!(proto.contains(&line), "{line}");
        }
    }
}
