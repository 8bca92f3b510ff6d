//! Turns security events into numbers: event-time windows per host, pair of hosts, service, process and whatever else,
//! 826 named features in twelve catalogs, and the encoders and normalizers that bring them into the form a model wants.
//!
//! It is *not* a model, a collector or a place to store events; those are the crates `amoskys-analysis`,
//! `amoskys-collectors` and `amoskys-transport`, none of which it depends on. Vectors come out as
//! [`FeatureVector`](amoskys_core::FeatureVector)s of `amoskys-core`, for any analyzer.
//!
//! # A small program
//!
//! Three connections that nobody answers, seen as features of the host that tried:
//!
//! ```
//! use std::sync::Arc;
//!
//! use amoskys_core::event::{Entity, FlowRecord, Punctuation};
//! use amoskys_core::{Class, Epoch, Event, Extractor as _, Payload, Recorded, Seq, StreamId, Timestamp};
//! use amoskys_features::extract::{ExtractConfig, NetworkExtractor};
//!
//! let stream = Arc::new(StreamId { agent: "sensor".into(), epoch: Epoch::default(), class: Class::Telemetry });
//! let recorded = |seq: u64, second: i64, payload: Payload| {
//!     let event = Event { time: Timestamp::from_secs(second), payload, ..Event::default() };
//!     Recorded { timeline: 0, stream: Arc::clone(&stream), seq: Seq(seq), event }
//! };
//!
//! let mut extractor = NetworkExtractor::standard(ExtractConfig::default());
//! let mut features = Vec::new();
//! for port in [22, 23, 25] {
//!     let mut flow = FlowRecord { flow: port, first: Timestamp::from_secs(1), ..FlowRecord::default() };
//!     flow.key.source = [10, 0, 0, 1].into();
//!     flow.key.destination = [10, 0, 0, 2].into();
//!     flow.key.destination_port = port as u16;
//!     flow.forward.packets = 1;
//!     extractor.observe(&recorded(port, 1, Payload::Flow(Box::new(flow))), &mut features);
//! }
//! // The sensor's clock moves on, and windows close.
//! extractor.observe(&recorded(26, 60, Payload::Punctuation(Punctuation::default())), &mut features);
//!
//! let host = Entity::Host([10, 0, 0, 1].into());
//! let end = Timestamp::from_secs(10);
//! let vector = features
//!     .iter()
//!     .find(|v| v.schema.name().as_str() == "host.10s" && v.entity == host && v.end == end)
//!     .expect("the host was active");
//! assert_eq!(vector.value("ports"), Some(3.0));
//! assert_eq!(vector.value("unanswered"), Some(3.0));
//! ```
//!
//! # The parts
//!
//! | module | what it holds |
//! |---|---|
//! | [`extract`] | [`NetworkExtractor`](extract::NetworkExtractor): from events to feature vectors; [`FlowExtractor`](extract::FlowExtractor) of single flows, [`AfterImage`](extract::AfterImage) of packets; the catalogs of features and their [list](extract::reference) |
//! | [`window`] | [`KeyedWindows`](window::KeyedWindows): sliding and tumbling windows for each of many entities; [sessions](window::SessionWindows), [damped](window::DampedWindows) windows; the [clock](window::StreamClock) of a stream and of [several](window::Sources) |
//! | [`aggregate`] | what is computed over a window: moments, distinct counts, quantiles, entropies, damped sums, regularity |
//! | [`normalize`] | min-max, z-score, robust, quantile, logarithmic; fitted or streaming |
//! | [`drift`] | whether a feature or a score is still what it was: PSI, Kolmogorov-Smirnov, ADWIN, Page-Hinkley |
//! | [`encode`] | one-hot, hashing, frequency, ordinal, cyclic, time of week |
//!
//! # What it promises
//!
//! - *Event time.* Windows close by the times of events and by the sensor's punctuations, never by the wall clock.
//!   Each stream has a clock of its own. Late events are counted, and dropped or moved as configured.
//! - *Reproducible.* The same events in the same order give the same vectors, bit for bit, and so does a run that was
//!   stopped, stored and restored anywhere.
//! - *Bounded.* Entities, flows, streams, keys and panes have limits; what is forgotten is counted. No time stamp,
//!   however absurd, costs a loop or memory.
//! - *Counted once.* Flow records repeat their counters; each packet counts once.
//! - *No surprise at the model.* A fitted transform knows the schema it was fitted on by its digest, and refuses
//!   vectors of another.
//!
//! # Features
//!
//! The crate has no feature flags.
//!
//! # Platforms
//!
//! Any platform with the Rust standard library. No privileges are needed.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

pub mod aggregate;
pub mod drift;
pub mod encode;
pub mod error;
pub mod extract;
mod fitted;
pub mod hash;
mod lru;
pub mod normalize;
mod pack;
mod snapshot;
#[cfg(test)]
mod testing;
pub mod window;

pub use self::error::{FitError, LoadError};
pub use self::fitted::{BoxTransform, FittedTransform, load};

/// The program in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
