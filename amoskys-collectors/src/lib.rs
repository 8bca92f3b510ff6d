//! Collectors of security telemetry.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]

#[cfg(feature = "flow")]
pub mod capture;
#[cfg(feature = "flow")]
pub mod flow;
#[cfg(feature = "flow")]
pub mod packet;
