//! The collector over capture files: batches, positions, progress, what is lost.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::Write;
use std::path::PathBuf;

use amoskys_collectors::flow::{FlowCollector, FlowConfig, FlowError};
use amoskys_core::event::{FlowPhase, Payload};
use amoskys_core::{Batch, Collector, DropReason, Position, Shutdown};
use common::*;
use tempfile::TempDir;

struct Files {
    _dir: TempDir,
    paths: Vec<PathBuf>,
}

fn files(contents: &[Vec<u8>]) -> Files {
    let dir = TempDir::new().unwrap();
    let write = |(n, content): (usize, &Vec<u8>)| {
        let path = dir.path().join(format!("{n}.pcap"));
        std::fs::File::create(&path).unwrap().write_all(content).unwrap();
        path
    };
    let paths = contents.iter().enumerate().map(write).collect();
    Files { _dir: dir, paths }
}

fn two_captures() -> Files {
    let mut later = traffic(25, 60);
    for frame in &mut later {
        frame.nanos += 100 * SECOND;
    }
    files(&[pcap(&traffic(25, 60)), pcap(&later)])
}

async fn read(mut collector: FlowCollector) -> Vec<Batch> {
    let mut batches = Vec::new();
    while let Some(batch) = collector.next_batch().await.unwrap() {
        batches.push(batch);
    }
    batches
}

#[tokio::test]
async fn keeps_the_promises_of_a_collector() {
    let files = two_captures();
    amoskys_core::conformance::collector(|| FlowCollector::from_files(&files.paths).unwrap()).await;
}

#[tokio::test]
async fn a_leap_that_ends_all_flows_can_be_resumed_too() {
    let mut frames: Vec<Frame> = (0..5000_u16)
        .map(|n| udp(i64::from(n), (1, n), (2, 2), b"x"))
        .collect();
    frames.extend((0..3000_u16).map(|n| udp(1000 * SECOND + i64::from(n), (1, n), (2, 2), b"x")));
    let files = files(&[pcap(&frames)]);
    amoskys_core::conformance::collector(|| FlowCollector::from_files(&files.paths).unwrap()).await;
    let tallied: u64 = read(FlowCollector::from_files(&files.paths).unwrap())
        .await
        .iter()
        .map(|batch| batch.tally.seen())
        .sum();
    assert_eq!(tallied, 8000);
}

#[tokio::test]
async fn packets_are_tallied_once_however_often_it_is_resumed() {
    let mut broken = pcap(&traffic(25, 60));
    broken.extend([1, 2, 3]);
    let files = files(&[broken, pcap(&traffic(5, 30))]);
    let batches = read(FlowCollector::from_files(&files.paths).unwrap()).await;
    let whole: u64 = batches.iter().map(|batch| batch.tally.seen()).sum();
    let frames = traffic(25, 60).len() + traffic(5, 30).len();
    assert_eq!(
        whole,
        frames as u64 + 1,
        "all packets, and the one that was cut off"
    );
    let mut tally = amoskys_core::Tally::default();
    for (n, batch) in batches.iter().enumerate() {
        tally.add(&batch.tally);
        let mut resumed = FlowCollector::from_files(&files.paths).unwrap();
        resumed.resume(batch.position.as_ref().unwrap()).await.unwrap();
        let mut sum = tally.clone();
        for batch in read(resumed).await {
            sum.add(&batch.tally);
        }
        assert_eq!(sum.seen(), whole, "resumed after batch {n}");
        assert_eq!(sum.dropped.get(&DropReason::known("capture_truncated")), Some(&1));
    }
}

#[tokio::test]
async fn the_stream_says_what_was_lost_and_that_it_ended() {
    let mut broken = pcap(&traffic(3, 20));
    broken.truncate(broken.len() - 1);
    let files = files(&[broken]);
    let collector = FlowCollector::from_files(&files.paths)
        .unwrap()
        .with_device("sensor")
        .with_source("tap");
    let progress = collector.progress();
    let events: Vec<_> = read(collector)
        .await
        .into_iter()
        .flat_map(|batch| batch.events)
        .collect();
    assert_eq!(progress.bytes_read(), progress.bytes_total());
    assert_eq!(progress.packets(), traffic(3, 20).len() as u64 - 1);
    assert!(
        events
            .iter()
            .all(|event| event.device.as_str() == "sensor" && event.source.as_str() == "tap")
    );
    let losses: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.payload {
            Payload::Loss(loss) => Some((loss.reason.as_str(), loss.count)),
            _ => None,
        })
        .collect();
    assert_eq!(losses, [("capture_truncated", 1)]);
    assert!(matches!(&events.last().unwrap().payload, Payload::Punctuation(last) if last.end));
}

