//! Collectors of security telemetry: one module and one feature for each kind of source.
//!
//! Today there are two: packets, from capture files and live interfaces, metered into flows; and the flows that
//! routers, firewalls and probes export.
//!
//! - [`capture`] reads packets: pcap and pcapng files, damaged ones included, and Linux interfaces.
//! - [`packet`] decodes them: link layers, IP, TCP, UDP, ICMP, ARP, DNS. Pure functions over bytes that may be
//!   anything.
//! - [`flow`] meters them: [`FlowMeter`](flow::FlowMeter) is the flow table, to be driven by hand;
//!   [`FlowCollector`](flow::FlowCollector) is the source for a pipeline; [`RowWriter`](flow::RowWriter) writes CSV
//!   and JSON.
//! - `netflow` receives what others have metered: NetFlow v5 and v9, and IPFIX.
//! - `sflow` receives packets that switches sample, and their interface counters: sFlow v5.
//! - `proc` samples what Linux lists: processes and what they use, who owns which socket, the load of the host.
//! - `fim` watches files, and says how they differ from a signed baseline.
//! - `host` samples processes and load where there is no `proc`.
//!
//! It is *not* a detector, and carries nothing anywhere: those are `amoskys-features` and `amoskys-analysis`, and
//! `amoskys-transport`. This crate depends on `amoskys-core` alone.
//!
//! ```
//! use amoskys_collectors::flow::{FlowCollector, FlowConfig};
//! use amoskys_core::{Collector, Payload};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mut flows = FlowCollector::from_files(["monday.pcap"])?.with_config(FlowConfig::default())?;
//! while let Some(batch) = flows.next_batch().await? {
//!     for event in batch.events {
//!         if let Payload::Flow(flow) = event.payload {
//!             println!("{} {:?} {} bytes", flow.key, flow.phase, flow.bytes());
//!         }
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! | feature | default | what it turns on |
//! |---|---|---|
//! | `flow` | yes | [`capture`], [`packet`] and [`flow`]; uses the channel of tokio inside, which needs no reactor |
//! | `quic` | no | `packet::quic`: the client hello in QUIC is read too; brings cryptography (ring) |
//! | `netflow` | no | `netflow`, which reads captures with the above |
//! | `sflow` | no | `sflow`; uses flowparser-sflow |
//! | `ebpf` | no | `ebpf`, what processes do, and the flows of an interface, by programs in the Linux kernel; uses aya. The programs come compiled |
//! | `proc` | no | `proc`, on Linux |
//! | `fim` | no | `fim`, on Linux; uses ring |
//! | `host` | no | `host`, processes and load on any system; uses sysinfo |
//!
//! # Platforms and privileges
//!
//! Files are read anywhere. Live capture needs Linux and the capability `CAP_NET_RAW`; elsewhere opening an interface
//! is an error. No C library is needed.
//!
//! All unsafe code is in three files: `src/capture/afpacket.rs`, the ring of memory shared with the kernel,
//! `src/netflow/socket.rs`, two options of UDP sockets, and `src/ebpf/perf.rs`, which attaches programs to tracepoints.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]

#[cfg(feature = "flow")]
pub mod capture;
#[cfg(all(any(feature = "ebpf", feature = "proc"), target_os = "linux"))]
mod clock;
#[cfg(all(any(feature = "ebpf", feature = "proc"), target_os = "linux"))]
mod container;
#[cfg(all(feature = "ebpf", target_os = "linux"))]
pub mod ebpf;
#[cfg(all(feature = "fim", target_os = "linux"))]
pub mod fim;
#[cfg(feature = "flow")]
pub mod flow;
#[cfg(feature = "host")]
pub mod host;
#[cfg(any(
    feature = "host",
    all(any(feature = "ebpf", feature = "proc", feature = "fim"), target_os = "linux")
))]
#[cfg_attr(
    not(all(feature = "proc", target_os = "linux")),
    allow(dead_code, reason = "not every source loses, drops and fails")
)]
mod live;
#[cfg(feature = "netflow")]
pub mod netflow;
#[cfg(feature = "flow")]
pub mod packet;
#[cfg(all(feature = "proc", target_os = "linux"))]
pub mod proc;
#[cfg(feature = "sflow")]
pub mod sflow;
#[cfg(any(
    feature = "host",
    all(any(feature = "ebpf", feature = "proc", feature = "fim"), target_os = "linux")
))]
mod threaded;
