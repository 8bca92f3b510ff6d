use amoskys_core::event::{Entity, FlowKey};

use super::catalog::{Catalog, Feature};
use super::fact::Fact;
use super::parts::{Attempts, Ended, Opened, Volume, add_common, count, has_parts, regularity_features};
use crate::aggregate::{Frequencies, StartTimes, aggregate, ratio};
use crate::hash::KeyHash;

/// Features of a service as its clients use it. The entity is [`Entity::Service`].
pub struct Services;

type F = Feature<ServiceAggregate>;

aggregate! {
    /// What is kept for a service.
    pub struct ServiceAggregate {
        opened: Opened,
        attempts: Attempts,
        volume: Volume,
        ended: Ended,
        starts: StartTimes,
        clients: Frequencies,
        new_clients: u64,
    }
}

has_parts!(ServiceAggregate: opened: Opened, attempts: Attempts, volume: Volume, ended: Ended);

impl Catalog for Services {
    type Aggregate = ServiceAggregate;

    const NAME: &'static str = "service";

    fn entity(fact: &Fact<'_>) -> Option<Entity> {
        let service = |key: &FlowKey| Entity::Service(key.destination, key.protocol, key.destination_port);
        match fact {
            Fact::Opened { record, .. } | Fact::Closed { record, .. } => Some(service(&record.key)),
            Fact::Traffic { key, .. } | Fact::Attempt { key, .. } => Some(service(key)),
            _ => None,
        }
    }

    fn add(service: &mut ServiceAggregate, fact: &Fact<'_>) {
        add_common(service, fact);
        if let Fact::Opened { record, novelty } = fact {
            service.opened.add(record);
            service.starts.add(record.first);
            service.clients.add(KeyHash::of_address(record.key.source));
            service.new_clients += u64::from(novelty.client);
        }
    }

    fn features() -> Vec<Feature<ServiceAggregate>> {
        let mut features = vec![
            F::new("opened", "", "flows opened to the service", |w| {
                count(w.opened.count())
            }),
            F::new(
                "clients",
                "",
                "distinct addresses that opened flows to the service",
                |w| w.clients.distinct(),
            ),
            F::new(
                "client_entropy",
                "bit",
                "entropy of the addresses that opened flows",
                |w| w.clients.entropy(),
            ),
            F::new(
                "client_top_share",
                "",
                "share of flows opened by the busiest client",
                |w| w.clients.top_share(),
            ),
            F::new(
                "new_clients",
                "",
                "flows opened by clients that had not used the service before",
                |w| count(w.new_clients),
            ),
            F::new("new_client_ratio", "", "new_clients / opened", |w| {
                ratio(w.new_clients, w.opened.count())
            }),
        ];
        features.extend(Attempts::features());
        features.extend(Volume::features());
        features.extend(Ended::features());
        features.extend(regularity_features());
        features
    }

    fn starts(service: &ServiceAggregate) -> Option<&StartTimes> {
        Some(&service.starts)
    }
}
