use std::fs::File;
use std::io::{self, Read};
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use amoskys_core::{Batch, Collector, Name, Position, Remedy, Shutdown};
use tokio::sync::mpsc;

use super::socket::set_receive_buffer;
use super::worker::{Batcher, Listener, run_files, run_socket};
use super::{NetflowConfig, NetflowConfigError};
use crate::capture::{CaptureError, CaptureReader};
use crate::flow::Progress;
use crate::flow::batcher::Message;
use crate::flow::position::{Place, origin};

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
pub struct NetflowCollector {
    input: Input,
    config: NetflowConfig,
    device: Name,
    source: Name,
    stop: Shutdown,
    progress: Progress,
    resume: Place,
    state: State,
}

#[derive(Debug)]
enum Input {
    Files(Arc<[ExportFile]>),
    Socket(Arc<Listener>),
}

/// A capture file.
#[derive(Debug)]
pub(super) struct ExportFile {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    /// Its first bytes, to tell it from others.
    beginning: Vec<u8>,
}

#[derive(Debug)]
enum State {
    Ready,
    Running(mpsc::Receiver<Message<NetflowError>>),
    Ended,
}

/// Batches that may wait for the reader of the collector.
const QUEUE_BATCHES: usize = 4;
/// Bytes of each file that go into the events' origin.
const BEGINNING_BYTES: u64 = 4096;

impl NetflowCollector {
    /// Listens on a UDP address. The usual ports are 2055 (NetFlow) and 4739 (IPFIX); one socket takes all
    /// versions. `[::]` takes IPv4 too, unless the system is set otherwise.
    ///
    /// # Errors
    ///
    /// If the address cannot be bound, or a setting is out of range.
    pub fn bind(address: impl ToSocketAddrs, config: NetflowConfig) -> Result<Self, NetflowError> {
        let addresses: Vec<SocketAddr> = address
            .to_socket_addrs()
            .map_err(NetflowError::Address)?
            .collect();
        let socket = UdpSocket::bind(addresses.as_slice()).map_err(|source| NetflowError::Bind {
            address: addresses
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", "),
            source,
        })?;
        Self::from_socket(socket, config)
    }

    /// Receives on a socket that is bound already, for example by a privileged parent. Its receive buffer and its
    /// time-out are set.
    ///
    /// # Errors
    ///
    /// If a setting is out of range, or the socket does not take it.
    pub fn from_socket(socket: UdpSocket, config: NetflowConfig) -> Result<Self, NetflowError> {
        config.validate()?;
        set_receive_buffer(&socket, config.receive_buffer_bytes).map_err(NetflowError::Receive)?;
        socket.set_nonblocking(false).map_err(NetflowError::Receive)?;
        Ok(Self::new(Input::Socket(Arc::new(Listener::new(socket))), config))
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
        config.validate()?;
        let files = files
            .into_iter()
            .map(|path| ExportFile::open(path.as_ref()))
            .collect::<Result<Arc<[_]>, _>>()?;
        let total = files.iter().map(|file| file.bytes).sum();
        let collector = Self::new(Input::Files(files), config);
        collector.progress.set_total(total);
        Ok(collector)
    }

    fn new(input: Input, config: NetflowConfig) -> Self {
        Self {
            input,
            config,
            device: Name::default(),
            source: Name::from("netflow"),
            stop: Shutdown::new(),
            progress: Progress::default(),
            resume: Place::default(),
            state: State::Ready,
        }
    }

    /// Sets the device of events that are about no exporter: punctuation, and datagrams dropped by the kernel.
    /// Default: empty.
    #[must_use]
    pub fn with_device(mut self, device: impl Into<Name>) -> Self {
        self.device = device.into();
        self
    }

    /// Sets the collector's name, for pipelines with several. Default: `netflow`.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Name>) -> Self {
        self.source = source.into();
        self
    }

    /// Ends the source when the signal is given. What came by then is handed over first.
    #[must_use]
    pub fn with_stop(mut self, stop: Shutdown) -> Self {
        self.stop = stop;
        self
    }

    /// Where it listens; `None` for files.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.input {
            Input::Socket(listener) => listener.socket.local_addr().ok(),
            Input::Files(_) => None,
        }
    }

    /// How far the files have been read, and how many datagrams there were.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Starts the thread that receives and decodes.
    fn start(&self) -> Result<mpsc::Receiver<Message<NetflowError>>, NetflowError> {
        let (output, batches) = mpsc::channel(QUEUE_BATCHES);
        let mut place = self.resume;
        place.origin = self.origin();
        let replayable = self.is_replayable();
        let batcher = Batcher::new(
            output,
            self.device.clone(),
            self.source.clone(),
            "export",
            place,
            replayable,
        );
        let (config, stop, progress) = (self.config.clone(), self.stop.clone(), self.progress.clone());
        let run: Box<dyn FnOnce() + Send> = match &self.input {
            Input::Files(files) => {
                let files = Arc::clone(files);
                Box::new(move || run_files(&files, config, batcher, &stop, &progress))
            }
            Input::Socket(listener) => {
                let listener = Arc::clone(listener);
                Box::new(move || run_socket(&listener, config, batcher, &stop, &progress))
            }
        };
        let thread = std::thread::Builder::new().name("amoskys-netflow".to_owned());
        thread.spawn(run).map_err(NetflowError::Thread)?;
        Ok(batches)
    }

    fn origin(&self) -> u64 {
        match &self.input {
            Input::Files(files) => {
                let named = files
                    .iter()
                    .map(|file| (file.path.as_path(), file.bytes, file.beginning.as_slice()));
                let NetflowConfig {
                    exporters,
                    attributes,
                    capture_ports,
                    ..
                } = &self.config;
                let limits = (
                    self.config.max_domains,
                    self.config.domain_lifetime,
                    self.config.max_templates,
                    self.config.max_fields,
                    self.config.max_template_bytes,
                    self.config.template_lifetime,
                    self.config.max_waiting_bytes,
                    self.config.max_total_waiting_bytes,
                );
                origin(
                    named,
                    format!("amoskys netflow 1 {exporters:?} {attributes} {capture_ports:?} {limits:?}"),
                )
            }
            // A live source is another one each time.
            Input::Socket(_) => {
                use std::hash::{BuildHasher, RandomState};
                RandomState::new().hash_one(std::process::id())
            }
        }
    }
}

