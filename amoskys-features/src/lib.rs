//! Turns security events into numbers.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

pub mod aggregate;
pub mod extract;
pub mod hash;
mod lru;
mod snapshot;
pub mod window;
