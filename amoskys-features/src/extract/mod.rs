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

mod catalog;
mod dns_clients;
mod domain;
mod fact;
mod hosts;
mod network;
mod pairs;
mod parts;
mod seen;
mod services;
mod tracker;
mod window_set;

pub use self::catalog::{Catalog, Feature, View, schema_of};
pub use self::dns_clients::{DnsAggregate, DnsClients};
pub use self::domain::{byte_entropy, registered_domain, subdomain};
pub use self::fact::{AttemptOutcome, Fact, Half, Novelty, Traffic};
pub use self::hosts::{HostAggregate, Hosts};
pub use self::network::{ExtractConfig, ExtractCounters, NetworkExtractor};
pub use self::pairs::{PairAggregate, Pairs};
pub use self::services::{ServiceAggregate, Services};
pub use self::tracker::{TrackerConfig, TrackerCounters};
