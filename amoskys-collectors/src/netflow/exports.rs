//! A collector of export datagrams, whatever their format: a socket or capture files, a thread, and batches.

use std::fmt::Debug;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::Path;
use std::sync::Arc;

use amoskys_core::{Batch, Name, Position, Shutdown};
use tokio::sync::mpsc;

use super::socket::set_receive_buffer;
use super::worker::{Batcher, Decode, Listener, run_files, run_socket};
use super::{NetflowConfigError, NetflowError};
use crate::flow::Progress;
use crate::flow::batcher::Message;
use crate::flow::files::CaptureFile;
use crate::flow::position::{Place, origin};

/// How exports of a format are received and decoded.
pub(crate) trait Settings: Debug {
    /// What datagrams go through.
    type Decoder: Decode + Send + 'static;
    /// Name of the collector, unless it is given another.
    const SOURCE: &'static str;

    /// Checks the ranges.
    fn check(&self) -> Result<(), NetflowConfigError>;

    /// Receive buffer of the socket.
    fn receive_buffer_bytes(&self) -> usize;

    /// A decoder that has seen nothing yet.
    fn decoder(&self) -> Result<Self::Decoder, NetflowConfigError>;

    /// All that decides what events a capture gives.
    fn decisive(&self) -> String;
}

/// The collector behind those of the formats.
#[derive(Debug)]
pub(crate) struct Exports<S> {
    input: Input,
    config: S,
    pub(crate) device: Name,
    pub(crate) source: Name,
    pub(crate) stop: Shutdown,
    pub(crate) progress: Progress,
    resume: Place,
    state: State,
}

#[derive(Debug)]
enum Input {
    Files(Arc<[CaptureFile]>),
    Socket(Arc<Listener>),
}

#[derive(Debug)]
enum State {
    Ready,
    Running(mpsc::Receiver<Message<NetflowError>>),
    Ended,
}

/// Batches that may wait for the reader of the collector.
const QUEUE_BATCHES: usize = 4;

impl<S: Settings> Exports<S> {
    pub(crate) fn bind(address: impl ToSocketAddrs, config: S) -> Result<Self, NetflowError> {
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

    pub(crate) fn from_socket(socket: UdpSocket, config: S) -> Result<Self, NetflowError> {
        config.check()?;
        set_receive_buffer(&socket, config.receive_buffer_bytes()).map_err(NetflowError::Receive)?;
        socket.set_nonblocking(false).map_err(NetflowError::Receive)?;
        Ok(Self::new(Input::Socket(Arc::new(Listener::new(socket))), config))
    }

    pub(crate) fn from_files<P: AsRef<Path>>(
        files: impl IntoIterator<Item = P>,
        config: S,
    ) -> Result<Self, NetflowError> {
        config.check()?;
        let files = files
            .into_iter()
            .map(|path| CaptureFile::open(path.as_ref()))
            .collect::<Result<Arc<[_]>, _>>()?;
        let total = files.iter().map(|file| file.bytes).sum();
        let collector = Self::new(Input::Files(files), config);
        collector.progress.set_total(total);
        Ok(collector)
    }

    fn new(input: Input, config: S) -> Self {
        Self {
            input,
            config,
            device: Name::default(),
            source: Name::from(S::SOURCE),
            stop: Shutdown::new(),
            progress: Progress::default(),
            resume: Place::default(),
            state: State::Ready,
        }
    }

    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        match &self.input {
            Input::Socket(listener) => listener.socket.local_addr().ok(),
            Input::Files(_) => None,
        }
    }

    /// Starts the thread that receives and decodes.
    fn start(&self) -> Result<mpsc::Receiver<Message<NetflowError>>, NetflowError> {
        let decoder = self.config.decoder()?;
        let (output, batches) = mpsc::channel(QUEUE_BATCHES);
        let mut place = self.resume;
        place.origin = self.origin();
        let batcher = Batcher::new(
            output,
            self.device.clone(),
            self.source.clone(),
            "export",
            place,
            self.is_replayable(),
        );
        let (stop, progress) = (self.stop.clone(), self.progress.clone());
        let run: Box<dyn FnOnce() + Send> = match &self.input {
            Input::Files(files) => {
                let files = Arc::clone(files);
                Box::new(move || run_files(&files, decoder, batcher, &stop, &progress))
            }
            Input::Socket(listener) => {
                let listener = Arc::clone(listener);
                Box::new(move || run_socket(&listener, decoder, batcher, &stop, &progress))
            }
        };
        let thread = std::thread::Builder::new().name(format!("amoskys-{}", S::SOURCE));
        thread.spawn(run).map_err(NetflowError::Thread)?;
        Ok(batches)
    }

    fn origin(&self) -> u64 {
        match &self.input {
            Input::Files(files) => origin(files, self.config.decisive()),
            // A live source is another one each time.
            Input::Socket(_) => {
                use std::hash::{BuildHasher, RandomState};
                RandomState::new().hash_one(std::process::id())
            }
        }
    }

    pub(crate) fn is_replayable(&self) -> bool {
        matches!(self.input, Input::Files(_))
    }

    pub(crate) fn resume(&mut self, position: &Position) -> Result<(), NetflowError> {
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

    pub(crate) async fn next_batch(&mut self) -> Result<Option<Batch>, NetflowError> {
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

    pub(crate) fn stop(&mut self) -> bool {
        let live = !self.is_replayable();
        if live {
            self.stop.trigger();
        }
        live
    }
}
