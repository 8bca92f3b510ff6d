//! Answers health checks, and gives out metrics, over HTTP.
//!
//! | path | answer |
//! |---|---|
//! | `/livez` | 200 while the process runs |
//! | `/readyz` | 200 if it is [ready](Health::ready) and no [check](Health::fail) fails, else 503; the checks that fail as JSON |
//! | `/metrics` | what the [render closure](HealthServer::metrics) gives; 404 without one |
//!
//! ```
//! use amoskys_core::Shutdown;
//! use amoskys_transport::health::{Health, HealthServer};
//!
//! # async fn run() -> Result<(), amoskys_transport::health::HealthError> {
//! let health = Health::new();
//! let shutdown = Shutdown::new();
//! let server = HealthServer::bind("127.0.0.1:8080").await?;
//! let serving = tokio::spawn(server.serve(health.clone(), shutdown.clone()));
//! health.fail("bus", "not connected yet");
//! health.ready(true); // still 503, because of the bus
//! health.pass("bus"); // 200
//! # shutdown.trigger();
//! # let _ = serving.await;
//! # Ok(())
//! # }
//! # tokio::runtime::Runtime::new().map(|runtime| runtime.block_on(run()).is_ok());
//! ```

mod answer;
mod server;
mod state;

pub use self::server::{HealthError, HealthServer};
pub use self::state::Health;
