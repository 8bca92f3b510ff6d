//! An agent of the predecessor, to put a bus to the test.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use amoskys_core::BoxError;
use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, TE};
use hyper::{Method, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use ring::signature::Ed25519KeyPair;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::envelope::signed_bytes;
use super::message::{Envelope, FlowEvent, PublishAck, Status};
use super::serve::{ALPN, PATH};

/// One connection of an agent of the predecessor: makes and signs envelopes as those do, sends them, and hears what became
/// of them. For load and tests; it keeps nothing.
///
/// Copies share the connection, and many calls can be under way on it at a time.
#[derive(Clone)]
pub struct LegacyAgent {
    key: Option<Arc<Ed25519KeyPair>>,
    sender: SendRequest<Full<Bytes>>,
    authority: String,
}

/// What a bus said to an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LegacyAnswer {
    /// It is durable.
    Ok,
    /// Not now.
    Retry {
        /// When to send it again.
        after: Duration,
        /// Why.
        reason: String,
    },
    /// Never.
    Invalid {
        /// Why.
        reason: String,
    },
    /// Not from this agent.
    Unauthorized {
        /// Why.
        reason: String,
    },
}

impl LegacyAgent {
    /// Connects to `HOST:PORT`. Signs with the key of this seed, 32 bytes, if there is one.
    ///
    /// # Errors
    ///
    /// If there is no connection, or the seed is no key.
    pub async fn connect(
        address: &str,
        tls: Arc<ClientConfig>,
        seed: Option<&[u8; 32]>,
    ) -> Result<Self, BoxError> {
        let key = match seed {
            Some(seed) => {
                let key = Ed25519KeyPair::from_seed_unchecked(seed);
                Some(Arc::new(key.map_err(|error| error.to_string())?))
            }
            None => None,
        };
        let (host, _) = address.rsplit_once(':').ok_or("the address is not HOST:PORT")?;
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
        let mut tls = ClientConfig::clone(&tls);
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let tls = TlsConnector::from(Arc::new(tls)).connect(name, tcp).await?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection of a simulated agent ended");
            }
        });
        Ok(Self {
            key,
            sender,
            authority: address.to_owned(),
        })
    }

    /// An envelope made now, with a flow that differs from number to number, signed if there is a key.
    #[must_use]
    pub fn envelope(&self, idempotency_key: &str, number: u64) -> Bytes {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let ts_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let byte = |shift: u32| number >> shift & 0xff;
        let flow = FlowEvent {
            src_ip: format!("10.{}.{}.{}", byte(16), byte(8), byte(0)),
            dst_ip: "192.0.2.7".to_owned(),
            src_port: 32_768 + u32::try_from(number % 28_000).unwrap_or(0),
            dst_port: 443,
            protocol: "TCP".to_owned(),
            bytes_sent: number.wrapping_mul(31) % 100_000,
            bytes_recv: number.wrapping_mul(101) % 1_000_000,
            flags: 0x1b,
            start_time: ts_ns.saturating_sub(1_000_000_000),
            end_time: ts_ns,
            ..FlowEvent::default()
        };
        let version = "1";
        let signed = signed_bytes(version, ts_ns, idempotency_key, Some(&flow.encode_to_vec()));
        let sig = self.key.as_ref().map(|key| key.sign(&signed).as_ref().to_vec());
        let envelope = Envelope {
            version: version.to_owned(),
            ts_ns,
            idempotency_key: idempotency_key.to_owned(),
            flow: Some(flow),
            sig: sig.unwrap_or_default(),
            schema_version: 1,
            ..Envelope::default()
        };
        envelope.encode_to_vec().into()
    }

    /// Sends an envelope, and waits for the answer.
    ///
    /// # Errors
    ///
    /// If the connection is lost, or the call fails. The envelope may be stored then.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the envelope may or may not be stored.
    pub async fn publish(&self, envelope: Bytes) -> Result<LegacyAnswer, BoxError> {
        let mut framed = BytesMut::with_capacity(5 + envelope.len());
        framed.put_u8(0);
        framed.put_u32(u32::try_from(envelope.len())?);
        framed.extend_from_slice(&envelope);
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("https://{}{PATH}", self.authority))
            .header(CONTENT_TYPE, "application/grpc")
            .header(TE, "trailers")
            .body(Full::new(framed.freeze()))?;
        let mut sender = self.sender.clone();
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let status = trailers.get("grpc-status").or(head.headers.get("grpc-status"));
        if status.is_none_or(|status| status != "0") {
            return Err(format!(
                "the call failed: {status:?}, {:?}",
                head.headers.get("grpc-message")
            )
            .into());
        }
        let body = body.to_bytes();
        let ack = PublishAck::decode(body.get(5..).ok_or("the answer ends early")?)?;
        let reason = ack.reason;
        Ok(match Status::try_from(ack.status)? {
            Status::Ok => LegacyAnswer::Ok,
            Status::Retry => LegacyAnswer::Retry {
                after: Duration::from_millis(u64::try_from(ack.backoff_hint_ms).unwrap_or(0)),
                reason,
            },
            Status::Invalid => LegacyAnswer::Invalid { reason },
            Status::Unauthorized => LegacyAnswer::Unauthorized { reason },
        })
    }
}

impl fmt::Debug for LegacyAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LegacyAgent")
            .field("authority", &self.authority)
            .finish_non_exhaustive()
    }
}
