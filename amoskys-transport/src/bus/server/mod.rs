//! The bus: takes records of agents, keeps them in a log of its own, and gives them out.

mod accept;
mod anchors;
mod check;
mod error;
mod journal;
mod limiter;
mod options;
mod positions;
mod publisher;
mod replaced;
mod retention;
mod serve;
mod shared;
mod standing;
mod streams;
mod subscriber;
mod succession;

pub(crate) use self::accept::SOCKET_READ;
pub use self::error::BusError;
pub use self::options::BusOptions;
pub use self::serve::{Bus, BusReport};
#[cfg(test)]
pub(crate) use self::{check::Checker, streams::Streams};
