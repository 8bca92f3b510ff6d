//! Which of several meters a packet belongs to: all packets of a flow to the same one, in both directions.

use super::config::{FlowConfig, TunnelMode};
use crate::capture::{LinkType, Packet};
use crate::packet::tunnel::innermost;
use crate::packet::{Decoded, IpPacket, decode};

/// Divides packets among meters. The same packets are divided in the same way each time: nothing secret or random
/// goes into it, so that who knows it may give one meter more to do than the others, and no more than that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shares {
    count: u64,
    /// Whether ports tell flows apart for the purpose. Fragments that are followed have none of their own, and the
    /// flows of a tunnel must stay together with the tunnel.
    ports: bool,
    inner: bool,
}

impl Shares {
    pub(super) fn new(count: usize, config: &FlowConfig) -> Self {
        Self {
            count: count.max(1) as u64,
            ports: !config.follow_fragments && config.tunnels != TunnelMode::Both,
            inner: config.tunnels == TunnelMode::Inner,
        }
    }

    /// The number of the meter for a packet. What belongs to no flow is the first one's.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "below the count, which was a usize"
    )]
    pub(super) fn of(&self, packet: &Packet<'_>) -> usize {
        let hash = match plain(packet) {
            // Nearly all packets there are.
            Some((source, destination, ports)) if !self.inner => self.hash(source, destination, ports),
            _ => self.slow(packet),
        };
        ((u128::from(hash) * u128::from(self.count)) >> 64) as usize
    }

    fn slow(&self, packet: &Packet<'_>) -> u64 {
        let Decoded::Ip(ip) = decode(packet) else { return 0 };
        let inner = if self.inner { innermost(&ip) } else { None };
        let of = |ip: &IpPacket<'_>| self.hash(fold(ip.source), fold(ip.destination), ip.ports);
        inner.map_or_else(|| of(&ip), |(inner, _)| of(&inner))
    }

    /// The same in both directions: sums and differences of bits do not know which end is which.
    #[inline]
    fn hash(&self, source: u64, destination: u64, ports: [u16; 2]) -> u64 {
        let [from, to] = if self.ports { ports.map(u64::from) } else { [0, 0] };
        let addresses = source.wrapping_add(destination) ^ (source ^ destination).rotate_left(32);
        let ports = (from + to) << 16 ^ (from ^ to);
        let mixed =
            (addresses ^ ports.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93)
    }
}

/// Addresses and ports of an ordinary packet: TCP or UDP, over IPv4 without options or fragments, over Ethernet.
#[inline]
fn plain(packet: &Packet<'_>) -> Option<(u64, u64, [u16; 2])> {
    let head: &[u8; 38] = packet.data.first_chunk()?;
    let ordinary = packet.link == LinkType::ETHERNET
        && [head[12], head[13], head[14]] == [0x08, 0x00, 0x45]
        && [head[20] & 0x3f, head[21]] == [0, 0]
        && matches!(head[23], 6 | 17)
        // The packet does not end before its ports.
        && u16::from_be_bytes([head[16], head[17]]) >= 24;
    if !ordinary {
        return None;
    }
    let address = |at: usize| {
        u64::from(u32::from_be_bytes([
            head[at],
            head[at + 1],
            head[at + 2],
            head[at + 3],
        ]))
    };
    let port = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    Some((address(26), address(30), [port(34), port(36)]))
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
            mut data in prop::collection::vec(any::<u8>(), 34..60), ipv4 in prop::bool::weighted(0.9), short: bool,
            tcp: bool, follow_fragments: bool,
        ) {
            if ipv4 {
                data[12..15].copy_from_slice(&[0x08, 0, 0x45]);
                data[16..18].copy_from_slice(&[0, if short { 22 } else { 40 }]);
                data[20..22].copy_from_slice(&[0, 0]);
                data[23] = if tcp { 6 } else { 17 };
            }
            let shares = Shares::new(1 << 20, &FlowConfig { follow_fragments, ..FlowConfig::default() });
            let packet = |data| Packet { link: LinkType::ETHERNET, wire_len: 60, data, ..Packet::default() };
            let slow = ((u128::from(shares.slow(&packet(&data))) * (1 << 20)) >> 64) as usize;
            prop_assert_eq!(shares.of(&packet(&data)), slow);
            if let Decoded::Ip(ip) = decode(&packet(&data)) {
                let [from, to] = ip.ports;
                let (source, destination) = (fold(ip.source), fold(ip.destination));
                prop_assert_eq!(
                    shares.hash(source, destination, [from, to]),
                    shares.hash(destination, source, [to, from])
                );
            }
        }
    }

    #[test]
    fn many_flows_are_divided_evenly() {
        let shares = Shares::new(4, &FlowConfig::default());
        let mut counts = [0_u32; 4];
        for host in 0..100_u64 {
            for port in 0..100_u16 {
                let hash = shares.hash(0x0a00_0000 + host, 0x0a01_0001, [40_000 + port, 443]);
                counts[((u128::from(hash) * 4) >> 64) as usize] += 1;
            }
        }
        assert!(
            counts.iter().all(|count| (2200..2800).contains(count)),
            "{counts:?}"
        );
    }
}
