//! Flows metered inside the kernel: [`KernelFlowCollector`], the second way beside
//! [`FlowCollector`](crate::flow::FlowCollector).
//!
//! Where that one is handed every packet, this one is handed flows: a program at the entry and exit of the interface
//! counts packets where they pass, and none is copied. It is for links that are too fast, or processors that are too
//! small, for the other.
//!
//! # What is the same
//!
//! A flow, its key, its direction, when it ends and why, and all figures of a [`FlowRecord`](amoskys_core::event::FlowRecord)
//! from headers and times: lengths, gaps, activity, flags, retransmissions, bulk transfers, the first packets one by
//! one, the first bytes. A test meters the same traffic both ways and compares the records.
//!
//! # What is not
//!
//! - Of payloads only the first 16 bytes are looked at: `tls`, `http`, `dns`, `tunnel` and `entropy` are `None`, and
//!   there are no events of DNS messages. `icmp` is `None` too. None of this says that the flow had no such thing.
//! - ARP messages are counted, not reported.
//! - Packets behind MPLS, PPPoE, 802.3 LLC and the rarer tags are counted as [`KernelSkip::Encapsulated`]; VLAN tags
//!   are looked through, up to four. IPv6 headers are followed over eight extensions.
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
