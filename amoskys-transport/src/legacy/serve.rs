//! A connection of an agent of the predecessor: HTTP/2 with gRPC in it.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use amoskys_core::{Name, Shutdown};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};

use super::envelope::{EnvelopeError, MAX_ENVELOPE};
use super::gateway::{Agent, Gateway};
use super::grpc::{self, Answer, CallError, Code};
use super::message::{PublishAck, Status};
use super::name::common_name;
use super::reason::{LegacyReason, Refusal};
use crate::bus::{Changes, GOOD_STANDING, NoRoom, RefuseReason, Shared, Standing, Ticket};
use crate::identity::{Identity, Role};
use crate::wal::segment::lock;

pub(crate) const PATH: &str = "/messaging.EventBus/Publish";
/// The name of HTTP/2 in a TLS handshake.
pub(crate) const ALPN: &[u8] = b"h2";
/// How long a client may take to send a message.
const MESSAGE_TIME: Duration = Duration::from_secs(15);
/// How often a client that is silent is asked whether it is there, and how long it may take to say so.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));
/// How long calls that have begun may take once a connection is to end.
const LAST_CALLS: Duration = Duration::from_secs(2);
/// Bytes a client may send before they are read: of a call, and of a connection.
const WINDOWS: (u32, u32) = (256 << 10, 1 << 20);
const MAX_HEADERS: u32 = 16 << 10;
/// So many refused envelopes count as one refused connection.
const OFFENCES_TO_A_STRIKE: usize = 8;

/// The settings, with the protocol that tells agents of the predecessor from others.
pub(crate) fn offering(config: Arc<ServerConfig>) -> Arc<ServerConfig> {
    if config.alpn_protocols.iter().any(|protocol| protocol == ALPN) {
        return config;
    }
    let mut config = ServerConfig::clone(&config);
    config.alpn_protocols.push(ALPN.to_vec());
    Arc::new(config)
}

struct Session {
    shared: Arc<Shared>,
    gateway: Arc<Gateway>,
    /// Who it is; or why that is not known.
    agent: Result<Arc<Agent>, Refusal>,
    who: String,
    peer: IpAddr,
    begun: Instant,
    /// Since when nothing was wrong; `None` if what was wrong before is forgiven.
    good_since: Mutex<Option<Instant>>,
    calls: AtomicUsize,
    /// When the last call ended, in milliseconds since `begun`.
    called: AtomicU64,
}

/// Whether the two sides have agreed on it.
pub(crate) fn is_spoken(tls: &rustls::ServerConnection) -> bool {
    tls.alpn_protocol() == Some(ALPN)
}

/// Who is at the other end of a connection.
pub(crate) struct Client {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) changes: Changes,
    pub(crate) peer: SocketAddr,
    pub(crate) ticket: Ticket,
}

/// Serves a connection until it ends.
pub(crate) async fn serve<T>(
    shared: Arc<Shared>,
    gateway: Arc<Gateway>,
    tls: T,
    client: Client,
    shutdown: Shutdown,
) where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Client {
        chain,
        changes,
        peer,
        ticket,
    } = client;
    let name = match chain.first() {
        Some(certificate) => common_name(certificate),
        None => Err("the client showed no certificate".to_owned()),
    };
    let agent = name
        .map_err(|text| Refusal::new(LegacyReason::Identity, text))
        .and_then(|name| gateway.agent(&name));
    let who = match &agent {
        Ok(agent) => agent.name.to_string(),
        Err(_) => "unknown".to_owned(),
    };
    // Who cannot be told apart from others stays at the door, and makes room for who can.
    let (mut stranger, _guest) = match &agent {
        Err(_) => (Some(ticket), None),
        Ok(agent) => match ticket.enter(&agent.name, &shared.limits.snapshot()) {
            Ok(guest) => (None, Some(guest)),
            Err(no_room) => {
                let text = match no_room {
                    NoRoom::All => "there are too many connections".to_owned(),
                    NoRoom::One(own) => format!("{who} has {own} connections already"),
                };
                return shared.refused(RefuseReason::Busy, &who, &text);
            }
        },
    };
    let identity = Identity {
        role: Role::Agent,
        name: Name::from(who.as_str()),
    };
    let mut standing = Standing::new(changes, identity, chain);
    let idle = gateway.options.idle;
    let session = Arc::new(Session {
        shared,
        gateway,
        agent,
        who,
        peer: peer.ip(),
        begun: Instant::now(),
        good_since: Mutex::new(Some(Instant::now())),
        calls: AtomicUsize::new(0),
        called: AtomicU64::new(0),
    });
    let service = {
        let session = session.clone();
        service_fn(move |request| {
            let session = session.clone();
            async move { Ok::<_, Infallible>(session.call(request).await) }
        })
    };
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1)
        .max_concurrent_streams(session.gateway.options.max_streams)
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .max_header_list_size(MAX_HEADERS)
        .max_send_buf_size(64 << 10)
        .auto_date_header(false);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(tls), service));
    let mut look = tokio::time::interval(Duration::from_secs(1).min(idle.max(Duration::from_millis(10))));
    let mut ending: Option<tokio::time::Instant> = None;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                match ended {
                    Ok(()) => tracing::debug!(bus = %session.shared.name, from = session.who, %peer, "the connection ended"),
                    Err(error) => tracing::info!(bus = %session.shared.name, from = session.who, %peer, %error, "the connection ended"),
                }
                return;
            }
            () = made_to_leave(&mut stranger) => return,
            refusal = standing.lost(&session.shared, false) => {
                session.shared.refused(refusal.reason, &session.who, &refusal.text);
                session.shared.audit_refusal(refusal.reason, &session.who, &peer.ip().to_string(), &refusal.text);
                return;
            }
            () = shutdown.triggered(), if ending.is_none() => {
                connection.as_mut().graceful_shutdown();
                ending = Some(tokio::time::Instant::now() + LAST_CALLS);
            }
            _ = look.tick() => {
                if ending.is_none() && session.is_idle_for(idle) {
                    connection.as_mut().graceful_shutdown();
                    ending = Some(tokio::time::Instant::now() + LAST_CALLS);
                }
                if ending.is_some_and(|ending| ending <= tokio::time::Instant::now()) {
                    return;
                }
            }
        }
    }
}

