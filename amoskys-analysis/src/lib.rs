//! Turns security events into verdicts that a person can act on: three layers of detectors, calibrated fusion, and alerts that
//! say why.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

pub mod alert;
pub mod baseline;
mod behavioral;
pub mod calibrate;
pub mod config;
mod detection;
mod engine;
pub mod eval;
mod finding;
mod fusion;
mod geometric;
pub mod iforest;
mod layer;
mod measure;
pub mod model;
pub mod odds;
#[cfg(feature = "report")]
pub mod report;
mod sighting;
mod snapshot;
mod temporal;

pub use self::alert::AlertFile;
pub use self::baseline::{Baseline, BaselineBuilder};
pub use self::config::DetectionConfig;
pub use self::detection::{Detection, DetectionLayer};
pub use self::finding::evidence_schema;
