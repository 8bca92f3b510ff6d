use amoskys_core::{Batch, Collector, Name, Remedy, Shutdown};

use super::worker::Worker;
use super::{HostConfig, HostError};
use crate::live::LiveBatcher;
use crate::threaded::Threaded;

/// Processes and the load of this machine, on any system.
///
/// # Events
///
/// - [`Process`](amoskys_core::Payload::Process): at the first sample those that are there (`Seen`), then each that has
///   begun (`Fork`), runs another program (`Exec`) or has ended (`Exit`, with what it used up to the last sample). The
///   attribute `user` is the system's name for its user: a number, or a security identifier on Windows, where `uid` is 0
///   for all;
/// - [`Metric`](amoskys_core::Payload::Metric): what each process uses, and load and memory of the host, named as `proc`
///   names them;
/// - [`Punctuation`](amoskys_core::Payload::Punctuation) with each sample, and at the end.
///
/// A process is named by its number and its start time, which is told here in whole seconds.
///
/// # Tally
///
/// In processes sampled. Systems do not say which processes they hide.
///
/// # Threads
///
/// Sampling happens on a thread of its own, which starts with the first call and waits while nobody asks for batches.
#[derive(Debug)]
pub struct HostCollector {
    device: Name,
    source: Name,
    stop: Shutdown,
    state: Threaded<Worker, HostError>,
}

impl HostCollector {
    /// Prepares to sample.
    ///
    /// # Errors
    ///
    /// If a setting is out of range, or the library does not know this system.
    pub fn open(config: HostConfig) -> Result<Self, HostError> {
        Ok(Self {
            device: Name::default(),
            source: Name::from("host"),
            stop: Shutdown::new(),
            state: Threaded::ready(Worker::open(config)?),
        })
    }

    /// Sets the device the events are about: this machine. Default: empty.
    #[must_use]
    pub fn with_device(mut self, device: impl Into<Name>) -> Self {
        self.device = device.into();
        self
    }

    /// Sets the collector's name. Default: `host`.
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
}

impl Collector for HostCollector {
    type Error = HostError;

    fn source(&self) -> &str {
        self.source.as_str()
    }

    async fn next_batch(&mut self) -> Result<Option<Batch>, HostError> {
        if let Some(worker) = self.state.begin() {
            let stop = self.stop.clone();
            let batches =
                LiveBatcher::on_thread("amoskys-host", &self.device, &self.source, move |batcher| {
                    worker.run(batcher, &stop);
                });
            self.state = Threaded::Running(batches.map_err(HostError::Thread)?);
        }
        self.state.next_batch().await
    }

    fn stop(&mut self) -> bool {
        self.stop.trigger();
        true
    }

    fn remedy(&self, _: &HostError) -> Remedy {
        Remedy::Fatal
    }
}
