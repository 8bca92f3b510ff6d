//! Samples of one datagram, put together by flow.

use std::collections::{BTreeMap, HashMap};

use amoskys_core::event::{
    FlowDirection, FlowEnd, FlowKey, FlowPhase, FlowRecord, IcmpStats, Summary, TcpFlagCounts, TcpStats,
    Value,
};
use flowparser_sflow::{AddressType, FlowRecord as Record};

use super::SflowExport;
use super::sample::{Interface, Sample, SampledPacket};
use crate::netflow::assemble::state;
use crate::packet::tcp_flags::RST;

const TCP: u8 = 6;

/// The packets of one flow that were sampled in one datagram.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SampledFlow {
    /// What was counted, not scaled; see the [module](super) for each field.
    pub record: FlowRecord,
    /// What has no place in the record, by name. Empty if the configuration does not want it.
    pub attributes: BTreeMap<String, Value>,
}

/// What samples of one flow have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Group {
    key: FlowKey,
    rate: u32,
    source: (u32, u32),
    input: Interface,
    output: Interface,
}

#[derive(Debug)]
struct Open {
    flow: SampledFlow,
    flags: u8,
}

/// Flows in the order of their first samples.
#[derive(Debug)]
pub(super) struct Flows<'a> {
    export: &'a SflowExport,
    attributes: bool,
    places: HashMap<Group, usize>,
    open: Vec<Open>,
}

impl<'a> Flows<'a> {
    pub(super) fn new(export: &'a SflowExport, attributes: bool) -> Self {
        Self {
            export,
            attributes,
            places: HashMap::new(),
            open: Vec::new(),
        }
    }

    pub(super) fn export(&self) -> &'a SflowExport {
        self.export
    }

    /// Counts a packet.
    pub(super) fn add(&mut self, sample: &Sample<'_>, packet: &SampledPacket) {
        let group = Group {
            key: packet.key,
            rate: sample.rate,
            source: sample.source,
            input: sample.input,
            output: sample.output,
        };
        let place = *self.places.entry(group).or_insert(self.open.len());
        if place == self.open.len() {
            let attributes = if self.attributes {
                attributes(self.export, sample)
            } else {
                BTreeMap::new()
            };
            let record = begin(self.export, sample, packet);
            let flow = SampledFlow { record, attributes };
            self.open.push(Open { flow, flags: 0 });
        }
        let open = &mut self.open[place];
        open.flags |= packet.tcp_flags.unwrap_or(0);
        count(&mut open.flow.record, packet);
    }

    /// All of them.
    pub(super) fn finish(self) -> impl Iterator<Item = SampledFlow> {
        let wanted = self.attributes;
        self.open.into_iter().map(move |Open { mut flow, flags }| {
            let record = &mut flow.record;
            let end = if flags & RST == 0 {
                FlowEnd::Active
            } else {
                FlowEnd::Reset
            };
            record.phase = FlowPhase::End(end);
            if let Some(tcp) = &mut record.tcp {
                tcp.state = state([flags, 0]);
            }
            if wanted && record.sampling_rate > 1 {
                let mut scaled = |name: &str, value| flow.attributes.insert(name.to_owned(), value);
                scaled("sampling_interval", Value::Float(record.sampling_rate.into()));
                scaled(
                    "scaled_packets",
                    Value::Uint(record.scaled(record.forward.packets)),
                );
                scaled(
                    "scaled_octets",
                    Value::Uint(record.scaled(record.forward.bytes())),
                );
            }
            flow
        })
    }
}

fn begin(export: &SflowExport, sample: &Sample<'_>, packet: &SampledPacket) -> FlowRecord {
    FlowRecord {
        key: packet.key,
        first: export.received,
        last: export.received,
        interface: sample.input.number().unwrap_or(0),
        vlan: packet.vlans[0],
        inner_vlan: packet.vlans[1],
        source_mac: packet.macs[0],
        destination_mac: packet.macs[1],
        tcp: (packet.key.protocol == TCP).then(TcpStats::default),
        sampling_rate: sample.rate,
        ..FlowRecord::default()
    }
}

