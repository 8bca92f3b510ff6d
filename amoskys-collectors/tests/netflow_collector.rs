//! The collector: captures and sockets, batches and positions, what the kernel drops.
#![cfg(feature = "netflow")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::net::UdpSocket;
use std::path::PathBuf;

use amoskys_collectors::netflow::{NetflowCollector, NetflowConfig, NetflowError};
use amoskys_core::event::{LossReport, Payload};
use amoskys_core::{Batch, Collector, DropReason, Name, Position, Shutdown, Tally};
use common::*;
use tempfile::TempDir;

/// A v5 datagram of so many flows.
fn v5(sequence: u32, flows: u8) -> Vec<u8> {
    let mut datagram = vec![0, 5, 0, flows, 0, 0, 0, 9];
    for number in [1_700_000_000, 0, sequence, 0] {
        datagram.extend(u32::to_be_bytes(number));
    }
    for flow in 0..flows {
        let mut record = [0; 48];
        record[3] = flow;
        record[19] = 1;
        record[23] = 40;
        record[38] = 17;
        datagram.extend(record);
    }
    datagram
}

/// A v9 datagram with a template, or with a flow whose template is to come.
fn v9(sequence: u32, with_template: bool) -> Vec<u8> {
    let mut datagram = vec![0, 9, 0, 1];
    for number in [1000, 1_700_000_000, sequence, 0] {
        datagram.extend(u32::to_be_bytes(number));
    }
    datagram.extend(if with_template {
        [0, 0, 0, 16, 1, 0, 0, 2, 0, 8, 0, 4, 0, 1, 0, 4].to_vec()
    } else {
        [1, 0, 0, 12, 10, 0, 0, 1, 0, 0, 0, 99].to_vec()
    });
    datagram
}

/// Exports of three exporters among other traffic, some of them lost and some before their template.
fn capture() -> (TempDir, PathBuf) {
    let mut frames = traffic(3, 40);
    let mut sequences = [0; 3];
    for second in 0..40 {
        for (exporter, sequence) in (1..4).zip(&mut sequences) {
            let at = second * SECOND + i64::from(exporter) * 1000;
            let datagram = if exporter == 3 {
                v9(*sequence, second == 21)
            } else {
                v5(*sequence, 30)
            };
            *sequence += if exporter == 3 { 1 } else { 30 };
            // Every seventh is lost on the way.
            if second % 7 != 6 {
                frames.push(udp(at, (exporter, 999), (9, 2055), &datagram));
            }
        }
    }
    frames.sort_by_key(|frame| frame.nanos);
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("exports.pcap");
    let mut file = pcap(&frames);
    file.extend([1, 2, 3]);
    std::fs::write(&path, file).unwrap();
    (dir, path)
}

fn from_file(path: &PathBuf) -> NetflowCollector {
    NetflowCollector::from_files([path], NetflowConfig::default()).unwrap()
}

async fn read(mut collector: NetflowCollector) -> Vec<Batch> {
    let mut batches = Vec::new();
    while let Some(batch) = collector.next_batch().await.unwrap() {
        batches.push(batch);
    }
    batches
}

fn tally(batches: &[Batch]) -> Tally {
    let mut tally = Tally::default();
    batches.iter().for_each(|batch| tally.add(&batch.tally));
    tally
}

fn losses(batches: &[Batch]) -> impl Iterator<Item = (&Name, &LossReport)> {
    batches
        .iter()
        .flat_map(|batch| &batch.events)
        .filter_map(|event| match &event.payload {
            Payload::Loss(loss) => Some((&event.device, &**loss)),
            _ => None,
        })
}

#[tokio::test]
async fn keeps_the_promises_of_a_collector() {
    let (_dir, path) = capture();
    amoskys_core::conformance::collector(|| from_file(&path)).await;
}

#[tokio::test]
async fn a_capture_gives_flows_and_says_what_was_lost() {
    let (_dir, path) = capture();
    let names = [([10, 0, 0, 1].into(), Name::from("core-router"))].into();
    let config = NetflowConfig {
        names,
        ..NetflowConfig::default()
    };
    let batches = read(NetflowCollector::from_files([&path], config).unwrap()).await;
    let tally = tally(&batches);
    // 35 of 40 arrive. Those of v9 are read though their template comes late, and itself is no record.
    let arrived: Vec<i64> = (0..40).filter(|second| second % 7 != 6).collect();
    assert!(arrived.len() == 35 && arrived.contains(&21));
    assert_eq!(tally.used, 2 * 35 * 30 + 34);
    assert_eq!(tally.dropped.get(&DropReason::MISSING), Some(&(2 * 5 * 30 + 5)));
    assert_eq!(
        tally.dropped.get(&DropReason::known("capture_truncated")),
        Some(&1)
    );
    let of_router: u64 = losses(&batches)
        .filter(|(device, loss)| device.as_str() == "core-router" && loss.unit == "flows")
        .map(|(_, loss)| loss.count)
        .sum();
    assert_eq!(of_router, 5 * 30);
    let devices: std::collections::BTreeSet<&str> = batches
        .iter()
        .flat_map(|batch| &batch.events)
        .filter(|event| matches!(event.payload, Payload::Flow(_)))
        .map(|event| event.device.as_str())
        .collect();
    assert_eq!(
        devices.into_iter().collect::<Vec<_>>(),
        ["10.0.0.2", "10.0.0.3", "core-router"]
    );
}

