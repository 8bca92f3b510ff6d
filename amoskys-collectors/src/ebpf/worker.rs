//! The thread that reads the rings.

use std::time::{Duration, Instant};

use amoskys_core::Shutdown;
use amoskys_core::event::{Alarm, AlarmState, Severity};
use aya::maps::{MapData, RingBuf};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::batcher::Batcher;
use super::clock::boot_ns;
use super::config::{CallStreams, EbpfConfig};
use super::control::EbpfHandle;
use super::decode::Decoder;
use super::error::EbpfError;
use super::governor::Governor;
use super::histograms::Histograms;
use super::record::{Body, read};
use super::sensor::Sensor;

/// Sequences wake nobody; they are looked for this often.
const PATIENCE: Duration = Duration::from_millis(20);
/// The kernel's counters are read this often.
const ACCOUNTING: Duration = Duration::from_millis(200);
/// Records read from a ring before something else is looked after.
const TURN: usize = 4096;
/// With so many records in a turn, more will come at once: instead of being woken for the first of them, which costs more
/// than to read it, the reader sleeps for a while and finds many.
const BUSY: usize = 64;
const NAP: Duration = Duration::from_millis(1);

/// All that the thread has.
pub(super) struct Worker {
    pub(super) sensor: Sensor,
    pub(super) events: RingBuf<MapData>,
    pub(super) calls: Option<RingBuf<MapData>>,
    pub(super) handle: EbpfHandle,
    pub(super) decoder: Decoder,
    pub(super) config: EbpfConfig,
    /// Processes that were there at the start, to be reported.
    pub(super) present: Vec<amoskys_core::Payload>,
}

impl Worker {
    /// Reads until told to stop, or nobody wants more.
    pub(super) fn run(mut self, mut batcher: Batcher, stop: &Shutdown) {
        match self.work(&mut batcher, stop) {
            Ok(()) => {}
            Err(error) => {
                batcher.flush();
                batcher.fail(error);
            }
        }
    }

    fn work(&mut self, batcher: &mut Batcher, stop: &Shutdown) -> Result<(), EbpfError> {
        let mut governor = Governor::new(self.config.streams);
        let mut histograms = Histograms::default();
        let (mut accounted, mut told) = (Instant::now(), Instant::now());
        let start = self.now();
        for present in std::mem::take(&mut self.present) {
            batcher.add(start, present, 0);
        }
        let mut found = 0;
        while batcher.is_wanted() && !stop.is_triggered() {
            match found {
                0..BUSY => self.wait()?,
                BUSY..TURN => std::thread::sleep(NAP),
                _ => {}
            }
            found = self.read_events(batcher, TURN);
            self.read_calls(batcher, &mut histograms, TURN);
            let now = Instant::now();
            if now.duration_since(told) >= Duration::from_secs(1) {
                told = now;
                self.decoder.clock.look();
                self.tell(&mut histograms, batcher);
            }
            if now.duration_since(accounted) >= ACCOUNTING {
                accounted = now;
                let lost = self.account(batcher)?;
                if self.config.governor
                    && let Some(streams) = governor.decide(lost, now)
                {
                    self.change(streams, batcher)?;
                }
            }
            batcher.tick(self.now());
            batcher.flush();
        }
        self.finish(batcher, &mut histograms)
    }

    /// Nothing more is seen; what has been is handed over.
    fn finish(&mut self, batcher: &mut Batcher, histograms: &mut Histograms) -> Result<(), EbpfError> {
        self.sensor.detach();
        self.sensor.set_calls(false)?;
        self.drain(batcher, histograms);
        self.sensor.flush_calls()?;
        self.drain(batcher, histograms);
        self.tell(histograms, batcher);
        self.account(batcher)?;
        batcher.end(self.now());
        Ok(())
    }

    fn drain(&mut self, batcher: &mut Batcher, histograms: &mut Histograms) {
        while self.read_events(batcher, TURN) + self.read_calls(batcher, histograms, TURN) > 0 {
            if !batcher.is_wanted() {
                return;
            }
        }
    }

