use std::io;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use amoskys_core::{Batch, Collector, Name, Position, Remedy, Shutdown};

use super::events::NetflowEvents;
use super::exports::{Exports, Settings};
use super::{NetflowConfig, NetflowConfigError};
use crate::capture::CaptureError;
use crate::flow::Progress;
use crate::flow::files::FileError;

/// Why collecting exports failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetflowError {
    /// The address to listen on is not one, or its name is not known.
    #[error("the address to receive exports on is not known")]
    Address(#[source] io::Error),
    /// The address could not be listened on.
    #[error("could not receive exports on {address}")]
    Bind {
        /// The address.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// Receiving failed. It may work later.
    #[error("could not receive exports")]
    Receive(#[source] io::Error),
    /// A file could not be opened.
    #[error("could not open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is no capture, or could not be read to its end. Events before are good.
    #[error("could not read {}", path.display())]
    Capture {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: CaptureError,
    },
    /// A setting is out of range.
    #[error("the settings of the collector of exports are wrong")]
    Config(#[from] NetflowConfigError),
    /// The position is not one of these files, read like this.
    #[error("the position belongs to other files, or to other settings")]
    OtherPosition,
    /// The thread that receives and decodes could not be started, or died.
    #[error("the thread that receives exports failed")]
    Thread(#[source] io::Error),
}

impl From<FileError> for NetflowError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Open { path, source } => Self::Open { path, source },
            FileError::Capture { path, source } => Self::Capture { path, source },
        }
    }
}

impl NetflowError {
    pub(crate) fn remedy(&self) -> Remedy {
        match self {
            Self::Receive(_) => Remedy::RetryAfter(Duration::from_secs(1)),
            _ => Remedy::Fatal,
        }
    }
}

/// Flows that routers, switches, firewalls and probes export: NetFlow v5 and v9, and IPFIX, over UDP or from capture
/// files.
///
/// # Events
///
/// - [`Flow`](amoskys_core::Payload::Flow) for each flow record. Its device is the exporter, its time is when the
///   record was received; the record keeps the exporter's own times. Each is a flow that has ended: exporters count
///   anew after each export.
/// - [`Loss`](amoskys_core::Payload::Loss) for what sequence numbers say never arrived (`missing`: flows of v5,
///   datagrams of v9, records of IPFIX), for datagrams the kernel dropped (`kernel`), and for damage in a file.
/// - [`Punctuation`](amoskys_core::Payload::Punctuation) whenever the clock has moved on by a second, and at the end.
///
/// # Tally
///
/// In records, as far as they can be counted. Used are flow records, and records about the exporter. Dropped are
/// `missing` (in the unit of the version: see above), `not_a_flow` (records that say nothing of traffic), and, each
/// counted as one, sets without a template (`no_template`), datagrams or sets that contradict themselves
/// (`malformed`), and datagrams that were not looked into (`unknown_version`, `not_allowed`, `no_room`, `kernel`). A
/// datagram the kernel dropped also leaves a gap in the exporter's sequence, so what it held is counted as `missing`
/// once the next one comes.
///
/// # Resuming
///
/// Files are decoded again from their beginning, without handing over what was handed over before: exact, with the
/// same event ids. A socket has no positions.
///
/// # Threads
///
/// Receiving and decoding happen on a thread of their own, which starts with the first call and waits while nobody
/// asks for batches. Meanwhile datagrams wait in the socket's receive buffer; when that is full the kernel drops
/// them, which is counted.
///
/// ```
/// use amoskys_collectors::netflow::{NetflowCollector, NetflowConfig};
/// use amoskys_core::{Collector, Payload};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut exports = NetflowCollector::bind("[::]:2055", NetflowConfig::default())?;
/// while let Some(batch) = exports.next_batch().await? {
///     for event in batch.events {
///         if let Payload::Flow(flow) = event.payload {
///             println!("{}: {} {} bytes", event.device, flow.key, flow.bytes());
///         }
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct NetflowCollector(Exports<NetflowConfig>);

impl NetflowCollector {
    /// Listens on a UDP address. The usual ports are 2055 (NetFlow) and 4739 (IPFIX); one socket takes all
    /// versions. `[::]` takes IPv4 too, unless the system is set otherwise.
    ///
    /// # Errors
    ///
    /// If the address cannot be bound, or a setting is out of range.
    pub fn bind(address: impl ToSocketAddrs, config: NetflowConfig) -> Result<Self, NetflowError> {
        Exports::bind(address, config).map(Self)
    }

    /// Receives on a socket that is bound already, for example by a privileged parent. Its receive buffer and its
    /// time-out are set.
    ///
    /// # Errors
    ///
    /// If a setting is out of range, or the socket does not take it.
    pub fn from_socket(socket: UdpSocket, config: NetflowConfig) -> Result<Self, NetflowError> {
        Exports::from_socket(socket, config).map(Self)
    }

    /// Exports in capture files, pcap or pcapng, read in this order: UDP datagrams to
    /// [`capture_ports`](NetflowConfig::capture_ports). Datagrams in IP fragments are left out.
    ///
    /// # Errors
    ///
    /// If a file cannot be opened or does not begin like a capture, or a setting is out of range.
    pub fn from_files<P: AsRef<Path>>(
        files: impl IntoIterator<Item = P>,
        config: NetflowConfig,
    ) -> Result<Self, NetflowError> {
        Exports::from_files(files, config).map(Self)
    }

    /// Sets the device of events that are about no exporter: punctuation, and datagrams dropped by the kernel.
    /// Default: empty.
    #[must_use]
    pub fn with_device(mut self, device: impl Into<Name>) -> Self {
        self.0.device = device.into();
        self
    }

    /// Sets the collector's name, for pipelines with several. Default: `netflow`.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Name>) -> Self {
        self.0.source = source.into();
        self
    }

    /// Ends the source when the signal is given. What came by then is handed over first.
    #[must_use]
    pub fn with_stop(mut self, stop: Shutdown) -> Self {
        self.0.stop = stop;
        self
    }

    /// Where it listens; `None` for files.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.0.local_addr()
    }

    /// How far the files have been read, and how many datagrams there were.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.0.progress.clone()
    }
}

