//! Makes the public record of a flow.

use amoskys_core::Timestamp;
use amoskys_core::event::{DnsStats, FlowDirection, FlowPhase, FlowRecord, PacketSample};

use super::entry::{Entry, Side, elapsed};
use super::extra::Pauses;
use super::payloads::{About, Learned, tunnel_of};
use super::slab::NONE;
use super::table::Table;

const TCP: u8 = 6;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// A record that is filled again and again, so that nothing is allocated once it has grown.
#[derive(Default)]
pub(super) struct Snapshot {
    record: FlowRecord,
    /// The record's DNS part while it is not in use, with its buffer.
    spare_dns: DnsStats,
    /// The same for what was learned from payloads.
    learned: Learned,
    text: Vec<u8>,
}

impl Snapshot {
    /// The record of a flow as it is now.
    pub(super) fn take(&mut self, table: &Table, index: u32, phase: FlowPhase) -> &mut FlowRecord {
        let entry = &table.flows[index];
        let extra = table.extras.get(entry.extra);
        self.read_texts(table, entry);
        let record = &mut self.record;
        let [forward, backward] = &entry.sides;
        record.flow = entry.number;
        record.phase = phase;
        record.key = entry.key.public(entry.descending);
        record.first = Timestamp::from_nanos(entry.first);
        record.last = Timestamp::from_nanos(entry.last);
        record.interface = entry.interface;
        record.vlan = entry.vlans.outer();
        record.inner_vlan = entry.vlans.inner();
        [record.source_mac, record.destination_mac] = entry.macs;
        fill_direction(&mut record.forward, forward);
        fill_direction(&mut record.backward, backward);
        let histogram = table.histograms.get(entry.histogram);
        record.forward.entropy = histogram.and_then(|bytes| bytes.entropy(0));
        record.backward.entropy = histogram.and_then(|bytes| bytes.entropy(1));
        record.subflows = u64::from(entry.breaks) + 1;
        record.gaps = entry.gaps.summary(entry.packets().saturating_sub(1));
        let current = elapsed(entry.active_since, entry.last);
        (record.active, record.idle) = Pauses::summaries(extra.map(|extra| &extra.pauses), current);
        let protocol = entry.key.protocol();
        record.tcp = (protocol == TCP).then(|| entry.tcp.public(&forward.tcp, &backward.tcp));
        record.icmp = match extra {
            Some(extra) if matches!(protocol, ICMP | ICMPV6) => Some(extra.icmp.public()),
            _ => None,
        };
        let mut dns = record
            .dns
            .take()
            .unwrap_or_else(|| std::mem::take(&mut self.spare_dns));
        if extra.is_some_and(|extra| extra.dns.write(&mut dns)) {
            record.dns = Some(dns);
        } else {
            self.spare_dns = dns;
        }
        record.sequence.clear();
        record
            .sequence
            .extend((0..usize::from(entry.sampled)).map(|n| PacketSample {
                backward: entry.sample_directions >> n & 1 != 0,
                length: entry.sample_lengths[n],
                gap_us: entry.sample_gaps[n],
            }));
        record
    }

    /// Fills the parts of the record that are kept as texts.
    fn read_texts(&mut self, table: &Table, entry: &Entry) {
        let Self {
            record,
            learned,
            text,
            ..
        } = self;
        // Their buffers go back to where they are filled.
        if let Some(tls) = record.tls.take() {
            learned.tls = tls;
        }
        if let Some(http) = record.http.take() {
            learned.http = http;
        }
        record.tunnel = None;
        if entry.learned != NONE {
            text.clear();
            table.texts.read(entry.learned, text);
            match learned.read(text) {
                Some(About::Tls) => record.tls = Some(std::mem::take(&mut learned.tls)),
                Some(About::Http) => record.http = Some(std::mem::take(&mut learned.http)),
                None => {}
            }
        }
        if entry.tunnel != NONE {
            text.clear();
            table.texts.read(entry.tunnel, text);
            record.tunnel = tunnel_of(text);
        }
    }
}

fn fill_direction(direction: &mut FlowDirection, side: &Side) {
    direction.packets = u64::from(side.packets);
    direction.data_packets = u64::from(side.data_packets);
    direction.fragments = u64::from(side.fragments);
    direction.frame_bytes = side.frame_bytes;
    direction.header_bytes = side.lengths.sum().saturating_sub(side.payload.sum());
    direction.lengths = side.lengths.summary(side.packets);
    direction.payload = side.payload.summary(side.packets);
    direction.gaps = side.gaps.summary(side.packets.saturating_sub(1));
    direction.ttl_min = if side.packets == 0 { 0 } else { side.ttl_min };
    direction.ttl_max = side.ttl_max;
    let seen = side.packets > 0;
    direction.first = seen.then_some(Timestamp::from_nanos(side.first));
    direction.last = seen.then_some(Timestamp::from_nanos(side.last));
    direction.header_min = if seen { u32::from(side.header_min) } else { 0 };
    direction.bulk = side.bulk.public();
    direction.first_bytes.clear();
    direction
        .first_bytes
        .extend_from_slice(&side.first_bytes[..usize::from(side.first_len)]);
}
