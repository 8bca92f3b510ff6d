//! Once the table has grown to the traffic, a packet costs no allocation.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use amoskys_collectors::capture::CaptureReader;
use amoskys_collectors::flow::{Columns, FlowConfig, FlowHandler, FlowMeter, RowFormat, RowWriter};
use amoskys_core::Timestamp;
use amoskys_core::event::FlowRecord;
use common::*;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is left to the system's allocator; only a counter is added.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of this very method.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The rows, and how many records told what a client said.
struct Rows(RowWriter<std::io::Sink>, usize);

impl FlowHandler for Rows {
    fn flow(&mut self, _: Timestamp, record: &FlowRecord) {
        self.0.write(record).unwrap();
        self.1 += usize::from(record.tls.is_some() || record.http.is_some());
    }
}

#[test]
fn metering_and_writing_rows_allocate_nothing_once_warm() {
    // Flows start, are updated, pause, end idle, are evicted; DNS, ICMP, ARP and TCP; client hellos in pieces and
    // requests; leaps of the clock.
    let mut frames = traffic(60, 300);
    frames.extend(openings(300));
    frames.sort_by_key(|frame| frame.nanos);
    for frame in &mut frames[9000..] {
        frame.nanos += 7200 * SECOND;
    }
    // Twice to warm up: what is open when the second round begins is open in all that follow.
    let rounds = (0..3).flat_map(|round| {
        frames.clone().into_iter().map(move |mut frame| {
            frame.nanos += round * 8000 * SECOND;
            frame
        })
    });
    let warm_up = 2 * frames.len();
    let file = pcapng(&rounds.collect::<Vec<_>>());
    let config = FlowConfig {
        max_flows: 100,
        idle_timeout: std::time::Duration::from_secs(2),
        entropy_bytes: 512,
        ..FlowConfig::default()
    };
    let mut meter = FlowMeter::new(config).unwrap();
    let mut rows = Rows(
        RowWriter::with_columns(std::io::sink(), RowFormat::Csv, Columns::All).unwrap(),
        0,
    );
    let mut reader = CaptureReader::new(file.as_slice()).unwrap();
    let mut packets = 0;
    let mut before = 0;
    while let Some(packet) = reader.next_packet().unwrap() {
        meter.push(&packet, &mut rows);
        packets += 1;
        if packets == warm_up {
            before = ALLOCATIONS.load(Ordering::Relaxed);
        }
    }
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    let stats = meter.stats();
    assert!(
        2 * packets == 3 * warm_up && stats.flows > 5000 && stats.evicted > 1000 && stats.dns > 1000,
        "{stats}"
    );
    assert!(rows.1 > 600, "{} clients were read", rows.1);
    assert!(before > 0, "allocations are counted");
    assert_eq!(allocations, 0, "in {} packets", packets - warm_up);
}
