//! From bytes to headers: link layer, IP, transport. Pure functions over bytes that may be anything.
//!
//! [`decode`] finds the *outermost* IP header: it looks through what carries packets across a link (VLAN tags,
//! MPLS, PPPoE, cooked captures and so on), but not into tunnels over IP.

mod arp;
pub mod dns;
pub mod http;
mod ip;
mod link;
mod plain;
#[cfg(feature = "quic")]
pub mod quic;
mod tcp;
pub mod tls;
pub(crate) mod tunnel;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use amoskys_core::event::{ArpRecord, MacAddr};

pub use self::tcp::TcpHeader;
pub(crate) use self::tcp::flags as tcp_flags;
use crate::capture::Packet;

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decoded<'a> {
    /// An IP packet: it belongs to a flow.
    Ip(IpPacket<'a>),
    /// An ARP message.
    Arp(ArpRecord),
    /// Nothing to meter.
    Skipped(SkipReason),
}

/// Why a packet is not metered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum SkipReason {
    /// It carries neither IP nor ARP.
    NonIp,
    /// The capture has a link type that is not known here.
    UnknownLink,
    /// It ends, or was cut, before the end of the IP header.
    Truncated,
    /// The IP header contradicts itself.
    BadIpHeader,
}

impl SkipReason {
    /// All reasons.
    pub const ALL: [Self; 4] = [Self::NonIp, Self::UnknownLink, Self::Truncated, Self::BadIpHeader];

    /// The name used in ledgers and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NonIp => "non_ip",
            Self::UnknownLink => "unknown_link",
            Self::Truncated => "malformed_truncated",
            Self::BadIpHeader => "malformed_ip",
        }
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The headers of an IP packet, as far as flows need them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IpPacket<'a> {
    /// Addresses as numbers; those of version 4 in the low 32 bits.
    pub(crate) source: u128,
    pub(crate) destination: u128,
    /// Source and destination port; zeros where there are none.
    pub(crate) ports: [u16; 2],
    /// 4 or 6.
    pub(crate) version: u8,
    /// Protocol after the extension headers.
    pub(crate) protocol: u8,
    /// Time to live, or hop limit.
    pub(crate) ttl: u8,
    /// It is a fragment, the first or a later one.
    pub(crate) fragment: bool,
    /// It is a later one, without transport header.
    pub(crate) later_fragment: bool,
    /// What it shares with the other fragments of its packet; 0 if it is none.
    pub(crate) fragment_id: u32,
    /// Length from the IP header on, as the header states it.
    pub(crate) length: u32,
    /// Length of IP and transport headers.
    pub(crate) header_length: u32,
    /// Length after the transport header, as the headers state it.
    pub(crate) payload_length: u32,
    /// What was captured after the transport header.
    pub(crate) payload: &'a [u8],
    pub(crate) transport: Transport,
    pub(crate) link: Link<'a>,
}

impl IpPacket<'_> {
    /// A place for a packet.
    pub(crate) const NONE: Self = Self {
        source: 0,
        destination: 0,
        ports: [0, 0],
        version: 0,
        protocol: 0,
        ttl: 0,
        fragment: false,
        later_fragment: false,
        fragment_id: 0,
        length: 0,
        header_length: 0,
        payload_length: 0,
        payload: &[],
        transport: Transport::Other,
        link: Link {
            source: None,
            destination: None,
            vlans: Vlans::UNTAGGED,
        },
    };

    /// The sender's address.
    #[must_use]
    pub fn source(&self) -> IpAddr {
        address(self.version, self.source)
    }

    /// The receiver's address.
    #[must_use]
    pub fn destination(&self) -> IpAddr {
        address(self.version, self.destination)
    }

    /// Source and destination port; 0 for protocols without ports and for non-first fragments.
    #[must_use]
    pub fn ports(&self) -> (u16, u16) {
        (self.ports[0], self.ports[1])
    }

    /// Whether it is a TCP SYN without ACK.
    pub(crate) fn opens_connection(&self) -> bool {
        matches!(&self.transport, Transport::Tcp(header)
            if header.flags & (tcp_flags::SYN | tcp_flags::ACK) == tcp_flags::SYN)
    }

    /// IANA protocol number, after IPv6 extension headers.
    #[must_use]
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// Whether it is a fragment, the first or a later one.
    #[must_use]
    pub fn is_fragment(&self) -> bool {
        self.fragment
    }

    /// Length in bytes from the IP header on, as the header states it.
    #[must_use]
    pub fn length(&self) -> u32 {
        self.length
    }

    /// The captured bytes after the transport header.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.payload
    }
}

