//! The bus: sealed records on their way from agents to whoever judges them, over mutual TLS.
//!
//! - [`Publisher`] is a [`RecordSink`](amoskys_core::RecordSink): it sends what is durable in an agent's log, and the log
//!   keeps it until the bus says that it is durable there.
//! - [`Bus`] takes records, checks who sealed them and that each stream goes on without a hole, and keeps them in a log of
//!   its own.
//! - [`Subscription`] is a [`RecordSource`](amoskys_core::RecordSource): it reads that log from anywhere, by class and
//!   agent.
//!
//! The records are those of the agents' logs, byte for byte: sealed once, checked by anyone.
//!
//! # Effectively once
//!
//! For each stream the bus knows how far it has it: the next number and the digest of the last record. It says so to an
//! agent that connects, which goes on there. A record at the mark is stored, and acknowledged once it is durable; one below
//! is acknowledged and not stored again; one beyond is refused. After a crash of either side both find the same place
//! again, whatever was on the way. A subscriber that keeps the offset of the last record it dealt with gets each once.
//!
//! | what happens | what becomes of it |
//! |---|---|
//! | the agent's log no longer has what the bus lacks: trimmed, damaged | a gap signed by the agent takes its place |
//! | the bus lost its log | it gets what the agents still have, and signed gaps for the rest; subscribers' offsets go on above |
//! | the agent's log was deleted | it begins a new epoch; the bus writes down where the old one ended |
//! | the agent's directory was copied, or restored from a backup | [`PublishError::Fork`]; opened again, the log begins a new epoch and seals what the bus never got again, with the same event ids |
//! | the bus's log is full | agents wait, or what a named subscriber has not read is deleted, and it is told: [`BusOptions::keep_unread`] |
//!
//! # Who may do what
//!
//! Both sides show certificates, each of which names an [`Identity`](crate::identity::Identity). An agent publishes as itself
//! only, with the signing keys that the bus's [`TrustMap`](crate::TrustMap) has for it. Analyzers may do that too, and
//! subscribe. Everything else is [refused](RefuseReason): counted, logged and written into the bus's own audit stream.
//!
//! Certificates, CRLs and the trust map can be replaced while all of them run: [`Reloader`](crate::identity::Reloader). Who
//! is not believed any more is cut off at once, who is new is let in at once, and nobody else notices.
//!
//! # Overload, and peers that mean harm
//!
//! [`Limits`] bounds what clients may take: connections, bytes that are not durable yet, what each agent sends in a second.
//! Nothing is lost by it: a record that has to wait keeps its own connection waiting, and the agent is told how long to send
//! nothing, which stands in the audit stream as `agent.limited`, once a minute for each agent and reason, with how often it was
//! said. Above [`Limits::soft_bytes`] each agent has a fair share, however many connections it has. All of that are layers
//! of [`tower`] around the way into the log, which an embedder can rearrange: [`admission`].
//!
//! A client that has not said who it is has [a limited time](BusOptions::handshake_timeout) and a place for as long as no other
//! needs it. One that is refused again and again is kept out for longer each time, and named: in the log, in
//! `amoskys_bus_penalties_total`, and in the audit stream as `client.limited`.
//!
//! The bus checks the signature of a record and the digest of its payload, and expands no payload: whoever reads it does,
//! within the bounds of an [`Opener`](crate::Opener).
//!
//! # Metrics
//!
//! | name | labels | |
//! |---|---|---|
//! | `amoskys_bus_events_total` | `agent` | events stored |
//! | `amoskys_bus_duplicates_total` | `agent` | events that came again |
//! | `amoskys_bus_missing_events_total` | `agent`, `reason` | events an agent has lost, by signed gaps in their place |
//! | `amoskys_bus_refused_total` | `reason` | connections and records refused; what could not be verified is `signature`, `payload`, `malformed`, `unknown_key`, `key_retired`, `agent_mismatch` |
//! | `amoskys_bus_retries_total` | `agent`, `reason` | how often an agent was asked to wait: `rate`, `share`, `overload`, `log_full`; those of the predecessor also `busy`, `limited`, `stopping` |
//! | `amoskys_bus_penalties_total` | `agent` | how often a client was kept out after one refusal too many |
//! | `amoskys_bus_kept_out` | `bus`, `kind` | clients (`agent`) and addresses (`address`) that are kept out now |
//! | `amoskys_bus_connections` | `bus` | connections of clients that have said who they are |
//! | `amoskys_bus_strangers` | `bus` | connections of those that have not |
//! | `amoskys_bus_in_flight_bytes` | `bus` | bytes received and not durable yet |
//! | `amoskys_bus_durable_lag_seconds` | `bus` | how long a record has waited to become durable; 0 if none has for a quarter of a second |
//! | `amoskys_bus_log_used_bytes` | `bus` | bytes of the log |
//! | `amoskys_bus_log_budget_bytes` | `bus` | what it may have |
//! | `amoskys_bus_log_durable_offset` | `bus` | records of the log that are durable |
//! | `amoskys_bus_hand_overs_total` | `action` | signing keys that were handed over inside a stream, or that a trust map did not let be |
//! | `amoskys_bus_heads_total` | | ends of streams that the bus has signed |
//! | `amoskys_bus_subscriber_lost_records_total` | | records deleted before a subscriber read them |
//! | `amoskys_bus_reconfigurations_total` | `result` | changed settings that came into use (`ok`), or could not (`failed`) |
//! | `amoskys_publisher_events_total` | `publisher` | events sent |
//! | `amoskys_publisher_connections_lost_total` | `publisher` | connections that failed or ended |
//! | `amoskys_publisher_retries_total` | `publisher` | how often the bus asked to wait |
//! | `amoskys_publisher_backlog_bytes` | `publisher` | bytes in the agent's log that the bus does not have, about |
//! | `amoskys_publisher_backlog_seconds` | `publisher` | how long ago the oldest of that was sealed |
//! | `amoskys_subscription_lost_records_total` | `source` | records deleted before they were read |
//! | `amoskys_credentials_reloads_total` | `result` | new credentials that came into use (`ok`), or could not (`failed`) |
//! | `amoskys_certificate_seconds_left` | `identity` | how long the own certificate can be used |
//!
//! # Example
//!
//! ```no_run
//! use amoskys_core::{RecordSource as _, Shutdown};
//! use amoskys_transport::bus::{
//!     Bus, BusOptions, ConnectOptions, Publisher, PublisherOptions, SubscribeOptions, Subscription,
//! };
//! use amoskys_transport::identity::TlsFiles;
//! use amoskys_transport::{Log, LogOptions, TrustMap};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! // One process.
//! let tls = TlsFiles::in_dir("certs", "bus").server_config()?;
//! let bus = Bus::open(BusOptions::new("data", tls, TrustMap::load("certs/trust")?))?;
//! let report = bus.serve(Shutdown::new()).await?;
//! println!("{}", report.ledger);
//!
//! // Another: `publisher` goes into its pipeline, as a record sink.
//! let log = Log::open("data", LogOptions::new().agent("gateway-3"))?;
//! let connect = ConnectOptions::new("bus.example:50051", TlsFiles::in_dir("certs", "gateway-3").client_config()?);
//! let publisher = Publisher::for_log(&log, PublisherOptions::new(connect));
//!
//! // A third.
//! let connect = ConnectOptions::new("bus.example:50051", TlsFiles::in_dir("certs", "analyzer").client_config()?);
//! let mut subscription = Subscription::new(SubscribeOptions::new(connect).position("analyzer"));
//! while let Some(records) = subscription.next_records().await? {
//!     println!("{} records", records.len());
//! }
//! # drop(publisher);
//! # Ok(())
//! # }
//! ```

pub mod admission;
pub(crate) mod client;
pub(crate) mod frame;
mod limits;
pub(crate) mod link;
pub(crate) mod message;
mod refuse;
mod server;

pub use self::client::{
    ConnectOptions, ConnectionError, PublishError, Publisher, PublisherOptions, Start, SubscribeError,
    SubscribeOptions, Subscription,
};
pub use self::limits::{Limits, LimitsError, Rate, SharedLimits};
pub use self::refuse::RefuseReason;
pub use self::server::{
    Bus, BusError, BusOptions, BusReport, Change, ReconfigureError, Reconfigured, Reconfigurer, Retention,
};
#[cfg(feature = "legacy")]
pub(crate) use self::server::{
    Changes, GOOD_STANDING, Limiter, NoRoom, Shared, Standing, Ticket, WaitingForRoom, stage,
};

/// Reads bytes as a side of a connection would, and returns how many good frames they begin with. For fuzzing; not part of
/// what is promised.
#[doc(hidden)]
#[must_use]
pub fn check_frames(bytes: &[u8]) -> usize {
    frame::check(bytes)
}
