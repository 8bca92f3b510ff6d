//! Peer-to-peer programs: whom they call, and that it is no scan if most are gone.
//!
//! Each peer listens on a port of its own choice, so a peer-to-peer program calls many uncommon ports on many hosts, but each port on few
//! hosts and on each host few ports. Its list is mostly of the past: most calls fail, and those to the program's usual port, or to the many
//! peers behind one address, add up to what looks like a scan. Who scans calls a port or a few on many hosts, many ports of a few hosts,
//! or all of these on all of those.

use std::net::IpAddr;

use amoskys_core::Timestamp;
use serde::{Deserialize, Serialize};

use super::Contact;
use super::service::{TCP, UDP, is_common};
use crate::measure::{BoundedMap, Distinct, hash_address, mix, seconds_between};

/// Seconds without a call after which a host is looked at anew.
const FORGET: f64 = 3_600.0;
/// Distinct uncommon ports, and hosts called on such, from which on it is a peer-to-peer program.
const MANY: f64 = 5.0;
/// So often at most, of whichever is more, host and port go together in other ways. A full grid of five by five has more.
const PAIRS: f64 = 4.0;
/// Ports beyond which they cannot be told from all ports.
const MOST: f64 = 1_500.0;
/// Ports below this are of systems (RFC 6335).
const SYSTEM: u16 = 1_024;
/// Addresses that lie as near as this follow each other, as in a sweep.
const NEAR: u128 = 4;

/// Uncommon ports that each host calls.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Peers {
    clients: BoundedMap<IpAddr, Calls>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Calls {
    ports: Distinct,
    hosts: Distinct,
    pairs: Distinct,
    of_peers: bool,
    latest: Timestamp,
}

impl Peers {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            clients: BoundedMap::new(limit),
        }
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.clients.evicted()
    }

    /// Notes a call; says whether it is one of a peer-to-peer program. Only calls to uncommon ports show that it is one, and then its peers
    /// may be behind any but the ports of a system.
    pub(crate) fn called(&mut self, contact: &Contact) -> bool {
        if !matches!(contact.protocol, TCP | UDP) || contact.port < SYSTEM {
            return false;
        }
        if is_common(contact.port) {
            return self
                .clients
                .peek(&contact.client)
                .is_some_and(|calls| calls.of_peers);
        }
        let calls = self.clients.entry(&contact.client, Calls::default);
        if !(-60.0..FORGET).contains(&seconds_between(calls.latest, contact.start)) {
            *calls = Calls::default();
        }
        calls.latest = contact.start;
        let (port, host) = (mix(u64::from(contact.port)), hash_address(contact.server));
        let new = calls.pairs.insert(mix(port ^ host.rotate_left(1)));
        calls.ports.insert(port);
        calls.hosts.insert(host);
        if new {
            calls.of_peers = calls.are_scattered();
        }
        calls.of_peers
    }
}

impl Calls {
    fn are_scattered(&self) -> bool {
        let (ports, hosts) = (self.ports.estimate(), self.hosts.estimate());
        ports.min(hosts) >= MANY && ports <= MOST && self.pairs.estimate() <= PAIRS * ports.max(hosts)
    }
}

/// Whether two addresses lie so near that one may have been tried because the other was.
pub(crate) fn is_near(one: IpAddr, other: IpAddr) -> bool {
    let number = |address: IpAddr| match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    };
    one.is_ipv4() == other.is_ipv4() && number(one).abs_diff(number(other)) <= NEAR
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(port: u16, server: u8) -> Contact {
        Contact {
            client: [10, 0, 0, 1].into(),
            server: [203, 0, 113, server].into(),
            client_port: 50_000,
            port,
            protocol: TCP,
            forward: true,
            certain: true,
            start: Timestamp::from_secs(1_700_000_000),
        }
    }

    #[test]
    fn a_port_each_on_many_hosts_is_a_program_with_peers_and_a_grid_is_none() {
        let mut peers = Peers::new(16);
        let calls = (0..40).map(|n| call(20_000 + 701 * u16::from(n), 3 * n));
        // From about the fifth on.
        let known = calls.filter(|contact| peers.called(contact)).count();
        assert!((34..=37).contains(&known), "{known}");
        // The ports of web servers say nothing.
        assert!(!peers.called(&call(443, 1)));

        let mut grid = Peers::new(16);
        for server in 0..30 {
            for port in 0..12 {
                grid.called(&call(30_000 + port, server));
            }
        }
        assert!(!grid.called(&call(30_000, 40)));
        let mut ports = Peers::new(16);
        assert!((2_000..2_300).all(|port| port == 3389 || !ports.called(&call(port, 1))));
    }
}
