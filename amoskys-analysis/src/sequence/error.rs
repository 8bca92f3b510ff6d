/// Why a sequence model could not be fitted, calibrated or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SequenceError {
    /// A setting is out of range.
    #[error("{setting} {reason}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What it must be.
        reason: &'static str,
    },
    /// There is nothing to learn from.
    #[error("no training trace is as long as {order} calls")]
    NoTraces {
        /// The least length.
        order: usize,
    },
    /// There is more than can be kept.
    #[error("more than {limit} {what} in the training traces")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// Parts of a stored model do not fit together.
    #[error("the stored model is not sound: {reason}")]
    Stored {
        /// What is wrong.
        reason: &'static str,
    },
}
