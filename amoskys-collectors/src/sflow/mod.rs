//! sFlow version 5: packets that switches and routers sample, and counters of their interfaces, received over UDP or
//! read from captures. The format is <https://sflow.org/sflow_version_5.txt>.
//!
//! - [`SflowCollector`] is the source for a pipeline; [`SflowDecoder`] decodes datagrams, to be driven by hand.
//!
//! # From samples to flows
//!
//! An agent sends the first bytes of one packet in so many. They are decoded as captured packets are, by
//! [`packet`](crate::packet), and the samples of one datagram that have the same addresses, ports, protocol, sampling
//! rate, data source and interfaces become one [`FlowRecord`](amoskys_core::event::FlowRecord):
//!
//! | field | from | note |
//! |---|---|---|
//! | `flow` | | running number of the decoder; the next datagram's samples of the same flow are another one |
//! | `phase` | TCP flags | always an end: `Reset` with RST, else `Active`, for a flow that may go on |
//! | `key` | the packet | the source is its sender: sampling does not tell who began |
//! | `first`, `last` | | when the datagram was received: samples carry no time |
//! | `interface` | input interface | the agent's number; 0 if it is not known |
//! | `vlan`, `inner_vlan`, MACs | the packet | of the first one |
//! | `forward` | the packets | counts of the samples, **not scaled** |
//! | `forward.frame_bytes` | length of the frame, less what the agent stripped | without Ethernet's checksum, therefore |
//! | `backward` | | always empty: the other direction is another record |
//! | `tcp` flags, `icmp` | the packets | |
//! | `sampling_rate` | the sample's | [`scaled`](amoskys_core::event::FlowRecord::scaled) estimates what there was |
//!
//! Where an agent sends no packet but its fields (`sampled_ipv4`, `sampled_ipv6`), these are taken. Attributes of the
//! event are `sampling_interval`, `scaled_packets` and `scaled_octets`, as of sampled NetFlow; `sflow_sub_agent` and
//! `sflow_source` (class and index of the data source); and where they are known `egressInterface`, `discardCode` (the
//! agent dropped the packet), `vlanId`, `postVlanId`, `ipNextHopIPv4Address` or `ipNextHopIPv6Address`, and the
//! prefix lengths.
//!
//! A sampled ARP message is an [`ArpRecord`](amoskys_core::event::ArpRecord).
//!
//! # Counters
//!
//! Generic interface counters become [`Metric`](amoskys_core::event::Metric)s with the label `interface`, the agent's
//! number: `if_in_octets`, `if_in_ucast_pkts`, `if_in_multicast_pkts`, `if_in_broadcast_pkts`, `if_in_discards`,
//! `if_in_errors`, `if_in_unknown_protos`, the same of `if_out` (without the last), `if_speed`, `if_admin_up` and
//! `if_oper_up`. Counters that the agent says it does not have are left out. Those of packets have 32 bits and wrap.
//!
//! # Losses and restarts
//!
//! Datagrams are numbered by agent and sub-agent; a gap is a [`Loss`](amoskys_core::Payload::Loss) and in the tally.
//! An agent whose uptime fell, or whose numbers begin anew, has restarted, which is no loss. Samples that an agent
//! lacked the means to take (the `drops` of its samples) are not reported.
//!
//! # What is not here
//!
//! Versions 2 and 4; counters of anything but interfaces, and packets reported because they were discarded: both are
//! counted, and left. A datagram of which any part contradicts itself is given up as a whole. UDP proves nothing of
//! who sent a datagram: receive sFlow on a network of its own.

mod agents;
mod collector;
mod config;
mod counters;
mod decoder;
mod events;
mod flows;
mod sample;
mod stats;

pub use self::collector::SflowCollector;
pub use self::config::SflowConfig;
pub use self::decoder::{SflowDecoder, SflowExport, SflowHandler};
pub use self::flows::SampledFlow;
pub use self::stats::SflowStats;
pub use crate::netflow::{NetflowConfigError as SflowConfigError, NetflowError as SflowError};
