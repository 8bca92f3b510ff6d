//! Turns security events into verdicts that a person can act on: three layers of detectors, calibrated fusion, and alerts
//! that say why.
//!
//! [`Detection`] is the whole analysis as one [`Analyzer`](amoskys_core::Analyzer): flow, DNS and ARP events go in, verdicts
//! come out, each with its evidence, the MITRE ATT&CK technique, and the range of events behind it. It works cold, on documented
//! priors, and better with a [`Baseline`] learned from honest traffic.
//!
//! It is *not* a collector, a transport or a store: events come from `amoskys-collectors` or from your own sensors, and the
//! pipeline of `amoskys-core` drives it.
//!
//! ```
//! use amoskys_analysis::{AlertFile, Detection, DetectionConfig};
//! use amoskys_core::{Analyzer, Observation, Recorded};
//!
//! fn watch(events: &[Recorded], mut file: AlertFile) -> Result<(), Box<dyn std::error::Error>> {
//!     let mut detection = Detection::new(DetectionConfig::default(), Vec::new())?;
//!     let mut verdicts = Vec::new();
//!     for event in events {
//!         detection.observe(Observation::Event(event), &mut verdicts)?;
//!         for verdict in verdicts.drain(..) {
//!             file.take(&verdict)?;
//!         }
//!     }
//!     Ok(file.tidy()?)
//! }
//! ```
//!
//! # What it finds
//!
//! | layer | sees | finds |
//! |---|---|---|
//! | geometric: who talks to whom | contacts that fail, who uses a server, ARP claims | port scans and host sweeps, SYN floods, ARP spoofing and sweeps |
//! | temporal: how much, and when | intervals, rates, volumes, echo payloads | beacons, regular and large uploads, ICMP tunnels |
//! | behavioral: in what order | series of connections, names, first flights, outcomes | password guessing, repeated exploits, DNS tunnels, broken TLS handshakes |
//!
//! Each detector is a score card of log-odds: a prior, and a term for each thing it measures. A layer that can say something about
//! another's suspicion adds it. Fusion is their weighted sum; above a probability of 0.7 a verdict is an alert. Findings about
//! the same attack are one verdict that grows. What each detector assumes, when it fails and what it costs stands at
//! the head of its source file; `docs/detection.md` in the repository has the whole picture, and measured results.
//!
//! # Parts
//!
//! - [`Detection`], [`DetectionConfig`]: the analyzer, and its priors, weights and limits; [`Detection::of_layer`] for one layer
//!   alone.
//! - [`Baseline`], [`BaselineBuilder`]: what is normal here.
//! - [`Correlation`]: several analyzers as one, which joins what they say about the same attack; [`attack`]: techniques and tactics of
//!   MITRE ATT&CK.
//! - [`story`]: alerts that follow from each other, told in order.
//! - [`feedback`]: what somebody calls normal is no alert, at once.
//! - [`AlertFile`], [`alert`]: alerts as lines of JSON.
//! - [`Review`]: what a log amounts to, read back or drawn anew.
//! - [`iforest`]: an isolation forest; `detectors` (feature `linfa`): other detectors for tables of numbers, and an automatic
//!   ensemble; `boost` (feature `linfa`): boosted trees for data with labels; `explain` (same):
//!   which features make a score; [`calibrate`]: from scores to probabilities; [`model`]: model files; [`eval`]: measures of quality.
//! - [`graph`]: edges, conversations, degrees, paths and communities, as scorers and as an analyzer; [`sequence`]: models of system
//!   calls, and rules for known patterns.
//! - [`live`]: models replaced while events flow, or tried beside one another.
//! - `report` (feature): a self-contained HTML report.
//!
//! # Features
//!
//! | feature | default | what it turns on |
//! |---|---|---|
//! | `linfa` | yes | detectors for tables of numbers, and the isolation forest, as linfa estimators on ndarray views |
//! | `report` | no | the HTML report |
//! | `sigma` | no | Sigma rules, applied to events of processes |
//!
//! # Platforms
//!
//! Any platform with the Rust standard library. No privileges are needed. Verdicts are the same, bit for bit, with the same
//! binary on the same kind of CPU.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

pub mod alert;
pub mod attack;
pub mod baseline;
mod behavioral;
#[cfg(feature = "linfa")]
#[cfg_attr(docsrs, doc(cfg(feature = "linfa")))]
pub mod boost;
pub mod calibrate;
pub mod config;
pub mod correlation;
mod detection;
#[cfg(feature = "linfa")]
#[cfg_attr(docsrs, doc(cfg(feature = "linfa")))]
pub mod detectors;
mod engine;
pub mod eval;
#[cfg(feature = "linfa")]
#[cfg_attr(docsrs, doc(cfg(feature = "linfa")))]
pub mod explain;
pub mod feedback;
mod finding;
mod fusion;
mod geometric;
pub mod graph;
pub mod iforest;
mod layer;
pub mod live;
mod measure;
pub mod model;
pub mod odds;
#[cfg(feature = "report")]
pub mod report;
pub mod review;
pub mod sequence;
pub mod series;
mod sighting;
mod snapshot;
pub mod story;
mod temporal;

pub use self::alert::AlertFile;
pub use self::baseline::{Baseline, BaselineBuilder};
pub use self::config::DetectionConfig;
pub use self::correlation::Correlation;
pub use self::detection::{Detection, DetectionLayer};
pub use self::finding::evidence_schema;
pub use self::review::Review;
