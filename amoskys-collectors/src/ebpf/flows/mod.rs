//! Flows metered inside the kernel: [`KernelFlowCollector`], the second way beside
//! [`FlowCollector`](crate::flow::FlowCollector).
//!
//! Where that one is handed every packet, this one is handed flows: a program at the entry and exit of the interface
//! counts packets where they pass, and of most none is copied. It is for links that are too fast, or processors that are
//! too small, for the other.
//!
//! # What is the same
//!
//! The records, and the events of DNS and ARP messages. A test meters the same traffic both ways and compares all of them.
//!
//! - A flow, its key, its direction, when it ends and why, and all figures of a
//!   [`FlowRecord`](amoskys_core::event::FlowRecord) from headers and times are the program's, with the ports of IP
//!   fragments if these are to be [followed](crate::flow::FlowConfig::follow_fragments).
//! - What the program cannot finish goes through the ring to user space, where a
//!   [`FlowMeter`](crate::flow::FlowMeter) meters it: ICMP, and TCP and UDP at the ports of DNS (53, 5353, 5355); if what
//!   is in [tunnels](crate::flow::FlowConfig::tunnels) is to be metered, GRE, IP in IP, and UDP at the ports of VXLAN,
//!   Geneve, GTP-U and Teredo; ARP messages, and packets behind MPLS, PPPoE, LLC, rarer tags, more than four VLAN tags or
//!   eight IPv6 extensions. It is the key of a flow that decides, for all of its packets.
//! - Of the other flows the program hands over copies of the first packets with payload of each side, eight at most, as
//!   long as they may hold a client hello of TLS or QUIC, or a request; of a flow that begins otherwise none. If
//!   [entropy](crate::flow::FlowConfig::entropy_bytes) is wanted, as many as it takes. User space reads them with the same
//!   code as the other collector, and joins what they say to the records by the flow's number.
//!
//! A ring that is full keeps nothing waiting: packets leave an eighth of it for records, and copies a quarter, and what is
//! lost is counted ([`KernelSkip::NoRing`], [`KernelFlowCounts::unread`]).
//!
//! # What is not
//!
//! - A flow is two if some of its packets come in a tunnel that is looked into, or behind one of those headers, and some
//!   do not.
//! - A flow that is metered in user space has an odd number, the others have even ones.
//! - Time-outs are looked for five times a second, so a flow to which nothing comes ends up to 200 ms late.
//! - When the table is nearly full, those unused for longest are ended at the next look; packets of new flows that find
//!   it full are counted, and lost.
//! - The kernel must be at the hook: packets that are dropped before it (TC: before the interface's entry; XDP: by the
//!   card) are not seen, and those that leave are seen before the queue, which may still drop them. XDP sees only what
//!   is received, before tags that the card has taken off are known.
//! - Segments that the card or the kernel has put together, or will cut, are one packet, as they are for `AF_PACKET`.

mod collector;
mod config;
mod meter;
mod packet;
mod report;
mod stats;
mod user;
mod worker;

pub use self::collector::{KernelFlowCollector, KernelFlowHandle};
pub use self::config::{FlowHook, KernelFlowConfig};
pub(in crate::ebpf) use self::report::check_report;
pub use self::stats::{KernelFlowCounts, KernelFlowStats, KernelSkip};