impl Collector for NetflowCollector {
    type Error = NetflowError;

    fn source(&self) -> &str {
        self.source.as_str()
    }

    fn is_replayable(&self) -> bool {
        matches!(self.input, Input::Files(_))
    }

    async fn resume(&mut self, position: &Position) -> Result<(), NetflowError> {
        if !self.is_replayable() {
            return Ok(());
        }
        let place = Place::decode(position).ok_or(NetflowError::OtherPosition)?;
        if place.origin != self.origin() {
            return Err(NetflowError::OtherPosition);
        }
        self.resume = place;
        Ok(())
    }

    async fn next_batch(&mut self) -> Result<Option<Batch>, NetflowError> {
        if let State::Ready = self.state {
            self.state = State::Running(self.start()?);
        }
        let State::Running(batches) = &mut self.state else {
            return Ok(None);
        };
        match batches.recv().await {
            Some(Ok(batch)) => Ok(Some(batch)),
            Some(Err(error)) => {
                // A socket is received from again when it is asked again. Files are not: they would begin anew.
                self.state = if self.is_replayable() {
                    State::Ended
                } else {
                    State::Ready
                };
                Err(error)
            }
            None => {
                self.state = State::Ended;
                Ok(None)
            }
        }
    }

    fn remedy(&self, error: &NetflowError) -> Remedy {
        match error {
            NetflowError::Receive(_) => Remedy::RetryAfter(Duration::from_secs(1)),
            _ => Remedy::Fatal,
        }
    }

    fn stop(&mut self) -> bool {
        let live = !self.is_replayable();
        if live {
            self.stop.trigger();
        }
        live
    }
}

impl ExportFile {
    fn open(path: &Path) -> Result<Self, NetflowError> {
        let path = path.to_owned();
        let read = |path: &Path| -> io::Result<(u64, Vec<u8>)> {
            let file = File::open(path)?;
            let bytes = file.metadata()?.len();
            let mut beginning = Vec::new();
            file.take(BEGINNING_BYTES).read_to_end(&mut beginning)?;
            Ok((bytes, beginning))
        };
        let (bytes, beginning) = match read(&path) {
            Ok(found) => found,
            Err(source) => return Err(NetflowError::Open { path, source }),
        };
        match CaptureReader::new(beginning.as_slice()) {
            Ok(_) => Ok(Self {
                path,
                bytes,
                beginning,
            }),
            Err(source) => Err(NetflowError::Capture { path, source }),
        }
    }
}
