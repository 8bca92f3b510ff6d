//! What turns events into features, and features into verdicts.

use crate::batch::Recorded;
use crate::error::BoxError;
use crate::event::{ModelRef, Verdict};
use crate::id::Digest;
use crate::schema::FeatureVector;

/// What an analyzer is shown, in log order.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Observation<'a> {
    /// An event. Punctuations are shown too: they are how an analyzer learns the time.
    Event(&'a Recorded),
    /// Features of an entity over a window that the events shown before have closed.
    Features(&'a FeatureVector),
}

/// Draws conclusions from events and features.
///
/// An analyzer is a state machine: the same observations in the same order give the same verdicts bit for
/// bit, on any number of threads, whatever the wall clock says. It keeps no order of hash tables and draws no
/// random numbers but from a seed of its own.
///
/// It is synchronous and may take its time; the pipeline runs it off the async runtime.
pub trait Analyzer: Send {
    /// The model at work. Its digest changes whenever the same observations could lead to other verdicts.
    fn model(&self) -> ModelRef;

    /// Takes one observation and appends what it concludes to `verdicts`.
    ///
    /// # Errors
    ///
    /// [`AnalyzerError::Observation`] if this observation cannot be used; the state is as before, and the
    /// caller counts it and goes on.
    fn observe(
        &mut self,
        observation: Observation<'_>,
        verdicts: &mut Vec<Verdict>,
    ) -> Result<(), AnalyzerError>;

    /// The state, in a versioned encoding of the analyzer's own.
    ///
    /// # Errors
    ///
    /// If the state cannot be encoded.
    fn snapshot(&self) -> Result<Vec<u8>, AnalyzerError>;

    /// Goes on from a state that [`snapshot`](Self::snapshot) gave, of the same model. What follows is the
    /// same, bit for bit, as if the analyzer had never stopped.
    ///
    /// # Errors
    ///
    /// [`AnalyzerError::Snapshot`] if it is not such a state; the analyzer is then as it was before.
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), AnalyzerError>;
}

/// Turns events into feature vectors: windows, encoders, catalogs.
///
/// The same rules of determinism hold as for an [`Analyzer`].
pub trait Extractor: Send {
    /// Takes one event, and appends the vectors of windows it closes to `features`.
    fn observe(&mut self, event: &Recorded, features: &mut Vec<FeatureVector>);

    /// Says, before the first event, that only vectors of these schemas will be looked at, so that others need not be made. Those
    /// that are made stay as they are, and in their order. A state is then one of an extractor told the same.
    ///
    /// Default: all are made.
    fn restrict(&mut self, schemas: &[Digest]) {
        let _ = schemas;
    }

    /// The state, in a versioned encoding of the extractor's own.
    ///
    /// # Errors
    ///
    /// If the state cannot be encoded.
    fn snapshot(&self) -> Result<Vec<u8>, AnalyzerError>;

    /// Goes on from a state that [`snapshot`](Self::snapshot) gave.
    ///
    /// # Errors
    ///
    /// [`AnalyzerError::Snapshot`] if it is not such a state; the extractor is then as it was before.
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), AnalyzerError>;
}

/// Any extractor, for chains assembled at run time.
pub type BoxExtractor = Box<dyn Extractor>;

impl Extractor for BoxExtractor {
    fn observe(&mut self, event: &Recorded, features: &mut Vec<FeatureVector>) {
        (**self).observe(event, features);
    }

    fn restrict(&mut self, schemas: &[Digest]) {
        (**self).restrict(schemas);
    }

    fn snapshot(&self) -> Result<Vec<u8>, AnalyzerError> {
        (**self).snapshot()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), AnalyzerError> {
        (**self).restore(snapshot)
    }
}

impl Analyzer for Box<dyn Analyzer> {
    fn model(&self) -> ModelRef {
        (**self).model()
    }

    fn observe(
        &mut self,
        observation: Observation<'_>,
        verdicts: &mut Vec<Verdict>,
    ) -> Result<(), AnalyzerError> {
        (**self).observe(observation, verdicts)
    }

    fn snapshot(&self) -> Result<Vec<u8>, AnalyzerError> {
        (**self).snapshot()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), AnalyzerError> {
        (**self).restore(snapshot)
    }
}

/// Why an analyzer or extractor call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnalyzerError {
    /// The observation does not fit the model. Count it and go on.
    #[error("the observation cannot be used: {reason}")]
    Observation {
        /// What is wrong with it.
        reason: String,
    },
    /// The snapshot is damaged, or of another model or version. Start from an empty state and replay the log.
    #[error("the snapshot cannot be restored: {reason}")]
    Snapshot {
        /// What is wrong with it.
        reason: String,
        /// The cause, if another error is behind it.
        source: Option<BoxError>,
    },
}
