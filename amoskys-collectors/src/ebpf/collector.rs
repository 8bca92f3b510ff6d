use amoskys_core::{Batch, Collector, Name, Remedy, Shutdown};
use tokio::sync::mpsc;

use super::batcher::{Batcher, Message};
use super::clock::BootClock;
use super::config::{CallStreams, EbpfConfig};
use super::control::EbpfHandle;
use super::decode::Decoder;
use super::error::EbpfError;
use super::memory_lock;
use super::offers::Offers;
use super::sensor::{Sensor, ring};
use super::worker::Worker;
use crate::threaded::Threaded;

/// What processes on this machine do, seen by programs in the Linux kernel.
///
/// # Events
///
/// - [`Process`](amoskys_core::Payload::Process): processes that were there at the start, then each that is created,
///   replaces its program, changes its credentials, or ends;
/// - [`Activity`](amoskys_core::Payload::Activity): what they do that matters to security;
/// - [`Syscall`](amoskys_core::Payload::Syscall), or
///   [`SyscallHistogram`](amoskys_core::Payload::SyscallHistogram), if wanted, in the class
///   [`Bulk`](amoskys_core::event::Class::Bulk);
/// - [`Loss`](amoskys_core::Payload::Loss) for what the kernel saw and could not hand over;
/// - [`Alarm`](amoskys_core::Payload::Alarm) `ebpf_overload` whenever less, or more again, is recorded of system calls
///   because the reader cannot keep up;
/// - [`Punctuation`](amoskys_core::Payload::Punctuation) every second, and at the end.
///
/// A process is named by its number in the first namespace and its start time. The number alone may be used again.
///
/// # Tally
///
/// In events, a system call in a sequence or histogram counting as one. Used are those that came; dropped are those
/// that were left out on purpose (`filtered_…`) or lost (`kernel`, `kernel_busy`, `kernel_memory`), by the kernel's
/// own counters: see [`DropCause`](super::DropCause).
///
/// # Privileges
///
/// `CAP_BPF` and `CAP_PERFMON`; a mounted tracefs or `CAP_SYS_ADMIN`; `CAP_NET_ADMIN` to deny connections. Linux 5.8
/// with type information (BTF). Before 5.11 also `CAP_SYS_RESOURCE`, or a limit of locked memory that is large enough: the
/// soft limit of the process is raised while this opens, and put back.
///
/// # Threads
///
/// From [`open`](Self::open) on the programs write to rings of fixed size. A thread reads them, which starts with the
/// first call and waits while nobody asks for batches; when a ring is full, events are lost, and counted.
#[derive(Debug)]
pub struct EbpfCollector {
    device: Name,
    source: Name,
    stop: Shutdown,
    handle: EbpfHandle,
    offers: Offers,
    state: Threaded<Worker, EbpfError>,
}

/// Batches that may wait for the reader of the collector.
const QUEUE_BATCHES: usize = 4;

impl EbpfCollector {
    /// Loads the programs and attaches them. What happens from now on is seen.
    ///
    /// # Errors
    ///
    /// If a setting is out of range, privileges are missing, or the kernel is too old. A kernel that lacks some of
    /// the hooks is no error: [`offers`](Self::offers) tells.
    pub fn open(config: EbpfConfig) -> Result<Self, EbpfError> {
        let rings = u64::from(config.event_ring_bytes) + u64::from(config.call_ring_bytes);
        Sensor::check(&config)?;
        let _limit = memory_lock::raise(rings)?;
        let mut sensor = Sensor::load(&config)?;
        let events = ring(sensor.take("EVENTS")?)?;
        let calls = sensor
            .take_of_calls("CALL_RING")
            .transpose()?
            .map(ring)
            .transpose()?;
        let mut decoder = Decoder::new(BootClock::new());
        let mut own_pid = std::process::id();
        // Also says by what number the kernel knows us, which in a container is not what we know.
        sensor.list(|present| own_pid = present.reader_pid)?;
        let handle = EbpfHandle::new(&mut sensor, &config, own_pid)?;
        sensor.attach(&config)?;
        sensor.set_calls(config.streams != CallStreams::None)?;
        // Only now: a process that begins between is seen by both, one that ends is in the list.
        let mut present = Vec::new();
        sensor.list(|process| present.push(decoder.present(process)))?;
        if !config.report_present {
            present.clear();
        }
        sensor.settle();
        let offers = sensor.offers.clone();
        let worker = Worker {
            sensor,
            events,
            calls,
            handle: handle.clone(),
            decoder,
            config,
            present,
        };
        Ok(Self {
            device: Name::default(),
            source: Name::from("ebpf"),
            stop: Shutdown::new(),
            handle,
            offers,
            state: Threaded::ready(worker),
        })
    }

    /// Sets the device the events are about: this machine. Default: empty.
    #[must_use]
    pub fn with_device(mut self, device: impl Into<Name>) -> Self {
        self.device = device.into();
        self
    }

    /// Sets the collector's name. Default: `ebpf`.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Name>) -> Self {
        self.source = source.into();
        self
    }

    /// Ends the source when the signal is given. What was seen by then is handed over first.
    #[must_use]
    pub fn with_stop(mut self, stop: Shutdown) -> Self {
        self.stop = stop;
        self
    }

    /// Changes filters and reads counters while the sensor runs.
    #[must_use]
    pub fn handle(&self) -> EbpfHandle {
        self.handle.clone()
    }

    /// Which hooks of this kernel are used, which are not, and why.
    #[must_use]
    pub const fn offers(&self) -> &Offers {
        &self.offers
    }

    fn start(&self, worker: Worker) -> Result<mpsc::Receiver<Message>, EbpfError> {
        let (output, batches) = mpsc::channel(QUEUE_BATCHES);
        let batcher = Batcher::new(output, self.device.clone(), self.source.clone());
        let stop = self.stop.clone();
        let thread = std::thread::Builder::new().name("amoskys-ebpf".to_owned());
        thread
            .spawn(move || worker.run(batcher, &stop))
            .map_err(EbpfError::Thread)?;
        Ok(batches)
    }
}

impl Collector for EbpfCollector {
    type Error = EbpfError;

    fn source(&self) -> &str {
        self.source.as_str()
    }

    async fn next_batch(&mut self) -> Result<Option<Batch>, EbpfError> {
        if let Some(worker) = self.state.begin() {
            self.state = Threaded::Running(self.start(worker)?);
        }
        self.state.next_batch().await
    }

    fn stop(&mut self) -> bool {
        self.stop.trigger();
        true
    }

    fn remedy(&self, _: &EbpfError) -> Remedy {
        // The programs are gone; a new collector may be opened.
        Remedy::Fatal
    }
}