async fn made_to_leave(stranger: &mut Option<Ticket>) {
    match stranger {
        Some(ticket) => drop((&mut ticket.leave).await),
        None => std::future::pending().await,
    }
}

impl Session {
    fn is_idle_for(&self, idle: Duration) -> bool {
        let called = Duration::from_millis(self.called.load(Ordering::Acquire));
        self.calls.load(Ordering::Acquire) == 0 && self.begun.elapsed().saturating_sub(called) >= idle
    }

    async fn call(&self, request: Request<Incoming>) -> Response<Answer> {
        self.calls.fetch_add(1, Ordering::AcqRel);
        let response = self.answer(request).await;
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.called.store(now, Ordering::Release);
        self.calls.fetch_sub(1, Ordering::AcqRel);
        response
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        if let Err((code, text)) = grpc::check_call(&request, PATH) {
            return grpc::failed(code, text);
        }
        let enter = |bytes| match &self.agent {
            Ok(agent) => self.gateway.enter(&self.shared, agent, bytes),
            Err(refusal) => Err(refusal.clone()),
        };
        let reading = grpc::read_message(request.into_body(), MAX_ENVELOPE, enter);
        let result = match tokio::time::timeout(MESSAGE_TIME, reading).await {
            Err(_) => return grpc::failed(Code::DeadlineExceeded, "the message took too long"),
            Ok(Err(CallError::Status(code, text))) => return grpc::failed(code, text),
            Ok(Err(CallError::TooLarge(bytes))) => {
                let text = EnvelopeError::TooLarge(bytes).to_string();
                Err(Refusal::new(LegacyReason::TooLarge, text))
            }
            Ok(Err(CallError::Refused(refusal))) => Err(refusal),
            Ok(Ok((message, in_flight))) => self.gateway.publish(in_flight, message).await,
        };
        match result {
            Ok(_) => {
                self.note_good();
                grpc::answer(&PublishAck {
                    status: Status::Ok as i32,
                    reason: String::new(),
                    backoff_hint_ms: 0,
                })
            }
            Err(refusal) => {
                self.gateway.refused(&self.shared, &self.who, &refusal);
                self.note_offence(refusal.reason);
                grpc::answer(&refusal.to_ack())
            }
        }
    }

    /// Counts an envelope that should not have been sent. One wrong setting makes many of them, and they cost little; so
    /// several count as much as one refused connection.
    fn note_offence(&self, reason: LegacyReason) {
        if !reason.is_offence() {
            return;
        }
        *lock(&self.good_since) = Some(Instant::now());
        let agent = self.agent.as_ref().ok();
        let counter = agent.map_or(&self.gateway.strangers_offences, |agent| &agent.offences);
        if (counter.fetch_add(1, Ordering::AcqRel) + 1).is_multiple_of(OFFENCES_TO_A_STRIKE) {
            let reason = match reason {
                LegacyReason::Signature => RefuseReason::Signature,
                LegacyReason::Identity => RefuseReason::Identity,
                LegacyReason::UnknownAgent => RefuseReason::UnknownAgent,
                _ => RefuseReason::Malformed,
            };
            self.shared
                .strike(reason, agent.map(|agent| &agent.name), self.peer);
        }
    }

    /// After some time in which all was well, what was wrong before is forgiven.
    fn note_good(&self) {
        let mut since = lock(&self.good_since);
        if since.is_some_and(|since| since.elapsed() >= GOOD_STANDING)
            && let Ok(agent) = &self.agent
        {
            *since = None;
            self.shared.forgive(&agent.name, self.peer);
        }
    }
}
