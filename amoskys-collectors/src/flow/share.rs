//! Which of several meters a packet belongs to: all packets of a flow to the same one, in both directions.

use super::config::{FlowConfig, TunnelMode};
use crate::capture::{Head, LinkType, Packet};
use crate::packet::tunnel::innermost;
use crate::packet::{Decoded, IpPacket, decode};

/// Divides packets among meters. The same packets are divided in the same way each time: nothing secret or random
/// goes into it, so that who knows it may give one meter more to do than the others, and no more than that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shares {
    count: u64,
    tunnels: TunnelMode,
}

/// A packet that is not plain, decoded.
pub(super) struct Whole<'a>(Decoded<'a>);

impl<'a> Whole<'a> {
    pub(super) fn of(packet: &Packet<'a>) -> Self {
        Self(decode(packet))
    }
}

/// The number of a meter, and what the caller knows of the packet that it gets.
pub(super) type Part<T> = Option<(usize, Option<T>)>;

impl Shares {
    pub(super) fn new(count: usize, config: &FlowConfig) -> Self {
        Self {
            count: count.max(1) as u64,
            tunnels: config.tunnels,
        }
    }

    /// How many meters there are.
    #[expect(clippy::cast_possible_truncation, reason = "it was a usize")]
    pub(super) fn count(&self) -> usize {
        self.count as usize
    }

    /// The number of the meter for a packet, if that is told quickly: of nearly all packets there are. One of those that
    /// carries another is not plain, if that makes a difference.
    #[inline]
    pub(super) fn plain(&self, link: LinkType, data: &[u8]) -> Option<usize> {
        if self.tunnels != TunnelMode::Outer {
            return None;
        }
        plain(link, data).map(|hash| self.place(hash))
    }

    /// The number of the meter for a packet with these bytes, whatever it carries.
    #[inline]
    pub(super) fn of(&self, head: Head, data: &[u8]) -> usize {
        match plain(head.link, data) {
            Some(hash) => self.place(hash),
            None => self.outer(&head.packet(data)),
        }
    }

    #[cold]
    fn outer(&self, packet: &Packet<'_>) -> usize {
        match decode(packet) {
            Decoded::Ip(ip) => self.place(hash_of(&ip)),
            // What belongs to no flow.
            _ => 0,
        }
    }

    /// The numbers of the meters for the outer packet and for the innermost one, as far as they are metered. What belongs
    /// to no flow is the first meter's. `follow` is asked about each packet before its ports are looked at.
    pub(super) fn parts<T>(
        &self,
        whole: &mut Whole<'_>,
        mut follow: impl FnMut(&mut IpPacket<'_>) -> Option<T>,
    ) -> (Part<T>, Part<T>) {
        let Decoded::Ip(outer) = &mut whole.0 else {
            return (Some((0, None)), None);
        };
        let mut part = |ip: &mut IpPacket<'_>| {
            let known = follow(ip);
            Some((self.place(hash_of(ip)), known))
        };
        let of_outer = part(outer);
        if self.tunnels == TunnelMode::Outer {
            return (of_outer, None);
        }
        let of_inner = innermost(outer).and_then(|(mut inner, _)| part(&mut inner));
        match (&of_inner, self.tunnels) {
            (Some(_), TunnelMode::Inner) => (None, of_inner),
            _ => (of_outer, of_inner),
        }
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "less than the number of meters")]
    fn place(&self, hash: u64) -> usize {
        ((u128::from(hash) * u128::from(self.count)) >> 64) as usize
    }
}

