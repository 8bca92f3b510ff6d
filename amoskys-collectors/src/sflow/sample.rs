//! What a flow sample says of the packet that was sampled.

use std::net::IpAddr;

use amoskys_core::event::{ArpRecord, FlowKey, MacAddr};
use flowparser_sflow::FlowRecord;
use flowparser_sflow::flow_records::raw_packet_header::RawPacketHeader;
use flowparser_sflow::samples::{ExpandedFlowSample, FlowSample};

use crate::capture::{LinkType, Packet};
use crate::packet::{Decoded, IpPacket, SkipReason, Transport, decode};

const TCP: u8 = 6;

/// A flow sample, in either of its two encodings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample<'a> {
    /// Class and index of what samples: 0 and its number for an interface.
    pub(super) source: (u32, u32),
    pub(super) rate: u32,
    pub(super) input: Interface,
    pub(super) output: Interface,
    pub(super) records: &'a [FlowRecord],
}

/// Where a packet came from, or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Interface {
    /// 0: the value is a number; 1: a reason for the packet's discard; 2: a count of interfaces.
    format: u32,
    value: u32,
}

impl Interface {
    /// 30 bits of ones, and 32, stand for no interface: the device itself.
    const NONE: [u32; 3] = [0, 0x3fff_ffff, u32::MAX];

    fn compact(bits: u32) -> Self {
        Self {
            format: bits >> 30,
            value: bits & 0x3fff_ffff,
        }
    }

    /// The agent's number of it, if it is a single one.
    pub(super) fn number(self) -> Option<u32> {
        (self.format == 0 && !Self::NONE.contains(&self.value)).then_some(self.value)
    }

    /// Why the agent discarded the packet, if it did.
    pub(super) fn discarded(self) -> Option<u32> {
        (self.format == 1).then_some(self.value)
    }
}

impl<'a> From<&'a FlowSample> for Sample<'a> {
    fn from(sample: &'a FlowSample) -> Self {
        Self {
            source: (sample.source_id_type, sample.source_id_index),
            rate: sample.sampling_rate,
            input: Interface::compact(sample.input),
            output: Interface::compact(sample.output),
            records: &sample.records,
        }
    }
}

impl<'a> From<&'a ExpandedFlowSample> for Sample<'a> {
    fn from(sample: &'a ExpandedFlowSample) -> Self {
        let interface = |format, value| Interface { format, value };
        Self {
            source: (sample.source_id_type, sample.source_id_index),
            rate: sample.sampling_rate,
            input: interface(sample.input_format, sample.input_value),
            output: interface(sample.output_format, sample.output_value),
            records: &sample.records,
        }
    }
}

/// What was sampled.
#[derive(Debug)]
pub(super) enum Sampled {
    Packet(SampledPacket),
    Arp(ArpRecord),
    Skipped(SkipReason),
    /// The sample says nothing of a packet.
    Nothing,
}

/// A packet, as far as a flow needs it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SampledPacket {
    pub(super) key: FlowKey,
    pub(super) vlans: [Option<u16>; 2],
    pub(super) macs: [Option<MacAddr>; 2],
    /// From the IP header on.
    pub(super) length: u32,
    /// 0 if it is not known.
    pub(super) frame_length: u32,
    pub(super) header_length: u32,
    /// `None` if the packet itself was not sent.
    pub(super) payload_length: Option<u32>,
    pub(super) fragment: bool,
    /// `None` if it is not known.
    pub(super) ttl: Option<u8>,
    pub(super) tcp_flags: Option<u8>,
    /// Version of IP, type and code.
    pub(super) icmp: Option<(u8, u8, u8)>,
}

impl Sample<'_> {
    /// The packet: from its first bytes, else from its fields.
    pub(super) fn packet(&self) -> Sampled {
        let raw = self.records.iter().find_map(|record| match record {
            FlowRecord::RawPacketHeader(raw) => Some(raw),
            _ => None,
        });
        if let Some(raw) = raw {
            return from_header(raw);
        }
        let fields = self.records.iter().find_map(|record| match record {
            FlowRecord::SampledIpv4(ip) => Some(from_fields(
                (ip.src_ip.into(), ip.dst_ip.into()),
                (ip.src_port, ip.dst_port),
                (ip.protocol, ip.length, ip.tcp_flags),
            )),
            FlowRecord::SampledIpv6(ip) => Some(from_fields(
                (ip.src_ip.into(), ip.dst_ip.into()),
                (ip.src_port, ip.dst_port),
                (ip.protocol, ip.length, ip.tcp_flags),
            )),
            _ => None,
        });
        fields.map_or(Sampled::Nothing, Sampled::Packet)
    }
}

fn from_header(raw: &RawPacketHeader) -> Sampled {
    let link = match raw.header_protocol {
        1 => LinkType::ETHERNET,
        7 => LinkType::PPP,
        11 => LinkType::IPV4,
        12 => LinkType::IPV6,
        _ => return Sampled::Skipped(SkipReason::UnknownLink),
    };
    // The length counts what was taken off: of Ethernet, the checksum at least.
    let frame_length = raw.frame_length.saturating_sub(raw.stripped);
    let packet = Packet {
        link,
        wire_len: frame_length,
        data: &raw.header,
        ..Packet::default()
    };
    match decode(&packet) {
        Decoded::Ip(ip) => Sampled::Packet(from_ip(&ip, frame_length)),
        Decoded::Arp(message) => Sampled::Arp(message),
        Decoded::Skipped(reason) => Sampled::Skipped(reason),
    }
}

fn from_ip(ip: &IpPacket<'_>, frame_length: u32) -> SampledPacket {
    let (source_port, destination_port) = ip.ports();
    SampledPacket {
        key: FlowKey {
            source: ip.source(),
            source_port,
            destination: ip.destination(),
            destination_port,
            protocol: ip.protocol,
        },
        vlans: [ip.link.vlans.outer(), ip.link.vlans.inner()],
        macs: [ip.link.source(), ip.link.destination()],
        length: ip.length,
        frame_length,
        header_length: ip.header_length,
        payload_length: Some(ip.payload_length),
        fragment: ip.fragment,
        ttl: Some(ip.ttl),
        tcp_flags: match &ip.transport {
            Transport::Tcp(header) => Some(header.flags),
            _ => None,
        },
        icmp: match ip.transport {
            Transport::Icmp { kind, code, .. } => Some((ip.version, kind, code)),
            _ => None,
        },
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a protocol and flags have 8 bits, a port has 16"
)]
fn from_fields(
    addresses: (IpAddr, IpAddr),
    ports: (u32, u32),
    (protocol, length, flags): (u32, u32, u32),
) -> SampledPacket {
    let protocol = protocol as u8;
    SampledPacket {
        key: FlowKey {
            source: addresses.0,
            source_port: ports.0 as u16,
            destination: addresses.1,
            destination_port: ports.1 as u16,
            protocol,
        },
        length,
        tcp_flags: (protocol == TCP).then_some(flags as u8),
        ..SampledPacket::default()
    }
}
