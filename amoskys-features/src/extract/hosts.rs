use std::net::IpAddr;

use amoskys_core::event::{ArpOperation, Entity};

use super::catalog::{Catalog, Feature};
use super::fact::Fact;
use super::parts::{Attempts, Ended, Opened, Volume, add_common, count, has_parts, regularity_features};
use super::tracker::is_group;
use crate::aggregate::{Distinct, Frequencies, StartTimes, aggregate, ratio};
use crate::hash::KeyHash;

/// Features of a host as the one who opens flows, and as a speaker of ARP. The entity is
/// [`Entity::Host`].
pub struct Hosts;

type F = Feature<HostAggregate>;

aggregate! {
    /// What is kept for a host.
    pub struct HostAggregate {
        opened: Opened,
        attempts: Attempts,
        volume: Volume,
        ended: Ended,
        starts: StartTimes,
        destinations: Frequencies,
        ports: Frequencies,
        sockets: Distinct,
        source_ports: Distinct,
        new_destinations: u64,
        new_services: u64,
        to_groups: u64,
        to_outside: u64,
        arp_requests: u64,
        arp_targets: Distinct,
        arp_replies: u64,
        arp_gratuitous: u64,
        arp_addresses: Distinct,
        arp_mismatched: u64,
    }
}

has_parts!(HostAggregate: opened: Opened, attempts: Attempts, volume: Volume, ended: Ended);

impl Catalog for Hosts {
    type Aggregate = HostAggregate;

    const NAME: &'static str = "host";

    fn entity(fact: &Fact<'_>) -> Option<Entity> {
        match fact {
            Fact::Opened { record, .. } | Fact::Closed { record, .. } => {
                Some(Entity::Host(record.key.source))
            }
            Fact::Traffic { key, .. } | Fact::Attempt { key, .. } => Some(Entity::Host(key.source)),
            // An address probe (RFC 5227) has no sender yet.
            Fact::Arp(arp) => {
                (!arp.sender_ip.is_unspecified()).then_some(Entity::Host(IpAddr::V4(arp.sender_ip)))
            }
            _ => None,
        }
    }

    fn add(host: &mut HostAggregate, fact: &Fact<'_>) {
        add_common(host, fact);
        match fact {
            Fact::Opened { record, novelty } => {
                let key = &record.key;
                let destination = KeyHash::of_address(key.destination);
                let service =
                    KeyHash::of_number(u64::from(key.protocol) << 16 | u64::from(key.destination_port));
                host.opened.add(record);
                host.starts.add(record.first);
                host.destinations.add(destination);
                host.ports.add(service);
                host.sockets.add(destination.and(service));
                host.source_ports
                    .add(KeyHash::of_number(u64::from(key.source_port)));
                host.new_destinations += u64::from(novelty.destination);
                host.new_services += u64::from(novelty.service);
                host.to_groups += u64::from(is_group(key.destination));
                host.to_outside += u64::from(is_outside(key.destination));
            }
            Fact::Arp(arp) => {
                match arp.operation {
                    ArpOperation::Request if arp.is_gratuitous() => host.arp_gratuitous += 1,
                    ArpOperation::Request => {
                        host.arp_requests += 1;
                        host.arp_targets
                            .add(KeyHash::of_address(IpAddr::V4(arp.target_ip)));
                    }
                    ArpOperation::Reply => {
                        host.arp_replies += 1;
                        host.arp_gratuitous += u64::from(arp.is_gratuitous());
                    }
                    _ => {}
                }
                host.arp_addresses.add(KeyHash::of(&arp.sender_mac.0));
                host.arp_mismatched += u64::from(arp.sender_mac != arp.frame_source);
            }
            _ => {}
        }
    }

