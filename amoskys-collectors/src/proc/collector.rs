use std::path::Path;

use amoskys_core::{Batch, Collector, Name, Remedy, Shutdown};

use super::worker::Worker;
use super::{ProcConfig, ProcError};
use crate::live::LiveBatcher;
use crate::threaded::Threaded;

/// Processes and the state of this machine, sampled from `/proc`.
///
/// # Events
///
/// - [`Process`](amoskys_core::Payload::Process): at the first sample those that are there (`Seen`), then each that
///   has begun (`Fork`, at its start time, as it is when it is found: it may run another program by then), runs
///   another program (`Exec`) or as another user (`Credentials`; both are found when the name of the program changes,
///   else on the process's turn), or has ended (`Exit`, with what it used up to the last sample; how it ended is not
///   known);
/// - [`Metric`](amoskys_core::Payload::Metric): what each process uses, on its turn; the host's load, memory and
///   processor time with each sample; the number of processes of each user;
/// - [`Activity`](amoskys_core::Payload::Activity), seen by
///   [`Comparison`](amoskys_core::event::ActivityVia::Comparison): sockets that listen, TCP and UDP, with their
///   process; users that logged in or out, with the process of their session; modules and mounts that came or went. What is there at the start has the attribute `present`;
/// - [`Punctuation`](amoskys_core::Payload::Punctuation) with each sample, and at the end.
///
/// A process is named by its number and its start time, which Linux tells here in ticks of 10 ms. It agrees with that
/// of the feature `ebpf` to within such a tick.
///
/// # Tally
///
/// In processes sampled. Used are those that were read; dropped are those that ended while they were listed
/// (`vanished`), may not be looked at (`refused`), or could not be decoded (`malformed`). `details_refused` counts
/// files of processes of other users that need `CAP_SYS_PTRACE`: what they would say is left empty. What `hidepid`
/// hides is not listed at all, and cannot be counted.
///
/// # Threads
///
/// Sampling happens on a thread of its own, which starts with the first call and waits while nobody asks for batches.
/// What begins and ends meanwhile is not seen.
///
/// ```
/// use amoskys_collectors::proc::{ProcCollector, ProcConfig};
/// use amoskys_core::{Collector, Payload};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut processes = ProcCollector::open(ProcConfig::default())?;
/// while let Some(batch) = processes.next_batch().await? {
///     for event in batch.events {
///         if let Payload::Process(process) = event.payload {
///             println!("{:?} {} {}", process.action, process.pid, process.executable);
///         }
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ProcCollector {
    device: Name,
    source: Name,
    stop: Shutdown,
    config: ProcConfig,
    state: Threaded<Worker, ProcError>,
}

impl ProcCollector {
    /// Opens `/proc`, or where the settings say it is.
    ///
    /// # Errors
    ///
    /// If a setting is out of range, or `proc` is not mounted there.
    pub fn open(config: ProcConfig) -> Result<Self, ProcError> {
        let worker = Worker::open(config.clone())?;
        Ok(Self {
            device: Name::default(),
            source: Name::from("proc"),
            stop: Shutdown::new(),
            config,
            state: Threaded::ready(worker),
        })
    }

    /// Sets the device the events are about: this machine. Default: empty.
    #[must_use]
    pub fn with_device(mut self, device: impl Into<Name>) -> Self {
        self.device = device.into();
        self
    }

    /// Sets the collector's name. Default: `proc`.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Name>) -> Self {
        self.source = source.into();
        self
    }

    /// Ends the source when the signal is given.
    #[must_use]
    pub fn with_stop(mut self, stop: Shutdown) -> Self {
        self.stop = stop;
        self
    }

    /// Where `proc` is read.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.config.root
    }
}

impl Collector for ProcCollector {
    type Error = ProcError;

    fn source(&self) -> &str {
        self.source.as_str()
    }

    async fn next_batch(&mut self) -> Result<Option<Batch>, ProcError> {
        if let Some(worker) = self.state.begin() {
            let stop = self.stop.clone();
            let batches =
                LiveBatcher::on_thread("amoskys-proc", &self.device, &self.source, move |batcher| {
                    worker.run(batcher, &stop);
                });
            self.state = Threaded::Running(batches.map_err(ProcError::Thread)?);
        }
        self.state.next_batch().await
    }

    fn stop(&mut self) -> bool {
        self.stop.trigger();
        true
    }

    fn remedy(&self, _: &ProcError) -> Remedy {
        Remedy::Fatal
    }
}
