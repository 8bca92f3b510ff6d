//! Meters an interface with several threads, each of which has a ring of its own.

use std::sync::{Mutex, MutexGuard, PoisonError};

use amoskys_core::event::{ArpRecord, DnsRecord, FlowRecord, Payload};
use amoskys_core::{Shutdown, Timestamp};

use super::worker::{FlowBatcher, PATIENCE};
use super::{FlowConfig, FlowError, FlowHandler, FlowMeter, MeterStats, Progress};
use crate::capture::{LiveCapture, LiveConfig, LiveError};

/// Meters until told to stop, or nobody wants more.
pub(super) fn run_rings(
    name: &str,
    live: &LiveConfig,
    rings: usize,
    config: &FlowConfig,
    mut batcher: FlowBatcher,
    stop: &Shutdown,
    progress: &Progress,
) {
    let share = u32::try_from(rings.max(1)).unwrap_or(u32::MAX);
    let config = FlowConfig {
        max_flows: config.max_flows.div_ceil(share).max(16),
        ..config.clone()
    };
    let captures = match LiveCapture::open_shared(name, live, rings) {
        Ok(captures) => captures,
        Err(error) => return batcher.fail(FlowError::Live(error)),
    };
    let mut meters = Vec::with_capacity(captures.len());
    for number in 0..captures.len() {
        match FlowMeter::new(config.clone()) {
            Ok(mut meter) => {
                meter.number_flows(number as u64, rings as u64);
                meters.push(meter);
            }
            Err(error) => return batcher.fail(error.into()),
        }
    }
    let shared = Mutex::new(Shared {
        clocks: vec![None; meters.len()],
        stats: vec![MeterStats::default(); meters.len()],
        batcher,
        failed: None,
    });
    std::thread::scope(|scope| {
        for (number, (capture, meter)) in captures.into_iter().zip(meters).enumerate() {
            let shared = &shared;
            scope.spawn(move || run(number, capture, meter, shared, stop, progress));
        }
    });
    let mut shared = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    let stats = shared.total();
    if shared.batcher.is_wanted() {
        let now = shared.clocks.iter().flatten().max().copied();
        shared.batcher.end(now, &stats);
    }
    if let Some(error) = shared.failed {
        shared.batcher.fail(FlowError::Live(error));
    }
}

/// What the threads share. They come here with many packets' worth of events at a time.
struct Shared {
    batcher: FlowBatcher,
    /// The clock of each meter. What is stated as the time is the earliest of them.
    clocks: Vec<Option<Timestamp>>,
    stats: Vec<MeterStats>,
    failed: Option<LiveError>,
}

impl Shared {
    fn total(&self) -> MeterStats {
        let mut total = MeterStats::default();
        self.stats.iter().for_each(|stats| total.add(stats));
        total
    }

    /// The time that no meter is behind of; none while one has not begun.
    fn now(&self) -> Option<Timestamp> {
        self.clocks.iter().copied().min().flatten()
    }

    /// Takes over what a thread has found.
    fn take(&mut self, number: usize, meter: &FlowMeter, events: &mut Events, drops: u64) {
        self.clocks[number] = meter.now();
        self.stats[number] = meter.stats();
        for (time, payload) in events.0.drain(..) {
            self.batcher.add_with(time, None, |_| payload);
        }
        let (now, stats) = (self.now(), self.total());
        self.batcher.lose("kernel", drops, "packets", meter.now(), &stats);
        self.batcher.tick(now);
        self.batcher.flush(&stats);
    }
}

/// Keeps events until it is this thread's turn.
#[derive(Default)]
struct Events(Vec<(Timestamp, Payload)>);

impl FlowHandler for Events {
    fn flow(&mut self, time: Timestamp, record: &FlowRecord) {
        self.0.push((time, Payload::Flow(Box::new(record.clone()))));
    }

    fn dns(&mut self, time: Timestamp, record: &DnsRecord) {
        self.0.push((time, Payload::Dns(Box::new(record.clone()))));
    }

    fn arp(&mut self, time: Timestamp, record: &ArpRecord) {
        self.0.push((time, Payload::Arp(Box::new(*record))));
    }
}

fn run(
    number: usize,
    mut capture: LiveCapture,
    mut meter: FlowMeter,
    shared: &Mutex<Shared>,
    stop: &Shutdown,
    progress: &Progress,
) {
    let mut events = Events::default();
    loop {
        if let Err(error) = capture.wait(PATIENCE) {
            lock(shared).failed.get_or_insert(error);
        }
        let packets = meter.stats().packets;
        if let Some(block) = capture.next_packets() {
            meter.push_packets(block, &mut events);
        }
        let packets = meter.stats().packets - packets;
        if packets == 0 {
            // The clock must not overtake packets that the kernel still keeps.
            meter.advance(Timestamp::now().minus(PATIENCE), &mut events);
        }
        let drops = capture.take_drops();
        let mut shared = lock(shared);
        let drops = drops.unwrap_or_else(|error| {
            shared.failed.get_or_insert(error);
            0
        });
        let ends = stop.is_triggered() || shared.failed.is_some() || !shared.batcher.is_wanted();
        if ends {
            meter.finish(&mut events);
        }
        shared.take(number, &meter, &mut events, drops);
        progress.set(0, shared.total().packets);
        if ends {
            return;
        }
    }
}

/// A thread that panicked has left its part as it was: the others go on.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
