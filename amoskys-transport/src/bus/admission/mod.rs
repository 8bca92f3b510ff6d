//! The way of a record into the bus, as [`tower::Service`]s that an embedder can rearrange.
//!
//! At the end of the way is [`Intake`], which checks a record, looks whether it is the next of its stream, and puts it into
//! the log. It is a `Service` of [`Submission`]s: what comes back says what became of the record ([`Admitted`]), or why the
//! connection has to end ([`Rejection`]). Around it lie layers. Without other orders they are, from outside:
//!
//! - [`RateLimit`]: what each agent may send in a second;
//! - [`FlowLimit`]: the bytes that were received and are not durable yet, fair between agents.
//!
//! [`BusOptions::admission`](super::BusOptions::admission) puts others in their place. A record that a layer keeps waiting
//! keeps its own connection waiting, and nobody else; nothing is lost by it. A layer that says so with
//! [`Submission::ask_to_wait`] has the bus tell the agent how long not to send anything.
//!
//! ```no_run
//! use std::task::{Context, Poll};
//!
//! use amoskys_core::Class;
//! use amoskys_transport::bus::admission::{Admitted, FlowLimit, Rejection, Submission};
//! use amoskys_transport::bus::{BusOptions, RefuseReason};
//! use tower::layer::layer_fn;
//! use tower::{Layer, Service};
//!
//! /// Takes alerts and audit entries only.
//! #[derive(Clone)]
//! struct AlertsOnly<S>(S);
//!
//! impl<S> Service<Submission> for AlertsOnly<S>
//! where
//!     S: Service<Submission, Response = Admitted, Error = Rejection>,
//!     S::Future: Send + 'static,
//! {
//!     type Response = Admitted;
//!     type Error = Rejection;
//!     type Future = std::pin::Pin<Box<dyn Future<Output = Result<Admitted, Rejection>> + Send>>;
//!
//!     fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
//!         self.0.poll_ready(cx)
//!     }
//!
//!     fn call(&mut self, submission: Submission) -> Self::Future {
//!         match submission.class() {
//!             Some(Class::Alert | Class::Audit) => Box::pin(self.0.call(submission)),
//!             _ => Box::pin(std::future::ready(Err(Rejection::new(
//!                 RefuseReason::Other,
//!                 "only alerts and audit entries are taken here",
//!             )))),
//!         }
//!     }
//! }
//!
//! # fn options(options: BusOptions) -> BusOptions {
//! let flow = FlowLimit::new(options.limits_handle());
//! options.admission(layer_fn(move |intake| AlertsOnly(flow.layer(intake))))
//! # }
//! ```

mod flow;
mod rate;
mod submission;

use tower::util::BoxCloneSyncService;
use tower::{Layer, Service};

#[cfg(feature = "legacy")]
pub(crate) use self::flow::Charge;
pub use self::flow::{Flow, FlowLimit};
pub use self::rate::{RateLimit, RateLimited};
pub use self::submission::{Admitted, Rejection, Submission};
pub(crate) use self::submission::{Pace, Wait};
pub use super::server::Intake;

/// The whole way of a record.
pub(crate) type Stack = BoxCloneSyncService<Submission, Admitted, Rejection>;

/// What an embedder orders.
pub(crate) type MakeStack = std::sync::Arc<dyn Fn(Intake) -> Stack + Send + Sync>;

pub(crate) fn make<L>(layer: L) -> MakeStack
where
    L: Layer<Intake> + Send + Sync + 'static,
    L::Service: Service<Submission, Response = Admitted, Error = Rejection> + Clone + Send + Sync + 'static,
    <L::Service as Service<Submission>>::Future: Send + 'static,
{
    std::sync::Arc::new(move |intake| BoxCloneSyncService::new(layer.layer(intake)))
}

/// Without other orders.
pub(crate) fn standard(rate: &RateLimit, flow: &FlowLimit, intake: Intake) -> Stack {
    BoxCloneSyncService::new(rate.layer(flow.layer(intake)))
}
