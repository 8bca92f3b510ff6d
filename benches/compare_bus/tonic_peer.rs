//! The peer: a tonic stream in both directions over mutual TLS, a signature a message, and no log.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use amoskys_transport::identity::Credentials;
use bytes::Bytes;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{BoxFuture, Context, Poll, Service, http};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::batches::EVENTS;
use crate::fleet::IN_FLIGHT;
use crate::round::{Failure, Round, Stopwatch};

/// Settings of HTTP/2, the same on both sides: with the defaults it is slower.
const STREAM_WINDOW: u32 = 8 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
const FRAME: u32 = 256 << 10;
/// Messages in a queue inside one side.
const QUEUE: usize = 16;
const PATH: &str = "/bench.Bus/Publish";

/// What a client signs. Ed25519 hashes what it signs twice with SHA-512, and once more to verify.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Signed {
    /// The message itself.
    Message,
    /// The SHA-256 of the message, as our records do it: cheaper where the processor has instructions for it.
    Digest,
}

impl Signed {
    fn of(self, events: &Bytes) -> Bytes {
        match self {
            Self::Message => events.clone(),
            Self::Digest => Bytes::copy_from_slice(digest(&SHA256, events).as_ref()),
        }
    }
}

/// Events, and their signature.
#[derive(Clone, PartialEq, prost::Message)]
struct Batch {
    #[prost(uint64, tag = "1")]
    sequence: u64,
    #[prost(bytes = "bytes", tag = "2")]
    events: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    signature: Bytes,
}

/// The message with this number is verified.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Ack {
    #[prost(uint64, tag = "1")]
    sequence: u64,
}

/// A server, and clients that are connected to it.
pub(crate) struct TonicPeer {
    clients: Vec<Client>,
    server: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
    stop: Arc<Notify>,
}

struct Client {
    key: Arc<Ed25519KeyPair>,
    signed: Signed,
    messages: mpsc::Sender<Batch>,
    batches: Arc<Vec<Bytes>>,
    in_flight: Arc<Semaphore>,
    sent: u64,
    acknowledged: Arc<AtomicU64>,
    acks: tokio::task::JoinHandle<Result<(), Status>>,
}

impl TonicPeer {
    /// Begins a server, and connects as many clients.
    pub(crate) async fn connect(
        server: &Credentials,
        client: &Credentials,
        clients: usize,
        signed: Signed,
        batches: &Arc<Vec<Bytes>>,
    ) -> Result<Self, Failure> {
        let random = SystemRandom::new();
        let secret = Ed25519KeyPair::generate_pkcs8(&random).map_err(|_| "no key could be drawn")?;
        let key = Arc::new(Ed25519KeyPair::from_pkcs8(secret.as_ref()).map_err(|_| "the key is unusable")?);
        let authority = Certificate::from_pem(std::fs::read(server.tls.ca_file())?);
        let tls = ServerTlsConfig::new()
            .identity(identity(server)?)
            .client_ca_root(authority.clone());
        let incoming =
            TcpIncoming::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?.with_nodelay(Some(true));
        let address = incoming.local_addr()?;
        let service = PublishService {
            key: Bytes::copy_from_slice(key.public_key().as_ref()),
            signed,
        };
        let stop = Arc::new(Notify::new());
        let (stopped, builder) = (stop.clone(), Server::builder().tls_config(tls)?);
        let serve = builder
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .serve_with_incoming_shutdown(service, incoming, async move { stopped.notified().await });
        let server = tokio::spawn(serve);
        let tls = ClientTlsConfig::new()
            .identity(identity(client)?)
            .ca_certificate(authority)
            .domain_name("localhost");
        let endpoint = Endpoint::from_shared(format!("https://{address}"))?
            .tls_config(tls)?
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let mut connected = Vec::new();
        for _ in 0..clients {
            let channel = endpoint.connect().await?;
            connected.push(Client::begin(channel, key.clone(), signed, batches.clone()).await?);
        }
        Ok(Self {
            clients: connected,
            server,
            stop,
        })
    }

    /// Signs and sends for this long, until all of it is acknowledged.
    pub(crate) async fn run(&mut self, time: Duration) -> Result<Round, Failure> {
        let watch = Stopwatch::start();
        let until = Instant::now() + time;
        let before: u64 = self.clients.iter().map(|client| client.sent).sum();
        let mut running = Vec::new();
        for mut client in self.clients.drain(..) {
            running.push(tokio::spawn(async move {
                let sent = client.send(until).await;
                (client, sent)
            }));
        }
        for running in running {
            let (client, sent) = running.await?;
            sent?;
            self.clients.push(client);
        }
        let after: u64 = self.clients.iter().map(|client| client.sent).sum();
        Ok(watch.stop((after - before) * EVENTS as u64))
    }