/// The same in both directions: a sum does not know which end is which. One multiplication: this is done for all packets, by
/// whoever reads, and flows need only come to about the same share for each meter. The highest bits depend on all others.
#[inline]
fn hash(addresses: u64, ports: u32) -> u64 {
    let ports = ports.wrapping_add(ports.rotate_left(16));
    (addresses ^ u64::from(ports)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Both addresses, in any order, one in each half of the number.
#[inline]
fn sum_v4(addresses: u64) -> u64 {
    addresses.wrapping_add(addresses.rotate_left(32))
}

/// Both addresses, in any order.
#[inline]
fn sum_v6(source: u128, destination: u128) -> u64 {
    let fold = |address: u128| address as u64 ^ (address >> 64) as u64;
    fold(source).wrapping_add(fold(destination))
}

/// The hash of a decoded packet. Numbers are taken as they stand in a packet, with the lowest byte first: that is how most
/// processors read them.
fn hash_of(ip: &IpPacket<'_>) -> u64 {
    let addresses = if ip.version == 4 {
        let half = |address: u128| u64::from((address as u32).swap_bytes());
        sum_v4(half(ip.source) | half(ip.destination) << 32)
    } else {
        sum_v6(ip.source.swap_bytes(), ip.destination.swap_bytes())
    };
    let [source, destination] = ip.ports.map(|port| u32::from(port.swap_bytes()));
    hash(addresses, source | destination << 16)
}

/// The hash of an ordinary packet over Ethernet: TCP, UDP or ICMP over IPv4 without options or fragments, TCP or UDP over IPv6
/// without extensions, or ARP.
#[inline]
fn plain(link: LinkType, data: &[u8]) -> Option<u64> {
    let head: &[u8; 38] = data.first_chunk()?;
    if link != LinkType::ETHERNET {
        return None;
    }
    // The Ethertype, and what IPv4 begins with if there are no options.
    if word(head, 12) & 0x00ff_ffff == 0x0045_0008 {
        plain_v4(head)
    } else {
        plain_other(data)
    }
}

/// Not inlined: it would take registers away from the loop over packets of IPv4.
#[inline(never)]
fn plain_other(data: &[u8]) -> Option<u64> {
    match data.get(12..14)? {
        [0x86, 0xdd] => plain_v6(data.first_chunk()?),
        // ARP belongs to no flow, and what does not is the first meter's.
        [0x08, 0x06] => Some(0),
        _ => None,
    }
}

#[inline]
fn plain_v4(head: &[u8; 38]) -> Option<u64> {
    // Flags and offset, time to live, protocol; no fragment.
    let ports = match word(head, 20) & 0xff00_ff3f {
        0x0600_0000 | 0x1100_0000 => word(head, 34),
        // ICMP has none.
        0x0100_0000 => 0,
        _ => return None,
    };
    let addresses = u64::from(word(head, 26)) | u64::from(word(head, 30)) << 32;
    // The packet does not end before its ports.
    (u16::from_be_bytes([head[16], head[17]]) >= 24).then(|| hash(sum_v4(addresses), ports))
}

#[inline]
fn plain_v6(head: &[u8; 58]) -> Option<u64> {
    let ordinary =
        head[14] >> 4 == 6 && matches!(head[20], 6 | 17) && u16::from_be_bytes([head[18], head[19]]) >= 4;
    let address = |at: usize| {
        let bytes = head[at..].first_chunk().copied().unwrap_or_default();
        u128::from_le_bytes(bytes)
    };
    ordinary.then(|| hash(sum_v6(address(22), address(38)), word(head, 54)))
}

/// The four bytes at this place, the lowest first.
#[inline]
fn word(head: &[u8], at: usize) -> u32 {
    let bytes = head[at..].first_chunk().copied().unwrap_or_default();
    u32::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The quick way and the other one agree, whatever the packet; and so do both directions.
        #[test]
        fn both_ways_and_both_directions_agree(
            mut data in prop::collection::vec(any::<u8>(), 34..80), version in 0..11, short: bool,
            protocol in prop::sample::select(vec![1, 6, 17]),
        ) {
            match version {
                0..5 => {
                    data[12..15].copy_from_slice(&[0x08, 0, 0x45]);
                    data[16..18].copy_from_slice(&[0, if short { 22 } else { 40 }]);
                    data[20..22].copy_from_slice(&[0, 0]);
                    data[23] = protocol;
                }
                5..9 => {
                    data[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
                    data[18..20].copy_from_slice(&[0, if short { 3 } else { 12 }]);
                    data[20] = protocol;
                }
                9 => data[12..14].copy_from_slice(&[0x08, 0x06]),
                _ => {}
            }
            let shares = Shares::new(1 << 20, &FlowConfig::default());
            let packet = Packet { link: LinkType::ETHERNET, wire_len: 80, data: &data, ..Packet::default() };
            let (slow, inner) = shares.parts(&mut Whole::of(&packet), |_| None::<()>);
            prop_assert!(inner.is_none());
            if let Some(quick) = shares.plain(packet.link, packet.data) {
                prop_assert_eq!(Some((quick, None)), slow);
            }
            if let Decoded::Ip(ip) = decode(&packet) {
                let [from, to] = ip.ports;
                let back = IpPacket { source: ip.destination, destination: ip.source, ports: [to, from], ..ip };
                prop_assert_eq!(hash_of(&ip), hash_of(&back));
            }
        }
    }

    #[test]
    fn many_flows_are_divided_evenly() {
        let shares = Shares::new(4, &FlowConfig::default());
        let mut counts = [0_u32; 4];
        for host in 0..100_u64 {
            for port in 0..100_u16 {
                let ip = IpPacket {
                    version: 4,
                    source: u128::from(0x0a00_0000 + host),
                    destination: 0x0a01_0001,
                    ports: [40_000 + port, 443],
                    ..IpPacket::NONE
                };
                counts[shares.place(hash_of(&ip))] += 1;
            }
        }
        assert!(
            counts.iter().all(|count| (2200..2800).contains(count)),
            "{counts:?}"
        );
    }
}
