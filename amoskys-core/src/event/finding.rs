use super::verdict::{Severity, Technique};

/// Something another security tool found: a scanner, an integrity check, a signature.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Finding {
    /// The tool.
    pub tool: String,
    /// The rule or check, by the tool's name for it.
    pub rule: String,
    /// One line for people.
    pub title: String,
    /// How serious the tool says it is.
    pub severity: Severity,
    /// MITRE ATT&CK technique, if the tool names one.
    pub technique: Option<Technique>,
    /// What it was found on: a path, an address, a user.
    pub subject: String,
    /// Details for people.
    pub detail: String,
}
