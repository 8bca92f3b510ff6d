use std::fmt;

use crate::identity::Role;

/// How bad a [`Problem`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// The program would work now, but perhaps not for long, or not as well as it could.
    Warning,
    /// The program would not work.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// Something that should be put right before a program starts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// What has the problem: a file, a directory, a setting.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
    /// How to put it right.
    pub what_to_do: String,
    /// How bad it is.
    pub severity: Severity,
}

impl Problem {
    pub(crate) fn error(
        what: impl fmt::Display,
        why: impl Into<String>,
        what_to_do: impl Into<String>,
    ) -> Self {
        Self {
            what: what.to_string(),
            why: why.into(),
            what_to_do: what_to_do.into(),
            severity: Severity::Error,
        }
    }

    pub(crate) fn warning(
        what: impl fmt::Display,
        why: impl Into<String>,
        what_to_do: impl Into<String>,
    ) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(what, why, what_to_do)
        }
    }
}

impl fmt::Display for Problem {
    /// On one line, as `SEVERITY: WHAT: WHY; WHAT TO DO`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            why,
            what_to_do,
            severity,
        } = self;
        write!(f, "{severity}: {what}: {why}; {what_to_do}")
    }
}

/// The setting that names a process.
pub(crate) fn name_setting(role: Role) -> &'static str {
    match role {
        Role::Bus => "bus.name",
        _ => "agent.name",
    }
}
