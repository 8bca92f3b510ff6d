//! Packets inside of packets: finds the innermost IP header behind those of tunnels.

use amoskys_core::event::TunnelKind;

use super::{IpPacket, Transport, be16, be32, ip, link};

/// Tunnels within tunnels: more than these are not looked into.
const MAX_DEPTH: usize = 8;

const VXLAN_PORTS: [u16; 2] = [4789, 8472];
const GENEVE_PORT: u16 = 6081;
const GTP_U_PORT: u16 = 2152;
const TEREDO_PORT: u16 = 3544;

/// Transparent Ethernet bridging, as an EtherType.
const BRIDGED: u16 = 0x6558;

/// The tunnel that carries a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tunnel {
    pub(crate) kind: TunnelKind,
    pub(crate) id: Option<u32>,
    /// Of the packet that carries the other one.
    pub(crate) version: u8,
    pub(crate) source: u128,
    pub(crate) destination: u128,
}

/// What a tunnel's header says about what follows.
enum Content {
    /// An IP header.
    Ip,
    Ethernet,
    EtherType(u16),
}

/// The innermost packet, and the tunnel that carries it. `None` if there is no tunnel, or what it carries is not IP.
pub(crate) fn innermost<'a>(outer: &IpPacket<'a>) -> Option<(IpPacket<'a>, Tunnel)> {
    let mut found = inner(outer)?;
    for _ in 1..MAX_DEPTH {
        match inner(&found.0) {
            Some(deeper) => found = deeper,
            None => break,
        }
    }
    Some(found)
}

/// The packet that a packet carries.
#[inline]
fn inner<'a>(ip: &IpPacket<'a>) -> Option<(IpPacket<'a>, Tunnel)> {
    let tunnelled = match ip.protocol {
        4 | 41 | 47 => true,
        17 => ip.ports.iter().any(|port| is_tunnel(*port)),
        _ => false,
    };
    if tunnelled && !ip.later_fragment {
        unwrap(ip)
    } else {
        None
    }
}

fn is_tunnel(port: u16) -> bool {
    matches!(port, GENEVE_PORT | GTP_U_PORT | TEREDO_PORT) || VXLAN_PORTS.contains(&port)
}

#[cold]
fn unwrap<'a>(outer: &IpPacket<'a>) -> Option<(IpPacket<'a>, Tunnel)> {
    let bytes = outer.payload;
    let (kind, id, content, start) = match outer.transport {
        Transport::Other => match outer.protocol {
            47 => gre(bytes)?,
            _ => (TunnelKind::IpInIp, None, Content::Ip, 0),
        },
        Transport::Udp => udp(outer.ports, bytes)?,
        _ => return None,
    };
    let carried = bytes.get(start..)?;
    let network = match content {
        Content::Ip => link::Network::Ip(carried, None),
        Content::Ethernet => link::carried_ethernet(carried)?,
        Content::EtherType(kind) => link::carried(kind, carried)?,
    };
    let link::Network::Ip(packet, version) = network else {
        return None;
    };
    let before = bytes.len() - packet.len();
    let rest = outer.payload_length.saturating_sub(u32::try_from(before).ok()?);
    let mut inner = IpPacket {
        link: outer.link,
        ..IpPacket::NONE
    };
    ip::decode(packet, version, rest, &mut inner).ok()?;
    let tunnel = Tunnel {
        kind,
        id,
        version: outer.version,
        source: outer.source,
        destination: outer.destination,
    };
    Some((inner, tunnel))
}

type Header = (TunnelKind, Option<u32>, Content, usize);

