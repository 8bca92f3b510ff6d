//! From an address to a bus that has said welcome.

use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::error::ConnectionError;
use super::options::ConnectOptions;
use super::standing::Standing;
use crate::bus::frame::{Frame, FrameError, FrameType, MAX_FRAME, MAX_WELCOME};
use crate::bus::link::Link;
use crate::bus::message::{self, PROTOCOL, Part};
use crate::bus::refuse::RefuseReason;
use crate::bus::server::SOCKET_READ;
use crate::identity::{Identity, Role};

/// However long a bus asks to wait, it is asked again after this.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The connection as the rest of a client sees it.
pub(crate) type ClientLink = Link<tokio_rustls::client::TlsStream<BufReader<TcpStream>>>;

/// Connects, and says hello.
pub(crate) async fn dial(
    options: &ConnectOptions,
    part: Part,
    name: &str,
) -> Result<(ClientLink, message::Welcome, Standing), ConnectionError> {
    dial_with(options, part, name, Vec::new()).await
}

/// As [`dial`], and shows which keys the agent has handed over to.
pub(crate) async fn dial_with(
    options: &ConnectOptions,
    part: Part,
    name: &str,
    hand_overs: Vec<Vec<u8>>,
) -> Result<(ClientLink, message::Welcome, Standing), ConnectionError> {
    let connecting = tokio::time::timeout(options.timeout, connect(options, part, name, hand_overs));
    connecting.await.map_err(|_| ConnectionError::Timeout {
        address: options.address.clone(),
        after: options.timeout,
    })?
}

async fn connect(
    options: &ConnectOptions,
    part: Part,
    name: &str,
    hand_overs: Vec<Vec<u8>>,
) -> Result<(ClientLink, message::Welcome, Standing), ConnectionError> {
    let address = &options.address;
    let server_name = server_name(options)?;
    let tcp = TcpStream::connect(address.as_str()).await;
    let tcp = tcp.map_err(|source| ConnectionError::Unreachable {
        address: address.clone(),
        source,
    })?;
    let _ = tcp.set_nodelay(true);
    let mut standing = Standing::new(&options.tls, address.clone(), server_name.clone());
    let connector = TlsConnector::from(options.tls.config());
    let tls = connector
        .connect(server_name, BufReader::with_capacity(SOCKET_READ, tcp))
        .await;
    let tls = tls.map_err(|error| {
        let is_certificate = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref())
            .is_some_and(|error| matches!(error, rustls::Error::InvalidCertificate(_)));
        if is_certificate {
            return ConnectionError::Untrusted {
                address: address.clone(),
                source: error.into(),
            };
        }
        crate::bus::link::LinkError::Io(error).into()
    })?;
    // Whoever else has a certificate of the same authority is no bus.
    let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
    standing.shown(chain);
    let certificate = chain.first();
    let untrusted = |source: amoskys_core::BoxError| ConnectionError::Untrusted {
        address: address.clone(),
        source,
    };
    let certificate = certificate.ok_or_else(|| untrusted("it showed no certificate".into()))?;
    let identity = Identity::of_certificate(certificate).map_err(|error| untrusted(error.into()))?;
    if identity.role != Role::Bus {
        return Err(untrusted(format!("its certificate is that of {identity}").into()));
    }
    let mut link = Link::new(tls);
    link.set_limit(MAX_WELCOME);
    let hello = message::Hello {
        version: PROTOCOL,
        part: part as i32,
        name: name.to_owned(),
        software: concat!("amoskys-transport/", env!("CARGO_PKG_VERSION")).to_owned(),
        takes_retry: part == Part::Publisher,
        hand_overs,
    };
    link.push(FrameType::Hello, &hello);
    let frame = link.next().await?;
    let welcome: message::Welcome = match frame.kind {
        FrameType::Welcome => frame.message()?,
        FrameType::Refuse => return Err(refused(&frame).0),
        kind => return Err(FrameError::OutOfPlace(kind).into()),
    };
    if welcome.version != PROTOCOL {
        return Err(ConnectionError::Refused {
            reason: RefuseReason::Version,
            text: format!("the bus speaks version {} of the protocol", welcome.version),
            retry_after: None,
        });
    }
    link.set_limit(MAX_FRAME);
    Ok((link, welcome, standing))
}

/// What a refusal says, and the refusal itself.
pub(crate) fn refused(frame: &Frame) -> (ConnectionError, message::Refuse) {
    let refuse: message::Refuse = match frame.message() {
        Ok(refuse) => refuse,
        Err(error) => return (error.into(), message::Refuse::default()),
    };
    let error = ConnectionError::Refused {
        reason: RefuseReason::of_code(refuse.reason),
        text: refuse.text.clone(),
        retry_after: (refuse.retry_after_ms > 0)
            .then(|| Duration::from_millis(refuse.retry_after_ms.into()).min(LONGEST_PAUSE)),
    };
    (error, refuse)
}

fn server_name(options: &ConnectOptions) -> Result<ServerName<'static>, ConnectionError> {
    let address = &options.address;
    let wrong = |reason: &str| ConnectionError::Address {
        address: address.clone(),
        reason: reason.to_owned(),
    };
    let (host, _) = address
        .rsplit_once(':')
        .ok_or_else(|| wrong("it is not of the form HOST:PORT"))?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let name = options.server_name.as_deref().unwrap_or(host);
    ServerName::try_from(name.to_owned())
        .map_err(|_| wrong("the server's name is neither a host name nor an IP address"))
}
