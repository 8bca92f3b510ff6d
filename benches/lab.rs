//! The laboratory's capture as inputs: its packets, and its events as a sensor records them.
#![allow(dead_code, reason = "each bench uses its part")]

use std::path::PathBuf;
use std::sync::Arc;

use amoskys_collectors::capture::{CaptureReader, Packet};
use amoskys_collectors::flow::FlowCollector;
use amoskys_core::{Class, Collector, Epoch, Payload, Recorded, Seq, StreamId};

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/data/lab.pcap")
}

/// The bytes of the capture file.
pub(crate) fn file() -> Vec<u8> {
    std::fs::read(path()).expect("the capture")
}

/// Packets in memory.
pub(crate) struct Packets(Vec<(Packet<'static>, Vec<u8>)>);

impl Packets {
    pub(crate) fn of_lab() -> Self {
        let file = file();
        let mut reader = CaptureReader::new(file.as_slice()).expect("a capture");
        let mut packets = Vec::new();
        while let Some(packet) = reader.next_packet().expect("a readable capture") {
            let Packet {
                time,
                interface,
                link,
                stripped_vlan,
                wire_len,
                data,
            } = packet;
            let header = Packet {
                time,
                interface,
                link,
                stripped_vlan,
                wire_len,
                data: &[],
            };
            packets.push((header, data.to_vec()));
        }
        Self(packets)
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.len() as u64
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Packet<'_>> {
        self.0.iter().map(|(header, data)| Packet {
            data: data.as_slice(),
            ..*header
        })
    }
}

/// All events of the capture: flows, DNS, ARP, and the clock.
pub(crate) fn events() -> Vec<Recorded> {
    let stream = Arc::new(StreamId {
        agent: "bench".into(),
        epoch: Epoch::default(),
        class: Class::Telemetry,
    });
    let mut collector = FlowCollector::from_files([path()]).expect("the capture");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let mut events = Vec::new();
    runtime.block_on(async {
        while let Some(batch) = collector.next_batch().await.expect("a readable capture") {
            for event in batch.events {
                events.push(Recorded {
                    stream: stream.clone(),
                    seq: Seq(events.len() as u64),
                    timeline: 0,
                    event,
                });
            }
        }
    });
    events
}

/// The flow records among them.
pub(crate) fn flow_events() -> Vec<Recorded> {
    let mut events = events();
    events.retain(|recorded| matches!(recorded.event.payload, Payload::Flow(_)));
    events
}