/// An address from its number.
#[expect(
    clippy::cast_possible_truncation,
    reason = "addresses of version 4 are in the low 32 bits"
)]
pub(crate) fn address(version: u8, bits: u128) -> IpAddr {
    if version == 4 {
        IpAddr::V4(Ipv4Addr::from_bits(bits as u32))
    } else {
        IpAddr::V6(Ipv6Addr::from_bits(bits))
    }
}

/// What is known of the transport header beyond ports.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Transport {
    /// A whole TCP header.
    Tcp(TcpHeader),
    /// ICMP or ICMPv6: the first eight bytes, zeros where they were not captured.
    Icmp {
        kind: u8,
        code: u8,
        /// Identifier and sequence number of an echo.
        echo: u32,
    },
    Udp,
    Other,
}

/// What the link layer says about a packet. Addresses are only pointed at: most packets belong to a flow that
/// knows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link<'a> {
    source: Option<&'a [u8; 6]>,
    destination: Option<&'a [u8; 6]>,
    pub(crate) vlans: Vlans,
}

impl Link<'_> {
    pub(crate) fn source(&self) -> Option<MacAddr> {
        self.source.copied().map(MacAddr)
    }

    pub(crate) fn destination(&self) -> Option<MacAddr> {
        self.destination.copied().map(MacAddr)
    }
}

/// The two outermost VLAN ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vlans {
    outer: u16,
    inner: u16,
}

impl Vlans {
    /// No VLAN id: real ones have 12 bits.
    const NONE: u16 = u16::MAX;

    pub(crate) const UNTAGGED: Self = Self {
        outer: Self::NONE,
        inner: Self::NONE,
    };

    pub(crate) fn outer(self) -> Option<u16> {
        (self.outer != Self::NONE).then_some(self.outer)
    }

    pub(crate) fn inner(self) -> Option<u16> {
        (self.inner != Self::NONE).then_some(self.inner)
    }

    /// Puts an id before those there are.
    fn push_outer(&mut self, id: u16) {
        (self.inner, self.outer) = (self.outer, id & 0x0fff);
    }

    fn push(&mut self, tag: u16) {
        let id = tag & 0x0fff;
        if self.outer == Self::NONE {
            self.outer = id;
        } else if self.inner == Self::NONE {
            self.inner = id;
        }
    }
}

impl Default for Vlans {
    fn default() -> Self {
        Self::UNTAGGED
    }
}

/// Finds the outermost IP header of a packet and what follows it, or the ARP message it is.
#[inline]
#[must_use]
pub fn decode<'a>(packet: &Packet<'a>) -> Decoded<'a> {
    let mut ip = IpPacket::NONE;
    match decode_into(packet, &mut ip) {
        Ok(None) => Decoded::Ip(ip),
        Ok(Some(record)) => Decoded::Arp(record),
        Err(reason) => Decoded::Skipped(reason),
    }
}

/// The same, into the place of an IP packet, unless it is an ARP message: what is known of a packet is too much to be
/// handed from function to function without cost.
#[inline]
pub(crate) fn decode_into<'a>(
    packet: &Packet<'a>,
    ip: &mut IpPacket<'a>,
) -> Result<Option<ArpRecord>, SkipReason> {
    if plain::decode(packet, ip) {
        return Ok(None);
    }
    decode_generally(packet, ip)
}

fn decode_generally<'a>(packet: &Packet<'a>, ip: &mut IpPacket<'a>) -> Result<Option<ArpRecord>, SkipReason> {
    let network = link::decode(packet.link, packet.data, &mut ip.link)?;
    if let Some(id) = packet.stripped_vlan {
        ip.link.vlans.push_outer(id);
    }
    match network {
        link::Network::Ip(bytes, version) => {
            // Bytes on the wire from here on, should the header not say.
            let before = (packet.data.len() - bytes.len()) as u64;
            let rest = u64::from(packet.wire_len).saturating_sub(before);
            ip::decode(bytes, version, u32::try_from(rest).unwrap_or(u32::MAX), ip)?;
            Ok(None)
        }
        link::Network::Arp(bytes) => arp::decode(bytes, ip.link).map(Some),
    }
}

/// A byte of a name that others chose, fit to be shown.
fn printable(byte: u8) -> u8 {
    if matches!(byte, b' '..=b'~') { byte } else { b'?' }
}

#[inline]
fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[inline]
fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
