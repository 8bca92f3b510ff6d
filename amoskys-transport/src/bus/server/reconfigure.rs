use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use amoskys_core::config::{Config, ConfigErrors, keys};
use amoskys_core::error::Chain;
use amoskys_core::event::AuditOutcome;

use super::options::Retention;
use super::serve::Bus;
use crate::bus::limits::{Limits, LimitsError};
use crate::check::{Checkup, Problem, Severity};
use crate::identity::{ReloadError, Reloaded, Reloader, Role};
use crate::wal::segment::lock;

/// Settings of a bus that are taken into use while it runs.
const LIVE: [&str; 15] = [
    "bus.agent_bytes",
    "bus.agent_rate",
    "bus.agent_rates",
    "bus.hard_bytes",
    "bus.keep_unread",
    "bus.longest_penalty",
    "bus.max_connections",
    "bus.max_connections_each",
    "bus.max_strangers",
    "bus.max_strangers_each",
    "bus.retain_bytes",
    "bus.retention",
    "bus.soft_bytes",
    "bus.turn_away_after",
    "log.budget_bytes",
];
/// The sections a bus reads.
const OF_A_BUS: [&str; 6] = ["audit.", "bus.", "health.", "legacy.", "log.", "metrics."];
/// Of the section `bus`, what only clients of a bus use.
const OF_CLIENTS: [&str; 4] = [
    "bus.address",
    "bus.retry_max",
    "bus.retry_timeout",
    "bus.send_rate",
];

/// Takes changed settings into use at a bus that runs: all of them, together with certificates, CRLs and trust map, or
/// none.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use amoskys_core::config::Config;
/// # use amoskys_transport::bus::{Bus, Reconfigurer};
/// # use amoskys_transport::identity::Reloader;
/// # fn on_hangup(bus: Arc<Bus>, credentials: Reloader, config: Config) {
/// let reconfigurer = Reconfigurer::new(bus, credentials, config);
/// // Whenever the file may have changed:
/// match reconfigurer.apply(Config::loader().file("bus.yaml").load().map(|loaded| loaded.config)) {
///     Ok(done) => println!("{done}"),
///     Err(error) => eprintln!("nothing was changed: {error}"),
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Reconfigurer {
    bus: Arc<Bus>,
    credentials: Reloader,
    /// What is in use. Held while it is replaced.
    config: Mutex<Config>,
}

/// What was taken into use.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reconfigured {
    /// Settings that are others now.
    pub changes: Vec<Change>,
    /// Certificates and trust map.
    pub credentials: Reloaded,
}

/// A setting that is another than before.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// Its name, as `SECTION.KEY`.
    pub setting: &'static str,
    /// As it was; `None` if it was not set.
    pub before: Option<String>,
    /// As it is now.
    pub after: Option<String>,
}

/// Why nothing was taken into use. What was in use stays in use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReconfigureError {
    /// The settings cannot be read, or are not allowed.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The limits contradict each other, or cannot be read.
    #[error(transparent)]
    Limits(#[from] LimitsError),
    /// Some settings differ that are only read when the bus starts.
    #[error("{} can only be changed by a restart; restart, or put back what was there", .settings.join(", "))]
    NeedsRestart {
        /// Their names.
        settings: Vec<&'static str>,
    },
    /// Certificates, keys, trust map or log are not fit for use.
    #[error("{}", list(.problems))]
    Unfit {
        /// What is wrong.
        problems: Vec<Problem>,
    },
    /// Certificates or trust map cannot be taken into use.
    #[error(transparent)]
    Credentials(#[from] ReloadError),
}

fn list(problems: &[Problem]) -> String {
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    problems.join("; ")
}

impl Reconfigurer {
    /// For a bus that was opened with these settings and credentials.
    #[must_use]
    pub fn new(bus: Arc<Bus>, credentials: Reloader, config: Config) -> Self {
        for result in ["ok", "failed"] {
            metrics::counter!("amoskys_bus_reconfigurations_total", "result" => result).increment(0);
        }
        Self {
            bus,
            credentials,
            config: Mutex::new(config),
        }
    }

    /// Checks the new settings as a whole, and takes them into use if nothing is wrong with any of them. What became of it
    /// is logged, counted and written into the bus's audit stream. Blocks while it reads files.
    ///
    /// # Errors
    ///
    /// If anything is wrong. Then everything stays as it was, and no client notices.
    pub fn apply(&self, config: Result<Config, ConfigErrors>) -> Result<Reconfigured, ReconfigureError> {
        let mut current = lock(&self.config);
        let result = config
            .map_err(ReconfigureError::from)
            .and_then(|config| self.replace(&mut current, config));
        let name = if result.is_ok() { "ok" } else { "failed" };
        metrics::counter!("amoskys_bus_reconfigurations_total", "result" => name).increment(1);
        let (outcome, text) = match &result {
            Ok(done) => (AuditOutcome::Success, done.to_string()),
            Err(error) => {
                let text = format!("nothing was changed: {}", Chain(error));
                tracing::warn!(bus = %self.bus.name(), "settings were not taken into use; {text}");
                (AuditOutcome::Failure, text)
            }
        };
        self.bus.note("bus.reconfigured", outcome, text);
        result
    }

    fn replace(&self, current: &mut Config, new: Config) -> Result<Reconfigured, ReconfigureError> {
        new.validate()?;
        let limits = Limits::of_settings(&new.bus)?;
        let changes = changes(current, &new);
        let settings: Vec<_> = changes
            .iter()
            .map(|change| change.setting)
            .filter(|setting| !LIVE.contains(setting))
            // The size of segments and of the largest record follows from the budget when the log is opened.
            .chain((!self.bus.allows_budget(new.log.budget_bytes)).then_some("log.budget_bytes"))
            .collect();
        if !settings.is_empty() {
            return Err(ReconfigureError::NeedsRestart { settings });
        }
        let problems = Checkup::new(&new, Role::Bus).running().run();
        let problems: Vec<_> = problems
            .into_iter()
            .filter(|problem| problem.severity == Severity::Error)
            .collect();
        if !problems.is_empty() {
            return Err(ReconfigureError::Unfit { problems });
        }
        // The last step that can fail, and it is itself all or nothing.
        let credentials = self.credentials.reload()?;
        self.bus.set_limits(limits);
        self.bus.set_budget(new.log.budget_bytes);
        let (before, after) = (Retention::from(&current.bus), Retention::from(&new.bus));
        if before != after {
            self.bus.set_retention(after);
        }
        *current = new;
        Ok(Reconfigured { changes, credentials })
    }
}

/// The settings of a bus that differ.
fn changes(old: &Config, new: &Config) -> Vec<Change> {
    let of_bus =
        |name: &str| OF_A_BUS.iter().any(|section| name.starts_with(section)) && !OF_CLIENTS.contains(&name);
    let changes = keys().iter().filter(|key| of_bus(key.name())).map(|key| Change {
        setting: key.name(),
        before: key.value_in(old),
        after: key.value_in(new),
    });
    changes.filter(|change| change.before != change.after).collect()
}

impl std::fmt::Display for Reconfigured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::new();
        for change in &self.changes {
            let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
            let _ = write!(
                text,
                "{}: {} instead of {}; ",
                change.setting,
                shown(&change.after),
                shown(&change.before)
            );
        }
        let others = |is_other| if is_other { "others" } else { "as before" };
        write!(
            f,
            "{text}certificates {}, trust map {}",
            others(self.credentials.tls),
            others(self.credentials.trust)
        )
    }
}
