use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::Path;

use amoskys_core::{Batch, Collector, Name, Position, Remedy, Shutdown};

use super::events::SflowEvents;
use super::{SflowConfig, SflowConfigError, SflowError};
use crate::flow::Progress;
use crate::netflow::exports::{Exports, Settings};

/// Packets that switches and routers sample, and their interface counters: sFlow version 5, over UDP or from capture
/// files.
///
/// # Events
///
/// - [`Flow`](amoskys_core::Payload::Flow) for the sampled packets of a flow in one datagram; see the
///   [module](super) for what is scaled. Its device is the agent, its time is when the datagram was received.
/// - [`Arp`](amoskys_core::Payload::Arp) for each sampled ARP message.
/// - [`Metric`](amoskys_core::Payload::Metric) for each counter of an interface.
/// - [`Loss`](amoskys_core::Payload::Loss) for datagrams that sequence numbers say never arrived (`missing`), for
///   datagrams the kernel dropped (`kernel`), and for damage in a file.
/// - [`Punctuation`](amoskys_core::Payload::Punctuation) whenever the clock has moved on by a second, and at the end.
///
/// # Tally
///
/// In samples. Used are sampled packets and ARP messages, and samples of interface counters. Dropped are samples of
/// `other_counters`, of a `discarded_packet`, of a vendor's own format (`unknown_sample`) or of no IP packet
/// (`not_a_flow`), those of packets that [`decode`](crate::packet::decode) skips, by its reason; and, each counted as
/// one, datagrams that never came (`missing`, `kernel`), contradict themselves (`malformed`), or were not looked into
/// (`unknown_version`, `not_allowed`, `no_room`). A datagram the kernel dropped is counted as `missing`, too, once the
/// next one comes.
///
/// # Resuming, threads
///
/// As with [`NetflowCollector`](crate::netflow::NetflowCollector): files are decoded again, exactly; a socket has no
/// positions, and what nobody asks for waits in its receive buffer.
///
/// ```
/// use amoskys_collectors::sflow::{SflowCollector, SflowConfig};
/// use amoskys_core::{Collector, Payload};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut samples = SflowCollector::bind("[::]:6343", SflowConfig::default())?;
/// while let Some(batch) = samples.next_batch().await? {
///     for event in batch.events {
///         if let Payload::Flow(flow) = event.payload {
///             println!("{}: {} about {} bytes", event.device, flow.key, flow.scaled(flow.bytes()));
///         }
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SflowCollector(Exports<SflowConfig>);

impl SflowCollector {
    /// Listens on a UDP address; the usual port is 6343. `[::]` takes IPv4 too, unless the system is set otherwise.
    ///
    /// # Errors
    ///
    /// If the address cannot be bound, or a setting is out of range.
    pub fn bind(address: impl ToSocketAddrs, config: SflowConfig) -> Result<Self, SflowError> {
        Exports::bind(address, config).map(Self)
    }

    /// Receives on a socket that is bound already, for example by a privileged parent. Its receive buffer and its
    /// time-out are set.
    ///
    /// # Errors
    ///
    /// If a setting is out of range, or the socket does not take it.
    pub fn from_socket(socket: UdpSocket, config: SflowConfig) -> Result<Self, SflowError> {
        Exports::from_socket(socket, config).map(Self)
    }

    /// sFlow in capture files, pcap or pcapng, read in this order: UDP datagrams to
    /// [`capture_ports`](SflowConfig::capture_ports). Datagrams in IP fragments are left out.
    ///
    /// # Errors
    ///
    /// If a file cannot be opened or does not begin like a capture, or a setting is out of range.
    pub fn from_files<P: AsRef<Path>>(
        files: impl IntoIterator<Item = P>,
        config: SflowConfig,
    ) -> Result<Self, SflowError> {
        Exports::from_files(files, config).map(Self)
    }

    /// Sets the device of events that are about no agent: punctuation, and datagrams dropped by the kernel. Default:
    /// empty.
    #[must_use]
    pub fn with_device(mut self, device: impl Into<Name>) -> Self {
        self.0.device = device.into();
        self
    }

    /// Sets the collector's name, for pipelines with several. Default: `sflow`.
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

impl Settings for SflowConfig {
    type Decoder = SflowEvents;
    const SOURCE: &'static str = "sflow";

    fn check(&self) -> Result<(), SflowConfigError> {
        self.validate()
    }

    fn receive_buffer_bytes(&self) -> usize {
        self.receive_buffer_bytes
    }

    fn decoder(&self) -> Result<SflowEvents, SflowConfigError> {
        SflowEvents::new(self)
    }

    fn decisive(&self) -> String {
        let Self {
            senders,
            attributes,
            max_agents,
            agent_lifetime,
            capture_ports,
            ..
        } = self;
        format!("amoskys sflow 1 {senders:?} {attributes} {max_agents} {agent_lifetime:?} {capture_ports:?}")
    }
}

impl Collector for SflowCollector {
    type Error = SflowError;

    fn source(&self) -> &str {
        self.0.source.as_str()
    }

    fn is_replayable(&self) -> bool {
        self.0.is_replayable()
    }

    async fn resume(&mut self, position: &Position) -> Result<(), SflowError> {
        self.0.resume(position)
    }

    async fn next_batch(&mut self) -> Result<Option<Batch>, SflowError> {
        self.0.next_batch().await
    }

    fn remedy(&self, error: &SflowError) -> Remedy {
        error.remedy()
    }

    fn stop(&mut self) -> bool {
        self.0.stop()
    }
}
