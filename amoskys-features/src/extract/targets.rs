use amoskys_core::event::Entity;

use super::catalog::{Catalog, Feature};
use super::fact::Fact;
use super::parts::{Attempts, Ended, Opened, Volume, add_common, count, has_parts, regularity_features};
use super::tracker::is_group;
use crate::aggregate::{Distinct, Frequencies, StartTimes, aggregate, ratio};
use crate::hash::KeyHash;

/// Features of a host as the one whom flows are opened to, on all its ports together. The entity is [`Entity::Host`];
/// multicast and broadcast addresses are none.
pub struct Targets;

type F = Feature<TargetAggregate>;

aggregate! {
    /// What is kept for a host that flows are opened to.
    pub struct TargetAggregate {
        opened: Opened,
        attempts: Attempts,
        volume: Volume,
        ended: Ended,
        starts: StartTimes,
        sources: Frequencies,
        ports: Frequencies,
        sockets: Distinct,
        source_ports: Frequencies,
        ttls: Frequencies,
        new_sources: u64,
    }
}

has_parts!(TargetAggregate: opened: Opened, attempts: Attempts, volume: Volume, ended: Ended);

impl Catalog for Targets {
    type Aggregate = TargetAggregate;

    const NAME: &'static str = "target";

    fn entity(fact: &Fact<'_>) -> Option<Entity> {
        let key = match fact {
            Fact::Opened { record, .. } | Fact::Closed { record, .. } => &record.key,
            Fact::Traffic { key, .. } | Fact::Attempt { key, .. } => key,
            _ => return None,
        };
        (!is_group(key.destination)).then_some(Entity::Host(key.destination))
    }

    fn add(target: &mut TargetAggregate, fact: &Fact<'_>) {
        add_common(target, fact);
        if let Fact::Opened { record, novelty } = fact {
            let key = &record.key;
            let source = KeyHash::of_address(key.source);
            let service = KeyHash::of_number(u64::from(key.protocol) << 16 | u64::from(key.destination_port));
            target.opened.add(record);
            target.starts.add(record.first);
            target.sources.add(source);
            target.ports.add(service);
            target.sockets.add(source.and(service));
            target
                .source_ports
                .add(KeyHash::of_number(u64::from(key.source_port)));
            target
                .ttls
                .add(KeyHash::of_number(u64::from(record.forward.ttl_max)));
            target.new_sources += u64::from(novelty.destination);
        }
    }

    fn features() -> Vec<Feature<TargetAggregate>> {
        let mut features = Opened::features();
        features.extend([
            F::new(
                "sources",
                "",
                "distinct addresses that opened flows to the host: its fan-in",
                |w| w.sources.distinct(),
            ),
            F::new(
                "source_entropy",
                "bit",
                "entropy of the addresses that opened flows",
                |w| w.sources.entropy(),
            ),
            F::new(
                "source_evenness",
                "",
                "source_entropy in units of the largest possible",
                |w| w.sources.evenness(),
            )
            .within(0.0, 1.0),
            F::new(
                "source_top_share",
                "",
                "share of flows opened by the busiest address",
                |w| w.sources.top_share(),
            ),
            F::new(
                "new_sources",
                "",
                "flows opened by addresses that had opened none to the host before",
                |w| count(w.new_sources),
            ),
            F::new("new_source_ratio", "", "new_sources / opened", |w| {
                ratio(w.new_sources, w.opened.count())
            }),
            F::new(
                "ports",
                "",
                "distinct protocols and ports that flows were opened to",
                |w| w.ports.distinct(),
            ),
            F::new(
                "port_entropy",
                "bit",
                "entropy of the protocols and ports that flows were opened to",
                |w| w.ports.entropy(),
            ),
            F::new(
                "port_top_share",
                "",
                "share of flows opened to the busiest port",
                |w| w.ports.top_share(),
            ),
            F::new(
                "source_services",
                "",
                "distinct pairs of source address and port of the host",
                |w| w.sockets.count(),
            ),
            F::new(
                "ports_per_source_mean",
                "",
                "source_services / sources; NaN without",
                |w| w.sockets.count() / w.sources.distinct(),
            ),
            F::new(
                "source_port_entropy",
                "bit",
                "entropy of the ports that flows came from",
                |w| w.source_ports.entropy(),
            ),
            F::new(
                "ttls",
                "",
                "distinct times to live of the flows' first senders",
                |w| w.ttls.distinct(),
            ),
            F::new(
                "low_port_ratio",
                "",
                "TCP and UDP flows to ports below 1024 / opened",
                |w| ratio(w.opened.low_ports(), w.opened.count()),
            ),
        ]);
        features.extend(Attempts::features());
        features.extend(Volume::features());
        features.extend(Ended::features());
        features.extend(regularity_features());
        features
    }

    fn starts(target: &TargetAggregate) -> Option<&StartTimes> {
        Some(&target.starts)
    }
}
