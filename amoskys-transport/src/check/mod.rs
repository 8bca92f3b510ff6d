//! Looks at everything a program needs before it starts, and says all at once what is wrong with it.
//!
//! ```
//! use amoskys_core::config::Config;
//! use amoskys_transport::check::{Checkup, Severity};
//! use amoskys_transport::identity::Role;
//!
//! let mut config = Config::default();
//! config.bus.cert_dir = Some("/nowhere".into());
//! let problems = Checkup::new(&config, Role::Agent).run();
//! for problem in &problems {
//!     eprintln!("{problem}"); // error: /nowhere/ca.pem: it does not exist; put it there, or …
//! }
//! assert!(problems.iter().any(|problem| problem.severity == Severity::Error));
//! ```

pub(crate) mod certificates;
mod checkup;
#[cfg(feature = "legacy")]
mod legacy;
mod log;
mod network;
mod problem;
mod signing;

pub use self::checkup::Checkup;
pub use self::problem::{Problem, Severity};
