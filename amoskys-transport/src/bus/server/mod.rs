//! The bus: takes records of agents, keeps them in a log of its own, and gives them out.

mod accept;
mod anchors;
mod check;
mod door;
mod error;
mod gauges;
mod intake;
mod journal;
mod limiter;
mod offenders;
mod options;
mod positions;
mod publisher;
mod reconfigure;
mod replaced;
mod retention;
mod serve;
mod shared;
mod standing;
mod streams;
mod subscriber;
mod succession;
mod waiting;

pub(crate) use self::accept::SOCKET_READ;
pub use self::error::BusError;
pub use self::intake::Intake;
pub(crate) use self::intake::Sender;
pub use self::options::{BusOptions, Retention};
pub use self::reconfigure::{Change, ReconfigureError, Reconfigured, Reconfigurer};
pub use self::serve::{Bus, BusReport};
pub(crate) use self::streams::StreamKey;
#[cfg(test)]
pub(crate) use self::{check::Checker, streams::Streams};
#[cfg(feature = "legacy")]
pub(crate) use self::{
    door::{NoRoom, Ticket},
    journal::stage,
    limiter::Limiter,
    offenders::GOOD_STANDING,
    shared::Shared,
    standing::{Changes, Standing},
    waiting::Waiter as WaitingForRoom,
};
