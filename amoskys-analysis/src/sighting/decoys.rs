//! One scan from many addresses: decoys.
//!
//! A scanner may send each of its probes from forged addresses too (`nmap -D`), so that it is not known which of them scans. All of them
//! then try the same ports of the same host from the same second on. That is one scan, and one of its sources is accused: the one that was
//! seen to exist, by its own ARP messages, where it is the only one; else the one with the lowest address, so that all who look accuse the same.

use std::net::IpAddr;

use amoskys_core::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Contact, is_host};
use crate::measure::{BoundedMap, Distinct, mix, seconds_between};

/// Hosts of which it is remembered who tries their ports, about 1.6 kB each, and sources remembered for each.
const TARGETS: usize = 1_024;
const SOURCES: usize = 16;
/// Seconds between the first probes of two sources of one scan.
const TOGETHER: f64 = 2.0;
/// Share of ports that one has in common with the other, and number of ports from which on that is no chance.
const COMMON: (f64, f64) = (0.9, 7.0);
/// Seconds after which a source's next probe begins another scan.
const FORGET: f64 = 3_600.0;

/// Who tries which ports of whom in vain.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Decoys {
    targets: BoundedMap<IpAddr, Vec<Source>>,
    /// Addresses that have spoken ARP for themselves.
    stations: BoundedMap<IpAddr, ()>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Source {
    address: IpAddr,
    first: Timestamp,
    ports: Distinct,
}

impl Decoys {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            targets: BoundedMap::new(limit.min(TARGETS)),
            stations: BoundedMap::new(limit),
        }
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.targets.evicted() + self.stations.evicted()
    }

    /// A host spoke ARP for itself.
    pub(crate) fn spoke(&mut self, station: IpAddr) {
        if is_host(station) {
            self.stations.entry(&station, || ());
        }
    }

    /// A port was tried in vain.
    pub(crate) fn failed(&mut self, contact: &Contact) {
        let port = mix(u64::from(contact.protocol) << 16 | u64::from(contact.port));
        self.source(contact).ports.insert(port);
    }

    /// These ports have been tried so far; worth telling from seven on.
    pub(crate) fn tried(&mut self, contact: &Contact, ports: &Distinct) {
        if ports.estimate() >= COMMON.1 {
            self.source(contact).ports = ports.clone();
        }
    }

    fn source(&mut self, contact: &Contact) -> &mut Source {
        let sources = self.targets.entry(&contact.server, Vec::new);
        let at = sources.iter().position(|source| source.address == contact.client);
        let at = at.unwrap_or_else(|| {
            if sources.len() >= SOURCES {
                sources.remove(0);
            }
            sources.push(Source {
                address: contact.client,
                first: contact.start,
                ports: Distinct::default(),
            });
            sources.len() - 1
        });
        let source = &mut sources[at];
        if seconds_between(source.first, contact.start).abs() > FORGET {
            (source.first, source.ports) = (contact.start, Distinct::default());
        }
        source
    }

    /// Who scans the target together with the source: the one to accuse first. None if the source is alone.
    pub(crate) fn together(&self, source: IpAddr, target: IpAddr) -> Vec<IpAddr> {
        let sources = self.targets.peek(&target).map_or(&[][..], Vec::as_slice);
        let Some(me) = sources.iter().find(|known| known.address == source) else {
            return Vec::new();
        };
        let mut group: Vec<IpAddr> = sources
            .iter()
            .filter(|other| other.is_with(me))
            .map(|other| other.address)
            .collect();
        if group.len() < 2 {
            return Vec::new();
        }
        group.sort_unstable();
        let mut present = group
            .iter()
            .filter(|address| self.stations.peek(*address).is_some());
        if let (Some(known), None) = (present.next().copied(), present.next()) {
            group.retain(|address| *address != known);
            group.insert(0, known);
        }
        group
    }
}

impl Source {
    fn is_with(&self, other: &Self) -> bool {
        self.address == other.address
            || (seconds_between(self.first, other.first).abs() <= TOGETHER
                && self.ports.estimate().min(other.ports.estimate()) >= COMMON.1
                && self.ports.overlap(&other.ports) >= COMMON.0)
    }
}
