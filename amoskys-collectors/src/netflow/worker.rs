//! The thread of a collector: receives or reads datagrams, decodes them, hands batches over.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use amoskys_core::{Shutdown, Timestamp};

use super::NetflowError;
use super::decoder::MAX_DATAGRAM_BYTES;
use super::socket::kernel_drops;
use crate::flow::Progress;
use crate::flow::batcher::{Batcher as Gather, Counts};
use crate::flow::files::CaptureFile;
use crate::packet::{Decoded, decode};

pub(crate) type Batcher<S> = Gather<S, NetflowError>;

/// Datagrams between two looks at things that seldom change.
const CHECK_DATAGRAMS: u64 = 256;
/// How long to wait for datagrams, and to gather them, before they are handed over.
const PATIENCE: Duration = Duration::from_millis(100);
/// So long datagrams are taken that wait in the socket when the source is told to end.
const LAST: Duration = Duration::from_secs(1);
/// The kernel is asked for its drops so often.
const DROPS_INTERVAL: Duration = Duration::from_millis(200);
/// UDP in IP.
const UDP: u8 = 17;

/// What datagrams go through: a decoder, and what makes events of what it finds.
pub(crate) trait Decode {
    /// Running counts of what became of the datagrams.
    type Stats: Counts + Send + 'static;

    /// Decodes one datagram, and adds what it holds.
    fn push(
        &mut self,
        from: IpAddr,
        received: Timestamp,
        datagram: &[u8],
        batcher: &mut Batcher<Self::Stats>,
    );

    /// No more datagrams come.
    fn finish(&mut self);

    /// What it has done so far.
    fn stats(&self) -> Self::Stats;

    /// How many datagrams it was given.
    fn datagrams(&self) -> u64;

    /// Whether datagrams to this port, in a capture, are for it.
    fn is_for(&self, port: u16) -> bool;
}

/// Reads all files, or until told to stop, or nobody wants more.
pub(super) fn run_files<D: Decode>(
    files: &[CaptureFile],
    mut decoder: D,
    mut batcher: Batcher<D::Stats>,
    stop: &Shutdown,
    progress: &Progress,
) {
    let mut clock = None;
    let mut before = 0;
    for file in files {
        match read_file(
            file,
            before,
            &mut decoder,
            &mut batcher,
            &mut clock,
            stop,
            progress,
        ) {
            Ok(true) => before += file.bytes,
            Ok(false) => break,
            Err(error) => {
                // What was read is good: hand it over before the error.
                batcher.flush(&decoder.stats());
                return batcher.fail(error);
            }
        }
    }
    if stop.is_triggered() {
        // What waits for a template is not given up: a later run may go on from here.
        batcher.flush(&decoder.stats());
    } else if batcher.is_wanted() {
        decoder.finish();
        batcher.end(clock, &decoder.stats());
    }
}

/// Reads the exports in one capture file; whether to go on with the next.
fn read_file<D: Decode>(
    file: &CaptureFile,
    before: u64,
    decoder: &mut D,
    batcher: &mut Batcher<D::Stats>,
    clock: &mut Option<Timestamp>,
    stop: &Shutdown,
    progress: &Progress,
) -> Result<bool, NetflowError> {
    let mut capture = file.reader()?;
    let mut packets: u64 = 0;
    loop {
        match capture.next_packet() {
            Ok(Some(packet)) => {
                if let Decoded::Ip(ip) = decode(&packet)
                    && ip.protocol() == UDP
                    && !ip.is_fragment()
                    && decoder.is_for(ip.ports().1)
                {
                    // Time stamps of a capture may be in disorder; what is forgotten after a time must not be.
                    let now = clock.map_or(packet.time, |clock: Timestamp| clock.max(packet.time));
                    *clock = Some(now);
                    decoder.push(ip.source(), now, ip.payload(), batcher);
                    batcher.step(*clock, &decoder.stats());
                }
            }
            Ok(None) => break,
            Err(source) => return Err(file.damaged(source).into()),
        }
        packets += 1;
        if packets.is_multiple_of(CHECK_DATAGRAMS) {
            progress.set(before + capture.offset(), decoder.datagrams());
            if stop.is_triggered() || !batcher.is_wanted() {
                return Ok(false);
            }
        }
    }
    progress.set(before + file.bytes, decoder.datagrams());
    for (kind, count) in &capture.damage().counts {
        tracing::warn!(file = %file.path.display(), damage = %kind, count, "the capture is damaged");
        if kind.loses_packet() {
            batcher.lose(kind.as_str(), *count, "packets", *clock, &decoder.stats());
        }
    }
    Ok(true)
}

/// Receives until told to stop, or nobody wants more.
pub(super) fn run_socket<D: Decode>(
    listener: &Listener,
    decoder: D,
    mut batcher: Batcher<D::Stats>,
    stop: &Shutdown,
    progress: &Progress,
) {
    let socket = &listener.socket;
    if let Err(error) = socket.set_read_timeout(Some(PATIENCE)) {
        return batcher.fail(NetflowError::Receive(error));
    }
    let mut receiver = Receiver {
        decoder,
        batcher,
        buffer: vec![0; MAX_DATAGRAM_BYTES],
        now: Timestamp::now(),
    };
    let mut asked = Instant::now();
    let failed = loop {
        if stop.is_triggered() || !receiver.batcher.is_wanted() {
            break None;
        }
        let failed = receiver.receive(socket, PATIENCE).err();
        progress.set(0, receiver.decoder.datagrams());
        if asked.elapsed() >= DROPS_INTERVAL {
            asked = Instant::now();
            receiver.tell_drops(listener);
        }
        receiver.batcher.flush(&receiver.decoder.stats());
        if failed.is_some() {
            break failed;
        }
    };
    if receiver.batcher.is_wanted() {
        // What is in the socket came before the end. The time is for exporters that do not stop.
        if failed.is_none() && socket.set_nonblocking(true).is_ok() {
            let begun = Instant::now();
            while begun.elapsed() < LAST && receiver.receive(socket, LAST).is_ok_and(|received| received > 0)
            {
            }
        }
        progress.set(0, receiver.decoder.datagrams());
        receiver.tell_drops(listener);
        receiver.decoder.finish();
        let stats = receiver.decoder.stats();
        receiver.batcher.end(Some(receiver.now), &stats);
    }
    if let Some(error) = failed {
        receiver.batcher.fail(NetflowError::Receive(error));
    }
}

/// What a socket's datagrams go through.
struct Receiver<D: Decode> {
    decoder: D,
    batcher: Batcher<D::Stats>,
    buffer: Vec<u8>,
    /// Of the latest datagram; the clock of the machine may be set back, this one is not.
    now: Timestamp,
}

impl<D: Decode> Receiver<D> {
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
                        .push(address(from), self.now, datagram, &mut self.batcher);
                    self.batcher.step(Some(self.now), &self.decoder.stats());
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
            self.batcher.tick(Some(self.now));
        }
        Ok(received)
    }

    fn tell_drops(&mut self, listener: &Listener) {
        let drops = listener.take_drops();
        let stats = self.decoder.stats();
        self.batcher
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
