//! A connection from its first byte: TLS, who it is, and what it wants.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use amoskys_core::{Shutdown, StreamId};
use rustls::{AlertDescription, CertificateError, Error as TlsError};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::door::{Guest, NoRoom, Ticket};
use super::offenders::Who;
use super::serve::Served;
use super::shared::Shared;
use super::standing::{Changes, Standing};
use super::succession::offered;
use super::{publisher, subscriber};
use crate::bus::frame::{FrameType, MAX_FRAME};
use crate::bus::link::{Link, LinkError};
use crate::bus::message::{self, PROTOCOL, Part};
use crate::bus::refuse::RefuseReason;
use crate::identity::Identity;

/// Bytes read from a socket at once.
pub(crate) const SOCKET_READ: usize = 128 << 10;
/// How long the other side may take to hear the last word.
const LAST_WORD: Duration = Duration::from_secs(1);
/// What a subscriber says is no longer than this.
const MAX_SUBSCRIBE: usize = 1 << 20;
/// When a client for which there is no room should come again.
pub(crate) const COME_AGAIN: Duration = Duration::from_secs(5);

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
    /// It had to make room for another before it said what it wants.
    Evicted,
}

/// Why a client was told to go.
pub(crate) use crate::bus::admission::Rejection as Refusal;

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
pub(crate) async fn connection(
    served: Served,
    tcp: TcpStream,
    peer: SocketAddr,
    mut ticket: Ticket,
    shutdown: Shutdown,
) {
    let shared = &served.shared;
    // Without it, a last small write waits for the other side.
    let _ = tcp.set_nodelay(true);
    let meeting = async {
        kept_out(shared, peer.ip()).await;
        meet(shared, tcp, peer).await
    };
    let met = tokio::select! {
        met = meeting => met,
        _ = &mut ticket.leave => return evicted(shared, peer),
    };
    let Some((mut link, chain, changes)) = met else {
        return;
    };
    #[cfg(feature = "legacy")]
    if let Some(gateway) = &shared.gateway
        && crate::legacy::is_spoken(link.io().get_ref().1)
    {
        let client = crate::legacy::Client {
            chain,
            changes,
            peer,
            ticket,
        };
        return crate::legacy::serve(shared.clone(), gateway.clone(), link.into_io(), client, shutdown).await;
    }
    let identity = match chain.first() {
        Some(certificate) => Identity::of_certificate(certificate)
            .map_err(|error| Refusal::new(RefuseReason::Identity, error.to_string())),
        None => Err(Refusal::new(
            RefuseReason::NoCertificate,
            "the client showed no certificate",
        )),
    };
    let who = identity
        .as_ref()
        .map_or_else(|_| peer.to_string(), |identity| format!("{identity} at {peer}"));
    let known = identity.as_ref().ok().cloned();
    let end = match identity {
        Ok(identity) => {
            let mut standing = Standing::new(changes, identity.clone(), chain);
            let client = Client {
                identity,
                peer,
                ticket: Some(ticket),
                guest: None,
            };
            greet(&served, &mut link, client, &mut standing, &shutdown).await
        }
        Err(refusal) => Err(refusal.into()),
    };
    match end {
        Ok(()) | Err(End::Gone) => tracing::debug!(bus = %shared.name, from = who, "the connection ended"),
        Err(End::Link(error)) => {
            tracing::info!(bus = %shared.name, from = who, error = %amoskys_core::error::Chain(&error), "the connection ended");
            return;
        }
        Err(End::Evicted) => return evicted(shared, peer),
        Err(End::Refused(refusal)) => {
            shared.refused(refusal.reason, &who, &refusal.text);
            if is_offence(refusal.reason) {
                shared.strike(refusal.reason, known.as_ref().map(|known| &known.name), peer.ip());
            }
            if !matches!(
                refusal.reason,
                RefuseReason::Stopping | RefuseReason::Idle | RefuseReason::Busy | RefuseReason::Limited
            ) {
                let actor = known.map_or_else(|| "unknown".to_owned(), |known| known.to_string());
                let object = refusal
                    .at
                    .as_deref()
                    .map(|((epoch, class), _)| format!("{class}@{epoch}"))
                    .unwrap_or_else(|| peer.ip().to_string());
                shared.audit_refusal(refusal.reason, &actor, &object, &refusal.text);
            }
            link.push(FrameType::Refuse, &to_message(&refusal));
        }
    }
    link.close(LAST_WORD).await;
}

