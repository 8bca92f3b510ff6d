use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use amoskys_core::{Batch, Collector, Name, Position, Remedy, Shutdown};
use tokio::sync::mpsc;

use super::batcher::{Batcher, Message};
use super::files::{CaptureFile, FileError};
use super::position::{Place, origin};
use super::worker::{Files, run_files};
use super::{FlowConfig, FlowConfigError, Progress};
use crate::capture::{CaptureError, LiveConfig, LiveError};

/// Why collecting flows failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlowError {
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
    /// A setting of the meter is out of range.
    #[error("the flow meter's settings are wrong")]
    Config(#[from] FlowConfigError),
    /// Live capture failed. It may work later, when the interface is up again.
    #[error("live capture failed")]
    Live(#[source] LiveError),
    /// The position is not one of these files, metered like this.
    #[error("the position belongs to other files, or to other settings")]
    OtherPosition,
    /// The thread that reads and meters could not be started, or died.
    #[error("the capture thread failed")]
    Thread(#[source] io::Error),
}

impl From<FileError> for FlowError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Open { path, source } => Self::Open { path, source },
            FileError::Capture { path, source } => Self::Capture { path, source },
        }
    }
}

/// Flows, DNS messages and ARP messages from capture files or from a live interface.
///
/// # Events
///
/// - [`Flow`](amoskys_core::Payload::Flow) when a flow starts, every few seconds while it lasts, and when it ends;
/// - [`Dns`](amoskys_core::Payload::Dns) for each DNS message, [`Arp`](amoskys_core::Payload::Arp) for each ARP
///   message;
/// - [`Punctuation`](amoskys_core::Payload::Punctuation) whenever the capture's clock has moved on by a second,
///   and at the end;
/// - [`Loss`](amoskys_core::Payload::Loss) for packets lost to damage in a file, or dropped by the kernel.
///
/// Event time is packet time. Files are read in the order given, as if they were one.
///
/// # Tally
///
/// In packets: used are those metered and ARP messages; dropped are `non_ip`, `unknown_link`, `malformed_truncated`
/// and `malformed_ip` ([`SkipReason`](crate::packet::SkipReason)), `kernel`, and records lost to damage in a file
/// ([`DamageKind`](crate::capture::DamageKind)).
///
/// # Resuming
///
/// Files are metered again from their beginning, without handing over what was handed over before: exact, with the
/// same event ids, at the cost of reading the files again (some million packets a second). A live source has no
/// positions; its open flows are lost with the process.
///
/// # Threads
///
/// Reading and metering happen on a thread of their own, which starts with the first call and waits while
/// nobody asks for batches. A capture that is not asked long enough fills the kernel's ring, and drops are counted.
///
/// ```
/// use amoskys_collectors::flow::FlowCollector;
/// use amoskys_core::Collector;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut flows = FlowCollector::from_files(["first.pcap", "second.pcapng"])?;
/// while let Some(batch) = flows.next_batch().await? {
///     println!("{} events", batch.events.len());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FlowCollector {
    input: Input,
    config: FlowConfig,
    device: Name,
    source: Name,
    stop: Shutdown,
    progress: Progress,
    resume: Place,
    state: State,
}

#[derive(Debug)]
enum Input {
    Files(Arc<[CaptureFile]>),
    Interface {
        name: String,
        config: LiveConfig,
        threads: usize,
    },
}

#[derive(Debug)]
enum State {
    Ready,
    Running(mpsc::Receiver<Message<FlowError>>),
    Ended,
}

/// Batches that may wait for the reader of the collector.
const QUEUE_BATCHES: usize = 4;

impl FlowCollector {
    /// Flows from capture files, pcap or pcapng, read in this order.
    ///
    /// # Errors
    ///
    /// If a file cannot be opened, or does not begin like a capture.
    pub fn from_files<P: AsRef<Path>>(files: impl IntoIterator<Item = P>) -> Result<Self, FlowError> {
        let files = files
            .into_iter()
            .map(|path| CaptureFile::open(path.as_ref()))
            .collect::<Result<Arc<[_]>, _>>()?;
        let collector = Self::new(Input::Files(Arc::clone(&files)));
        collector
            .progress
            .set_total(files.iter().map(|file| file.bytes).sum());
        Ok(collector)
    }

    /// Flows from a live interface. It is opened with the first batch.
    #[must_use]
    pub fn from_interface(name: impl Into<String>, config: LiveConfig) -> Self {
        Self::new(Input::Interface {
            name: name.into(),
            config,
            threads: 1,
        })
    }

