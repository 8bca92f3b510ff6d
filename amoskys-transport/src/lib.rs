//! Signed, hash-chained batches and a durable log for security telemetry: what is collected is neither lost nor
//! forged, and anyone with the public key can check that later.
//!
//! - [`Log`] is the whole: a directory with a signing key, a durable log, a sealer that goes on where the log has come
//!   to, and an opener. A pipeline takes its parts.
//! - [`Sealer`] and [`Opener`] turn events into sealed records and back. A record is encoded once, chained to the one
//!   before it in its stream, and signed (Ed25519). [`Signer`] is a trait, for keys in hardware; [`FileSigner`] keeps
//!   one in a file.
//! - [`SledWal`] is the write-ahead log below: group commit with `fdatasync`, bounded by bytes, recovered after
//!   `kill -9`, a power cut or damage without help.
//! - [`verify`] checks a log offline, and reports by position what is forged, altered, reordered, missing or cut off.
//! - [`bus`] carries sealed records between processes, over mutual TLS: a [`Publisher`](bus::Publisher) sends what is in
//!   an agent's log, a [`Bus`](bus::Bus) keeps it in a log of its own, and a [`Subscription`](bus::Subscription) reads it
//!   there. [`identity`] says who is at the other end.
//! - [`protect`] makes it possible to erase what is known of somebody later, without breaking the chain.
//!
//! It is *not* a collector, a pipeline or a model: those traits and the pipeline live in `amoskys-core`, on which alone
//! this crate depends.
//!
//! ```
//! use amoskys_core::{Class, Event, Offset, Open as _, Payload, Seal as _, Unsealed, Wal as _};
//! use amoskys_core::event::LogRecord;
//! use amoskys_transport::{Log, LogOptions, verify::Verifier};
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path();
//! let mut log = Log::open(path, LogOptions::new().agent("gateway-3"))?;
//!
//! // Seal one event, append the record, and wait until it would survive a power cut.
//! let message = LogRecord { message: "door opened".to_owned(), ..LogRecord::default() };
//! let event = Event { payload: Payload::Log(Box::new(message)), ..Event::default() };
//! let source = "doors".into();
//! let batch = Unsealed { class: Class::Telemetry, source: &source, events: &[event], position: None, ledger: None };
//! let sealed = log.sealer.seal(batch)?;
//! let offset = log.wal.append(sealed.record)?;
//! log.wal.wait_durable(offset)?;
//!
//! // Read it back.
//! let (_, record) = log.wal.read(Offset(0), 1 << 20)?.remove(0);
//! assert_eq!(log.opener.open(&record)?.events.len(), 1);
//! drop(log);
//!
//! // Anyone can check it, without the program and without its secret.
//! let report = Verifier::new(path).run()?;
//! assert!(report.is_clean());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is promised
//!
//! A record below [`durable`](amoskys_core::Wal::durable) survives the end of the process, of the operating system and
//! of the power supply, provided the disk does what `fdatasync` asks of it. After any of these the log opens by itself;
//! what a crash left half written was never reported durable, and is cut off. Damage to what was durable is stepped
//! over, and a signed gap takes its place. A full disk is a full log, not a failure.
//!
//! # Formats
//!
//! `docs/formats.md` in the repository draws every byte. A log of a newer version is refused, untouched; a record of a
//! newer version is read as far as it allows, and can always be stored, chained and passed on while its layout is the
//! same.
//!
//! # Metrics
//!
//! Beside those of the [`bus`] and of `legacy`, if a metrics recorder is installed:
//!
//! | name | labels | |
//! |---|---|---|
//! | `amoskys_signing_key_rotations_total` | `result` | signing keys that handed over (`ok`), or could not (`failed`) |
//! | `amoskys_log_rewritten_segments_total` | | segments of which records were given up, shed or expired |
//! | `amoskys_audit_lost_total` | | entries that could not be written to an audit log |
//!
//! # Features
//!
//! | feature | default | what it turns on |
//! |---|---|---|
//! | `audit` | yes | [`audit`]: a log of decisions that shows when it was altered |
//! | `bus` | yes | [`bus`]: server, publisher and subscriptions; turns on `audit`, `sled` and `tls`, and uses tokio inside |
//! | `sled` | yes | [`Log`] and [`SledWal`]; without it there are records, keys and the verifier |
//! | `tls` | yes | [`identity`]: who is at the other end; mutual TLS 1.3 (rustls with ring); and [`check`]: what keeps a program from starting |
//! | `pki` | no | [`identity::pki`]: makes a certificate authority, certificates, signing keys and the trust map |
//! | `legacy` | no | [`legacy`]: the bus serves agents of the predecessor too, over gRPC on the same port |
//! | `health` | no | [`health`]: health checks and metrics over HTTP; uses tokio inside |
//! | `testing` | no | [`testing`]: random events and simulated agents, to put a bus to the test |
//! | `zstd` | no | [`Compression`] of batches with Zstandard; compiles its C library |
//!
//! # Platforms
//!
//! Unix, tested on Linux. It needs a C compiler for the cryptography (ring). On Linux, space is reserved ahead
//! (`fallocate`), so that a full disk is noticed before a record is taken; elsewhere a write finds out. No privileges
//! are needed. Network file systems are not supported: `fdatasync` and file locks do not mean the same there.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(feature = "sled"),
    allow(
        dead_code,
        reason = "the modules of the formats hold the writing half too, which only the log uses"
    )
)]
#![forbid(unsafe_code)]

#[cfg(not(unix))]
compile_error!("amoskys-transport needs a Unix: positioned reads and writes, file modes, directory syncs");

#[cfg(feature = "audit")]
#[cfg_attr(docsrs, doc(cfg(feature = "audit")))]
pub mod audit;
#[cfg(feature = "bus")]
#[cfg_attr(docsrs, doc(cfg(feature = "bus")))]
pub mod bus;
#[cfg(feature = "tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub mod check;
#[cfg(feature = "health")]
#[cfg_attr(docsrs, doc(cfg(feature = "health")))]
pub mod health;
#[cfg(feature = "tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub mod identity;
mod key;
#[cfg(feature = "legacy")]
#[cfg_attr(docsrs, doc(cfg(feature = "legacy")))]
pub mod legacy;
mod log;
pub mod protect;
mod seal;
mod spelling;
mod swap;
#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub mod testing;
pub mod verify;
mod wal;

pub use self::key::{FileSigner, KeyError, KeyId, PublicKey, SharedTrust, Signer, TrustError, TrustMap};
#[cfg(feature = "sled")]
#[cfg_attr(docsrs, doc(cfg(feature = "sled")))]
pub use self::log::{KeyRotation, Log, LogError, LogOptions};
pub use self::seal::{Check, Compression, Head, Opener, RecordKind, SealedHeader, Sealer};
pub use self::wal::{FileLogKeys, LogKey, LogKeyId, LogKeys};
#[cfg(feature = "sled")]
#[cfg_attr(docsrs, doc(cfg(feature = "sled")))]
pub use self::wal::{SledWal, WalOptions};

/// The README's program is compiled too.
#[cfg(all(doctest, feature = "sled"))]
#[doc = include_str!("../README.md")]
struct Readme;
