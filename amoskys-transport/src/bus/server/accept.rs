//! A connection from its first byte: TLS, who it is, and what it wants.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use amoskys_core::{Class, Epoch, Shutdown, StreamId};
use rustls::{CertificateError, Error as TlsError};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::shared::Shared;
use super::standing::{Changes, Standing};
use super::succession::offered;
use super::{publisher, subscriber};
use crate::bus::frame::{FrameType, MAX_FRAME};
use crate::bus::link::{Link, LinkError};
use crate::bus::message::{self, PROTOCOL, Part};
use crate::bus::refuse::RefuseReason;
use crate::identity::Identity;
use crate::seal::Head;

/// Bytes read from a socket at once.
pub(crate) const SOCKET_READ: usize = 128 << 10;
/// How long the other side may take to hear the last word.
const LAST_WORD: Duration = Duration::from_secs(1);

/// The connection as the rest of the bus sees it.
pub(crate) type ServerLink = Link<tokio_rustls::server::TlsStream<BufReader<TcpStream>>>;

/// Why a connection ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The client went away, or said that it is done.
    Gone,
    /// The connection failed.
    Link(LinkError),
    /// The client was told to go.
    Refused(Box<Refusal>),
}

/// Why a client was told to go.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) reason: RefuseReason,
    pub(crate) text: String,
    /// If a record is the reason: its stream, and how far the bus has it.
    pub(crate) at: Option<((Epoch, Class), Head)>,
}

impl Refusal {
    pub(crate) fn new(reason: RefuseReason, text: impl Into<String>) -> Self {
        Self {
            reason,
            text: text.into(),
            at: None,
        }
    }
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl From<LinkError> for End {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Closed => Self::Gone,
            LinkError::Frame(error) => Refusal::new(RefuseReason::Protocol, error.to_string()).into(),
            error => Self::Link(error),
        }
    }
}

impl From<crate::bus::frame::FrameError> for End {
    fn from(error: crate::bus::frame::FrameError) -> Self {
        LinkError::Frame(error).into()
    }
}

/// Serves a connection until it ends.
pub(crate) async fn connection(shared: Arc<Shared>, tcp: TcpStream, peer: SocketAddr, shutdown: Shutdown) {
    // Without it, a last small write waits for the other side.
    let _ = tcp.set_nodelay(true);
    let changes = Changes::of(&shared);
    let acceptor = TlsAcceptor::from(shared.options.tls.config());
    let accepting = acceptor
        .accept(BufReader::with_capacity(SOCKET_READ, tcp))
        .into_fallible();
    let tls = match tokio::time::timeout(shared.options.handshake, accepting).await {
        Ok(Ok(tls)) => tls,
        Ok(Err((error, mut tcp))) => {
            let reason = handshake_reason(&error);
            shared.refused(reason, &peer.to_string(), &error.to_string());
            if reason != RefuseReason::Handshake {
                shared.audit_refusal(reason, "unknown", &peer.ip().to_string(), &error.to_string());
            }
            let _ = tcp.shutdown().await;
            // What the client has sent already must be read, or it would not hear why.
            let rest = async {
                while matches!(tcp.fill_buf().await, Ok(rest) if !rest.is_empty()) {
                    let read = tcp.buffer().len();
                    tcp.consume(read);
                }
            };
            let _ = tokio::time::timeout(LAST_WORD, rest).await;
            return;
        }
        Err(_) => {
            shared.refused(
                RefuseReason::Handshake,
                &peer.to_string(),
                "the TLS handshake took too long",
            );
            return;
        }
    };
    let chain = tls.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
    let identity = match chain.first() {
        Some(certificate) => Identity::of_certificate(certificate)
            .map_err(|error| Refusal::new(RefuseReason::Identity, error.to_string())),
        None => Err(Refusal::new(
            RefuseReason::NoCertificate,
            "the client showed no certificate",
        )),
    };
    let mut link = Link::new(tls);
    let who = identity
        .as_ref()
        .map_or_else(|_| peer.to_string(), |identity| format!("{identity} at {peer}"));
    let actor = identity
        .as_ref()
        .map_or_else(|_| "unknown".to_owned(), ToString::to_string);
    let end = match identity {
        Ok(identity) => {
            let mut standing = Standing::new(changes, identity.clone(), chain);
            greet(&shared, &mut link, &identity, &mut standing, &shutdown).await
        }
        Err(refusal) => Err(refusal.into()),
    };
    match end {
        Ok(()) | Err(End::Gone) => tracing::debug!(bus = %shared.name, from = who, "the connection ended"),
        Err(End::Link(error)) => {
            tracing::info!(bus = %shared.name, from = who, error = %amoskys_core::error::Chain(&error), "the connection ended");
            return;
        }
        Err(End::Refused(refusal)) => {
            shared.refused(refusal.reason, &who, &refusal.text);
            if !matches!(
                refusal.reason,
                RefuseReason::Stopping | RefuseReason::Idle | RefuseReason::Ahead | RefuseReason::Behind
            ) {
                let object = refusal
                    .at
                    .map(|((epoch, class), _)| format!("{class}@{epoch}"))
                    .unwrap_or_else(|| peer.ip().to_string());
                shared.audit_refusal(refusal.reason, &actor, &object, &refusal.text);
            }
            link.push(FrameType::Refuse, &to_message(&refusal));
        }
    }
    link.close(LAST_WORD).await;
}

