use super::catalog::{Catalog, Feature, Kind};
use super::contents::Contents;
use super::dns_clients::DnsClients;
use super::flow::flow_features;
use super::hosts::Hosts;
use super::image::image_features;
use super::pairs::Pairs;
use super::processes::Processes;
use super::series::SeriesCatalog;
use super::services::Services;
use super::shapes::Shapes;
use super::syscalls::Syscalls;
use super::targets::Targets;

/// What there is to know about a catalog of features.
#[derive(Clone, Debug, PartialEq)]
pub struct CatalogReference {
    /// Its name: schemas are called by it, and windows of so many seconds as in `host.10s`.
    pub name: &'static str,
    /// Whom its vectors are about.
    pub entity: &'static str,
    /// The events it needs.
    pub events: &'static str,
    /// Over which stretch of time.
    pub window: &'static str,
    /// Its features, in the order of the schema.
    pub features: Vec<FeatureReference>,
}

/// What there is to know about a feature.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureReference {
    /// Its name, unique in its catalog.
    pub name: String,
    /// What kind of number it is.
    pub kind: Kind,
    /// Its unit by UCUM; empty for a count or a ratio.
    pub unit: &'static str,
    /// How it is computed.
    pub formula: String,
    /// The smallest and the largest value it can have, when it is not NaN.
    pub range: (f64, f64),
}

/// All catalogs of this crate with all their features.
#[must_use]
pub fn reference() -> Vec<CatalogReference> {
    const FLOWS: &str = "flow records";
    const NETWORK: &str = "10 s every 1 s, 60 s every 10 s, 300 s every 60 s, or any other";
    const PROCESSES: &str = "10 s every 1 s, 60 s every 10 s, or any other";
    let image = image_features().into_iter().map(|feature| FeatureReference {
        name: feature.name,
        kind: feature.kind,
        unit: feature.unit,
        formula: feature.description,
        range: feature.range,
    });
    vec![
        CatalogReference {
            name: "flow",
            entity: "pair of hosts",
            events: "the last record of a flow, or each",
            window: "the flow, from its first to its last packet",
            features: listed(flow_features()),
        },
        CatalogReference {
            name: "image",
            entity: "pair of sender and receiver",
            events: "flow records: what one adds to a direction counts as a packet; or packets themselves",
            window: "damped, at five rates",
            features: image.collect(),
        },
        of::<Hosts>(
            "host that opens flows or speaks ARP",
            "flow records, ARP messages",
            NETWORK,
        ),
        of::<Targets>("host that flows are opened to", FLOWS, NETWORK),
        of::<Shapes>("host that opens flows", FLOWS, NETWORK),
        of::<Contents>("host that opens flows", FLOWS, NETWORK),
        of::<Pairs>("two hosts, the opener first", FLOWS, NETWORK),
        of::<Services>("a server's port", FLOWS, NETWORK),
        of::<DnsClients>("host that asks for names", "DNS messages", NETWORK),
        of::<Processes>("device", "process events", PROCESSES),
        of::<Syscalls>("process", "system call events", PROCESSES),
        of::<SeriesCatalog>(
            "series of a metric",
            "metric events",
            "300 s every 60 s, 3600 s every 600 s, or any other",
        ),
    ]
}

fn of<C: Catalog>(entity: &'static str, events: &'static str, window: &'static str) -> CatalogReference {
    CatalogReference {
        name: C::NAME,
        entity,
        events,
        window,
        features: listed(C::features()),
    }
}

fn listed<A>(features: Vec<Feature<A>>) -> Vec<FeatureReference> {
    let list = features.into_iter().map(|feature| FeatureReference {
        name: feature.name.to_owned(),
        kind: feature.kind,
        unit: feature.unit,
        formula: feature.description.to_owned(),
        range: feature.range,
    });
    list.collect()
}
