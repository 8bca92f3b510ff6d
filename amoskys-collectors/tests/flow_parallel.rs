//! A capture gives the same records however it is metered: by the packet, by the block, and by several threads.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use amoskys_collectors::capture::{CaptureReader, PacketBlock};
use amoskys_collectors::flow::{
    FlowConfig, FlowHandler, FlowMeter, ParallelError, TunnelMode, meter_in_parallel,
};
use amoskys_core::Timestamp;
use amoskys_core::event::FlowRecord;
use common::*;

/// Keeps the records of ends, without what several meters number and order in their own way.
#[derive(Default)]
struct Unordered(Vec<String>);

impl FlowHandler for Unordered {
    fn flow(&mut self, time: Timestamp, record: &FlowRecord) {
        let record = FlowRecord {
            flow: 0,
            ..record.clone()
        };
        self.0.push(format!("{time:?} {record:?}"));
    }
}

/// The records of all ways to meter a capture are those of packets pushed one by one.
fn all_ways_agree(file: &[u8], config: &FlowConfig) -> usize {
    let mut one = Unordered::default();
    let mut meter = FlowMeter::new(config.clone()).unwrap();
    let mut reader = CaptureReader::new(file).unwrap();
    while let Some(packet) = reader.next_packet().unwrap() {
        meter.push(&packet, &mut one);
    }
    meter.finish(&mut one);
    let mut blocks = Unordered::default();
    let mut by_block = FlowMeter::new(config.clone()).unwrap();
    let mut reader = CaptureReader::new(file).unwrap();
    let mut block = PacketBlock::default();
    while reader.next_block(&mut block).unwrap() {
        by_block.push_block(&block, &mut blocks);
    }
    by_block.finish(&mut blocks);
    assert_eq!(by_block.stats(), meter.stats());
    assert_eq!(blocks.0, one.0, "the order is the same, too");
    one.0.sort();
    for threads in 1..4 {
        let handlers = (0..threads).map(|_| Unordered::default()).collect();
        let mut reader = CaptureReader::new(file).unwrap();
        let (handlers, stats) = meter_in_parallel(&mut reader, config, handlers).unwrap();
        assert_eq!(stats, meter.stats());
        let least = one.0.len() / threads / 3;
        assert!(handlers.iter().all(|handler: &Unordered| handler.0.len() > least));
        let mut several: Vec<String> = handlers.into_iter().flat_map(|handler| handler.0).collect();
        several.sort();
        assert_eq!(several.len(), one.0.len());
        for (several, one) in several.iter().zip(&one.0) {
            assert_eq!(several, one, "{threads} threads, {config:?}");
        }
    }
    one.0.len()
}

/// Disorder, damaged times and leaps included.
#[test]
fn several_threads_give_the_records_of_one() {
    let mut frames = traffic(40, 90);
    frames.extend(openings(90));
    frames.sort_by_key(|frame| frame.nanos);
    for (n, frame) in frames.iter_mut().enumerate() {
        frame.nanos += if n > 2000 { 5 * 3600 * SECOND } else { 0 };
        frame.nanos += if n % 700 == 699 { 20 * 3600 * SECOND } else { 0 };
        frame.nanos -= if n % 50 == 49 { SECOND / 2 } else { 0 };
        frame.nanos = frame.nanos.max(0);
    }
    let config = FlowConfig {
        idle_timeout: Duration::from_secs(15),
        ..FlowConfig::default()
    };
    let damaged = all_ways_agree(&pcapng(&frames), &config);
    // In order, and many blocks long, with nothing to see in most of them.
    let mut calm = traffic(40, 200);
    calm.extend(openings(200));
    calm.sort_by_key(|frame| frame.nanos);
    assert!(pcap(&calm).len() > 1 << 20);
    assert!(all_ways_agree(&pcap(&calm), &config) > damaged);
    // The last packet of the file is one whose time lies far ahead, and so is one in the middle.
    let last = calm.len() - 1;
    calm[last].nanos += 9000 * SECOND;
    calm[last / 2].nanos += 9000 * SECOND;
    all_ways_agree(&pcap(&calm), &config);
}

/// What a packet carries goes to the meter that has its flow, wherever the outer packet is metered; and a fragment to that of
/// its first.
#[test]
fn several_threads_give_the_records_of_one_in_tunnels_and_of_fragments() {
    let mut frames = Vec::new();
    for (n, mut frame) in traffic(40, 90).into_iter().enumerate() {
        // Every other IPv4 packet travels in one of several tunnels, whichever.
        if n % 2 == 0 && frame.bytes.get(12..14) == Some(&[8, 0]) {
            let ends = (n % 7) as u8;
            frame = ipv4(frame.nanos, 200 + ends, 210 + ends, 4, &frame.bytes[14..]);
        }
        let at = frame.nanos;
        frames.push(frame);
        if n % 5 == 0 {
            let version = if n % 10 == 0 { 4 } else { 6 };
            for mut fragment in fragments(version, (n / 5 % 250) as u8) {
                fragment.nanos = at;
                frames.push(fragment);
            }
        }
    }
    for tunnels in [TunnelMode::Outer, TunnelMode::Inner, TunnelMode::Both] {
        for follow_fragments in [false, true] {
            let config = FlowConfig {
                tunnels,
                follow_fragments,
                idle_timeout: Duration::from_secs(15),
                ..FlowConfig::default()
            };
            assert!(all_ways_agree(&pcap(&frames), &config) > 100);
        }
    }
}

/// A file that cannot be read on: what was read before is metered.
#[test]
fn threads_say_that_a_file_could_not_be_read() {
    struct Broken(std::io::Cursor<Vec<u8>>);
    impl std::io::Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(std::io::Error::other("unplugged")),
                read => Ok(read),
            }
        }
    }
    let file = pcap(&traffic(40, 90));
    for threads in 1..3 {
        let mut reader = CaptureReader::new(Broken(std::io::Cursor::new(file.clone()))).unwrap();
        let handlers: Vec<Unordered> = (0..threads).map(|_| Unordered::default()).collect();
        let error = meter_in_parallel(&mut reader, &FlowConfig::default(), handlers)
            .err()
            .unwrap();
        assert!(matches!(error, ParallelError::Capture(_)), "{error}");
    }
}

/// Nobody to meter for: nothing is read, nothing waits.
#[test]
fn no_threads_meter_nothing() {
    let file = pcap(&traffic(4, 9));
    let mut reader = CaptureReader::new(file.as_slice()).unwrap();
    let (handlers, stats) =
        meter_in_parallel::<_, Unordered>(&mut reader, &FlowConfig::default(), Vec::new()).unwrap();
    assert!(handlers.is_empty());
    assert_eq!(stats.packets, 0);
}

/// A handler's panic reaches the caller, and no thread waits for ever for the one that is gone.
#[test]
fn a_handler_that_panics_stops_all_threads() {
    struct Panics(bool);
    impl FlowHandler for Panics {
        fn flow(&mut self, _: Timestamp, _: &FlowRecord) {
            assert!(!self.0, "as it should");
        }
    }
    let mut frames = traffic(40, 200);
    frames.sort_by_key(|frame| frame.nanos);
    let file = pcap(&frames);
    for one in 0..2 {
        let file = file.clone();
        let result = std::panic::catch_unwind(move || {
            let mut reader = CaptureReader::new(file.as_slice()).unwrap();
            let handlers = (0..2).map(|n| Panics(n == one)).collect();
            meter_in_parallel(&mut reader, &FlowConfig::default(), handlers).map(|_| ())
        });
        assert!(result.is_err());
    }
}