fn count(record: &mut FlowRecord, packet: &SampledPacket) {
    let forward: &mut FlowDirection = &mut record.forward;
    forward.packets += 1;
    forward.fragments += u64::from(packet.fragment);
    forward.frame_bytes += u64::from(packet.frame_length);
    forward.lengths = forward.lengths.with(&one(packet.length));
    if let Some(payload) = packet.payload_length {
        forward.data_packets += u64::from(payload > 0);
        forward.header_bytes += u64::from(packet.header_length);
        forward.header_min = match forward.header_min {
            0 => packet.header_length,
            least => least.min(packet.header_length),
        };
        forward.payload = forward.payload.with(&one(payload));
    }
    if let Some(ttl) = packet.ttl {
        let is_first = forward.packets == 1;
        forward.ttl_min = if is_first { ttl } else { forward.ttl_min.min(ttl) };
        forward.ttl_max = forward.ttl_max.max(ttl);
    }
    if let (Some(tcp), Some(flags)) = (&mut record.tcp, packet.tcp_flags) {
        count_flags(&mut tcp.forward.flags, flags);
    }
    if let Some((version, kind, code)) = packet.icmp {
        let icmp = record.icmp.get_or_insert_with(|| IcmpStats {
            first_type: kind,
            first_code: code,
            ..IcmpStats::default()
        });
        *match (version, kind) {
            (4, 8) | (6, 128) => &mut icmp.echo_requests,
            (4, 0) | (6, 129) => &mut icmp.echo_replies,
            (4, 3) | (6, 1) => &mut icmp.unreachable,
            (4, 11) | (6, 3) => &mut icmp.time_exceeded,
            (4, 5) | (6, 137) => &mut icmp.redirects,
            _ => &mut icmp.other,
        } += 1;
    }
}

fn one(number: u32) -> Summary {
    let number = u64::from(number);
    Summary {
        count: 1,
        sum: number,
        min: number,
        max: number,
        std_dev: 0.0,
    }
}

fn count_flags(counts: &mut TcpFlagCounts, flags: u8) {
    let counters = [
        &mut counts.fin,
        &mut counts.syn,
        &mut counts.rst,
        &mut counts.psh,
        &mut counts.ack,
        &mut counts.urg,
        &mut counts.ece,
        &mut counts.cwr,
    ];
    for (bit, counter) in counters.into_iter().enumerate() {
        *counter += u64::from(flags >> bit & 1);
    }
}

/// What the sample says beside the packet, of the first one of a flow.
fn attributes(export: &SflowExport, sample: &Sample<'_>) -> BTreeMap<String, Value> {
    let mut attributes = BTreeMap::new();
    let mut insert = |name: &str, value| _ = attributes.insert(name.to_owned(), value);
    let number = |number: u32| Value::Uint(number.into());
    insert("sflow_sub_agent", number(export.sub_agent));
    let (class, index) = sample.source;
    insert("sflow_source", Value::Text(format!("{class}:{index}")));
    if let Some(interface) = sample.output.number() {
        insert("egressInterface", number(interface));
    }
    if let Some(code) = sample.output.discarded() {
        insert("discardCode", number(code));
    }
    for record in sample.records {
        match record {
            Record::ExtendedSwitch(switch) => {
                insert("vlanId", number(switch.src_vlan));
                insert("postVlanId", number(switch.dst_vlan));
            }
            Record::ExtendedRouter(router) => match &router.next_hop {
                AddressType::IPv4(hop) => insert("ipNextHopIPv4Address", Value::Text(hop.to_string())),
                AddressType::IPv6(hop) => insert("ipNextHopIPv6Address", Value::Text(hop.to_string())),
            },
            _ => {}
        }
    }
    attributes
}
