//! Erasing what is known of somebody, without breaking the chain.
//!
//! A sealed batch cannot be changed afterwards, and copies of it are on the agent, on the bus, in backups and with
//! subscribers. So what may have to be erased one day is encrypted before it is sealed, event by event, under a key of the
//! [`Subject`] it is about: a patient, a user, a device. [Forgetting](SubjectKeys::forget) the key makes all copies
//! unreadable at once, wherever they are. Digests, signatures and the chain are over the encrypted form, and stay valid.
//!
//! - [`Protect`] is a transform for the sensor's pipeline. A rule says whose data an event is; [`by_attribute`],
//!   [`by_address`], [`by_device`], [`by_uid`] and [`any_of`] make usual ones; [`Protection`] takes them from settings.
//! - [`SubjectKeys`] keeps the keys. [`FileSubjectKeys`] keeps them in a file; a hospital's key management service is
//!   another implementation.
//! - [`Reveal`] is the way back, for whoever has the keys; [`RevealingOpener`] does it as records are opened.
//!
//! ```
//! use std::sync::Arc;
//! use amoskys_core::event::{LogRecord, Value};
//! use amoskys_core::{Event, Payload, Transform as _};
//! use amoskys_transport::protect::{FileSubjectKeys, Protect, Reveal, Subject, SubjectKeys as _, by_attribute};
//!
//! # let dir = tempfile::tempdir()?;
//! let keys = Arc::new(FileSubjectKeys::open_or_create(dir.path().join("subjects.keys"))?);
//! let mut protect = Protect::new(keys.clone(), by_attribute("patient"));
//!
//! let mut event = Event {
//!     payload: Payload::Log(Box::new(LogRecord { message: "infusion of 5 ml/h".to_owned(), ..LogRecord::default() })),
//!     attributes: [("patient".to_owned(), Value::Text("4711".to_owned()))].into(),
//!     ..Event::default()
//! };
//! protect.transform(&mut event)?;
//! assert!(matches!(event.payload, Payload::Protected(_)) && event.attributes.is_empty());
//!
//! // Whoever has the keys can read it,
//! let mut reveal = Reveal::new(keys.clone());
//! let mut seen = event.clone();
//! reveal.transform(&mut seen)?;
//! assert_eq!(seen.attributes["patient"], Value::Text("4711".to_owned()));
//!
//! // until the patient's key is forgotten, which is itself to be accounted for.
//! let erased = keys.forget(&Subject::new("4711"))?;
//! let entry = erased.audit_entry("dpo@hospital.example", "request of the patient");
//! assert!(!entry.object.contains("4711"));
//! reveal.transform(&mut event)?;
//! assert!(matches!(event.payload, Payload::Protected(_)));
//! assert_eq!(reveal.counts().forgotten(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is protected
//!
//! The payload, all attributes but those [kept in the clear](Protect::keep_clear), and fields of newer versions. In the
//! clear stay the event's id, time, device, source and class, and whose key it is: 16 random bytes that say nothing about
//! the subject. Events of one subject can be told to be of the same subject, and how long they are. Detectors that run
//! behind [`Protect`] see nothing of such events; those that must are to run before it, or behind [`Reveal`].
//!
//! # What is not
//!
//! - What other subjects' events say about this one: a name in the text of a log line that the rule takes for somebody
//!   else's or nobody's. [Redact](amoskys_core::redact) such texts, or make a rule that finds it.
//! - Addresses in flows, DNS names and so on, unless the rule says whose they are.
//! - Device and source names: do not put people's names there.
//! - What was derived before: alerts, models, statistics, reports, and what a subscriber with the keys has stored in the
//!   clear.
//! - Copies of the keys: a backup of the key file brings the subject back. Keep it apart from that of the log, for a
//!   shorter time than the law allows for erasing.
//! - Media that keep what was overwritten (flash, copy-on-write file systems, snapshots). Keep the key file on an
//!   encrypted volume, or use a key management service.

mod cipher;
mod error;
mod file;
mod keys;
mod opener;
mod reveal;
mod rules;
mod settings;
mod slots;
mod transform;

pub use self::error::ProtectError;
pub use self::file::FileSubjectKeys;
pub use self::keys::{Erased, Subject, SubjectKey, SubjectKeys};
pub use self::opener::RevealingOpener;
pub use self::reveal::{Reveal, RevealCounts};
pub use self::rules::{Rule, any_of, by_address, by_attribute, by_device, by_uid};
pub use self::settings::Protection;
pub use self::transform::Protect;