#[tokio::test]
async fn records_are_tallied_once_however_often_it_is_resumed() {
    let (_dir, path) = capture();
    let batches = read(from_file(&path)).await;
    let whole = tally(&batches);
    for at in 0..batches.len() {
        let mut resumed = from_file(&path);
        resumed
            .resume(batches[at].position.as_ref().unwrap())
            .await
            .unwrap();
        let mut sum = tally(&batches[..=at]);
        sum.add(&tally(&read(resumed).await));
        assert_eq!(sum, whole, "resumed after batch {at}");
    }
}

#[tokio::test]
async fn positions_of_other_settings_are_refused() {
    let (_dir, path) = capture();
    let batches = read(from_file(&path)).await;
    let position = batches[0].position.as_ref().unwrap();
    let config = NetflowConfig {
        attributes: false,
        ..NetflowConfig::default()
    };
    let mut other = NetflowCollector::from_files([&path], config).unwrap();
    assert!(matches!(
        other.resume(position).await,
        Err(NetflowError::OtherPosition)
    ));
    let garbage = Position(b"nonsense".to_vec().into());
    assert!(matches!(
        from_file(&path).resume(&garbage).await,
        Err(NetflowError::OtherPosition)
    ));
}

#[test]
fn what_cannot_be_read_or_listened_on_is_refused_at_once() {
    let missing = NetflowCollector::from_files(["/nowhere.pcap"], NetflowConfig::default());
    assert!(matches!(missing, Err(NetflowError::Open { .. })));
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let again = NetflowCollector::bind(taken.local_addr().unwrap(), NetflowConfig::default());
    assert!(matches!(again, Err(NetflowError::Bind { .. })));
    let wrong = NetflowConfig {
        max_domains: 0,
        ..NetflowConfig::default()
    };
    assert!(matches!(
        NetflowCollector::bind("127.0.0.1:0", wrong),
        Err(NetflowError::Config(_))
    ));
}

/// What does not fit the receive buffer is dropped by the kernel, and nothing of it goes uncounted.
#[tokio::test]
#[cfg(target_os = "linux")]
async fn what_the_kernel_drops_is_counted() {
    let config = NetflowConfig {
        receive_buffer_bytes: 32 << 10,
        ..NetflowConfig::default()
    };
    let stop = Shutdown::new();
    let mut collector = NetflowCollector::bind("127.0.0.1:0", config)
        .unwrap()
        .with_stop(stop.clone());
    let address = collector.local_addr().unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sent = 3000;
    let send = |from: u32, to: u32| {
        for number in from..to {
            sender.send_to(&v9(number, number == 0), address).unwrap();
        }
    };
    // Nothing is read before the first call, and nothing while the queue of batches is full.
    send(0, sent / 2);
    let mut batches = vec![collector.next_batch().await.unwrap().unwrap()];
    send(sent / 2, sent);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    send(sent, sent + 1);
    stop.trigger();
    batches.extend(read(collector).await);
    let tally = tally(&batches);
    let kernel = tally.dropped.get(&DropReason::KERNEL).copied().unwrap_or(0);
    // The first is a template, and all others hold one record.
    assert_eq!(tally.used + kernel, u64::from(sent), "{tally:?}");
    assert!(kernel > 0, "{tally:?}");
    // A gap shows with the next datagram, if one comes.
    let missing = tally.dropped.get(&DropReason::MISSING).copied().unwrap_or(0);
    assert!((1..=kernel).contains(&missing), "{tally:?}");
    let reported: u64 = losses(&batches)
        .filter(|(_, loss)| loss.reason == "kernel")
        .map(|(_, loss)| loss.count)
        .sum();
    assert_eq!(reported, kernel);
}

/// Flows of a quiet exporter do not wait for more of them; and what is in the socket at the end is not lost.
#[tokio::test]
async fn few_flows_come_soon_and_the_last_ones_too() {
    let stop = Shutdown::new();
    let collector = NetflowCollector::bind("127.0.0.1:0", NetflowConfig::default()).unwrap();
    let mut collector = collector.with_stop(stop.clone());
    let address = collector.local_addr().unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let trickle = std::thread::spawn(move || {
        for number in 0..40 {
            sender.send_to(&v5(number * 2, 2), address).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(30));
        }
        sender
    });
    let mut flows = 0;
    while flows < 2 {
        flows += collector.next_batch().await.unwrap().unwrap().tally.used;
    }
    assert!(!trickle.is_finished(), "they were kept back");
    let sender = trickle.join().unwrap();
    stop.trigger();
    for number in 40..60 {
        sender.send_to(&v5(number * 2, 2), address).unwrap();
    }
    let rest = tally(&read(collector).await);
    assert!((80..=120).contains(&(flows + rest.used)), "{rest:?}");
    assert!(rest.dropped.is_empty(), "{rest:?}");
}
