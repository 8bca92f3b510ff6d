//! The way that nearly all packets take: TCP or UDP over IPv4 without options or fragments, over Ethernet without tags. It
//! gives what the general way gives, for less: every field is where it always is.

use super::{IpPacket, Link, TcpHeader, Transport, Vlans};
use crate::capture::{LinkType, Packet};

/// Where the transport header begins.
const TRANSPORT: usize = 34;
const IP_HEADER: u32 = 20;
const UDP_HEADER: usize = 8;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Decodes a packet that is plain; false, with `out` as it was, if it is not.
#[inline]
pub(super) fn decode<'a>(packet: &Packet<'a>, out: &mut IpPacket<'a>) -> bool {
    let Some(head) = packet.data.first_chunk::<42>() else {
        return false;
    };
    let plain = packet.link == LinkType::ETHERNET
        && packet.stripped_vlan.is_none()
        && [head[12], head[13], head[14]] == [0x08, 0x00, 0x45]
        && [head[20] & 0x3f, head[21]] == [0, 0];
    if !plain {
        return false;
    }
    let length = u16::from_be_bytes([head[16], head[17]]);
    // Without link padding.
    let end = packet.data.len().min(14 + usize::from(length));
    let Some(bytes) = packet.data.get(TRANSPORT..end) else {
        return false;
    };
    let (transport, skip) = match head[23] {
        TCP if bytes.len() >= 20 => match TcpHeader::decode(bytes) {
            Some((header, skip)) => (Transport::Tcp(header), skip),
            None => return false,
        },
        UDP if bytes.len() >= UDP_HEADER => (Transport::Udp, UDP_HEADER),
        _ => return false,
    };
    let length = u32::from(length);
    let header_length = (IP_HEADER + skip as u32).min(length);
    let word = |at: usize| {
        u128::from(u32::from_be_bytes([
            head[at],
            head[at + 1],
            head[at + 2],
            head[at + 3],
        ]))
    };
    *out = IpPacket {
        source: word(26),
        destination: word(30),
        ports: [
            u16::from_be_bytes([head[34], head[35]]),
            u16::from_be_bytes([head[36], head[37]]),
        ],
        version: 4,
        protocol: head[23],
        ttl: head[22],
        fragment: false,
        later_fragment: false,
        fragment_id: 0,
        length,
        header_length,
        payload_length: length - header_length,
        payload: bytes.get(skip..).unwrap_or_default(),
        transport,
        link: Link {
            destination: head.first_chunk(),
            source: head[6..].first_chunk(),
            vlans: Vlans::UNTAGGED,
        },
    };
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::decode_generally;
    use proptest::prelude::*;

    proptest! {
        /// Packets that are plain, or nearly so, are decoded the same both ways.
        #[test]
        fn both_ways_agree(
            mut data in prop::collection::vec(any::<u8>(), 40..120), protocol in prop::sample::select(vec![6_u8, 17, 1]),
            length in 0_u16..130, offset in 0_u8..16, changed in prop::option::weighted(0.3, (12_usize..36, any::<u8>())),
            wire_len in 0_u32..2000,
        ) {
            data[12..15].copy_from_slice(&[0x08, 0, 0x45]);
            data[16..18].copy_from_slice(&length.to_be_bytes());
            data[20..22].copy_from_slice(&[0x40, 0]);
            data[23] = protocol;
            if let Some(place) = data.get_mut(46) {
                *place = offset << 4;
            }
            if let Some((at, value)) = changed {
                data[at] = value;
            }
            let packet = Packet { link: LinkType::ETHERNET, wire_len, data: &data, ..Packet::default() };
            let (mut quick, mut general) = (IpPacket::NONE, IpPacket::NONE);
            if decode(&packet, &mut quick) {
                prop_assert_eq!(decode_generally(&packet, &mut general), Ok(None));
                prop_assert_eq!(quick, general);
            }
        }
    }
}
