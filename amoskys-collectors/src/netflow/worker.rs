//! The thread of a collector: receives or reads datagrams, decodes them, hands batches over.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use amoskys_core::event::Payload;
use amoskys_core::{Name, Shutdown, Timestamp};

use super::collector::{ExportFile, NetflowError};
use super::decoder::MAX_DATAGRAM_BYTES;
use super::record::ExportRecord;
use super::socket::kernel_drops;
use super::{ExportLoss, NetflowConfig, NetflowDecoder, NetflowHandler, NetflowStats};
use crate::capture::CaptureReader;
use crate::flow::Progress;
use crate::flow::batcher::Batcher as Gather;
use crate::packet::{Decoded, decode};

pub(super) type Batcher = Gather<NetflowStats, NetflowError>;

/// Datagrams between two looks at things that seldom change.
const CHECK_DATAGRAMS: u64 = 256;
/// How long to wait for datagrams, and to gather them, before they are handed over.
const PATIENCE: Duration = Duration::from_millis(100);
/// So long datagrams are taken that wait in the socket when the source is told to end.
const LAST: Duration = Duration::from_secs(1);
/// The kernel is asked for its drops so often.
const DROPS_INTERVAL: Duration = Duration::from_millis(200);
/// Names of exporters kept at hand. They can be made again at any time.
const MAX_NAMES: usize = 4096;
/// UDP in IP.
const UDP: u8 = 17;

/// Makes events of what the decoder finds.
struct Events {
    batcher: Batcher,
    names: HashMap<IpAddr, Name>,
    config: NetflowConfig,
    flows: u64,
}

impl Events {
    fn new(batcher: Batcher, config: NetflowConfig) -> Self {
        Self {
            batcher,
            names: HashMap::new(),
            config,
            flows: 0,
        }
    }

    fn name(&mut self, exporter: IpAddr) -> Name {
        if let Some(name) = self.names.get(&exporter) {
            return name.clone();
        }
        if self.names.len() >= MAX_NAMES {
            self.names.clear();
        }
        let name = self.config.name_of(exporter);
        self.names.insert(exporter, name.clone());
        name
    }
}

impl NetflowHandler for Events {
    fn flow(&mut self, record: &ExportRecord<'_>) {
        let export = record.export();
        let device = self.name(export.exporter);
        let number = self.flows;
        self.flows += 1;
        let wanted = self.config.attributes;
        self.batcher
            .add_with(export.received, Some(&device), |attributes| {
                let mut flow = record.flow(wanted.then_some(attributes));
                flow.flow = number;
                Payload::Flow(Box::new(flow))
            });
    }

    fn loss(&mut self, loss: &ExportLoss) {
        let device = self.name(loss.export.exporter);
        tracing::debug!(exporter = %loss.export.exporter, count = loss.count, unit = loss.unit, "exports are missing");
        self.batcher.report(
            loss.export.received,
            Some(&device),
            "missing",
            loss.count.into(),
            loss.unit,
        );
    }
}

/// Reads all files, or until told to stop, or nobody wants more.
pub(super) fn run_files(
    files: &[ExportFile],
    config: NetflowConfig,
    mut batcher: Batcher,
    stop: &Shutdown,
    progress: &Progress,
) {
    let mut decoder = match NetflowDecoder::new(config.clone()) {
        Ok(decoder) => decoder,
        Err(error) => return batcher.fail(error.into()),
    };
    let mut events = Events::new(batcher, config);
    let mut clock = None;
    let mut before = 0;
    for file in files {
        match read_file(
            file,
            before,
            &mut decoder,
            &mut events,
            &mut clock,
            stop,
            progress,
        ) {
            Ok(true) => before += file.bytes,
            Ok(false) => break,
            Err(error) => {
                // What was read is good: hand it over before the error.
                events.batcher.flush(&decoder.stats());
                return events.batcher.fail(error);
            }
        }
    }
    if stop.is_triggered() {
        // What waits for a template is not given up: a later run may go on from here.
        events.batcher.flush(&decoder.stats());
    } else if events.batcher.is_wanted() {
        decoder.finish();
        events.batcher.end(clock, &decoder.stats());
    }
}

/// Reads the exports in one capture file; whether to go on with the next.
fn read_file(
    file: &ExportFile,
    before: u64,
    decoder: &mut NetflowDecoder,
    events: &mut Events,
    clock: &mut Option<Timestamp>,
    stop: &Shutdown,
    progress: &Progress,
) -> Result<bool, NetflowError> {
    let path = || file.path.clone();
    let opened = File::open(&file.path).map_err(|source| NetflowError::Open { path: path(), source })?;
    let mut capture =
        CaptureReader::new(opened).map_err(|source| NetflowError::Capture { path: path(), source })?;
    let mut packets: u64 = 0;
    loop {
        match capture.next_packet() {
            Ok(Some(packet)) => {
                if let Decoded::Ip(ip) = decode(&packet)
                    && ip.protocol() == UDP
                    && !ip.is_fragment()
                    && events.config.capture_ports.contains(&ip.ports().1)
                {
                    // Time stamps of a capture may be in disorder; what is forgotten after a time must not be.
                    let now = clock.map_or(packet.time, |clock: Timestamp| clock.max(packet.time));
                    *clock = Some(now);
                    decoder.push(ip.source(), now, ip.payload(), events);
                    events.batcher.step(*clock, &decoder.stats());
                }
            }
            Ok(None) => break,
            Err(source) => return Err(NetflowError::Capture { path: path(), source }),
        }
        packets += 1;
        if packets.is_multiple_of(CHECK_DATAGRAMS) {
            progress.set(before + capture.offset(), decoder.stats().datagrams);
            if stop.is_triggered() || !events.batcher.is_wanted() {
                return Ok(false);
            }
        }
    }
    progress.set(before + file.bytes, decoder.stats().datagrams);
    for (kind, count) in &capture.damage().counts {
        tracing::warn!(file = %file.path.display(), damage = %kind, count, "the capture is damaged");
        if kind.loses_packet() {
            events
                .batcher
                .lose(kind.as_str(), *count, "packets", *clock, &decoder.stats());
        }
    }
    Ok(true)
}

