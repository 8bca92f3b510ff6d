/// Why a graph detector could not be made, or not go on from a state.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// A setting is out of range.
    #[error("{setting} {reason}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What it must be.
        reason: &'static str,
    },
    /// The state is of a detector with other settings, or damaged.
    #[error("the state is not of a detector with these settings")]
    State,
}