/// Waits while nobody is served who comes from there. Where others do well, one offender does not harm them.
async fn kept_out(shared: &Shared, from: IpAddr) {
    let penalty = shared.offenders.penalty(&Who::from(from), Instant::now());
    if let Some(penalty) = penalty.filter(|_| !shared.door.is_inside(from)) {
        tokio::time::sleep(penalty.min(shared.options.handshake)).await;
    }
}

/// One that took its time had to make room for another. That may be the bus's fault, when all agents come at once, so nothing
/// is held against it.
fn evicted(shared: &Shared, peer: SocketAddr) {
    let text = "it took its time to say who it is, and others wait";
    shared.refused(RefuseReason::Busy, &peer.to_string(), text);
}

/// Whether a client that does it again and again is to be kept out.
fn is_offence(reason: RefuseReason) -> bool {
    !matches!(
        reason,
        RefuseReason::Stopping
            | RefuseReason::LogFailed
            | RefuseReason::Busy
            | RefuseReason::Limited
            // Of a line that went dead, too.
            | RefuseReason::Idle
    )
}

/// The TLS handshake.
async fn meet(
    shared: &Arc<Shared>,
    tcp: TcpStream,
    peer: SocketAddr,
) -> Option<(ServerLink, Vec<CertificateDer<'static>>, Changes)> {
    let changes = Changes::of(shared);
    let config = shared.options.tls.config();
    #[cfg(feature = "legacy")]
    let config = match &shared.gateway {
        Some(_) => crate::legacy::offering(config),
        None => config,
    };
    let acceptor = TlsAcceptor::from(config);
    let accepting = acceptor
        .accept(BufReader::with_capacity(SOCKET_READ, tcp))
        .into_fallible();
    match tokio::time::timeout(shared.options.handshake, accepting).await {
        Ok(Ok(tls)) => {
            let chain = tls.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
            Some((Link::new(tls), chain, changes))
        }
        Ok(Err((error, mut tcp))) => {
            let reason = handshake_reason(&error);
            shared.refused(reason, &peer.to_string(), &error.to_string());
            // Who goes away has done nothing wrong: probes of load balancers do, and clients that lose patience.
            if error.kind() != std::io::ErrorKind::UnexpectedEof {
                shared.strike(reason, None, peer.ip());
            }
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
            None
        }
        Err(_) => {
            let text = "the TLS handshake took too long";
            shared.refused(RefuseReason::Handshake, &peer.to_string(), text);
            shared.strike(RefuseReason::Handshake, None, peer.ip());
            None
        }
    }
}

/// Who is at the other end of a connection.
pub(crate) struct Client {
    pub(crate) identity: Identity,
    pub(crate) peer: SocketAddr,
    /// Until it has said what it wants …
    ticket: Option<Ticket>,
    /// … and from then on.
    guest: Option<Guest>,
}

impl Client {
    /// Lets it in, if there is room and it has no penalty to wait for.
    fn enter(&mut self, shared: &Shared) -> Result<(), Refusal> {
        let name = &self.identity.name;
        if let Some(left) = shared.penalty(name) {
            let text = format!(
                "{} was refused again and again, and has to stay away for {} ms",
                self.identity,
                left.as_millis()
            );
            return Err(Refusal::new(RefuseReason::Limited, text).retry_after(left));
        }
        let Some(ticket) = &self.ticket else {
            return Ok(());
        };
        let guest = ticket.enter(name, &shared.limits.snapshot()).map_err(|no_room| {
            let text = match no_room {
                NoRoom::All => "there are too many connections".to_owned(),
                NoRoom::One(own) => format!("{} has {own} connections already", self.identity),
            };
            Refusal::new(RefuseReason::Busy, text).retry_after(COME_AGAIN)
        })?;
        (self.ticket, self.guest) = (None, Some(guest));
        Ok(())
    }
}

