use std::fmt;

use amoskys_core::{Batch, Collector, Name, Remedy, Shutdown};

use super::config::KernelFlowConfig;
use super::meter::{Counters, Meter, stats};
use super::stats::{KernelFlowCounts, KernelFlowStats};
use super::user::UserSide;
use super::worker::Worker;
use crate::clock::BootClock;
use crate::ebpf::EbpfError;
use crate::live::LiveBatcher;
use crate::threaded::Threaded;

/// Flows of a live interface, metered by a program in the Linux kernel, and DNS and ARP messages.
///
/// # Events
///
/// - [`Flow`](amoskys_core::Payload::Flow) when a flow starts, every few seconds while it lasts, and when it ends;
///   [`Dns`](amoskys_core::Payload::Dns) for each DNS message, [`Arp`](amoskys_core::Payload::Arp) for each ARP message:
///   as of [`FlowCollector`](crate::flow::FlowCollector);
/// - [`Loss`](amoskys_core::Payload::Loss) for packets that were lost: reasons `flow_table_full`, `kernel_busy`,
///   `kernel_ring_full` for those that user space was to meter, and `kernel` for those of flows whose last record the
///   ring had no room for; and for payloads that were to be read and are not, `payload_unread`, whose packets are counted;
/// - [`Punctuation`](amoskys_core::Payload::Punctuation) every second, and at the end.
///
/// # Tally
///
/// In packets. They are used when the last record of their flow is handed over, or, where user space meters them, when it
/// has; dropped are those that were left out or lost, by the kernel's own counters
/// ([`KernelSkip`](super::KernelSkip)) and those of the meter ([`SkipReason`](crate::packet::SkipReason)). At the end, all
/// that the program saw are one or the other.
///
/// # Privileges
///
/// `CAP_BPF`, `CAP_PERFMON` and `CAP_NET_ADMIN`. Linux 5.13; 5.18 for [`FlowHook::Express`](super::FlowHook::Express).
///
/// # Threads
///
/// From [`open`](Self::open) on the program counts. A thread reads its ring and sweeps its table, which starts with the
/// first call and waits while nobody asks for batches; flows that end meanwhile are kept until the ring or the table
/// is full. Dropping the collector detaches the program; what it held is lost unless the source was
/// [stopped](Self::with_stop) and read to its end.
///
/// ```no_run
/// use amoskys_collectors::ebpf::flows::{KernelFlowCollector, KernelFlowConfig};
/// use amoskys_core::Collector;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut flows = KernelFlowCollector::open(KernelFlowConfig::new("eth0"))?;
/// while let Some(batch) = flows.next_batch().await? {
///     println!("{} events", batch.events.len());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct KernelFlowCollector {
    device: Name,
    source: Name,
    stop: Shutdown,
    handle: KernelFlowHandle,
    state: Threaded<Worker, EbpfError>,
}

/// Reads the program's counters while it runs, and after.
#[derive(Clone)]
pub struct KernelFlowHandle(Counters);

impl fmt::Debug for KernelFlowHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelFlowHandle").finish_non_exhaustive()
    }
}

impl KernelFlowHandle {
    /// What the program has counted so far, on each processor.
    ///
    /// # Errors
    ///
    /// If the kernel does not let its counters be read.
    pub fn stats(&self) -> Result<KernelFlowStats, EbpfError> {
        stats(&self.0)
    }
}

impl KernelFlowCollector {
    /// Loads the program and attaches it. Packets that pass from now on are counted.
    ///
    /// # Errors
    ///
    /// If a setting is out of range, privileges are missing, the interface is not there, its XDP hook is taken, or the
    /// kernel is too old.
    pub fn open(config: KernelFlowConfig) -> Result<Self, EbpfError> {
        let mut meter = Meter::load(&config)?;
        let ring = meter.ring()?;
        let handle = KernelFlowHandle(Counters::clone(&meter.counters));
        let clock = BootClock::new();
        meter.attach(&config.interface)?;
        let worker = Worker {
            ring,
            clock,
            max_flows: config.flow.max_flows,
            told: KernelFlowCounts::default(),
            user: UserSide::new(&config.flow, meter.link())?,
            meter,
        };
        Ok(Self {
            device: Name::default(),
            source: Name::from("flow"),
            stop: Shutdown::new(),
            handle,
            state: Threaded::ready(worker),
        })
    }

    /// Sets the device the events are about: the machine or link that is watched. Default: empty.
    #[must_use]
    pub fn with_device(mut self, device: impl Into<Name>) -> Self {
        self.device = device.into();
        self
    }

    /// Sets the collector's name, for pipelines with several. Default: `flow`.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Name>) -> Self {
        self.source = source.into();
        self
    }

    /// Ends the source when the signal is given. Open flows are reported as ended first.
    #[must_use]
    pub fn with_stop(mut self, stop: Shutdown) -> Self {
        self.stop = stop;
        self
    }

    /// Reads the program's counters.
    #[must_use]
    pub fn handle(&self) -> KernelFlowHandle {
        self.handle.clone()
    }
}

impl Collector for KernelFlowCollector {
    type Error = EbpfError;

    fn source(&self) -> &str {
        self.source.as_str()
    }

    async fn next_batch(&mut self) -> Result<Option<Batch>, EbpfError> {
        if let Some(worker) = self.state.begin() {
            let stop = self.stop.clone();
            let batches =
                LiveBatcher::on_thread("amoskys-flows", &self.device, &self.source, move |batcher| {
                    worker.run(batcher, &stop);
                });
            self.state = Threaded::Running(batches.map_err(EbpfError::Thread)?);
        }
        self.state.next_batch().await
    }

    fn stop(&mut self) -> bool {
        self.stop.trigger();
        true
    }

    fn remedy(&self, _: &EbpfError) -> Remedy {
        // The program is gone; a new collector may be opened.
        Remedy::Fatal
    }
}
