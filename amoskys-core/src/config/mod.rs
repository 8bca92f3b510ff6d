//! Configuration: defaults, then a YAML file, then the environment, then code. The later wins.
//!
//! ```
//! use amoskys_core::config::Config;
//!
//! let loaded = Config::loader()
//!     .yaml("batch:\n  max_events: 100\n  linger: 20ms\n", "built in")
//!     .environment([("AMOSKYS_BATCH_MAX_EVENTS", "200")])
//!     .set("log.budget_bytes", "1GiB")
//!     .load()?;
//! assert_eq!(loaded.config.batch.max_events, 200);
//! assert_eq!(loaded.config.log.budget_bytes, 1 << 30);
//! # Ok::<(), amoskys_core::config::ConfigErrors>(())
//! ```
//!
//! Each setting has a name, `SECTION.KEY`. In a file it is `KEY` in the mapping `SECTION`, in the environment
//! `AMOSKYS_SECTION_KEY`. [`keys`] lists them all, with what they allow; `docs/configuration.md` is made from it.
//!
//! [`load`](Loader::load) reports every error at once, each with the setting, its value, what is allowed, and
//! where the value came from. Unknown settings are errors, in the file and among the variables that begin with
//! `AMOSKYS_`: a misspelt name is otherwise found when it is too late.
//!
//! Nothing here is global: a [`Config`] is a value, and the environment is read only if the caller passes it or
//! says [`process_environment`](Loader::process_environment).

mod error;
mod keys;
mod kind;
mod loader;
mod sections;
mod yaml;

pub use self::error::{ConfigError, ConfigErrors, Origin, Warning};
pub use self::keys::{Key, keys};
pub use self::loader::{Loaded, Loader};
pub use self::sections::{
    AgentSettings, AnalysisSettings, AuditSettings, BatchSettings, BusSettings, Config, FlowSettings,
    HealthSettings, LegacySettings, LogSettings, MetricsSettings, ProtectSettings, WhenFull,
};
