use std::io;
use std::time::Duration;

use amoskys_core::{BoxError, Name, SealError, WalError};
use rustls::AlertDescription;

use crate::bus::frame::FrameError;
use crate::bus::link::LinkError;
use crate::bus::refuse::RefuseReason;

/// Why there is no connection to a bus, or no more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The address or the server's name cannot be used.
    #[error("{address} is no address of a bus: {reason}")]
    Address {
        /// As it was given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody answers there.
    #[error("the bus at {address} cannot be reached")]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// The cause.
        source: io::Error,
    },
    /// It took too long.
    #[error("the bus at {address} did not answer within {after:?}")]
    Timeout {
        /// Where it is.
        address: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The bus could not prove who it is: its certificate is of another authority, has expired or is for another name.
    #[error("the bus at {address} cannot be trusted")]
    Untrusted {
        /// Where it is.
        address: String,
        /// What is wrong with its certificate.
        source: BoxError,
    },
    /// The bus refused this client, or a record.
    #[error("the bus refused ({reason}): {text}")]
    Refused {
        /// Why.
        reason: RefuseReason,
        /// What it said.
        text: String,
        /// How long to stay away, if it said so.
        retry_after: Option<Duration>,
    },
    /// The other side does not speak the protocol.
    #[error("the bus does not keep to the protocol")]
    Protocol {
        /// What it did.
        source: BoxError,
    },
    /// The connection ended.
    #[error("the connection to the bus ended")]
    Lost {
        /// Why, if that is known.
        source: Option<BoxError>,
    },
}

impl ConnectionError {
    /// How long the bus wants this client to stay away, if it said so.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// Why records could not be carried to a bus.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// There is no connection, or no more. It is tried again after a pause.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The bus has other records of this agent than this log: the log was copied, or restored from a backup. What to do
    /// is noted in the log's directory: open the log again, and it goes on with a new epoch, without loss.
    #[error(
        "the bus has other records of {agent} than this log, which was copied or restored from a backup; open the log again, and it begins a new epoch"
    )]
    Fork {
        /// The agent.
        agent: Name,
    },
    /// The log cannot be read, or a note in its directory cannot be written.
    #[error("the log cannot be used")]
    Log(#[source] BoxError),
    /// A gap could not be signed.
    #[error("a gap cannot be sealed")]
    Seal(#[from] SealError),
}

impl From<WalError> for PublishError {
    fn from(error: WalError) -> Self {
        Self::Log(error.into())
    }
}

impl From<FrameError> for ConnectionError {
    fn from(error: FrameError) -> Self {
        Self::Protocol { source: error.into() }
    }
}

impl From<LinkError> for ConnectionError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Closed => Self::Lost { source: None },
            LinkError::Frame(error) => error.into(),
            LinkError::Io(error) => of_io(error),
        }
    }
}

impl From<FrameError> for PublishError {
    fn from(error: FrameError) -> Self {
        Self::Connection(error.into())
    }
}

impl From<LinkError> for PublishError {
    fn from(error: LinkError) -> Self {
        Self::Connection(error.into())
    }
}

/// With TLS 1.3 a client learns only after the handshake that its certificate was refused.
fn of_io(error: io::Error) -> ConnectionError {
    let alert = error.get_ref().and_then(|inner| inner.downcast_ref());
    let Some(rustls::Error::AlertReceived(alert)) = alert else {
        return ConnectionError::Lost {
            source: Some(error.into()),
        };
    };
    let reason = match alert {
        AlertDescription::CertificateRequired => RefuseReason::NoCertificate,
        // The second is said if another authority has the name of the right one.
        AlertDescription::UnknownCA | AlertDescription::DecryptError => RefuseReason::UnknownAuthority,
        AlertDescription::CertificateExpired => RefuseReason::CertificateExpired,
        AlertDescription::CertificateRevoked => RefuseReason::CertificateRevoked,
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => RefuseReason::BadCertificate,
        _ => RefuseReason::Handshake,
    };
    let text = match reason {
        RefuseReason::CertificateRevoked => {
            "the certificate of this client has been revoked; it needs a new one".to_owned()
        }
        _ => format!("the TLS handshake failed with {alert:?}"),
    };
    ConnectionError::Refused {
        reason,
        text,
        retry_after: None,
    }
}

/// Why no records come from a bus.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// There is no connection, or no more. It is tried again after a pause.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
}

impl From<FrameError> for SubscribeError {
    fn from(error: FrameError) -> Self {
        Self::Connection(error.into())
    }
}

impl From<LinkError> for SubscribeError {
    fn from(error: LinkError) -> Self {
        Self::Connection(error.into())
    }
}
