use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use amoskys_core::Shutdown;
use amoskys_core::error::Chain;

use crate::identity::ClientTls;

/// Is told why the bus is not reached, or that it is.
type Watch = dyn Fn(Option<&str>) + Send + Sync;

/// How a client finds a bus, and how patient it is.
#[derive(Clone)]
pub struct ConnectOptions {
    pub(crate) address: String,
    pub(crate) tls: ClientTls,
    pub(crate) server_name: Option<String>,
    pub(crate) timeout: Duration,
    pub(crate) keepalive: Duration,
    pub(crate) first_pause: Duration,
    pub(crate) longest_pause: Duration,
    pub(crate) watch: Option<Arc<Watch>>,
}

impl ConnectOptions {
    /// The bus at `HOST:PORT`. `tls` holds the client's certificate, and the authorities it trusts;
    /// [`TlsFiles::client_config`](crate::identity::TlsFiles::client_config) makes it. With a
    /// [`SharedTls`](crate::identity::SharedTls) they can be replaced: the next connection is made with what is there then,
    /// and one with a bus that is not believed any more ends at once.
    #[must_use]
    pub fn new(address: impl Into<String>, tls: impl Into<ClientTls>) -> Self {
        Self {
            address: address.into(),
            tls: tls.into(),
            server_name: None,
            timeout: Duration::from_secs(5),
            keepalive: Duration::from_secs(10),
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(30),
            watch: None,
        }
    }

    /// The name in the bus's certificate. Default: the host of the address.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// How long it may take to connect. Default 5 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How often the bus is asked whether it is there, when there is nothing else to say. Default 10 s, at least 10 ms;
    /// after three times this without an answer the connection is taken for dead.
    #[must_use]
    pub fn keepalive(mut self, interval: Duration) -> Self {
        self.keepalive = interval.max(Duration::from_millis(10));
        self
    }

    /// Pauses before it is tried again: at random below a limit that begins with `first` and doubles up to `longest`.
    /// Default 200 ms and 30 s.
    #[must_use]
    pub fn retry(mut self, first: Duration, longest: Duration) -> Self {
        (self.first_pause, self.longest_pause) = (first, longest.max(first));
        self
    }

    /// Calls this with `None` when the bus has welcomed the client, and with the reason when that failed or the
    /// connection was lost: for health checks. It must not block.
    #[must_use]
    pub fn watch(mut self, watch: impl Fn(Option<&str>) + Send + Sync + 'static) -> Self {
        self.watch = Some(Arc::new(watch));
        self
    }

    /// The bus was reached, or it was not and this is why.
    pub(crate) fn tell(&self, failure: Option<&dyn std::error::Error>) {
        if let Some(watch) = &self.watch {
            watch(failure.map(|error| Chain(error).to_string()).as_deref());
        }
    }
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Settings of a [`Publisher`](super::Publisher).
#[derive(Clone, Debug)]
pub struct PublisherOptions {
    pub(crate) connect: ConnectOptions,
    pub(crate) name: String,
    pub(crate) send_rate: u32,
    pub(crate) on_fork: Option<Shutdown>,
}

impl PublisherOptions {
    /// Publishes to this bus.
    #[must_use]
    pub fn new(connect: ConnectOptions) -> Self {
        Self {
            connect,
            name: "bus".to_owned(),
            send_rate: 0,
            on_fork: None,
        }
    }

    /// Name of the publisher: its stage in the ledger, and the key of its position. Default `bus`; different for each
    /// publisher of a log.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Events sent in a second at most. Default 0: no limit. A batch is never divided.
    #[must_use]
    pub fn send_rate(mut self, events: u32) -> Self {
        self.send_rate = events;
        self
    }

    /// Triggers this when the log turns out to be a copy, or restored from a backup: the program is to stop what uses
    /// the log, and to open it again. See [`PublishError::Fork`](super::PublishError::Fork).
    #[must_use]
    pub fn on_fork(mut self, shutdown: Shutdown) -> Self {
        self.on_fork = Some(shutdown);
        self
    }
}
