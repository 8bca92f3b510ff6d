use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::keys::Key;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// A line of a file.
    File {
        /// The file, or the name that the caller gave its text.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        variable: String,
    },
    /// The calling program.
    Code,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line } => write!(f, "{}:{line}", file.display()),
            Self::Environment { variable } => f.write_str(variable),
            Self::Code => f.write_str("code"),
        }
    }
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A setting has a value it cannot have.
    #[error("{key} cannot be {value:?}; allowed: {allowed} ({origin})")]
    Value {
        /// The setting.
        key: &'static str,
        /// Its value, cut to 100 characters.
        value: String,
        /// What is allowed.
        allowed: String,
        /// Where the value came from.
        origin: Origin,
    },
    /// There is no such setting. Its value is not shown: it may be a secret of something else.
    #[error("there is no setting {key:?}; the nearest is {nearest} ({origin})")]
    Unknown {
        /// The name that is not known, cut to 100 characters.
        key: String,
        /// The name most like it: of a setting, a section or a variable.
        nearest: String,
        /// Where it is.
        origin: Origin,
    },
    /// A setting is there twice.
    #[error("{key} is set again ({origin}); the first time is line {first_line}")]
    Repeated {
        /// The setting or section.
        key: String,
        /// Where it was first.
        first_line: usize,
        /// Where it is again.
        origin: Origin,
    },
    /// A file is not of the form expected.
    #[error("{reason} ({origin})")]
    Form {
        /// What is wrong, and what is expected.
        reason: String,
        /// Where.
        origin: Origin,
    },
    /// A file cannot be read.
    #[error("cannot read {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: Arc<std::io::Error>,
    },
}

impl ConfigError {
    pub(super) fn value(key: &Key, value: &str, origin: Origin) -> Self {
        Self::Value {
            key: key.name(),
            value: cut(value),
            allowed: key.allowed(),
            origin,
        }
    }

    pub(super) fn unknown(key: &str, nearest: impl Into<String>, origin: Origin) -> Self {
        Self::Unknown {
            key: cut(key),
            nearest: nearest.into(),
            origin,
        }
    }

    pub(super) fn form(reason: impl Into<String>, origin: Origin) -> Self {
        Self::Form {
            reason: reason.into(),
            origin,
        }
    }
}

pub(super) fn cut(text: &str) -> String {
    text.chars().take(100).collect()
}

/// Everything that is wrong with a configuration, at least one thing.
#[derive(Clone, Debug)]
pub struct ConfigErrors(pub(super) Vec<ConfigError>);

impl ConfigErrors {
    /// The errors: first what cannot be read or is not known, then values, in order of the [`keys`](super::keys).
    #[must_use]
    pub fn errors(&self) -> &[ConfigError] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    /// All of them, one on each line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration cannot be used:")?;
        for error in &self.0 {
            write!(f, "\n- {error}")?;
            // The cause of a list cannot be told by `source`, which is one.
            if let Some(cause) = std::error::Error::source(error) {
                write!(f, ": {cause}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Something that works, but should be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// A variable of the predecessor was used.
    Deprecated {
        /// Its name.
        variable: &'static str,
        /// The variable to use instead.
        instead: String,
        /// Whether it had no effect, because the new one is set too.
        ignored: bool,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deprecated {
                variable,
                instead,
                ignored: false,
            } => {
                write!(f, "{variable} is deprecated; use {instead}")
            }
            Self::Deprecated {
                variable,
                instead,
                ignored: true,
            } => {
                write!(
                    f,
                    "{variable} is deprecated and has no effect, because {instead} is set"
                )
            }
        }
    }
}