async fn greet(
    served: &Served,
    link: &mut ServerLink,
    mut client: Client,
    standing: &mut Standing,
    shutdown: &Shutdown,
) -> Result<(), End> {
    let shared = &served.shared;
    let slow = || {
        Refusal::new(
            RefuseReason::Idle,
            "the client took too long to say what it wants",
        )
    };
    let evicted = async {
        match &mut client.ticket {
            Some(ticket) => drop((&mut ticket.leave).await),
            None => std::future::pending().await,
        }
    };
    let frame = tokio::select! {
        frame = tokio::time::timeout(shared.options.handshake, link.next()) => match frame {
            Ok(frame) => frame?,
            Err(_) => {
                shared.strike(RefuseReason::Idle, Some(&client.identity.name), client.peer.ip());
                return Err(slow().into());
            }
        },
        () = shutdown.triggered() => return Err(stopping()),
        () = evicted => return Err(End::Evicted),
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
    client.enter(shared)?;
    let identity = &client.identity;
    match Part::try_from(hello.part) {
        Ok(Part::Publisher) => {
            if hello.name != identity.name.as_str() {
                let text = format!(
                    "{identity} publishes as agent {}",
                    hello.name.escape_debug().take(255).collect::<String>()
                );
                return Err(Refusal::new(RefuseReason::AgentMismatch, text).into());
            }
            #[cfg(feature = "legacy")]
            let is_gateway = shared
                .gateway
                .as_ref()
                .is_some_and(|own| own.name == identity.name);
            #[cfg(not(feature = "legacy"))]
            let is_gateway = false;
            if identity.name == shared.name || is_gateway {
                let text = format!("{identity} has the bus's own name");
                return Err(Refusal::new(RefuseReason::AgentMismatch, text).into());
            }
            if !shared.options.trust.snapshot().knows(&identity.name) {
                let text = format!("no key is trusted for agent {}", identity.name);
                return Err(Refusal::new(RefuseReason::UnknownAgent, text).into());
            }
            offered(shared, &identity.name, &hello.hand_overs);
            link.set_limit(MAX_FRAME);
            publisher::serve(served, link, &client, hello.takes_retry, standing, shutdown).await
        }
        Ok(Part::Subscriber) => {
            link.set_limit(MAX_SUBSCRIBE);
            subscriber::serve(shared, link, identity, standing, shutdown).await
        }
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
    let at = refusal.at.as_deref().copied();
    let stream = at.map(|((epoch, class), _)| {
        let agent = amoskys_core::Name::default();
        message::Stream::from(&StreamId { agent, epoch, class })
    });
    message::Refuse {
        reason: refusal.reason.code(),
        text: refusal.text.clone(),
        stream,
        head: at.map(|(_, head)| head.into()),
        retry_after_ms: refusal
            .retry_after
            .map_or(0, |time| u32::try_from(time.as_millis()).unwrap_or(u32::MAX)),
    }
}

fn handshake_reason(error: &std::io::Error) -> RefuseReason {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    match inner {
        Some(TlsError::NoCertificatesPresented) => RefuseReason::NoCertificate,
        Some(TlsError::InvalidCertificate(error)) => certificate_reason(error),
        Some(TlsError::PeerIncompatible(_)) => RefuseReason::Downgrade,
        Some(TlsError::AlertReceived(alert)) if is_about_certificate(*alert) => RefuseReason::Distrusted,
        _ => RefuseReason::Handshake,
    }
}

/// Whether a client says by this that it does not take our certificate.
fn is_about_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
    )
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
