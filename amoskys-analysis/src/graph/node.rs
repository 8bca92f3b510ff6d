//! Nodes: hosts, services, users, processes, or whatever else can be named.

use std::hash::Hasher as _;
use std::net::IpAddr;

use siphasher::sip::SipHasher13;

/// Keys of a folded multiplication, drawn from a seed.
pub(super) fn keys(seed: u64) -> [u64; 4] {
    [1, 2, 3, 4].map(|n| SipHasher13::new_with_keys(seed, n).finish())
}

/// Numbers nodes by a keyed hash (SipHash-1-3), so that nobody without the key can give two nodes one number.
///
/// Nodes of different kinds have different numbers: a host is not the service of the same address.
#[derive(Clone, Copy, Debug)]
pub struct Nodes {
    key: u64,
}

impl Nodes {
    /// With this key.
    #[must_use]
    pub const fn new(key: u64) -> Self {
        Self { key }
    }

    /// A host.
    #[must_use]
    pub fn host(&self, address: IpAddr) -> u64 {
        self.of(1, &[&octets(address)])
    }

    /// A service of a host: address, IP protocol number and port.
    #[must_use]
    pub fn service(&self, address: IpAddr, protocol: u8, port: u16) -> u64 {
        self.of(2, &[&octets(address), &[protocol], &port.to_le_bytes()])
    }

    /// A kind of service, wherever it is: IP protocol number and port.
    #[must_use]
    pub fn port(&self, protocol: u8, port: u16) -> u64 {
        self.of(3, &[&[protocol], &port.to_le_bytes()])
    }

    /// A user of a machine.
    #[must_use]
    pub fn user(&self, machine: &str, uid: u32) -> u64 {
        self.of(4, &[machine.as_bytes(), &[0], &uid.to_le_bytes()])
    }

    /// A program of a machine.
    #[must_use]
    pub fn program(&self, machine: &str, program: &str) -> u64 {
        self.of(5, &[machine.as_bytes(), &[0], program.as_bytes()])
    }

    /// Anything else, by kind (from 16 up, lower ones are taken) and name.
    #[must_use]
    pub fn other(&self, kind: u8, name: &[u8]) -> u64 {
        self.of(kind.saturating_add(16), &[name])
    }

    fn of(&self, kind: u8, parts: &[&[u8]]) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.key, u64::from(kind));
        parts.iter().for_each(|part| hasher.write(part));
        hasher.finish()
    }
}

/// An address in 16 bytes; IPv4 as it is mapped into IPv6.
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
    fn kinds_and_keys_are_told_apart() {
        let (nodes, other) = (Nodes::new(1), Nodes::new(2));
        let address = IpAddr::from([10, 0, 0, 1]);
        let all = [
            nodes.host(address),
            other.host(address),
            nodes.service(address, 6, 22),
            nodes.port(6, 22),
            nodes.user("a", 22),
            nodes.program("a", "sh"),
            nodes.other(0, b"sh"),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[..at].contains(one));
        }
        assert_eq!(nodes.host(address), Nodes::new(1).host(address));
    }
}
