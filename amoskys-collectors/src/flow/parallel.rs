//! Meters one capture with several threads.

use std::io::Read;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use amoskys_core::Timestamp;

use super::meter::{FlowHandler, FlowMeter};
use super::share::Shares;
use super::{FlowConfig, FlowConfigError, MeterStats};
use crate::capture::{CaptureError, CaptureReader, LinkType, Packet};

/// Bytes of packets handed over at a time: few enough to stay in a cache that cores share.
const BLOCK_BYTES: usize = 256 << 10;
const BLOCK_PACKETS: usize = 2048;
/// Blocks that may wait for the slowest thread.
const QUEUE_BLOCKS: usize = 4;

/// Why metering with several threads failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParallelError {
    /// A setting is out of range.
    #[error("the flow meter's settings are wrong")]
    Config(#[from] FlowConfigError),
    /// The capture could not be read to its end. What was read before has been metered.
    #[error("the capture could not be read")]
    Capture(#[from] CaptureError),
}

/// Meters a capture with as many threads as there are handlers, and one that reads; gives the handlers back, and
/// what became of the packets.
///
/// Flows are divided among the threads by addresses and ports. Each thread's meter sees the times of all packets, so
/// the records are those that one [`FlowMeter`] gives, but for three things: they come in as many orders as there are
/// handlers; their numbers are in order, and unique, but not without gaps; and
/// [`max_flows`](FlowConfig::max_flows) is divided, so that where the table is full other flows are evicted. With
/// [`TunnelMode::Both`](super::TunnelMode::Both), a flow that comes in several tunnels may be in several records.
///
/// The same capture, settings and number of handlers give the same records to the same handlers.
///
/// # Errors
///
/// If a setting is out of range, or the capture cannot be read. In the latter case the handlers have got all records of
/// what was read, and are lost.
pub fn meter_in_parallel<R: Read, H: FlowHandler + Send>(
    capture: &mut CaptureReader<R>,
    config: &FlowConfig,
    handlers: Vec<H>,
) -> Result<(Vec<H>, MeterStats), ParallelError> {
    let count = handlers.len().max(1);
    let mut meters = Vec::with_capacity(handlers.len());
    let share = u32::try_from(count).unwrap_or(u32::MAX);
    let config = FlowConfig {
        max_flows: config.max_flows.div_ceil(share).max(16),
        ..config.clone()
    };
    for (number, handler) in handlers.into_iter().enumerate() {
        let mut meter = FlowMeter::new(config.clone())?;
        meter.number_flows(number as u64, count as u64);
        meters.push((meter, handler));
    }
    let shares = Shares::new(count, &config);
    std::thread::scope(|scope| {
        let mut queues = Vec::with_capacity(meters.len());
        let mut threads = Vec::with_capacity(meters.len());
        for (number, (meter, handler)) in meters.into_iter().enumerate() {
            let (queue, blocks) = sync_channel(QUEUE_BLOCKS);
            queues.push(queue);
            threads.push(scope.spawn(move || run(number, meter, handler, &blocks)));
        }
        let read = read(capture, &shares, &queues);
        drop(queues);
        let mut total = MeterStats::default();
        let mut done = Vec::with_capacity(threads.len());
        for thread in threads {
            match thread.join() {
                Ok((handler, stats)) => {
                    total.add(&stats);
                    done.push(handler);
                }
                // A handler's panic is the caller's.
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        read?;
        Ok((done, total))
    })
}

/// Packets with their bytes.
#[derive(Default)]
struct Block {
    heads: Vec<Head>,
    bytes: Vec<u8>,
}

struct Head {
    time: Timestamp,
    interface: u32,
    link: LinkType,
    stripped_vlan: Option<u16>,
    wire_len: u32,
    start: u32,
    end: u32,
    share: u16,
}

impl Block {
    fn push(&mut self, packet: &Packet<'_>, share: usize) {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(packet.data);
        self.heads.push(Head {
            time: packet.time,
            interface: packet.interface,
            link: packet.link,
            stripped_vlan: packet.stripped_vlan,
            wire_len: packet.wire_len,
            start,
            end: self.bytes.len() as u32,
            share: share as u16,
        });
    }

    fn is_full(&self) -> bool {
        self.heads.len() >= BLOCK_PACKETS || self.bytes.len() >= BLOCK_BYTES
    }
}

/// Reads all packets, and gives each block to all threads.
fn read<R: Read>(
    capture: &mut CaptureReader<R>,
    shares: &Shares,
    queues: &[SyncSender<Arc<Block>>],
) -> Result<(), CaptureError> {
    // Blocks come back when the last thread is done with them; then their memory is used again.
    let mut used: Vec<Arc<Block>> = Vec::new();
    let mut block = Block::default();
    let mut result = Ok(());
    loop {
        match capture.next_packet() {
            Ok(Some(packet)) => block.push(&packet, shares.of(&packet)),
            Ok(None) => break,
            Err(error) => {
                result = Err(error);
                break;
            }
        }
        if block.is_full() {
            send(block, queues, &mut used);
            block = recycled(&mut used);
        }
    }
    send(block, queues, &mut used);
    result
}

fn send(block: Block, queues: &[SyncSender<Arc<Block>>], used: &mut Vec<Arc<Block>>) {
    let block = Arc::new(block);
    for queue in queues {
        // A thread that is gone has panicked, which its join will tell.
        let _ = queue.send(Arc::clone(&block));
    }
    used.push(block);
}

fn recycled(used: &mut Vec<Arc<Block>>) -> Block {
    let mut block = match used.iter().position(|block| Arc::strong_count(block) == 1) {
        Some(free) => Arc::into_inner(used.swap_remove(free)).unwrap_or_default(),
        None => Block::default(),
    };
    block.heads.clear();
    block.bytes.clear();
    block
}

/// Meters the packets of one share, and lets the others pass.
fn run<H: FlowHandler>(
    number: usize,
    mut meter: FlowMeter,
    mut handler: H,
    blocks: &Receiver<Arc<Block>>,
) -> (H, MeterStats) {
    for block in blocks {
        for head in &block.heads {
            if usize::from(head.share) != number {
                meter.pass(head.time, &mut handler);
                continue;
            }
            let packet = Packet {
                time: head.time,
                interface: head.interface,
                link: head.link,
                stripped_vlan: head.stripped_vlan,
                wire_len: head.wire_len,
                data: block
                    .bytes
                    .get(head.start as usize..head.end as usize)
                    .unwrap_or_default(),
            };
            meter.push(&packet, &mut handler);
        }
    }
    meter.finish(&mut handler);
    (handler, meter.stats())
}