/// RFC 2784 and RFC 2890; version 1 is that of PPTP (RFC 2637).
fn gre(bytes: &[u8]) -> Option<Header> {
    let flags = be16(bytes, 0)?;
    let mut at = 4;
    let mut optional = |present: bool| {
        let here = at;
        at += if present { 4 } else { 0 };
        present.then_some(here)
    };
    let id = match flags & 7 {
        0 => {
            // Checksum, and an offset that comes with it or with a route, which nobody sends.
            if flags & 0x4000 != 0 {
                return None;
            }
            optional(flags & 0x8000 != 0);
            let key = optional(flags & 0x2000 != 0);
            optional(flags & 0x1000 != 0);
            key.and_then(|at| be32(bytes, at))
        }
        1 => {
            let call = optional(true).and_then(|at| be16(bytes, at + 2));
            optional(flags & 0x1000 != 0);
            optional(flags & 0x0080 != 0);
            call.map(u32::from)
        }
        _ => return None,
    };
    let content = match be16(bytes, 2)? {
        BRIDGED => Content::Ethernet,
        // ERSPAN: without a sequence number it has no header; type II has one of 8 bytes.
        0x88be => {
            at += if flags & 0x1000 != 0 { 8 } else { 0 };
            Content::Ethernet
        }
        kind => Content::EtherType(kind),
    };
    Some((TunnelKind::Gre, id, content, at))
}

fn udp(ports: [u16; 2], bytes: &[u8]) -> Option<Header> {
    let is = |port: u16| ports.contains(&port);
    if VXLAN_PORTS.iter().any(|port| is(*port)) {
        // A valid identifier.
        let valid = bytes.first()? & 0x08 != 0;
        return valid.then_some((
            TunnelKind::Vxlan,
            Some(be32(bytes, 4)? >> 8),
            Content::Ethernet,
            8,
        ));
    }
    if is(GENEVE_PORT) {
        let &[first, ..] = bytes else { return None };
        let content = match be16(bytes, 2)? {
            BRIDGED => Content::Ethernet,
            kind => Content::EtherType(kind),
        };
        let start = 8 + usize::from(first & 0x3f) * 4;
        return (first >> 6 == 0).then_some((TunnelKind::Geneve, Some(be32(bytes, 4)? >> 8), content, start));
    }
    if is(GTP_U_PORT) {
        return Some((
            TunnelKind::GtpU,
            Some(be32(bytes, 4)?),
            Content::Ip,
            gtp_u(bytes)?,
        ));
    }
    Some((TunnelKind::Teredo, None, Content::Ip, teredo(bytes)?))
}

/// Where the packet in a G-PDU begins (3GPP TS 29.281 section 5).
fn gtp_u(bytes: &[u8]) -> Option<usize> {
    let &[flags, kind, ..] = bytes else { return None };
    // Version 1, GTP rather than GTP', a G-PDU.
    if flags >> 4 != 3 || kind != 255 {
        return None;
    }
    if flags & 7 == 0 {
        return Some(8);
    }
    let mut at = 12;
    let mut next = if flags & 4 != 0 { *bytes.get(11)? } else { 0 };
    // Extension headers: each a length in units of four bytes, and the type of the next at its end.
    for _ in 0..8 {
        if next == 0 {
            return Some(at);
        }
        let length = usize::from(*bytes.get(at)?) * 4;
        if length == 0 {
            return None;
        }
        at += length;
        next = *bytes.get(at - 1)?;
    }
    None
}

