//! What changes things on their way.

use crate::error::BoxError;
use crate::event::Event;
use crate::ledger::DropReason;

/// Changes an item in place, or drops it with a reason.
///
/// `T` is an [`Event`] for transforms of a pipeline, which run before sealing (redaction is one), and a
/// [`FeatureVector`](crate::FeatureVector) for fitted encoders and normalizers, which travel inside a model
/// file.
pub trait Transform<T = Event>: Send {
    /// Changes `item`, and says whether to keep it.
    ///
    /// # Errors
    ///
    /// If the item cannot be handled. A pipeline then drops it and counts it under
    /// [`DropReason::TRANSFORM_FAILED`], because an event that should have been redacted must not pass.
    fn transform(&mut self, item: &mut T) -> Result<Outcome, TransformError>;
}

/// What becomes of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on.
    Keep,
    /// It is dropped, and counted under this reason.
    Drop(DropReason),
}

/// A transform could not handle an item.
#[derive(Debug, thiserror::Error)]
#[error("transform {transform} failed: {reason}")]
pub struct TransformError {
    /// Name of the transform.
    pub transform: String,
    /// What was wrong with the item.
    pub reason: String,
    /// The cause, if another error is behind it.
    pub source: Option<BoxError>,
}

/// A closure is a transform: `|event: &mut Event| Outcome::Keep`.
impl<T, F: FnMut(&mut T) -> Outcome + Send> Transform<T> for F {
    fn transform(&mut self, item: &mut T) -> Result<Outcome, TransformError> {
        Ok(self(item))
    }
}
