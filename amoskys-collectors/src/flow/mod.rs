//! Flows from packets: the meter, its records as CSV and JSON, and the collector for pipelines.
//!
//! # What a flow is
//!
//! All packets between two endpoints, in both directions: protocol, and both addresses and ports, without order. The
//! key is taken from the *outermost* IP header, so that a tunnel over IP (GRE, IP in IP, VXLAN and so on) is one flow;
//! [`FlowConfig::tunnels`] changes that. VLAN ids and MPLS labels are not part of it. The source is the sender of the flow's first packet.
//!
//! - Ports are 0 for protocols without ports, and for fragments after the first, which have no transport header. With
//!   [`FlowConfig::follow_fragments`] they are those of the first fragment. All ICMP messages between two hosts are one
//!   flow.
//! - Bytes are the IP header's total length, so that link padding does not count; frame bytes are counted too.
//! - A header that was cut by the capture is used as far as it goes. A packet whose IP header is cut or contradicts
//!   itself is counted as malformed and belongs to no flow.
//! - Headers quoted in ICMP errors are not traffic.
//!
//! # When a flow ends
//!
//! - When no packet came for [`FlowConfig::idle_timeout`], or it lasted for [`FlowConfig::active_timeout`]. A packet
//!   decides exactly; where none comes, a timer ends the flow within 70 ms, in event time.
//! - A second after both sides sent FIN, or one sent RST. The second lets the last ACK in.
//! - When a SYN opens another connection between the same ports.
//! - When the table is full, and it is the flow unused for longest.
//!
//! An established TCP connection that went idle is remembered for an hour: packets that come then begin a new flow,
//! but with the same source as before, even if the other side speaks first.
//!
//! # Time
//!
//! All time is event time, from the packets. Disorder is borne. A time stamp more than an hour off is checked against
//! the next packet's: one damaged time neither ends all flows nor stops the clock.
//!
//! # What is not here
//!
//! IP fragments and TCP segments are not put together again: DNS messages in later fragments, or cut in two by TCP,
//! are not seen. Client hellos and the heads of HTTP requests are put together, from 8 packets and 8 KiB at most.

pub(crate) mod batcher;
mod blocks;
mod bulk;
mod clock;
mod collector;
mod columns;
mod config;
mod divide;
mod entropy;
mod entry;
#[cfg(all(feature = "ebpf", target_os = "linux"))]
pub(crate) mod excerpts;
mod extra;
mod fanout;
pub(crate) mod files;
mod fragments;
mod further;
mod gather;
mod held;
mod index;
mod key;
mod meter;
mod moments;
mod packets;
mod parallel;
mod payloads;
pub(crate) mod position;
mod prepared;
mod progress;
mod recency;
mod rows;
mod share;
mod slab;
mod snapshot;
mod stats;
mod table;
mod tcp_track;
mod texts;
mod wheel;
mod worker;

pub use self::collector::{FlowCollector, FlowError};
pub use self::config::{FlowConfig, FlowConfigError, MAX_SEQUENCE_LENGTH, TunnelMode};
pub use self::meter::{FlowHandler, FlowMeter};
pub use self::parallel::{ParallelError, meter_in_parallel};
pub use self::progress::Progress;
pub use self::rows::{Columns, RowFormat, RowWriter, UnknownColumns, UnknownFormat};
pub use self::stats::MeterStats;
pub use crate::capture::{LiveConfig, LiveError};
