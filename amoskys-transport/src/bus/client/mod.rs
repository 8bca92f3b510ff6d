//! The two kinds of clients of a bus.

mod backlog;
pub(crate) mod backoff;
pub(crate) mod dial;
mod error;
pub(crate) mod options;
mod publisher;
mod resume;
mod run;
mod settings;
pub(crate) mod standing;
mod subscription;

pub use self::error::{ConnectionError, PublishError, SubscribeError};
pub use self::options::{ConnectOptions, PublisherOptions};
pub use self::publisher::Publisher;
pub use self::subscription::{Start, SubscribeOptions, Subscription};
