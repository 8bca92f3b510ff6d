use amoskys_core::event::Entity;

use super::catalog::{Catalog, Feature};
use super::fact::Fact;
use super::parts::{Attempts, Ended, Opened, Volume, add_common, count, has_parts, regularity_features};
use crate::aggregate::{Distinct, Frequencies, StartTimes, aggregate};
use crate::hash::KeyHash;

/// Features of two hosts, the opener of flows first. The entity is [`Entity::Pair`].
pub struct Pairs;

type F = Feature<PairAggregate>;

aggregate! {
    /// What is kept for a pair of hosts.
    pub struct PairAggregate {
        opened: Opened,
        attempts: Attempts,
        volume: Volume,
        ended: Ended,
        starts: StartTimes,
        ports: Frequencies,
        source_ports: Distinct,
        new_services: u64,
        echo_sizes: Distinct,
    }
}

has_parts!(PairAggregate: opened: Opened, attempts: Attempts, volume: Volume, ended: Ended);

impl Catalog for Pairs {
    type Aggregate = PairAggregate;

    const NAME: &'static str = "pair";

    fn entity(fact: &Fact<'_>) -> Option<Entity> {
        match fact {
            Fact::Opened { record, .. } | Fact::Closed { record, .. } => {
                Some(Entity::Pair(record.key.source, record.key.destination))
            }
            Fact::Traffic { key, .. } | Fact::Attempt { key, .. } => {
                Some(Entity::Pair(key.source, key.destination))
            }
            _ => None,
        }
    }

    fn add(pair: &mut PairAggregate, fact: &Fact<'_>) {
        add_common(pair, fact);
        match fact {
            Fact::Opened { record, novelty } => {
                let key = &record.key;
                pair.opened.add(record);
                pair.starts.add(record.first);
                pair.ports.add(KeyHash::of_number(
                    u64::from(key.protocol) << 16 | u64::from(key.destination_port),
                ));
                pair.source_ports
                    .add(KeyHash::of_number(u64::from(key.source_port)));
                pair.new_services += u64::from(novelty.client);
            }
            Fact::Closed { record, .. } if record.icmp.is_some() => {
                for packet in &record.sequence {
                    pair.echo_sizes.add(KeyHash::of_number(u64::from(packet.length)));
                }
            }
            _ => {}
        }
    }

    fn features() -> Vec<Feature<PairAggregate>> {
        let mut features = Opened::features();
        features.extend([
            F::new("ports", "", "distinct pairs of protocol and destination port of flows opened", |w| w.ports.distinct()),
            F::new("port_entropy", "bit", "entropy of protocol and destination port of flows opened", |w| w.ports.entropy()),
            F::new("port_top_share", "", "share of flows opened to the commonest protocol and port", |w| w.ports.top_share()),
            F::new("source_ports", "", "distinct source ports of flows opened", |w| w.source_ports.count()),
            F::new("new_services", "", "flows opened to a service of this destination that this source had not used before", |w| count(w.new_services)),
            F::new("icmp_packet_sizes", "", "distinct packet lengths among the first packets of ICMP flows that ended: an echo of a usual tool has one or two", |w| w.echo_sizes.count()),
        ]);
        features.extend(Attempts::features());
        features.extend(Volume::features());
        features.extend(Ended::features());
        features.extend(regularity_features());
        features
    }

    fn starts(pair: &PairAggregate) -> Option<&StartTimes> {
        Some(&pair.starts)
    }
}