/// Where the packet begins behind authentication and origin (RFC 4380 section 5.1.1).
fn teredo(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    if let Some([0, 1, id, authentication]) = bytes.first_chunk() {
        at = 4 + usize::from(*id) + usize::from(*authentication) + 9;
    }
    if be16(bytes, at)? == 0 {
        at += 8;
    }
    (bytes.get(at)? >> 4 == 6).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{LinkType, Packet};
    use crate::packet::{Decoded, decode};

    fn ipv4(from: u8, to: u8, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
        let mut bytes = vec![0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, protocol, 0, 0];
        bytes.extend([10, 0, 0, from, 10, 0, 0, to]);
        bytes.extend(payload);
        bytes
    }

    fn udp_of(port: u16, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(8 + payload.len()).unwrap();
        let fields = [4000, port, length, 0];
        let mut bytes: Vec<u8> = fields
            .iter()
            .flat_map(|field: &u16| field.to_be_bytes())
            .collect();
        bytes.extend(payload);
        bytes
    }

    /// Source host of the innermost packet, kind and number of its tunnel.
    fn found(packet: &[u8]) -> Option<(u8, TunnelKind, Option<u32>)> {
        let packet = Packet {
            link: LinkType::RAW,
            wire_len: u32::try_from(packet.len()).unwrap(),
            data: packet,
            ..Packet::default()
        };
        let Decoded::Ip(outer) = decode(&packet) else {
            panic!("no packet")
        };
        let (inner, tunnel) = innermost(&outer)?;
        assert!(inner.payload.len() <= outer.payload.len());
        Some(((inner.source & 0xff) as u8, tunnel.kind, tunnel.id))
    }

    fn in_ethernet(packet: &[u8]) -> Vec<u8> {
        [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0][..], packet].concat()
    }

    #[test]
    fn every_kind_of_tunnel_is_opened() {
        let inner = ipv4(7, 8, 17, &udp_of(9, b"hello"));
        let with = |head: &[u8], rest: &[u8]| [head, rest].concat();
        let frame = in_ethernet(&inner);
        let cases = [
            (ipv4(1, 2, 4, &inner), TunnelKind::IpInIp, None),
            (
                ipv4(1, 2, 47, &with(&[0, 0, 8, 0], &inner)),
                TunnelKind::Gre,
                None,
            ),
            (
                ipv4(
                    1,
                    2,
                    47,
                    &with(&[0xb0, 0, 0x65, 0x58, 1, 2, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1], &frame),
                ),
                TunnelKind::Gre,
                Some(5),
            ),
            (
                ipv4(
                    1,
                    2,
                    47,
                    &with(
                        &[
                            0x30, 0x81, 0x88, 0x0b, 0, 9, 0, 6, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0x21,
                        ],
                        &inner,
                    ),
                ),
                TunnelKind::Gre,
                Some(6),
            ),
            (
                ipv4(1, 2, 17, &udp_of(4789, &with(&[8, 0, 0, 0, 0, 1, 2, 0], &frame))),
                TunnelKind::Vxlan,
                Some(0x102),
            ),
            (
                ipv4(
                    1,
                    2,
                    17,
                    &udp_of(6081, &with(&[1, 0, 0x65, 0x58, 0, 0, 3, 0, 9, 9, 9, 9], &frame)),
                ),
                TunnelKind::Geneve,
                Some(3),
            ),
            (
                ipv4(
                    1,
                    2,
                    17,
                    &udp_of(
                        2152,
                        &with(&[0x34, 255, 0, 9, 0, 0, 0, 4, 0, 0, 0, 0x85, 1, 0, 0, 0], &inner),
                    ),
                ),
                TunnelKind::GtpU,
                Some(4),
            ),
        ];
        for (packet, kind, id) in cases {
            assert_eq!(found(&packet), Some((7, kind, id)));
            // Cut anywhere, it is a shorter packet or none.
            for cut in 20..packet.len() {
                found(&packet[..cut]);
            }
        }
        // One in another: the innermost counts.
        let two = ipv4(3, 4, 4, &ipv4(1, 2, 4, &inner));
        assert_eq!(found(&two), Some((7, TunnelKind::IpInIp, None)));
    }

    #[test]
    fn teredo_has_two_headers_that_may_be_missing() {
        let mut inner = vec![0x60, 0, 0, 0, 0, 0, 59, 64];
        inner.extend([0; 31]);
        inner.extend([0; 1]);
        inner[23] = 5;
        for head in [
            &[][..],
            &[0; 8],
            &[0, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0],
            &[0, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 1, 2, 3, 4, 5, 6],
        ] {
            let packet = ipv4(1, 2, 17, &udp_of(3544, &[head, &inner].concat()));
            assert_eq!(found(&packet), Some((5, TunnelKind::Teredo, None)), "{head:?}");
        }
    }

    #[test]
    fn what_is_no_tunnel_stays_closed() {
        let inner = ipv4(7, 8, 17, b"");
        for packet in [
            ipv4(1, 2, 17, &udp_of(53, &inner)),
            // A path that is given up, an echo of GTP, a VXLAN without identifier, a later fragment.
            ipv4(1, 2, 47, &[0x40, 0, 8, 0, 0, 0, 0, 0]),
            ipv4(1, 2, 17, &udp_of(2152, &[0x32, 1, 0, 4, 0, 0, 0, 0])),
            ipv4(1, 2, 17, &udp_of(4789, &[0; 40])),
        ] {
            assert_eq!(found(&packet), None);
        }
        let mut later = ipv4(1, 2, 4, &inner);
        later[7] = 1;
        assert_eq!(found(&later), None);
    }
}