    /// Meters a live interface with several threads, each with a ring of its own, among which the kernel shares the
    /// packets by addresses and ports; 1 to 64. [`max_flows`](FlowConfig::max_flows) is divided among them. Files are
    /// not affected. Default: 1.
    #[must_use]
    pub fn with_threads(mut self, count: usize) -> Self {
        if let Input::Interface { threads, .. } = &mut self.input {
            *threads = count;
        }
        self
    }

    fn new(input: Input) -> Self {
        Self {
            input,
            config: FlowConfig::default(),
            device: Name::default(),
            source: Name::from("flow"),
            stop: Shutdown::new(),
            progress: Progress::default(),
            resume: Place::default(),
            state: State::Ready,
        }
    }

    /// Sets how flows are metered.
    ///
    /// # Errors
    ///
    /// If a setting is out of range.
    pub fn with_config(mut self, config: FlowConfig) -> Result<Self, FlowError> {
        config.validate()?;
        self.config = config;
        Ok(self)
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

    /// Ends the source when the signal is given. A live source reports its open flows as ended first; without a
    /// signal they are lost when it is dropped. Files are left where they are, to be resumed.
    #[must_use]
    pub fn with_stop(mut self, stop: Shutdown) -> Self {
        self.stop = stop;
        self
    }

    /// How far the files have been read; for a progress bar.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Starts the thread that reads and meters.
    fn start(&self) -> Result<mpsc::Receiver<Message<FlowError>>, FlowError> {
        let (output, batches) = mpsc::channel(QUEUE_BATCHES);
        let mut place = self.resume;
        place.origin = self.origin();
        let positions = self.is_replayable();
        let batcher = Batcher::new(
            output,
            self.device.clone(),
            self.source.clone(),
            "capture",
            place,
            positions,
        );
        let (config, stop, progress) = (self.config.clone(), self.stop.clone(), self.progress.clone());
        let run: Box<dyn FnOnce() + Send> = match &self.input {
            Input::Files(files) => {
                let files = Files {
                    files: Arc::clone(files),
                    progress,
                };
                Box::new(move || run_files(&files, config, batcher, &stop))
            }
            Input::Interface {
                name,
                config: live,
                threads,
            } => {
                let (name, live, threads) = (name.clone(), live.clone(), *threads);
                if threads == 1 {
                    Box::new(move || super::worker::run_live(&name, &live, config, batcher, &stop, &progress))
                } else {
                    Box::new(move || {
                        super::fanout::run_rings(&name, &live, threads, &config, batcher, &stop, &progress)
                    })
                }
            }
        };
        let thread = std::thread::Builder::new().name("amoskys-flow".to_owned());
        thread.spawn(run).map_err(FlowError::Thread)?;
        Ok(batches)
    }

    fn origin(&self) -> u64 {
        match &self.input {
            Input::Files(files) => origin(files, format!("amoskys flow 1 {:?}", self.config)),
            // A live source is another one each time.
            Input::Interface { .. } => {
                use std::hash::{BuildHasher, RandomState};
                RandomState::new().hash_one(std::process::id())
            }
        }
    }
}

impl Collector for FlowCollector {
    type Error = FlowError;

    fn source(&self) -> &str {
        self.source.as_str()
    }

    fn is_replayable(&self) -> bool {
        matches!(self.input, Input::Files(_))
    }

    async fn resume(&mut self, position: &Position) -> Result<(), FlowError> {
        if !self.is_replayable() {
            return Ok(());
        }
        let place = Place::decode(position).ok_or(FlowError::OtherPosition)?;
        if place.origin != self.origin() {
            return Err(FlowError::OtherPosition);
        }
        self.resume = place;
        Ok(())
    }

    async fn next_batch(&mut self) -> Result<Option<Batch>, FlowError> {
        if let State::Ready = self.state {
            self.state = State::Running(self.start()?);
        }
        let State::Running(batches) = &mut self.state else {
            return Ok(None);
        };
        match batches.recv().await {
            Some(Ok(batch)) => Ok(Some(batch)),
            Some(Err(error)) => {
                // A live source is opened again when it is asked again. Files are not: they would begin anew.
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

    fn remedy(&self, error: &FlowError) -> Remedy {
        match error {
            FlowError::Live(LiveError::Wait(_)) => Remedy::RetryAfter(Duration::from_secs(1)),
            // An interface that was there comes back; one that never was is a mistake.
            FlowError::Live(LiveError::NoInterface { .. } | LiveError::Open { .. })
                if self.progress.packets() > 0 =>
            {
                Remedy::RetryAfter(Duration::from_secs(1))
            }
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
