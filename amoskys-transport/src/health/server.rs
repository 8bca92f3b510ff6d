use std::convert::Infallible;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use amoskys_core::config::Config;
use amoskys_core::{Remedy, Shutdown};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::answer::{Render, answer};
use super::state::Health;

/// Why health checks are not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HealthError {
    /// The address cannot be listened on.
    #[error("health checks cannot be listened for; choose another address or port, or stop what uses it")]
    Listen {
        /// The cause.
        source: std::io::Error,
    },
}

impl HealthError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        Remedy::Fatal
    }
}

/// A small HTTP server for health checks and metrics.
///
/// It holds 64 connections at most (more wait to be accepted), each for 5 s at most, which answers one request with
/// at most 8 KiB and 32 headers; so slow or hostile clients cost little. It speaks plain HTTP and asks nobody who he
/// is: bind it to an address that only those reach who may know.
pub struct HealthServer {
    listener: TcpListener,
    address: SocketAddr,
    metrics: Option<Render>,
}

const MAX_CONNECTIONS: usize = 64;
const MAX_HEADERS: usize = 32;
/// The least that hyper allows.
const MAX_HEAD_BYTES: usize = 8 << 10;
/// A client that is slower than this is not a health check.
const CONNECTION_TIME: Duration = Duration::from_secs(5);
/// After an error of the system, such as too many open files, which a further try at once would only repeat.
const PAUSE: Duration = Duration::from_millis(100);

impl HealthServer {
    /// Listens on an address; port 0 lets the system choose one.
    ///
    /// # Errors
    ///
    /// If the address cannot be listened on.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future listens on nothing.
    pub async fn bind(address: impl ToSocketAddrs) -> Result<Self, HealthError> {
        let failed = |source| HealthError::Listen { source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        Ok(Self {
            address: listener.local_addr().map_err(failed)?,
            listener,
            metrics: None,
        })
    }

    /// Listens on all addresses at the ports `health.port` and `metrics.port`; on none that is not set, and once where
    /// both are the same. Each serves health checks and metrics alike.
    ///
    /// # Errors
    ///
    /// If a port cannot be listened on.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future listens on nothing.
    pub async fn bind_settings(
        config: &Config,
        metrics: impl Fn() -> String + Send + Sync + 'static,
    ) -> Result<Vec<Self>, HealthError> {
        let metrics: Render = Arc::new(metrics);
        let mut ports: Vec<u16> = [config.health.port, config.metrics.port]
            .into_iter()
            .flatten()
            .collect();
        ports.dedup();
        let mut servers = Vec::new();
        for port in ports {
            let server = Self::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
            servers.push(Self {
                metrics: Some(metrics.clone()),
                ..server
            });
        }
        Ok(servers)
    }

    /// Also serves what this closure gives at `/metrics`, in the text format of Prometheus. It is called for each
    /// request, on a thread where it may block.
    #[must_use]
    pub fn metrics(mut self, render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.metrics = Some(Arc::new(render));
        self
    }

    /// The address it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers until it is told to stop; requests that have begun are then answered still.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes all connections.
    pub async fn serve(self, health: Health, shutdown: Shutdown) {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let accepted = async {
                // Never closed, so never an error.
                let permit = room.clone().acquire_owned().await.ok();
                (permit, self.listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                () = shutdown.triggered() => break,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let connection =
                        connection(stream, health.clone(), self.metrics.clone(), shutdown.clone());
                    connections.spawn(async move {
                        let _permit = permit;
                        // Whether a client heard the answer is its own concern.
                        let _ = timeout(CONNECTION_TIME, connection).await;
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        drop(self.listener);
        while connections.join_next().await.is_some() {}
    }
}

async fn connection(
    stream: TcpStream,
    health: Health,
    metrics: Option<Render>,
    shutdown: Shutdown,
) -> Result<(), hyper::Error> {
    let service = service_fn(move |request| {
        let answer = answer(request, health.clone(), metrics.clone());
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(CONNECTION_TIME)
        .keep_alive(false)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return result,
        () = shutdown.triggered() => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

impl fmt::Debug for HealthServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthServer")
            .field("address", &self.address)
            .field("metrics", &self.metrics.is_some())
            .finish()
    }
}
