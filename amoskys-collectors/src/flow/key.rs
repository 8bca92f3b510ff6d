//! What makes packets belong to one flow.

use std::hash::{BuildHasher, RandomState};

use amoskys_core::event::FlowKey;

use crate::packet::{IpPacket, address};

/// Protocol, IP version, and both ends without order: the end with the smaller address and port is the low one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Key {
    /// Low end's address, then high end's, each in two halves.
    addresses: [u64; 4],
    /// Low port, high port, protocol, version.
    rest: u64,
}

impl Key {
    pub(super) const NONE: Self = Self {
        addresses: [0; 4],
        rest: 0,
    };

    /// The key of a packet, and whether the packet goes from the high end to the low one.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the halves of an address")]
    pub(super) fn of(packet: &IpPacket<'_>) -> (Self, bool) {
        let [source_port, destination_port] = packet.ports;
        // By halves: loads of all 16 bytes would wait for the two stores of 8 that wrote them.
        let halves = |address: u128| [(address >> 64) as u64, address as u64];
        let [source_1, source_0] = halves(packet.source);
        let [destination_1, destination_0] = halves(packet.destination);
        let descending = if packet.version == 4 {
            // Address and port are one number of 48 bits.
            source_0 << 16 | u64::from(source_port) > destination_0 << 16 | u64::from(destination_port)
        } else {
            source_1
                .cmp(&destination_1)
                .then(source_0.cmp(&destination_0))
                .then(source_port.cmp(&destination_port))
                .is_gt()
        };
        let (low, high, low_port, high_port) = if descending {
            (
                [destination_1, destination_0],
                [source_1, source_0],
                destination_port,
                source_port,
            )
        } else {
            (
                [source_1, source_0],
                [destination_1, destination_0],
                source_port,
                destination_port,
            )
        };
        let key = Self {
            addresses: [low[0], low[1], high[0], high[1]],
            rest: u64::from(low_port) << 32
                | u64::from(high_port) << 16
                | u64::from(packet.protocol) << 8
                | u64::from(packet.version),
        };
        (key, descending)
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the protocol is one byte")]
    pub(super) fn protocol(self) -> u8 {
        (self.rest >> 8) as u8
    }

    /// The key in public form, from the high end if `descending`.
    #[expect(clippy::cast_possible_truncation, reason = "parts of a number")]
    pub(super) fn public(self, descending: bool) -> FlowKey {
        let [low_1, low_0, high_1, high_0] = self.addresses;
        let version = self.rest as u8;
        let end = |high: u64, low: u64| address(version, u128::from(high) << 64 | u128::from(low));
        let key = FlowKey {
            source: end(low_1, low_0),
            source_port: (self.rest >> 32) as u16,
            destination: end(high_1, high_0),
            destination_port: (self.rest >> 16) as u16,
            protocol: self.protocol(),
        };
        if descending { key.reversed() } else { key }
    }
}

/// Hashes keys with secret random numbers, so that nobody outside can choose addresses and ports that collide.
/// Nothing that is reported depends on the hash.
pub(super) struct KeyHasher {
    secret: [u64; 6],
}

impl KeyHasher {
    pub(super) fn new() -> Self {
        let random = RandomState::new();
        Self {
            secret: std::array::from_fn(|n| random.hash_one(n)),
        }
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "a hash of 32 bits is wanted")]
    pub(super) fn hash(&self, key: &Key) -> u32 {
        let [a, b, c, d] = key.addresses;
        let [s0, s1, s2, s3, s4, s5] = self.secret;
        let mixed = fold(a ^ s0, b ^ s1) ^ fold(c ^ s2, d ^ s3);
        let hash = fold(mixed ^ s4, key.rest ^ s5);
        (hash >> 32) as u32 ^ hash as u32
    }
}

/// Both halves of the product, so that every bit of the input counts.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the halves of a number")]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}
