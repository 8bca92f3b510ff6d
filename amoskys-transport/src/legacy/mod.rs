//! Agents of the predecessor keep working: a [`Bus`](crate::bus::Bus) serves their gRPC too, so that a fleet is replaced
//! machine by machine.
//!
//! With [`BusOptions::legacy`](crate::bus::BusOptions::legacy), a bus speaks `messaging.EventBus/Publish`
//! (`proto/messaging.proto` in this crate) on its own port: a client that asks for HTTP/2 in the TLS handshake, as all
//! gRPC clients do, gets it, and everyone else the bus's own protocol. Certificates, CRLs, limits of connections and the
//! cutting off of who is no longer believed are the same for both.
//!
//! ```no_run
//! use amoskys_transport::TrustMap;
//! use amoskys_transport::bus::{Bus, BusOptions};
//! use amoskys_transport::identity::TlsFiles;
//! use amoskys_transport::legacy::{LegacyOptions, LegacyTrust};
//!
//! # fn open() -> Result<(), Box<dyn std::error::Error>> {
//! let tls = TlsFiles::in_dir("certs", "bus").server_config()?;
//! let legacy = LegacyOptions::new(LegacyTrust::load("certs/trust_map.yaml")?);
//! let bus = Bus::open(BusOptions::new("data", tls, TrustMap::load("certs/trust")?).legacy(legacy))?;
//! # drop(bus);
//! # Ok(())
//! # }
//! ```
//!
//! # Who may send what
//!
//! An agent is who its certificate's common name says; the certificate needs no Amoskys identity, but must be of an
//! authority the bus believes, not expired and not revoked. Its envelopes are signed with the key that the predecessor's
//! trust map ([`LegacyTrust`]) has for that name. Ones without a signature are taken only if
//! [`allow_unsigned`](LegacyOptions::allow_unsigned) says so; one with a wrong signature never.
//!
//! # The answer
//!
//! | status | when | the agent |
//! |---|---|---|
//! | `OK` | the envelope would survive a power cut at the bus; also if it was there before | forgets it |
//! | `RETRY` | too much waits to become durable, the agent sends more than it may, it was refused too often, the log is full, the bus is being stopped | sends it again after `backoff_hint_ms` |
//! | `INVALID` | larger than 131,072 bytes, no envelope, no idempotency key, too old, too far in the future | must not send it again |
//! | `UNAUTHORIZED` | unknown agent, not signed, wrong signature | must not send it again |
//!
//! Each refusal has a reason for people, a [`LegacyReason`] in metrics, and an entry in the bus's audit stream (one a minute
//! for each agent and reason, with how many there were): `envelope.refused`, or `agent.limited` for a `RETRY`.
//!
//! The [`Limits`](crate::bus::Limits) of the bus hold for these agents as for all others: connections, bytes on the way, what
//! each may send in a second (an envelope is an event), and who is refused again and again is kept out for longer each time.
//! Eight envelopes that are no envelope, too large, not signed, wrongly signed, or of somebody unknown weigh as much as one
//! refused connection; meanwhile the agent hears `RETRY`, so it keeps what it has until its settings are put right.
//!
//! # Once
//!
//! An envelope is known by its agent and its `idempotency_key`. One that comes again within the
//! [window](LegacyOptions::window), also after a crash or restart of the bus, is acknowledged and not stored. What is older,
//! by its `ts_ns`, is refused as `INVALID`, because it could not be told. The keys lie in files beside the log
//! (`gateway/`), which are bounded in size; if they are lost or behind, they are read from the log.
//!
//! # What becomes of an envelope
//!
//! The envelopes that come while the last are made durable are sealed into one record of a stream of the bus's own: agent
//! `NAME-gateway`, class telemetry, signed with the key of the bus, also after that was replaced. Whoever checks signatures
//! needs a line for that name in his trust map: that of the bus, under the other name, as `pki::Site::gateway` writes it.
//! Each envelope is an [`Event`](amoskys_core::Event) whose device is the agent of the predecessor, whose source is
//! `legacy`, and whose id follows from the agent and the idempotency key.
//!
//! | [`FlowRecord`](amoskys_core::event::FlowRecord) | from |
//! |---|---|
//! | `key` | `src_ip`, `dst_ip`, `src_port`, `dst_port`; `proto`, else `protocol`: a name or a number |
//! | `forward`, `backward` | `bytes_tx`, else `bytes_sent`; `bytes_rx`, else `bytes_recv`: as those of one packet, because the predecessor does not count packets |
//! | `first`, `last` | `start_time`, `end_time`: seconds, milliseconds, microseconds or nanoseconds, told apart by their size; what is missing follows from `duration_ms` or `ts_ns` |
//! | `phase` | the end: by RST or FIN in `flags` if it is TCP, otherwise idle |
//! | `tcp` | `flags` as the TCP flags of all packets together |
//!
//! A `payload` is taken for a serialized `FlowEvent` if there is no `flow`. What has no place there, or says something
//! else than it came, is an attribute:
//!
//! | attribute | |
//! |---|---|
//! | `legacy.envelope` | all bytes that came, so that the signature can be checked again |
//! | `legacy.idempotency_key`, `legacy.version`, `legacy.schema_version` | as in the envelope |
//! | `legacy.signed` | whether there was a signature |
//! | `legacy.prev_sig` | as in the envelope; it is not signed itself |
//! | `legacy.chain` | `known` if `prev_sig` is the signature of one of the last 256 envelopes of this agent since the bus was started, else `unknown` |
//! | `legacy.flags`, `legacy.src_ip`, `legacy.start_time` and so on | a field of the flow as it came, where the record does not say the same |
//! | `legacy.unknown` | fields of the flow that are not known here |
//!
//! # Metrics
//!
//! | name | labels | |
//! |---|---|---|
//! | `amoskys_legacy_envelopes_total` | `agent` | envelopes stored |
//! | `amoskys_legacy_duplicates_total` | `agent` | envelopes that came again |
//! | `amoskys_legacy_refused_total` | `reason` | envelopes not taken |
//! | `amoskys_legacy_known_envelopes` | `bus` | idempotency keys in memory |
//!
//! The ledger has them as `bus/NAME-gateway`: received, delivered, and dropped as `duplicate` or `refused`. What may come
//! again (`RETRY`) is not counted there.

#[cfg(feature = "testing")]
mod client;
mod committer;
mod convert;
mod envelope;
mod gateway;
mod grpc;
mod index;
mod message;
mod name;
mod options;
mod reason;
mod resume;
mod serve;
mod trust;

#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub use self::client::{LegacyAgent, LegacyAnswer};
pub use self::options::LegacyOptions;
pub use self::reason::LegacyReason;
pub use self::trust::{LegacyTrust, LegacyTrustError, SharedLegacyTrust};
pub(crate) use self::{
    gateway::{Gateway, start},
    serve::{Client, is_spoken, offering, serve},
};

/// Reads bytes as an envelope of the predecessor, and says whether they are one. For fuzzing; not part of what is promised.
///
/// # Panics
///
/// If what must hold of every envelope does not.
#[doc(hidden)]
#[must_use]
pub fn check_envelope(bytes: &[u8]) -> bool {
    envelope::check(bytes)
}

/// Opens a directory with files of idempotency keys, of an epoch of zeros, and says how many keys are known. For fuzzing; not
/// part of what is promised.
///
/// # Errors
///
/// If a file is of a newer version, or cannot be used.
#[doc(hidden)]
pub fn check_index(dir: &std::path::Path) -> std::io::Result<usize> {
    index::Index::open(dir, amoskys_core::Epoch::default(), 1 << 16).map(|index| index.len())
}
