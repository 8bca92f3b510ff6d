//! Reads the payloads of flows that are metered elsewhere, as a [`FlowMeter`](super::FlowMeter) reads those of its own.

use std::collections::BTreeMap;

use amoskys_core::event::FlowRecord;

use super::config::FlowConfig;
use super::payloads::{About, Learned, NOTHING_READ, Payloads};
use super::prepared::Sought;
use super::slab::NONE;
use super::table::Table;
use crate::capture::Packet;
use crate::packet::{IpPacket, decode_into};

/// What is known from payloads of flows that have numbers. Memory is bounded by
/// [`FlowConfig::max_flows`]: of more flows than these, what is known of the oldest is forgotten.
pub(crate) struct Excerpts {
    flows: BTreeMap<u64, Known>,
    max_flows: usize,
    read_payloads: bool,
    entropy_bytes: u16,
    /// Those that are still read.
    table: Table,
    payloads: Payloads,
    learned: Learned,
    text: Vec<u8>,
}

/// What is known of a flow.
enum Known {
    /// In this place of the table.
    Open(u32),
    /// All that there is to read has been read, and this was found; perhaps nothing.
    Done(Box<[u8]>),
}

/// A packet of a flow that is metered elsewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Excerpt<'a> {
    /// Number of the flow.
    pub(crate) flow: u64,
    /// Which side of it sends, 0 or 1.
    pub(crate) from: u8,
    /// Sequence number of the SYN with which this side opened the connection, if that was seen.
    pub(crate) syn_seq: Option<u32>,
    pub(crate) packet: Packet<'a>,
}

impl Excerpts {
    pub(crate) fn new(config: &FlowConfig) -> Self {
        Self {
            flows: BTreeMap::new(),
            max_flows: config.max_flows as usize,
            read_payloads: config.read_payloads,
            entropy_bytes: config.entropy_bytes,
            table: Table::new(),
            payloads: Payloads::new(),
            learned: Learned::default(),
            text: Vec::new(),
        }
    }

    /// Reads a packet's payload. Those of a flow come in their order, from its first one on.
    pub(crate) fn look(&mut self, excerpt: &Excerpt<'_>) {
        let mut ip = IpPacket::NONE;
        if decode_into(&excerpt.packet, &mut ip) != Ok(None) || ip.payload.is_empty() {
            return;
        }
        let Some(index) = self.place(excerpt, &ip) else {
            return;
        };
        let from = usize::from(excerpt.from & 1);
        if let Some(seq) = excerpt.syn_seq {
            self.table.flows[index].tcp.opened_by(excerpt.from & 1, seq);
        }
        if self.read_payloads && Payloads::wants(&self.table.flows[index], from) {
            self.payloads.look(&mut self.table, index, &ip, excerpt.from & 1);
        }
        let Table {
            flows, histograms, ..
        } = &mut self.table;
        let flow = &mut flows[index];
        if self.entropy_bytes > 0
            && flow.counted & 1 << from == 0
            && !histograms.add(&mut flow.histogram, from, ip.payload, self.entropy_bytes)
        {
            flow.counted |= 1 << from;
        }
        let is_done = flow.read == BOTH_READ || !self.read_payloads;
        if is_done && self.entropy_bytes == 0 {
            self.close(excerpt.flow, index);
        }
    }

    /// Adds to a record what is known of its flow; forgets it if the flow `ends`.
    pub(crate) fn join(&mut self, record: &mut FlowRecord, ends: bool) {
        let number = record.flow;
        self.text.clear();
        match self.flows.get(&number) {
            None => return,
            Some(Known::Done(text)) => self.text.extend_from_slice(text),
            Some(Known::Open(index)) => {
                let flow = &self.table.flows[*index];
                if flow.learned != NONE {
                    self.table.texts.read(flow.learned, &mut self.text);
                }
                let histogram = self.table.histograms.get(flow.histogram);
                record.forward.entropy = histogram.and_then(|bytes| bytes.entropy(0));
                record.backward.entropy = histogram.and_then(|bytes| bytes.entropy(1));
            }
        }
        match self.learned.read(&self.text) {
            Some(About::Tls) => record.tls = Some(std::mem::take(&mut self.learned.tls)),
            Some(About::Http) => record.http = Some(std::mem::take(&mut self.learned.http)),
            None => {}
        }
        if ends {
            self.forget(number);
        }
    }