    fn now(&self) -> amoskys_core::Timestamp {
        self.decoder
            .clock
            .time(u64::try_from(boot_ns()).unwrap_or_default())
    }

    fn wait(&self) -> Result<(), EbpfError> {
        let patience = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(PATIENCE.subsec_nanos()),
        };
        let mut waiting = [PollFd::new(&self.events, PollFlags::IN)];
        match poll(&mut waiting, Some(&patience)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(EbpfError::Wait(error.into())),
        }
    }

    fn read_events(&mut self, batcher: &mut Batcher, most: usize) -> usize {
        let Self {
            events,
            decoder,
            handle,
            ..
        } = self;
        let mut count = 0;
        while count < most
            && let Some(item) = events.next()
        {
            count += 1;
            let Ok(record) = read(&item) else {
                batcher.leave_out("malformed", 1);
                continue;
            };
            let header = &record.header;
            let time = decoder.clock.time(header.time);
            let payload = match &record.body {
                Body::Process(process) => Some(decoder.process(header, process)),
                Body::Exit(exit) => Some(decoder.exit(header, exit)),
                Body::Activity(activity) => {
                    decoder.activity(header, activity, |path| handle.is_watched(path))
                }
                Body::Sequence(_) | Body::Histogram(_) => None,
            };
            match payload {
                Some(payload) => batcher.add(time, payload, 1),
                None => batcher.leave_out("filtered_path", 1),
            }
        }
        count
    }

    fn read_calls(&mut self, batcher: &mut Batcher, histograms: &mut Histograms, most: usize) -> usize {
        let Self { calls, decoder, .. } = self;
        let Some(calls) = calls else { return 0 };
        let mut count = 0;
        while count < most
            && let Some(item) = calls.next()
        {
            count += 1;
            let Ok(record) = read(&item) else {
                batcher.leave_out("malformed", 1);
                continue;
            };
            let header = &record.header;
            match &record.body {
                Body::Sequence(sequence) => {
                    let items = sequence.calls.len() as u64 / 2;
                    let time = decoder.clock.time(header.time);
                    batcher.add(time, decoder.sequence(header, sequence), items);
                }
                Body::Histogram(histogram) => {
                    if histograms.add(header, histogram) {
                        tell(decoder, histograms, batcher);
                    }
                }
                _ => batcher.leave_out("malformed", 1),
            }
        }
        count
    }

    fn tell(&mut self, histograms: &mut Histograms, batcher: &mut Batcher) {
        tell(&self.decoder, histograms, batcher);
    }

    fn account(&mut self, batcher: &mut Batcher) -> Result<u64, EbpfError> {
        let stats = self.handle.stats()?;
        Ok(batcher.dropped(&stats, self.now()))
    }

    /// Records more or less of system calls, and says so.
    fn change(&mut self, streams: CallStreams, batcher: &mut Batcher) -> Result<(), EbpfError> {
        let wanted = self.config.streams;
        self.handle.set_streams(streams)?;
        self.sensor.set_calls(streams != CallStreams::None)?;
        // No program writes to the buffers of what is recorded no longer.
        self.sensor.flush_calls()?;
        tracing::warn!(
            now = streams.as_str(),
            wanted = wanted.as_str(),
            "the sensor's load has changed"
        );
        let alarm = Alarm {
            code: "ebpf_overload".to_owned(),
            state: if streams == wanted {
                AlarmState::Cleared
            } else {
                AlarmState::Raised
            },
            severity: Severity::Medium,
            message: format!("recording {} instead of {}", streams.as_str(), wanted.as_str()),
        };
        batcher.alarm(self.now(), alarm);
        Ok(())
    }
}

fn tell(decoder: &Decoder, histograms: &mut Histograms, batcher: &mut Batcher) {
    for (time, payload, calls) in histograms.take(decoder.clock) {
        batcher.add(decoder.clock.time(time), payload, calls);
    }
}
