//! Turns security events into numbers.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

pub mod aggregate;
pub mod encode;
pub mod error;
pub mod extract;
mod fitted;
pub mod hash;
mod lru;
pub mod normalize;
mod snapshot;
#[cfg(test)]
mod testing;
pub mod window;

pub use self::error::{FitError, LoadError};
pub use self::fitted::{BoxTransform, FittedTransform, load};