#[tokio::test]
async fn no_event_is_earlier_than_a_punctuation_allows() {
    let mut frames = traffic(10, 60);
    // Disorder of up to half a minute, far more than the lateness.
    let count = frames.len();
    for n in 0..count / 50 {
        frames[n * 50].nanos = (frames[n * 50].nanos - 30 * SECOND).max(0);
    }
    let files = files(&[pcap(&frames)]);
    let batches = read(FlowCollector::from_files(&files.paths).unwrap()).await;
    let (mut bound, mut clock, mut punctuations) = (i64::MIN, i64::MIN, 0);
    for event in batches.iter().flat_map(|batch| &batch.events) {
        assert!(event.time.nanos() >= bound, "event {} is late", event.id);
        if let Payload::Punctuation(punctuation) = &event.payload {
            assert!(event.time.nanos() >= clock);
            clock = event.time.nanos();
            bound = clock - i64::try_from(punctuation.lateness_ns).unwrap();
            punctuations += 1;
        }
    }
    assert!(
        (55..=62).contains(&punctuations),
        "{punctuations} punctuations in a minute"
    );
}

#[tokio::test]
async fn flows_of_a_scan_are_reported_at_once_and_at_the_end() {
    let frames: Vec<Frame> = (0..300_u16)
        .map(|port| {
            let mut frame = tcp(i64::from(port) * 1_000_000, true, SYN, 1, b"");
            frame.bytes[36..38].copy_from_slice(&port.to_be_bytes());
            frame
        })
        .collect();
    let files = files(&[pcap(&frames)]);
    let events = read(FlowCollector::from_files(&files.paths).unwrap()).await;
    let phases = |wanted: fn(FlowPhase) -> bool| {
        let flows = events.iter().flat_map(|batch| &batch.events);
        flows
            .filter(|event| matches!(&event.payload, Payload::Flow(record) if wanted(record.phase)))
            .count()
    };
    assert_eq!(phases(|phase| phase == FlowPhase::Start), 300);
    assert_eq!(phases(|phase| matches!(phase, FlowPhase::End(_))), 300);
}

#[tokio::test]
async fn stopping_leaves_files_to_be_resumed() {
    let files = two_captures();
    let whole: Vec<_> = read(FlowCollector::from_files(&files.paths).unwrap()).await;
    let ids = |batches: &[Batch]| {
        batches
            .iter()
            .flat_map(|batch| &batch.events)
            .map(|event| event.id)
            .collect::<Vec<_>>()
    };
    let stop = Shutdown::new();
    stop.trigger();
    let first = read(FlowCollector::from_files(&files.paths).unwrap().with_stop(stop)).await;
    assert!(ids(&first).len() < ids(&whole).len());
    let mut rest = FlowCollector::from_files(&files.paths).unwrap();
    rest.resume(first.last().unwrap().position.as_ref().unwrap())
        .await
        .unwrap();
    let mut all = ids(&first);
    all.extend(ids(&read(rest).await));
    assert_eq!(all, ids(&whole));
}

#[tokio::test]
async fn positions_of_other_files_or_settings_are_refused() {
    let files = two_captures();
    let batches = read(FlowCollector::from_files(&files.paths).unwrap()).await;
    let position = batches[0].position.clone().unwrap();
    let mut fewer = FlowCollector::from_files(&files.paths[..1]).unwrap();
    assert!(matches!(
        fewer.resume(&position).await,
        Err(FlowError::OtherPosition)
    ));
    let config = FlowConfig {
        max_flows: 100,
        ..FlowConfig::default()
    };
    let mut other = FlowCollector::from_files(&files.paths)
        .unwrap()
        .with_config(config)
        .unwrap();
    assert!(matches!(
        other.resume(&position).await,
        Err(FlowError::OtherPosition)
    ));
    let mut garbage = FlowCollector::from_files(&files.paths).unwrap();
    assert!(garbage.resume(&Position(vec![1; 25].into())).await.is_err());
}

#[test]
fn what_is_no_capture_is_refused_at_once() {
    let files = files(&[b"#!/bin/sh\n".to_vec(), Vec::new()]);
    for path in &files.paths {
        let error = FlowCollector::from_files([path]).unwrap_err();
        assert!(matches!(error, FlowError::Capture { .. }), "{error:?}");
    }
    let missing = FlowCollector::from_files([files.paths[0].with_extension("missing")]).unwrap_err();
    assert!(matches!(missing, FlowError::Open { .. }));
}

#[tokio::test]
async fn an_empty_capture_ends_at_once() {
    let files = files(&[pcap(&[])]);
    assert_eq!(read(FlowCollector::from_files(&files.paths).unwrap()).await, []);
}
