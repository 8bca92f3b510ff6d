/// A decision that must be accountable: who did what to what, and whether it was allowed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuditEntry {
    /// Who: a user, a certificate's name, or a component.
    pub actor: String,
    /// What was done or tried, for example `trust_map.reload`.
    pub action: String,
    /// What it was done to.
    pub object: String,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// Why, for people.
    pub reason: String,
}

/// How an audited action ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuditOutcome {
    /// Allowed and done.
    #[default]
    Success,
    /// Not allowed.
    Denied,
    /// Allowed, but it failed.
    Failure,
}