async fn greet(
    shared: &Arc<Shared>,
    link: &mut ServerLink,
    identity: &Identity,
    standing: &mut Standing,
    shutdown: &Shutdown,
) -> Result<(), End> {
    let slow = || {
        Refusal::new(
            RefuseReason::Idle,
            "the client took too long to say what it wants",
        )
    };
    let frame = tokio::select! {
        frame = tokio::time::timeout(shared.options.handshake, link.next()) => frame.map_err(|_| slow())??,
        () = shutdown.triggered() => return Err(stopping()),
    };
    if frame.kind != FrameType::Hello {
        return Err(crate::bus::frame::FrameError::OutOfPlace(frame.kind).into());
    }
    let hello: message::Hello = frame.message()?;
    if hello.version != PROTOCOL {
        let text = format!(
            "the client speaks version {} of the protocol, the bus {PROTOCOL}",
            hello.version
        );
        return Err(Refusal::new(RefuseReason::Version, text).into());
    }
    link.set_limit(MAX_FRAME);
    match Part::try_from(hello.part) {
        Ok(Part::Publisher) => {
            if hello.name != identity.name.as_str() {
                let text = format!(
                    "{identity} publishes as agent {}",
                    hello.name.escape_debug().take(255).collect::<String>()
                );
                return Err(Refusal::new(RefuseReason::AgentMismatch, text).into());
            }
            if identity.name == shared.name {
                let text = format!("{identity} has the bus's own name");
                return Err(Refusal::new(RefuseReason::AgentMismatch, text).into());
            }
            if !shared.options.trust.snapshot().knows(&identity.name) {
                let text = format!("no key is trusted for agent {}", identity.name);
                return Err(Refusal::new(RefuseReason::UnknownAgent, text).into());
            }
            offered(shared, &identity.name, &hello.hand_overs);
            publisher::serve(shared, link, identity, standing, shutdown).await
        }
        Ok(Part::Subscriber) => subscriber::serve(shared, link, identity, standing, shutdown).await,
        _ => Err(Refusal::new(
            RefuseReason::Protocol,
            "the client is neither publisher nor subscriber",
        )
        .into()),
    }
}

pub(crate) fn stopping() -> End {
    Refusal::new(RefuseReason::Stopping, "the bus is being stopped").into()
}

fn to_message(refusal: &Refusal) -> message::Refuse {
    let stream = refusal.at.map(|((epoch, class), _)| {
        let agent = amoskys_core::Name::default();
        message::Stream::from(&StreamId { agent, epoch, class })
    });
    message::Refuse {
        reason: refusal.reason.code(),
        text: refusal.text.clone(),
        stream,
        head: refusal.at.map(|(_, head)| head.into()),
    }
}

fn handshake_reason(error: &std::io::Error) -> RefuseReason {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    match inner {
        Some(TlsError::NoCertificatesPresented) => RefuseReason::NoCertificate,
        Some(TlsError::InvalidCertificate(error)) => certificate_reason(error),
        Some(TlsError::PeerIncompatible(_)) => RefuseReason::Downgrade,
        _ => RefuseReason::Handshake,
    }
}

pub(crate) fn certificate_reason(error: &CertificateError) -> RefuseReason {
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => RefuseReason::UnknownAuthority,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            RefuseReason::CertificateExpired
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            RefuseReason::CertificateNotYetValid
        }
        CertificateError::Revoked => RefuseReason::CertificateRevoked,
        _ => RefuseReason::BadCertificate,
    }
}
