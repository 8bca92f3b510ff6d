//! The bus.

mod client;
mod frame;
mod link;
mod message;
mod refuse;
mod server;

pub use self::client::{
    ConnectOptions, ConnectionError, PublishError, Publisher, PublisherOptions, Start, SubscribeError,
    SubscribeOptions, Subscription,
};
pub use self::refuse::RefuseReason;
pub use self::server::{Bus, BusError, BusOptions, BusReport};
