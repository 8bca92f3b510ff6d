//! Hashes that stay the same for ever: sketches and snapshots hold them.

use std::hash::Hasher as _;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

/// A 64-bit hash of a key, the same on every machine and in every version.
///
/// Sketches ([`Distinct`](crate::aggregate::Distinct), [`Frequencies`](crate::aggregate::Frequencies)) take
/// keys in this form. Two different keys collide with probability 2⁻⁶⁴.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyHash(pub u64);

impl KeyHash {
    /// The hash of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = SipHasher13::new();
        hasher.write(bytes);
        Self(hasher.finish())
    }

    /// The hash of a number.
    #[must_use]
    pub fn of_number(number: u64) -> Self {
        Self::of(&number.to_le_bytes())
    }

    /// The hash of an address. An IPv4 address and its IPv4-mapped IPv6 form are the same key.
    #[must_use]
    pub fn of_address(address: IpAddr) -> Self {
        Self::of(&octets(address))
    }

    /// The hash of this key together with another; the order matters.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.0.to_le_bytes());
        bytes[8..].copy_from_slice(&other.0.to_le_bytes());
        Self::of(&bytes)
    }
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_never_change() {
        // Snapshots and fitted encoders of earlier versions hold such values.
        assert_eq!(KeyHash::of(b"").0, 0xd1fb_a762_150c_532c);
        assert_ne!(KeyHash::of(b"a"), KeyHash::of(b"b"));
        let (a, b) = (KeyHash(1), KeyHash(2));
        assert_ne!(a.and(b), b.and(a));
    }
}
