//! The thread of a collector: reads packets, meters them, hands batches over.

use std::sync::Arc;
use std::time::Duration;

use amoskys_core::{Shutdown, Timestamp};

use super::batcher::Batcher;
use super::files::CaptureFile;
use super::{FlowConfig, FlowError, FlowMeter, MeterStats, Progress};
use crate::capture::{LiveCapture, LiveConfig, PacketBlock};

pub(super) type FlowBatcher = Batcher<MeterStats, FlowError>;

/// How long to wait for packets before looking at the clock. The kernel keeps packets for up to 50 ms.
pub(super) const PATIENCE: Duration = Duration::from_millis(100);

/// The files of a collector.
pub(super) struct Files {
    pub(super) files: Arc<[CaptureFile]>,
    pub(super) progress: Progress,
}

/// Reads all files, or until told to stop, or nobody wants more.
pub(super) fn run_files(files: &Files, config: FlowConfig, mut batcher: FlowBatcher, stop: &Shutdown) {
    let mut meter = match FlowMeter::new(config) {
        Ok(meter) => meter,
        Err(error) => return batcher.fail(error.into()),
    };
    let mut before = 0;
    for file in files.files.iter() {
        match read_file(file, before, &files.progress, &mut meter, &mut batcher, stop) {
            Ok(true) => before += file.bytes,
            Ok(false) => break,
            Err(error) => {
                // What was read is good: hand it over before the error.
                batcher.flush(&meter.stats());
                return batcher.fail(error);
            }
        }
    }
    if stop.is_triggered() {
        // Not the end of the flows: a later run may go on from here.
        batcher.flush(&meter.stats());
    } else if batcher.is_wanted() {
        finish(&mut meter, &mut batcher);
    }
}

/// Reads one file; whether to go on with the next.
fn read_file(
    file: &CaptureFile,
    before: u64,
    progress: &Progress,
    meter: &mut FlowMeter,
    batcher: &mut FlowBatcher,
    stop: &Shutdown,
) -> Result<bool, FlowError> {
    let mut capture = file.reader()?;
    let mut block = PacketBlock::default();
    loop {
        match capture.next_block(&mut block) {
            Ok(true) => {}
            Ok(false) => break,
            Err(source) => return Err(file.damaged(source).into()),
        }
        meter.push_packets_with(block.iter(), batcher, |meter, batcher| {
            batcher.step(meter.now(), &meter.stats());
        });
        progress.set(before + capture.offset(), meter.stats().packets);
        if stop.is_triggered() || !batcher.is_wanted() {
            return Ok(false);
        }
    }
    progress.set(before + file.bytes, meter.stats().packets);
    for (kind, count) in &capture.damage().counts {
        tracing::warn!(file = %file.path.display(), damage = %kind, count, "the capture is damaged");
        if kind.loses_packet() {
            batcher.lose(kind.as_str(), *count, "packets", meter.now(), &meter.stats());
        }
    }
    batcher.lose(
        "capture_dropped",
        capture.dropped_by_capture(),
        "packets",
        meter.now(),
        &meter.stats(),
    );
    Ok(true)
}

/// Reads an interface until told to stop, or nobody wants more.
pub(super) fn run_live(
    name: &str,
    live: &LiveConfig,
    config: FlowConfig,
    mut batcher: FlowBatcher,
    stop: &Shutdown,
    progress: &Progress,
) {
    let mut meter = match FlowMeter::new(config) {
        Ok(meter) => meter,
        Err(error) => return batcher.fail(error.into()),
    };
    let mut capture = match LiveCapture::open(name, live) {
        Ok(capture) => capture,
        Err(error) => return batcher.fail(FlowError::Live(error)),
    };
    let failed = loop {
        if stop.is_triggered() || !batcher.is_wanted() {
            break None;
        }
        match capture.wait(PATIENCE) {
            Ok(_) => {}
            Err(error) => break Some(error),
        }
        let packets = meter.stats().packets;
        if let Some(block) = capture.next_packets() {
            meter.push_packets_with(block, &mut batcher, |meter, batcher| {
                batcher.step(meter.now(), &meter.stats());
            });
        }
        let packets = meter.stats().packets - packets;
        progress.set(0, meter.stats().packets);
        if packets == 0 {
            // The clock must not overtake packets that the kernel still keeps.
            meter.advance(Timestamp::now().minus(PATIENCE), &mut batcher);
            batcher.tick(meter.now());
        }
        match capture.take_drops() {
            Ok(drops) => batcher.lose("kernel", drops, "packets", meter.now(), &meter.stats()),
            Err(error) => break Some(error),
        }
        batcher.flush(&meter.stats());
    };
    if batcher.is_wanted() {
        finish(&mut meter, &mut batcher);
    }
    if let Some(error) = failed {
        batcher.fail(FlowError::Live(error));
    }
}

/// Ends all flows, and the stream.
fn finish(meter: &mut FlowMeter, batcher: &mut FlowBatcher) {
    meter.finish(batcher);
    batcher.end(meter.now(), &meter.stats());
}