/// Receives until told to stop, or nobody wants more.
pub(super) fn run_socket(
    listener: &Listener,
    config: NetflowConfig,
    mut batcher: Batcher,
    stop: &Shutdown,
    progress: &Progress,
) {
    let decoder = match NetflowDecoder::new(config.clone()) {
        Ok(decoder) => decoder,
        Err(error) => return batcher.fail(error.into()),
    };
    let socket = &listener.socket;
    if let Err(error) = socket.set_read_timeout(Some(PATIENCE)) {
        return batcher.fail(NetflowError::Receive(error));
    }
    let mut receiver = Receiver {
        decoder,
        events: Events::new(batcher, config),
        buffer: vec![0; MAX_DATAGRAM_BYTES],
        now: Timestamp::now(),
    };
    let mut asked = Instant::now();
    let failed = loop {
        if stop.is_triggered() || !receiver.events.batcher.is_wanted() {
            break None;
        }
        let failed = receiver.receive(socket, PATIENCE).err();
        progress.set(0, receiver.decoder.stats().datagrams);
        if asked.elapsed() >= DROPS_INTERVAL {
            asked = Instant::now();
            receiver.tell_drops(listener);
        }
        receiver.events.batcher.flush(&receiver.decoder.stats());
        if failed.is_some() {
            break failed;
        }
    };
    if receiver.events.batcher.is_wanted() {
        // What is in the socket came before the end. The time is for exporters that do not stop.
        if failed.is_none() && socket.set_nonblocking(true).is_ok() {
            let begun = Instant::now();
            while begun.elapsed() < LAST && receiver.receive(socket, LAST).is_ok_and(|received| received > 0)
            {
            }
        }
        progress.set(0, receiver.decoder.stats().datagrams);
        receiver.tell_drops(listener);
        receiver.decoder.finish();
        let stats = receiver.decoder.stats();
        receiver.events.batcher.end(Some(receiver.now), &stats);
    }
    if let Some(error) = failed {
        receiver.events.batcher.fail(NetflowError::Receive(error));
    }
}

/// What a socket's datagrams go through.
struct Receiver {
    decoder: NetflowDecoder,
    events: Events,
    buffer: Vec<u8>,
    /// Of the latest datagram; the clock of the machine may be set back, this one is not.
    now: Timestamp,
}

impl Receiver {
    /// Takes datagrams, until there is none, there were many, or the time is up; says how many.
    fn receive(&mut self, socket: &UdpSocket, time: Duration) -> io::Result<u64> {
        let end = self.now.max(Timestamp::now()).plus(time);
        let mut received = 0;
        while received < CHECK_DATAGRAMS && self.now < end {
            match socket.recv_from(&mut self.buffer) {
                Ok((length, from)) => {
                    self.now = self.now.max(Timestamp::now());
                    let datagram = &self.buffer[..length];
                    self.decoder
                        .push(address(from), self.now, datagram, &mut self.events);
                    self.events.batcher.step(Some(self.now), &self.decoder.stats());
                    received += 1;
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => break,
                    // The second is an ICMP message about something that was sent from this socket, by whoever lent
                    // it to us.
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionRefused => {}
                    _ => return Err(error),
                },
            }
        }
        if received == 0 {
            self.now = self.now.max(Timestamp::now());
            self.events.batcher.tick(Some(self.now));
        }
        Ok(received)
    }

    fn tell_drops(&mut self, listener: &Listener) {
        let drops = listener.take_drops();
        let stats = self.decoder.stats();
        self.events
            .batcher
            .lose("kernel", drops, "datagrams", Some(self.now), &stats);
    }
}

fn address(from: SocketAddr) -> IpAddr {
    from.ip().to_canonical()
}

/// A socket, and how many of its drops have been told.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: UdpSocket,
    told: AtomicU32,
}

impl Listener {
    /// What the kernel dropped at this socket before does not count.
    pub(super) fn new(socket: UdpSocket) -> Self {
        let told = kernel_drops(&socket).unwrap_or_else(|error| {
            tracing::warn!(%error, "the kernel does not say how many datagrams it drops");
            0
        });
        Self {
            socket,
            told: AtomicU32::new(told),
        }
    }

    /// How many the kernel has dropped since this was asked last.
    fn take_drops(&self) -> u64 {
        let Ok(count) = kernel_drops(&self.socket) else {
            return 0;
        };
        let told = self.told.swap(count, Ordering::Relaxed);
        count.wrapping_sub(told).into()
    }
}
