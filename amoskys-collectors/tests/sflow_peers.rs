//! A real agent, over UDP: pmacct's sfprobe samples the laboratory's capture. Looking at all packets it must come to
//! what our own meter counts; sampling, about to it. A peer that is not installed is skipped, unless
//! `AMOSKYS_REQUIRE_PEERS=1`.
#![cfg(feature = "sflow")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use amoskys_collectors::flow::{FlowCollector, FlowConfig};
use amoskys_collectors::sflow::{SflowCollector, SflowConfig};
use amoskys_core::event::{FlowKey, FlowRecord, Metric, Payload};
use amoskys_core::{Collector, Shutdown, Tally};

/// The capture; `None` outside the repository, because a packaged crate does not contain it.
fn lab() -> Option<PathBuf> {
    let lab = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/data/lab.pcap");
    if lab.exists() {
        return Some(lab);
    }
    eprintln!("skipped: there is no examples/data/lab.pcap beside this crate");
    None
}

/// pmacct's agent, found on the path or where the system keeps daemons.
fn pmacctd() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = folders
        .map(|folder: PathBuf| folder.join("pmacctd"))
        .find(|path| path.exists());
    if found.is_none() {
        assert_ne!(
            std::env::var("AMOSKYS_REQUIRE_PEERS").as_deref(),
            Ok("1"),
            "pmacctd is missing"
        );
        eprintln!("skipped: pmacctd is missing");
    }
    found
}

/// Packets, bytes and TCP packets with SYN of one direction between two endpoints.
type Sums = BTreeMap<FlowKey, (u64, u64, u64)>;

fn add(sums: &mut Sums, flow: &FlowRecord) {
    let tcp = flow.tcp.as_ref();
    let directions = [
        (flow.key, &flow.forward, tcp.map(|tcp| tcp.forward.flags.syn)),
        (
            flow.key.reversed(),
            &flow.backward,
            tcp.map(|tcp| tcp.backward.flags.syn),
        ),
    ];
    for (key, direction, syn) in directions {
        if direction.packets > 0 {
            let sum = sums.entry(key).or_default();
            sum.0 += direction.packets;
            sum.1 += direction.bytes();
            sum.2 += syn.unwrap_or(0);
        }
    }
}

async fn metered(lab: &Path) -> Sums {
    let config = FlowConfig {
        never_expire: true,
        start_records: false,
        update_interval: None,
        ..FlowConfig::default()
    };
    let mut collector = FlowCollector::from_files([lab])
        .unwrap()
        .with_config(config)
        .unwrap();
    let mut sums = Sums::new();
    while let Some(batch) = collector.next_batch().await.unwrap() {
        for event in batch.events {
            if let Payload::Flow(flow) = event.payload {
                add(&mut sums, &flow);
            }
        }
    }
    sums
}

/// What the agent sends of the capture, one packet in `rate`.
async fn sampled(pmacctd: &Path, lab: &Path, rate: u32) -> (Vec<FlowRecord>, Vec<Metric>, Tally) {
    let stop = Shutdown::new();
    let mut collector = SflowCollector::bind("127.0.0.1:0", SflowConfig::default())
        .unwrap()
        .with_stop(stop.clone());
    let port = collector.local_addr().unwrap().port();
    let reader = tokio::spawn(async move {
        let (mut flows, mut metrics, mut tally) = (Vec::new(), Vec::new(), Tally::default());
        while let Some(batch) = collector.next_batch().await.unwrap() {
            tally.add(&batch.tally);
            for event in batch.events {
                match event.payload {
                    Payload::Flow(flow) => {
                        assert_eq!(event.device.as_str(), "192.0.2.7");
                        flows.push(*flow);
                    }
                    Payload::Metric(metric) => metrics.push(*metric),
                    _ => {}
                }
            }
        }
        (flows, metrics, tally)
    });
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("pmacctd.conf");
    let sampling = if rate > 1 {
        format!("sampling_rate: {rate}\n")
    } else {
        String::new()
    };
    let settings = format!(
        "daemonize: false\npcap_savefile: {}\nplugins: sfprobe\nsfprobe_receiver: 127.0.0.1:{port}\n\
         sfprobe_agentip: 192.0.2.7\nplugin_pipe_size: 33554432\nplugin_buffer_size: 65536\nsnaplen: 192\n{sampling}",
        lab.display()
    );
    std::fs::write(&config, settings).unwrap();
    let mut child = Command::new(pmacctd)
        .arg("-f")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "the agent does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What it sent is in the socket by now.
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.trigger();
    reader.await.unwrap()
}

#[tokio::test]
async fn an_agent_that_looks_at_all_counts_what_our_meter_counts() {
    let (Some(lab), Some(pmacctd)) = (lab(), pmacctd()) else {
        return;
    };
    let (flows, metrics, tally) = sampled(&pmacctd, &lab, 1).await;
    let mut theirs = Sums::new();
    flows.iter().for_each(|flow| add(&mut theirs, flow));
    assert!(tally.dropped.is_empty(), "{tally:?}");
    let sent: u64 = theirs.values().map(|sum| sum.0).sum();
    // Now and then the agent sends the counters of its interface too: several metrics a sample.
    let counters = tally.used - sent;
    assert_eq!(counters == 0, metrics.is_empty(), "{counters} and {metrics:?}");
    assert!(counters <= metrics.len() as u64);
    // What waits for a datagram to be full is not sent when the agent ends.
    let all: u64 = metered(&lab).await.values().map(|sum| sum.0).sum();
    assert!(all - sent < 16, "{sent} of {all}");
    let dir = tempfile::tempdir().unwrap();
    let beginning = dir.path().join("beginning.pcap");
    std::fs::write(&beginning, first_packets(&lab, sent)).unwrap();
    let ours = metered(&beginning).await;
    assert!(ours.len() > 100);
    for (key, sum) in &ours {
        assert_eq!(theirs.get(key), Some(sum), "{key}");
    }
    assert_eq!(theirs.len(), ours.len());
}

/// The capture up to so many IP packets in Ethernet. Its numbers are in the order of Intel's processors.
fn first_packets(lab: &Path, count: u64) -> Vec<u8> {
    let mut bytes = std::fs::read(lab).unwrap();
    assert_eq!(bytes[..4], [0xd4, 0xc3, 0xb2, 0xa1]);
    let (mut at, mut seen) = (24, 0);
    while seen < count {
        let length = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
        seen += u64::from(matches!(bytes[at + 28..at + 30], [8, 0] | [0x86, 0xdd]));
        at += 16 + length;
    }
    bytes.truncate(at);
    bytes
}

#[tokio::test]
async fn what_a_sampling_agent_sends_scales_to_about_what_there_was() {
    let (Some(lab), Some(pmacctd)) = (lab(), pmacctd()) else {
        return;
    };
    let (flows, ..) = sampled(&pmacctd, &lab, 10).await;
    assert!(flows.iter().all(|flow| flow.sampling_rate == 10));
    let estimate: u64 = flows.iter().map(|flow| flow.scaled(flow.packets())).sum();
    let truth: u64 = metered(&lab).await.values().map(|sum| sum.0).sum();
    // About 1400 samples: the deviation is below 3 %.
    let apart = estimate.abs_diff(truth) as f64 / truth as f64;
    assert!(apart < 0.2, "{estimate} of {truth}");
}
