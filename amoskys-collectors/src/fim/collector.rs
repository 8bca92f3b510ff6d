use amoskys_core::{Batch, Collector, Name, Remedy, Shutdown};

use super::watch::Watches;
use super::worker::Worker;
use super::{Baseline, FimConfig, FimError};
use crate::live::LiveBatcher;
use crate::threaded::Threaded;

/// Changes of watched files.
///
/// # Events
///
/// - [`Activity`](amoskys_core::Payload::Activity), seen by
///   [`Comparison`](amoskys_core::event::ActivityVia::Comparison): `file_create`, `file_modify`, `file_unlink`,
///   `file_mode` and `file_owner`; no process is named. What was renamed is gone and there anew. Attributes tell what
///   is known of the file (`kind`, `mode`, `uid`, `gid`, `size`, `sha256`), and what was other before (`sha256_before`
///   and so on). Changes since the [baseline](Self::with_baseline) come first, with the attribute `since_baseline`;
/// - [`Loss`](amoskys_core::Payload::Loss) when the kernel's queue was full (`kernel`), or more than 65,536 files waited to
///   be looked at (`full`). All files are looked at then, so what is lost is what happened in between;
/// - [`Punctuation`](amoskys_core::Payload::Punctuation) every second while nothing is read, and at the end.
///
/// A file that is closed after writing is looked at at once, one that is written and stays open after
/// [`settle`](FimConfig::settle).
///
/// # Tally
///
/// In files looked at. Used are those that could be; dropped are those that may not be looked at (`refused`), were gone
/// again (`vanished`), or for which there was no room (`full`); directories whose changes only a rescan finds
/// (`unwatched`: see `fs.inotify.max_user_watches`); and times that the queue was full (`kernel`, or `full`).
///
/// # Privileges
///
/// None but those to read the files. A file that may not be read is watched without a digest.
///
/// # Threads
///
/// Files are read on a thread of its own, which starts with the first call and waits while nobody asks for batches.
#[derive(Debug)]
pub struct FimCollector {
    device: Name,
    source: Name,
    stop: Shutdown,
    state: Threaded<Worker, FimError>,
}

impl FimCollector {
    /// Prepares to watch. Without a baseline, what is there when the first batch is asked for is taken to be right.
    ///
    /// # Errors
    ///
    /// If a setting is out of range, or the kernel has no queue for us.
    pub fn open(config: FimConfig) -> Result<Self, FimError> {
        config.validate()?;
        let worker = Worker {
            config,
            watches: Watches::new().map_err(FimError::Watch)?,
            baseline: None,
        };
        Ok(Self {
            device: Name::default(),
            source: Name::from("fim"),
            stop: Shutdown::new(),
            state: Threaded::ready(worker),
        })
    }

    /// Sets what files should be like: what differs is reported first. Without effect once the first batch was asked
    /// for.
    #[must_use]
    pub fn with_baseline(mut self, baseline: Baseline) -> Self {
        if let Threaded::Ready(worker) = &mut self.state {
            worker.baseline = Some(baseline);
        }
        self
    }

    /// Sets the device the events are about: this machine. Default: empty.
    #[must_use]
    pub fn with_device(mut self, device: impl Into<Name>) -> Self {
        self.device = device.into();
        self
    }

    /// Sets the collector's name. Default: `fim`.
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

impl Collector for FimCollector {
    type Error = FimError;

    fn source(&self) -> &str {
        self.source.as_str()
    }

    async fn next_batch(&mut self) -> Result<Option<Batch>, FimError> {
        if let Some(worker) = self.state.begin() {
            let stop = self.stop.clone();
            let batches = LiveBatcher::on_thread("amoskys-fim", &self.device, &self.source, move |batcher| {
                worker.run(batcher, &stop);
            });
            self.state = Threaded::Running(batches.map_err(FimError::Thread)?);
        }
        self.state.next_batch().await
    }

    fn stop(&mut self) -> bool {
        self.stop.trigger();
        true
    }

    fn remedy(&self, _: &FimError) -> Remedy {
        Remedy::Fatal
    }
}