    fn features() -> Vec<Feature<HostAggregate>> {
        let mut features = Opened::features();
        features.extend([
            F::new(
                "destinations",
                "",
                "distinct destination addresses of flows opened",
                |w| w.destinations.distinct(),
            ),
            F::new(
                "destination_entropy",
                "bit",
                "entropy of the destination addresses of flows opened",
                |w| w.destinations.entropy(),
            ),
            F::new(
                "destination_top_share",
                "",
                "share of flows opened to the commonest destination",
                |w| w.destinations.top_share(),
            ),
            F::new(
                "ports",
                "",
                "distinct pairs of protocol and destination port of flows opened",
                |w| w.ports.distinct(),
            ),
            F::new(
                "port_entropy",
                "bit",
                "entropy of protocol and destination port of flows opened",
                |w| w.ports.entropy(),
            ),
            F::new(
                "port_top_share",
                "",
                "share of flows opened to the commonest protocol and port",
                |w| w.ports.top_share(),
            ),
            F::new(
                "sockets",
                "",
                "distinct destination address, protocol and port of flows opened",
                |w| w.sockets.count(),
            ),
            F::new(
                "ports_per_destination",
                "",
                "sockets / destinations: a vertical scan raises it; 0 without destinations",
                |w| per(w.sockets.count(), w.destinations.distinct()),
            ),
            F::new(
                "destinations_per_port",
                "",
                "sockets / ports: a horizontal scan raises it; 0 without ports",
                |w| per(w.sockets.count(), w.ports.distinct()),
            ),
            F::new("source_ports", "", "distinct source ports of flows opened", |w| {
                w.source_ports.count()
            }),
            F::new(
                "new_destinations",
                "",
                "flows opened to a destination this host had not opened one to before",
                |w| count(w.new_destinations),
            ),
            F::new("new_destination_ratio", "", "new_destinations / opened", |w| {
                ratio(w.new_destinations, w.opened.count())
            }),
            F::new(
                "new_services",
                "",
                "flows opened to a protocol and port this host had not used before",
                |w| count(w.new_services),
            ),
            F::new(
                "low_port_ratio",
                "",
                "TCP and UDP flows opened to ports below 1024 / opened",
                |w| ratio(w.opened.low_ports(), w.opened.count()),
            ),
            F::new(
                "group_ratio",
                "",
                "flows opened to multicast and broadcast addresses / opened",
                |w| ratio(w.to_groups, w.opened.count()),
            ),
            F::new(
                "outside_ratio",
                "",
                "flows opened to globally routed addresses / opened",
                |w| ratio(w.to_outside, w.opened.count()),
            ),
        ]);
        features.extend(Attempts::features());
        features.extend(Volume::features());
        features.extend(Ended::features());
        features.extend(regularity_features());
        features.extend([
            F::new(
                "arp_requests",
                "",
                "ARP requests sent, without gratuitous ones",
                |w| count(w.arp_requests),
            ),
            F::new("arp_targets", "", "distinct addresses asked for by ARP", |w| {
                w.arp_targets.count()
            }),
            F::new("arp_replies", "", "ARP replies sent", |w| count(w.arp_replies)),
            F::new(
                "arp_gratuitous",
                "",
                "ARP messages that announce the sender's own address",
                |w| count(w.arp_gratuitous),
            ),
            F::new(
                "arp_hardware_addresses",
                "",
                "distinct hardware addresses that claimed this address by ARP",
                |w| w.arp_addresses.count(),
            ),
            F::new(
                "arp_mismatched",
                "",
                "ARP messages whose claimed hardware address is not the frame's sender",
                |w| count(w.arp_mismatched),
            ),
        ]);
        features
    }

    fn starts(host: &HostAggregate) -> Option<&StartTimes> {
        Some(&host.starts)
    }
}

fn per(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// Whether the address belongs to the Internet at large, as opposed to private, local and group addresses.
fn is_outside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let carrier_grade = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.is_unspecified()
                || carrier_grade)
        }
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_outside(IpAddr::V4(v4)),
            // 2000::/3 is all that is routed.
            None => v6.segments()[0] & 0xe000 == 0x2000,
        },
    }
}