    /// Ends the connections and the server.
    pub(crate) async fn end(self) -> Result<(), Failure> {
        for client in self.clients {
            drop(client.messages);
            client.acks.await??;
        }
        self.stop.notify_one();
        Ok(self.server.await??)
    }
}

impl Client {
    async fn begin(
        channel: Channel,
        key: Arc<Ed25519KeyPair>,
        signed: Signed,
        batches: Arc<Vec<Bytes>>,
    ) -> Result<Self, Failure> {
        let (messages, queue) = mpsc::channel(QUEUE);
        let mut grpc = tonic::client::Grpc::new(channel);
        grpc.ready().await?;
        let request = Request::new(ReceiverStream::new(queue));
        let codec = ProstCodec::<Batch, Ack>::default();
        let path = PathAndQuery::from_static(PATH);
        let mut answers = grpc.streaming(request, path, codec).await?.into_inner();
        let in_flight = Arc::new(Semaphore::new(usize::try_from(IN_FLIGHT)?));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let (permits, known) = (in_flight.clone(), acknowledged.clone());
        let acks = tokio::spawn(async move {
            while let Some(Ack { sequence }) = answers.message().await? {
                known.store(sequence, Ordering::Release);
                permits.add_permits(1);
            }
            Ok(())
        });
        Ok(Self {
            key,
            signed,
            messages,
            batches,
            in_flight,
            sent: 0,
            acknowledged,
            acks,
        })
    }

    async fn send(&mut self, until: Instant) -> Result<(), Failure> {
        while Instant::now() < until {
            self.in_flight.acquire().await?.forget();
            let index = usize::try_from(self.sent)? % self.batches.len();
            let events = self.batches[index].clone();
            let signature = self.key.sign(&self.signed.of(&events));
            self.sent += 1;
            let batch = Batch {
                sequence: self.sent,
                events,
                signature: Bytes::copy_from_slice(signature.as_ref()),
            };
            self.messages.send(batch).await?;
        }
        while self.acknowledged.load(Ordering::Acquire) < self.sent {
            if self.acks.is_finished() {
                return Err("the stream has ended".into());
            }
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        Ok(())
    }
}

/// What a generator would write for a service with one method.
#[derive(Clone)]
struct PublishService {
    key: Bytes,
    signed: Signed,
}

impl Service<http::Request<Body>> for PublishService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let publish = Publish(self.clone());
        Box::pin(async move {
            let codec = ProstCodec::<Ack, Batch>::default();
            Ok(tonic::server::Grpc::new(codec).streaming(publish, request).await)
        })
    }
}

struct Publish(PublishService);

impl tonic::server::StreamingService<Batch> for Publish {
    type Response = Ack;
    type ResponseStream = ReceiverStream<Result<Ack, Status>>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Batch>>) -> Self::Future {
        let (answers, queue) = mpsc::channel(QUEUE);
        let (service, messages) = (self.0.clone(), request.into_inner());
        tokio::spawn(async move {
            if let Err(status) = verify(&service, messages, &answers).await {
                // The client may be gone.
                let _ = answers.send(Err(status)).await;
            }
        });
        std::future::ready(Ok(Response::new(ReceiverStream::new(queue))))
    }
}

/// Verifies and acknowledges each message.
async fn verify(
    service: &PublishService,
    mut messages: Streaming<Batch>,
    answers: &mpsc::Sender<Result<Ack, Status>>,
) -> Result<(), Status> {
    let key = UnparsedPublicKey::new(&ED25519, &service.key);
    while let Some(batch) = messages.message().await? {
        key.verify(&service.signed.of(&batch.events), &batch.signature)
            .map_err(|_| Status::unauthenticated("the signature is wrong"))?;
        let sequence = batch.sequence;
        if answers.send(Ok(Ack { sequence })).await.is_err() {
            break;
        }
    }
    Ok(())
}

fn identity(files: &Credentials) -> Result<Identity, Failure> {
    let certificate = std::fs::read(files.tls.certificate_file())?;
    Ok(Identity::from_pem(
        certificate,
        std::fs::read(files.tls.key_file())?,
    ))
}
