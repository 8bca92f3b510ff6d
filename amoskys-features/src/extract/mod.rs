//! From events to feature vectors.
//!
//! [`NetworkExtractor`] reads flow, DNS and ARP events. It takes flow records apart into [`Fact`]s, gives each
//! fact to the [`Catalog`]s, and hands out a vector per entity and window.
//!
//! | catalog | entity | schema names | from |
//! |---|---|---|---|
//! | [`Hosts`] | a host that opens flows or speaks ARP | `host.10s`, `host.60s` | flows, ARP |
//! | [`Pairs`] | two hosts, the opener first | `pair.10s`, `pair.60s` | flows |
//! | [`Services`] | a server's port | `service.10s`, `service.60s` | flows |
//! | [`DnsClients`] | a host that asks for names | `dns_client.10s`, `dns_client.60s` | DNS |
//! | [`Targets`] | a host that flows are opened to | `target.10s` and so on | flows |
//! | [`Shapes`] | a host that opens flows | `shape.10s` and so on | flows |
//! | [`Contents`] | a host that opens flows | `content.10s` and so on | flows |
//! | [`Processes`] | a device | `process.10s` and so on | processes |
//! | [`Syscalls`] | a process | `syscall.10s` and so on | system calls |
//! | [`SeriesCatalog`] | a series of a metric | `series.300s` and so on | measurements |
//!
//! [`FlowExtractor`] makes a vector of a single flow, and [`ImageExtractor`] one of damped statistics for each packet,
//! or what counts as one. [`reference()`] lists all features.

mod calls;
mod catalog;
mod contents;
mod dns_clients;
mod domain;
mod fact;
mod flow;
mod hosts;
mod image;
mod network;
mod pairs;
mod parts;
mod process_tracker;
mod processes;
mod reference;
mod seen;
mod series;
mod series_tracker;
mod services;
mod shapes;
mod syscalls;
mod targets;
mod tracker;
mod window_set;

pub use self::catalog::{Catalog, Feature, Kind, Reads, View, schema_of};
pub use self::contents::{ContentAggregate, Contents};
pub use self::dns_clients::{DnsAggregate, DnsClients};
pub use self::domain::{byte_entropy, registered_domain, subdomain};
pub use self::fact::{Ancestry, AttemptOutcome, Calls, Fact, Half, Novelty, Sample, Traffic};
pub use self::flow::{FlowExtractor, flow_features};
pub use self::hosts::{HostAggregate, Hosts};
pub use self::image::{
    AfterImage, AfterImageState, ImageConfig, ImageExtractor, ImageFeature, RATES_HZ, Sighting,
    image_features,
};
pub use self::network::{ExtractConfig, ExtractCounters, NetworkExtractor};
pub use self::pairs::{PairAggregate, Pairs};
pub use self::processes::{ProcessAggregate, Processes};
pub use self::reference::{CatalogReference, FeatureReference, reference};
pub use self::series::{SeriesAggregate, SeriesCatalog};
pub use self::services::{ServiceAggregate, Services};
pub use self::shapes::{ShapeAggregate, Shapes};
pub use self::syscalls::{SyscallAggregate, Syscalls};
pub use self::targets::{TargetAggregate, Targets};
pub use self::tracker::{TrackerConfig, TrackerCounters};
