use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use amoskys_core::event::{ModelRef, Verdict};
use amoskys_core::{Analyzer, AnalyzerError, Digest, Observation};

use super::compare::{Comparison, Disagreement, Side};
use crate::snapshot;

/// Observations between two looks at the counters of a metrics recorder, so that they cost nothing.
const LOOK: u64 = 4_096;

/// Two analyzers on the same events: one at work, and one beside it whose verdicts raise nothing and are only compared.
///
/// To try a model on live traffic before it is trusted. Both see every observation. Conclusions are compared by entity and
/// technique; revisions count once, with the latest score.
///
/// # Guarantees
///
/// - The verdicts, the [model](Analyzer::model) and the errors are those of the analyzer at work, bit for bit as without a shadow.
/// - A shadow that refuses an observation, or panics, harms nobody: refusals are counted, and after a panic it is not asked any more.
/// - At most 10,000 conclusions are kept for the comparison; further ones are counted.
///
/// # Cost
///
/// That of both analyzers, and twice the memory.
///
/// # Metrics
///
/// Gauges `amoskys_shadow_alerts`, labelled `by` with `both`, `active` and `shadow`, and `amoskys_shadow_score_difference`, the
/// largest; set every few thousand observations, and when [`ShadowHandle::disagreement`] is called.
pub struct Shadow<A, S> {
    active: A,
    shadow: S,
    drawn: Vec<Verdict>,
    shared: Arc<Mutex<Comparison>>,
    seen: u64,
}

/// Tells what a [`Shadow`] has found so far. Clones tell of the same.
#[derive(Clone, Debug)]
pub struct ShadowHandle(Arc<Mutex<Comparison>>);

impl<A: Analyzer, S: Analyzer> Shadow<A, S> {
    /// Runs `shadow` beside `active`.
    pub fn new(active: A, shadow: S) -> (Self, ShadowHandle) {
        let shared = Arc::new(Mutex::new(Comparison::default()));
        let handle = ShadowHandle(shared.clone());
        let both = Self {
            active,
            shadow,
            drawn: Vec::new(),
            shared,
            seen: 0,
        };
        (both, handle)
    }

    /// The model beside.
    pub fn shadow_model(&self) -> ModelRef {
        self.shadow.model()
    }

    /// Has the shadow see what the other has seen, and compares; `said` is what the other said.
    fn compare(&mut self, observation: Observation<'_>, said: &[Verdict]) {
        self.seen += 1;
        self.drawn.clear();
        let mut comparison = lock(&self.shared);
        comparison.observations += 1;
        if !comparison.failed {
            let (shadow, drawn) = (&mut self.shadow, &mut self.drawn);
            match catch_unwind(AssertUnwindSafe(|| shadow.observe(observation, drawn))) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    comparison.refused += 1;
                    tracing::debug!(%error, "the shadow cannot use an observation");
                }
                Err(_) => {
                    comparison.failed = true;
                    self.drawn.clear();
                    tracing::error!(model = %self.shadow.model().name, "the shadow panicked and is not asked any more");
                }
            }
        }
        said.iter()
            .for_each(|verdict| comparison.take(Side::Active, verdict));
        self.drawn
            .iter()
            .for_each(|verdict| comparison.take(Side::Shadow, verdict));
        if self.seen.is_multiple_of(LOOK) {
            publish(&comparison.summary());
        }
    }
}

impl<A: Analyzer, S: Analyzer> Analyzer for Shadow<A, S> {
    fn model(&self) -> ModelRef {
        self.active.model()
    }

    fn observe(
        &mut self,
        observation: Observation<'_>,
        verdicts: &mut Vec<Verdict>,
    ) -> Result<(), AnalyzerError> {
        let before = verdicts.len();
        let result = self.active.observe(observation, verdicts);
        self.compare(observation, verdicts.get(before..).unwrap_or_default());
        result
    }

    /// The state of both, and of the comparison.
    fn snapshot(&self) -> Result<Vec<u8>, AnalyzerError> {
        let shadow = (self.shadow.model().digest, self.shadow.snapshot()?);
        let comparison = lock(&self.shared);
        let state = (self.active.snapshot()?, shadow, &*comparison);
        snapshot::encode(self.active.model().digest, &state)
    }

    /// If the shadow is another one than in the snapshot, it begins afresh, and so does the comparison.
    fn restore(&mut self, bytes: &[u8]) -> Result<(), AnalyzerError> {
        type State = (Vec<u8>, (Digest, Vec<u8>), Comparison);
        let (active, (digest, shadow), comparison): State =
            snapshot::decode(self.active.model().digest, bytes)?;
        self.active.restore(&active)?;
        let same = digest == self.shadow.model().digest && self.shadow.restore(&shadow).is_ok();
        *lock(&self.shared) = if same { comparison } else { Comparison::default() };
        Ok(())
    }
}

impl ShadowHandle {
    /// Compares from here on only: what was said before counts no more, for example because the shadow's model was replaced.
    /// Whether it has failed stays known.
    pub fn begin_again(&self) {
        let mut comparison = lock(&self.0);
        let failed = comparison.failed;
        *comparison = Comparison::default();
        comparison.failed = failed;
    }

    /// Where the two differ, so far.
    #[must_use]
    pub fn disagreement(&self) -> Disagreement {
        let summary = lock(&self.0).summary();
        publish(&summary);
        summary
    }
}

impl<A: fmt::Debug, S: fmt::Debug> fmt::Debug for Shadow<A, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shadow")
            .field("active", &self.active)
            .field("shadow", &self.shadow)
            .finish_non_exhaustive()
    }
}

fn lock(comparison: &Mutex<Comparison>) -> MutexGuard<'_, Comparison> {
    comparison.lock().unwrap_or_else(PoisonError::into_inner)
}

fn publish(summary: &Disagreement) {
    for (by, alerts) in [
        ("both", summary.both),
        ("active", summary.only_active),
        ("shadow", summary.only_shadow),
    ] {
        metrics::gauge!("amoskys_shadow_alerts", "by" => by).set(alerts as f64);
    }
    metrics::gauge!("amoskys_shadow_score_difference").set(summary.largest_difference);
}
