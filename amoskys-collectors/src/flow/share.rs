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
        let (source, destination, ports) = plain(link, data)?;
        Some(self.place(hash(source, destination, ports)))
    }

    /// The number of the meter for a packet with these bytes, whatever it carries.
    #[inline]
    pub(super) fn of(&self, head: Head, data: &[u8]) -> usize {
        match plain(head.link, data) {
            Some((source, destination, ports)) => self.place(hash(source, destination, ports)),
            None => self.outer(&head.packet(data)),
        }
    }

    #[cold]
    fn outer(&self, packet: &Packet<'_>) -> usize {
        match decode(packet) {
            Decoded::Ip(ip) => self.place(hash(fold(ip.source), fold(ip.destination), ip.ports)),
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
            let place = self.place(hash(fold(ip.source), fold(ip.destination), ip.ports));
            Some((place, known))
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
    fn place(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.count) >> 32) as usize
    }
}

/// The same in both directions: sums and differences of bits do not know which end is which. One multiplication: this is
/// done for all packets, by whoever reads, and flows need only come to about the same share for each meter.
#[inline]
fn hash(source: u64, destination: u64, [from, to]: [u16; 2]) -> u32 {
    let sums = source.wrapping_add(destination) ^ ((u64::from(from) + u64::from(to)) << 40);
    let differences = source ^ destination ^ (u64::from(from ^ to) << 20);
    let mixed = sums ^ differences.rotate_left(27);
    // The highest bits depend on all others.
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

/// Addresses and ports of an ordinary packet over Ethernet: TCP, UDP or ICMP over IPv4 without options or fragments, TCP or UDP
/// over IPv6 without extensions, or ARP.
#[inline]
fn plain(link: LinkType, data: &[u8]) -> Option<(u64, u64, [u16; 2])> {
    let head: &[u8; 38] = data.first_chunk()?;
    if link != LinkType::ETHERNET {
        return None;
    }
    match [head[12], head[13]] {
        [0x08, 0x00] => plain_v4(head),
        [0x86, 0xdd] => plain_v6(data.first_chunk()?),
        // ARP belongs to no flow, and what does not is the first meter's.
        [0x08, 0x06] => Some((0, 0, [0, 0])),
        _ => None,
    }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the halves of a number")]
fn plain_v4(head: &[u8; 38]) -> Option<(u64, u64, [u16; 2])> {
    let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    // Flags and offset, time to live, protocol; no fragment.
    let ports = match word(20) & 0x3fff_00ff {
        6 | 17 => word(34),
        // ICMP has none.
        1 => 0,
        _ => return None,
    };
    // No options, and the packet does not end before its ports.
    let ordinary = head[14] == 0x45 && word(16) >> 16 >= 24;
    ordinary.then(|| {
        (
            u64::from(word(26)),
            u64::from(word(30)),
            [(ports >> 16) as u16, ports as u16],
        )
    })
}

#[inline]
fn plain_v6(head: &[u8; 58]) -> Option<(u64, u64, [u16; 2])> {
    let ordinary =
        head[14] >> 4 == 6 && matches!(head[20], 6 | 17) && u16::from_be_bytes([head[18], head[19]]) >= 4;
    let address = |at: usize| {
        let bytes = head[at..].first_chunk().copied().unwrap_or_default();
        fold(u128::from_be_bytes(bytes))
    };
    let port = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    ordinary.then(|| (address(22), address(38), [port(54), port(56)]))
}

#[expect(clippy::cast_possible_truncation, reason = "the halves of a number")]
fn fold(address: u128) -> u64 {
    address as u64 ^ (address >> 64) as u64
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
                let (source, destination) = (fold(ip.source), fold(ip.destination));
                prop_assert_eq!(hash(source, destination, [from, to]), hash(destination, source, [to, from]));
            }
        }
    }

    #[test]
    fn many_flows_are_divided_evenly() {
        let shares = Shares::new(4, &FlowConfig::default());
        let mut counts = [0_u32; 4];
        for host in 0..100_u64 {
            for port in 0..100_u16 {
                counts[shares.place(hash(0x0a00_0000 + host, 0x0a01_0001, [40_000 + port, 443]))] += 1;
            }
        }
        assert!(
            counts.iter().all(|count| (2200..2800).contains(count)),
            "{counts:?}"
        );
    }
}