    /// Where the flow is read; `None` if it has been read to its end.
    fn place(&mut self, excerpt: &Excerpt<'_>, ip: &IpPacket<'_>) -> Option<u32> {
        match self.flows.get(&excerpt.flow) {
            Some(Known::Done(_)) => return None,
            Some(Known::Open(index)) => return Some(*index),
            None => {}
        }
        // There are more only if the last records of flows were lost.
        if self.flows.len() >= self.max_flows
            && let Some((oldest, _)) = self.flows.first_key_value()
        {
            let oldest = *oldest;
            self.forget(oldest);
        }
        let Sought {
            key,
            descending,
            hash,
        } = Sought::of(ip, &self.table);
        let index = self.table.insert(hash, key, descending, 0);
        let flow = &mut self.table.flows[index];
        // So that the place is in use.
        flow.sides[0].packets = 1;
        debug_assert_eq!(flow.read, NOTHING_READ);
        self.flows.insert(excerpt.flow, Known::Open(index));
        Some(index)
    }

    /// Keeps what was found, and gives the place back.
    fn close(&mut self, number: u64, index: u32) {
        self.text.clear();
        let learned = self.table.flows[index].learned;
        if learned != NONE {
            self.table.texts.read(learned, &mut self.text);
        }
        self.table.remove(index);
        self.flows
            .insert(number, Known::Done(self.text.as_slice().into()));
    }

    fn forget(&mut self, number: u64) {
        if let Some(Known::Open(index)) = self.flows.remove(&number) {
            self.table.remove(index);
        }
    }
}

/// Both directions have been read, or cannot be.
const BOTH_READ: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::LinkType;

    /// A TCP segment from 10.0.0.1:1000 to 10.0.0.2:80, as a raw IP packet.
    fn segment(seq: u32, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(40 + payload.len()).unwrap().to_be_bytes();
        let mut bytes = vec![0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, 6, 0, 0];
        bytes.extend([10, 0, 0, 1, 10, 0, 0, 2, 3, 232, 0, 80]);
        bytes.extend(seq.to_be_bytes());
        bytes.extend([0, 0, 0, 0, 0x50, 24, 1, 0, 0, 0, 0, 0]);
        bytes.extend(payload);
        bytes
    }

    fn look(excerpts: &mut Excerpts, flow: u64, from: u8, bytes: &[u8]) {
        excerpts.look(&Excerpt {
            flow,
            from,
            syn_seq: (from == 0).then_some(99),
            packet: Packet {
                link: LinkType::RAW,
                wire_len: u32::try_from(bytes.len()).unwrap(),
                data: bytes,
                ..Packet::default()
            },
        });
    }

    /// What is known of a flow, at its end or before.
    fn known(excerpts: &mut Excerpts, flow: u64, ends: bool) -> FlowRecord {
        let mut record = FlowRecord {
            flow,
            ..FlowRecord::default()
        };
        excerpts.join(&mut record, ends);
        record
    }

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n";

    #[test]
    fn a_request_in_two_segments_out_of_order_is_read_until_the_flow_ends() {
        let mut excerpts = Excerpts::new(&FlowConfig::default());
        let (first, second) = REQUEST.split_at(20);
        look(&mut excerpts, 7, 0, &segment(120, second));
        assert_eq!(known(&mut excerpts, 7, false).http, None);
        look(&mut excerpts, 7, 0, &segment(100, first));
        for ends in [false, true] {
            let http = known(&mut excerpts, 7, ends).http.unwrap();
            assert_eq!((http.method.as_str(), http.host.as_str()), ("GET", "example.org"));
        }
        assert_eq!(known(&mut excerpts, 7, false).http, None);
        assert!(excerpts.flows.is_empty() && excerpts.table.flows.len() == 0);
        // What is no packet is left alone.
        look(&mut excerpts, 8, 0, &[0x45, 0, 0]);
        assert!(excerpts.flows.is_empty());
    }

    #[test]
    fn each_direction_has_its_entropy() {
        let config = FlowConfig {
            entropy_bytes: 8,
            ..FlowConfig::default()
        };
        let mut excerpts = Excerpts::new(&config);
        look(&mut excerpts, 1, 0, &segment(100, b"aabb"));
        look(&mut excerpts, 1, 1, &segment(900, b"aaaa"));
        look(&mut excerpts, 1, 0, &segment(104, b"ccddeeee"));
        let record = known(&mut excerpts, 1, true);
        assert_eq!(
            (record.forward.entropy, record.backward.entropy),
            (Some(2.0), Some(0.0))
        );
        assert_eq!(excerpts.table.flows.len(), 0);
    }

    #[test]
    fn of_too_many_flows_the_oldest_are_forgotten() {
        let config = FlowConfig {
            max_flows: 16,
            ..FlowConfig::default()
        };
        let mut excerpts = Excerpts::new(&config);
        for flow in 0..40 {
            // Of every other one the rest does not come.
            let length = REQUEST.len() - usize::from(flow % 2 == 0);
            look(&mut excerpts, flow, 0, &segment(100, &REQUEST[..length]));
        }
        assert_eq!(excerpts.flows.len(), 16);
        assert_eq!(known(&mut excerpts, 23, false).http, None);
        assert!(known(&mut excerpts, 25, false).http.is_some());
        assert_eq!(excerpts.table.flows.len(), 8);
    }
}
