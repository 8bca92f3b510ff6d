//! Flows that others have metered: NetFlow v5 (Cisco), v9 (RFC 3954) and IPFIX (RFC 7011, RFC 5103), received over UDP
//! or read from captures; and our own flows sent as IPFIX.
//!
//! - [`NetflowCollector`] is the source for a pipeline; [`NetflowDecoder`] decodes datagrams, to be driven by hand.
//! - [`IpfixSink`] sends flows to other collectors; [`IpfixEncoder`] writes IPFIX messages, for files and TCP.
//!
//! # From fields to a flow
//!
//! Numbers are those of IANA's elements, which v9 shares.
//!
//! | [`FlowRecord`](amoskys_core::event::FlowRecord) | elements, the first that is there | note |
//! |---|---|---|
//! | `flow` | | running number of the collector |
//! | `phase` | `flowEndReason` (136), else TCP flags | always an end: `Active` for a flow that goes on |
//! | `key` addresses | 8 and 12, 27 and 28 | where both kinds are there, the one that is not zero |
//! | `key` ports | 7 and 11, 180 to 183 | 0 for ICMP |
//! | `key.protocol` | 4 | |
//! | `first`, `last` | 150 to 157; 158 and 159 before the export; 21 and 22 since boot; 161 and 162; 322 to 325; time of export | see below |
//! | `interface` | `ingressInterface` (10) | the exporter's number |
//! | `vlan`, `inner_vlan` | 58 or 243, 245 | |
//! | `source_mac`, `destination_mac` | 56, 80 | all zeros is none |
//! | `forward.packets` | 2, 298, 86, 24 | deltas before totals |
//! | `forward.lengths` (bytes) | 1, 231, 85, 23 | least and largest from 25 and 26, else the mean |
//! | `forward.frame_bytes` | 352, 353 | |
//! | `forward.ttl_min`, `ttl_max` | 52 and 53, 192 | |
//! | `backward` | the same of enterprise 29305 (RFC 5103); 232 and 299 | empty for a record of one direction |
//! | `tcp` flags | 6 | each flag that was seen counts once: exporters do not say how often |
//! | `icmp` | 32 or 139, 176 to 179, else the destination port | |
//! | `sampling_rate` | 34, 50, 305 and 306, 309 and 310, 311; the header of v5 | of the record, of the sampler it names (48, 302), or of the exporter; to the nearest whole number, 0 where nothing is said. Counts are not scaled |
//!
//! Everything else is an attribute of the event, under IANA's name (`egressInterface`, `bgpSourceAsNumber`,
//! `postNATSourceIPv4Address` and so on), `element_ID` or `enterprise_NUMBER_ID`. Always there are
//! `exportProtocolVersion` and `observationDomainId`. A sampled export has `sampling_interval`, not rounded,
//! `scaled_packets` and `scaled_octets` beside the counts as they came. Distributions of lengths and gaps, payload, retransmissions and the
//! first packets are not exported by anybody, and stay empty.
//!
//! # Times
//!
//! The clock since boot of v5 and v9 is set against the uptime in the same datagram, with 32-bit wrap; a flow that began
//! more than 24.8 days before is dated wrong. v9 states its export in whole seconds, so its times may be a second early.
//! IPFIX has no uptime: `systemInitTimeMilliseconds` (160) is used if the exporter sends it, else flows end when they
//! are exported. A flow that by the clock since boot would end a minute or more after its export ends with it.
//!
//! # Templates
//!
//! Belong to (exporter address, version, domain), expire, and are limited in number, fields and memory: see
//! [`NetflowConfig`]. Sets that come before their template wait for it in limited room. Withdrawals are ignored, as
//! RFC 7011 asks for UDP: a forged one would silence an exporter.
//!
//! # Losses and restarts
//!
//! Sequence numbers count flows in v5, datagrams in v9, and data records in IPFIX; a gap is a
//! [`Loss`](amoskys_core::Payload::Loss) and in the tally. Late and repeated datagrams are used, and not counted as
//! missing again. An exporter whose uptime fell, or whose numbers begin anew, has restarted: that is no loss, and v9's
//! templates are forgotten. Exporters that count IPFIX records in other ways than RFC 7011 (their own datagram too, or
//! without records about themselves) are recognised.
//!
//! # What is not here
//!
//! sFlow, which samples packets and not flows, and is read by `sflow`; v1, v7 and v8; IPFIX over TCP and SCTP, DTLS; structured data (RFC 6313),
//! which is kept as bytes. UDP proves nothing of who sent a datagram: receive exports on a network of their own.

pub(crate) mod assemble;
mod collector;
pub(crate) mod config;
pub(crate) mod decoder;
mod domain;
mod element;
pub(crate) mod events;
mod export;
pub(crate) mod exports;
mod record;
mod sampling;
pub(crate) mod sequence;
mod socket;
mod stats;
mod template;
mod v5;
pub(crate) mod worker;

pub use self::collector::{NetflowCollector, NetflowError};
pub use self::config::{NetflowConfig, NetflowConfigError};
pub use self::decoder::{ExportLoss, NetflowDecoder, NetflowHandler};
pub use self::export::{IpfixConfig, IpfixEncoder, IpfixError, IpfixSink};
pub use self::record::{Export, ExportRecord, Field};
pub use self::sampling::SamplingRate;
pub use self::stats::NetflowStats;
