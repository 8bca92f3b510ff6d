use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use amoskys_core::Name;
use amoskys_core::config::BusSettings;

use super::Intake;
use crate::audit::AuditLog;
use crate::bus::admission::{self, Admitted, MakeStack, Rejection, Submission};
use crate::bus::limits::{Limits, SharedLimits};
use crate::identity::ServerTls;
use crate::key::SharedTrust;
use crate::log::LogOptions;

/// How long a bus keeps what its named readers have released.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// As [`BusOptions::retain_bytes`].
    pub bytes: Option<u64>,
    /// As [`BusOptions::retain_age`].
    pub age: Option<Duration>,
    /// As [`BusOptions::keep_unread`].
    pub keep_unread: bool,
}

impl From<&BusSettings> for Retention {
    /// What the section `bus` of a [`Config`](amoskys_core::config::Config) says.
    fn from(settings: &BusSettings) -> Self {
        Self {
            bytes: settings.retain_bytes,
            age: settings.retention,
            keep_unread: settings.keep_unread,
        }
    }
}

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
    pub(crate) max_streams: usize,
    pub(crate) idle: Duration,
    pub(crate) handshake: Duration,
    pub(crate) heads_interval: Duration,
    pub(crate) clock_ahead: Duration,
    pub(crate) audit: Option<Arc<AuditLog>>,
    pub(crate) retention: Retention,
    pub(crate) limits: SharedLimits,
    pub(crate) admission: Option<MakeStack>,
    #[cfg(feature = "legacy")]
    pub(crate) legacy: Option<crate::legacy::LegacyOptions>,
    pub(crate) watch: Option<Arc<Watch>>,
}

/// Is told why nothing can be stored, or that everything can be.
type Watch = dyn Fn(Option<&str>) + Send + Sync;

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
            max_streams: 4096,
            idle: Duration::from_secs(60),
            handshake: Duration::from_secs(10),
            heads_interval: Duration::from_secs(60),
            clock_ahead: Duration::from_secs(86_400),
            audit: None,
            retention: Retention::default(),
            limits: SharedLimits::default(),
            admission: None,
            #[cfg(feature = "legacy")]
            legacy: None,
            watch: None,
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

    /// Connections at a time, of clients that have said who they are. Default 1024; more are refused. See
    /// [`Limits::connections`].
    #[must_use]
    pub fn max_connections(self, connections: usize) -> Self {
        let mut limits = Limits::clone(&self.limits.snapshot());
        limits.connections = connections;
        self.limits(limits)
    }

    /// What is granted to clients. They can be changed while the bus runs.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = SharedLimits::new(limits);
        self
    }

    /// The limits in these options, which a layer may share.
    #[must_use]
    pub fn limits_handle(&self) -> SharedLimits {
        self.limits.clone()
    }

    /// What lies around [`Intake`] on the way of a record into the log, in place of
    /// [`RateLimit`](crate::bus::admission::RateLimit) and [`FlowLimit`](crate::bus::admission::FlowLimit). The layer is
    /// applied once; each connection has a clone of the service. See [`admission`](crate::bus::admission).
    #[must_use]
    pub fn admission<L>(mut self, layer: L) -> Self
    where
        L: tower::Layer<Intake> + Send + Sync + 'static,
        L::Service: tower::Service<Submission, Response = Admitted, Error = Rejection>
            + Clone
            + Send
            + Sync
            + 'static,
        <L::Service as tower::Service<Submission>>::Future: Send + 'static,
    {
        self.admission = Some(admission::make(layer));
        self
    }

    /// Calls this with the reason when nothing can be stored: the log or the disk has been full for a second, or the log has
    /// failed; and with `None` when everything can be again. For health checks. It must not block.
    #[must_use]
    pub fn watch(mut self, watch: impl Fn(Option<&str>) + Send + Sync + 'static) -> Self {
        self.watch = Some(Arc::new(watch));
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

    /// Writes what it decides into this log too, beside the audit stream in its own: what it refused and why, certificates
    /// and keys that were replaced, forks, starts and stops. Default: only into its own.
    #[must_use]
    pub fn audit(mut self, log: Arc<AuditLog>) -> Self {
        self.audit = Some(log);
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

    /// Serves agents of the predecessor too, at the same address: see [`legacy`](crate::legacy). Default: not.
    #[cfg(feature = "legacy")]
    #[cfg_attr(docsrs, doc(cfg(feature = "legacy")))]
    #[must_use]
    pub fn legacy(mut self, options: crate::legacy::LegacyOptions) -> Self {
        self.legacy = Some(options);
        self
    }

    /// How long records are kept: in place of [`retain_bytes`](Self::retain_bytes), [`retain_age`](Self::retain_age) and
    /// [`keep_unread`](Self::keep_unread).
    #[must_use]
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// Bytes of log to keep: the oldest records are deleted beyond it, if every named subscriber has read them.
    /// Default nine tenths of the log's budget.
    #[must_use]
    pub fn retain_bytes(mut self, bytes: u64) -> Self {
        self.retention.bytes = Some(bytes);
        self
    }

    /// How long records are kept after they were sealed, by the clock of this machine, if every named subscriber
    /// has read them. Default: as long as there is room.
    #[must_use]
    pub fn retain_age(mut self, age: Duration) -> Self {
        self.retention.age = Some(age);
        self
    }

    /// What happens when the log's budget is used up by records that a named subscriber has not read. With `false`,
    /// the default, the oldest are deleted: the bus says so in its own stream, and to the subscriber. With `true`
    /// the publishers wait, and one subscriber that never comes back stops them all.
    #[must_use]
    pub fn keep_unread(mut self, keep: bool) -> Self {
        self.retention.keep_unread = keep;
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
