use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use amoskys_core::Name;

use crate::identity::ServerTls;
use crate::key::SharedTrust;
use crate::log::LogOptions;

/// Settings of a [`Bus`](super::Bus). The log's directory, TLS and the trusted keys must be given; the rest has
/// defaults.
#[derive(Clone)]
pub struct BusOptions {
    pub(crate) dir: PathBuf,
    pub(crate) tls: ServerTls,
    pub(crate) trust: SharedTrust,
    pub(crate) name: Name,
    pub(crate) listen: SocketAddr,
    pub(crate) log: LogOptions,
    pub(crate) window_bytes: u64,
    pub(crate) max_connections: usize,
    pub(crate) max_streams: usize,
    pub(crate) idle: Duration,
    pub(crate) handshake: Duration,
    pub(crate) heads_interval: Duration,
    pub(crate) clock_ahead: Duration,
    pub(crate) retain_bytes: Option<u64>,
    pub(crate) retain_age: Option<Duration>,
    pub(crate) keep_unread: bool,
}

impl BusOptions {
    /// A bus with its log in `dir`, that shows clients the certificate in `tls`, and believes the keys in `trust`.
    ///
    /// `tls` must ask clients for certificates; [`TlsFiles::server_config`](crate::identity::TlsFiles::server_config)
    /// makes one that does. With a [`SharedTls`](crate::identity::SharedTls) and a [`SharedTrust`], of a
    /// [`Reloader`](crate::identity::Reloader) for example, both can be replaced while the bus runs. Whoever is not
    /// believed any more is then cut off at once; nobody else notices.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, tls: impl Into<ServerTls>, trust: impl Into<SharedTrust>) -> Self {
        Self {
            dir: dir.into(),
            tls: tls.into(),
            trust: trust.into(),
            name: "bus".into(),
            listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 50_051)),
            log: LogOptions::new(),
            window_bytes: 8 << 20,
            max_connections: 1024,
            max_streams: 4096,
            idle: Duration::from_secs(60),
            handshake: Duration::from_secs(10),
            heads_interval: Duration::from_secs(60),
            clock_ahead: Duration::from_secs(86_400),
            retain_bytes: None,
            retain_age: None,
            keep_unread: false,
        }
    }

    /// Name of the bus, which its own streams carry. Default `bus`; different from all agents'.
    #[must_use]
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = name.into();
        self
    }

    /// Where it listens. Default port 50051 on all addresses; with port 0 the system chooses one.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// Settings of the log: its budget, its signing key. The agent's name in them is replaced by that of the bus.
    #[must_use]
    pub fn log(mut self, options: LogOptions) -> Self {
        self.log = options;
        self
    }

    /// Bytes a publisher may have sent that are not durable here yet. Default 8 MiB, at least 64 KiB. It bounds the
    /// memory of a connection, together with the largest record.
    #[must_use]
    pub fn window_bytes(mut self, bytes: u64) -> Self {
        self.window_bytes = bytes.max(64 << 10);
        self
    }

    /// Connections at a time. Default 1024; more are refused.
    #[must_use]
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections;
        self
    }

    /// Streams of one agent. Default 4096: an agent has up to four for each life of its log.
    #[must_use]
    pub fn max_streams(mut self, streams: usize) -> Self {
        self.max_streams = streams;
        self
    }

    /// How long a connection may be silent before it is taken for dead. Default 60 s. Clients say something every
    /// ten seconds.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle = timeout;
        self
    }

    /// How long a client may take to show its certificate and say what it wants. Default 10 s.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake = timeout;
        self
    }

    /// How often the bus signs where all streams have come to, if one has moved since, and when it stops; see
    /// [`Anchors`](crate::verify::Anchors). Default 60 s.
    #[must_use]
    pub fn heads_interval(mut self, interval: Duration) -> Self {
        self.heads_interval = interval;
        self
    }

    /// How far ahead of this machine's clock a record may have been sealed. One from further on is refused, so that a
    /// wrong clock of an agent does not decide how long records are kept. Default one day. However old a record is, it is
    /// taken.
    #[must_use]
    pub fn clock_ahead(mut self, ahead: Duration) -> Self {
        self.clock_ahead = ahead;
        self
    }

    /// Bytes of log to keep: the oldest records are deleted beyond it, if every named subscriber has read them.
    /// Default nine tenths of the log's budget.
    #[must_use]
    pub fn retain_bytes(mut self, bytes: u64) -> Self {
        self.retain_bytes = Some(bytes);
        self
    }

    /// How long records are kept after they were sealed, by the clock of this machine, if every named subscriber
    /// has read them. Default: as long as there is room.
    #[must_use]
    pub fn retain_age(mut self, age: Duration) -> Self {
        self.retain_age = Some(age);
        self
    }

    /// What happens when the log's budget is used up by records that a named subscriber has not read. With `false`,
    /// the default, the oldest are deleted: the bus says so in its own stream, and to the subscriber. With `true`
    /// the publishers wait, and one subscriber that never comes back stops them all.
    #[must_use]
    pub fn keep_unread(mut self, keep: bool) -> Self {
        self.keep_unread = keep;
        self
    }
}

impl fmt::Debug for BusOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BusOptions")
            .field("dir", &self.dir)
            .field("name", &self.name)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}