impl Settings for NetflowConfig {
    type Decoder = NetflowEvents;
    const SOURCE: &'static str = "netflow";

    fn check(&self) -> Result<(), NetflowConfigError> {
        self.validate()
    }

    fn receive_buffer_bytes(&self) -> usize {
        self.receive_buffer_bytes
    }

    fn decoder(&self) -> Result<NetflowEvents, NetflowConfigError> {
        NetflowEvents::new(self)
    }

    fn decisive(&self) -> String {
        let Self {
            exporters,
            attributes,
            capture_ports,
            ..
        } = self;
        let limits = (
            self.max_domains,
            self.domain_lifetime,
            self.max_templates,
            self.max_fields,
            self.max_template_bytes,
            self.template_lifetime,
            self.max_waiting_bytes,
            self.max_total_waiting_bytes,
        );
        format!("amoskys netflow 1 {exporters:?} {attributes} {capture_ports:?} {limits:?}")
    }
}

impl Collector for NetflowCollector {
    type Error = NetflowError;

    fn source(&self) -> &str {
        self.0.source.as_str()
    }

    fn is_replayable(&self) -> bool {
        self.0.is_replayable()
    }

    async fn resume(&mut self, position: &Position) -> Result<(), NetflowError> {
        self.0.resume(position)
    }

    async fn next_batch(&mut self) -> Result<Option<Batch>, NetflowError> {
        self.0.next_batch().await
    }

    fn remedy(&self, error: &NetflowError) -> Remedy {
        error.remedy()
    }

    fn stop(&mut self) -> bool {
        self.0.stop()
    }
}
