use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use amoskys_core::event::{AuditEntry, AuditOutcome, EventRange, ModelRef, Verdict};
use amoskys_core::{Analyzer, AnalyzerError, Digest, Observation, Seq, Timestamp};

use super::carry::take_over;

/// Swaps that are remembered for [`SlotHandle::swaps`] and [`SlotHandle::swaps_from`].
const MOST_SWAPS: usize = 64;

/// An analyzer whose model can be replaced while events flow. See the [module](super).
///
/// # Guarantees
///
/// - Each observation is shown to exactly one analyzer, in order. No observation waits for a model to be loaded.
/// - A swap happens between two observations, at the first one after the offer. The verdicts before it name the old model,
///   those after it the new one.
/// - A swap is no verdict: it raises nothing, and says nothing about a host. It is kept for the one who [asks](SlotHandle::swaps_from),
///   with the first event that the new model judged, and is to be written down as an [audit event](Swap::audit_entry).
/// - State is taken over where the new analyzer can go on from it, else it begins afresh; [`Swap::state`] says which.
///   A detection that begins afresh needs minutes to know its hosts again.
///
/// A snapshot is that of the analyzer at work. It is restored by a slot with the same model; a program that is
/// started again must be given the model that was last at work.
pub struct ModelSlot<A> {
    current: A,
    shared: Arc<Shared<A>>,
    take_over: fn(&A, &mut A) -> bool,
}

/// Offers analyzers to a [`ModelSlot`]. Clones offer to the same slot.
pub struct SlotHandle<A>(Arc<Shared<A>>);

/// A model that was replaced.
#[derive(Clone, Debug, PartialEq)]
pub struct Swap {
    /// The model that was at work.
    pub from: ModelRef,
    /// The model that is at work since.
    pub to: ModelRef,
    /// The first observation that the new model judged: an event, or the events behind a feature vector.
    pub events: EventRange,
    /// Its time.
    pub time: Timestamp,
    /// What became of the state.
    pub state: Taken,
}

/// What became of an analyzer's state when its model was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The new analyzer goes on from it.
    Over,
    /// The new analyzer began afresh.
    Anew,
}

struct Shared<A> {
    /// Whether there is an offer, so that looking for one costs a load.
    waiting: AtomicBool,
    state: Mutex<State<A>>,
}

struct State<A> {
    offer: Option<A>,
    swaps: VecDeque<Swap>,
    count: u64,
}

impl<A: Analyzer> ModelSlot<A> {
    /// A slot with this analyzer at work, and the handle to replace it.
    pub fn new(analyzer: A) -> (Self, SlotHandle<A>) {
        Self::with_take_over(analyzer, |before, after| take_over(before, after))
    }

    /// As [`new`](Self::new), for analyzers that take a state over in a way of their own: the function brings the second to the
    /// state of the first, and says whether it did. It must not leave the second half changed.
    pub fn with_take_over(analyzer: A, take_over: fn(&A, &mut A) -> bool) -> (Self, SlotHandle<A>) {
        let state = State {
            offer: None,
            swaps: VecDeque::new(),
            count: 0,
        };
        let shared = Arc::new(Shared {
            waiting: AtomicBool::new(false),
            state: Mutex::new(state),
        });
        let handle = SlotHandle(shared.clone());
        let slot = Self {
            current: analyzer,
            shared,
            take_over,
        };
        (slot, handle)
    }

    /// The analyzer at work.
    pub const fn current(&self) -> &A {
        &self.current
    }

    /// Puts the offered analyzer to work.
    fn swap(&mut self, observation: Observation<'_>) {
        let mut state = self.shared.lock();
        self.shared.waiting.store(false, Ordering::Release);
        let Some(mut next) = state.offer.take() else {
            return;
        };
        drop(state);
        let taken = if (self.take_over)(&self.current, &mut next) {
            Taken::Over
        } else {
            Taken::Anew
        };
        let from = self.current.model();
        self.current = next;
        let Some((events, time)) = place(observation) else {
            return;
        };
        let swap = Swap {
            from,
            to: self.current.model(),
            events,
            time,
            state: taken,
        };
        tracing::info!(from = %swap.from.digest, to = %swap.to.digest, state = ?taken, "another model is at work");
        let mut state = self.shared.lock();
        state.count += 1;
        if state.swaps.len() >= MOST_SWAPS {
            state.swaps.pop_front();
        }
        state.swaps.push_back(swap);
    }
}

impl<A: Analyzer> Analyzer for ModelSlot<A> {
    fn model(&self) -> ModelRef {
        self.current.model()
    }

    fn observe(
        &mut self,
        observation: Observation<'_>,
        verdicts: &mut Vec<Verdict>,
    ) -> Result<(), AnalyzerError> {
        if self.shared.waiting.load(Ordering::Acquire) {
            self.swap(observation);
        }
        self.current.observe(observation, verdicts)
    }

    fn snapshot(&self) -> Result<Vec<u8>, AnalyzerError> {
        self.current.snapshot()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), AnalyzerError> {
        self.current.restore(snapshot)
    }
}

impl<A: Analyzer> SlotHandle<A> {
    /// Offers an analyzer, to be at work from the next observation on. An earlier offer that was not yet taken comes back, and
    /// will not be used.
    pub fn offer(&self, analyzer: A) -> Option<A> {
        let mut state = self.0.lock();
        let before = state.offer.replace(analyzer);
        self.0.waiting.store(true, Ordering::Release);
        before
    }

    /// Whether an offer waits for the next observation.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.0.waiting.load(Ordering::Acquire)
    }

    /// How often a model was replaced.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.lock().count
    }

    /// The latest swaps, 64 at most, in order.
    #[must_use]
    pub fn swaps(&self) -> Vec<Swap> {
        self.0.lock().swaps.iter().cloned().collect()
    }

    /// The swaps from this number on, counted from 0, and the number to ask from next: so that each is told once. Of those that
    /// were not asked for in time only the latest 64 are known.
    #[must_use]
    pub fn swaps_from(&self, number: u64) -> (Vec<Swap>, u64) {
        let state = self.0.lock();
        let first = state.count - state.swaps.len() as u64;
        let skip = usize::try_from(number.saturating_sub(first)).unwrap_or(usize::MAX);
        (state.swaps.iter().skip(skip).cloned().collect(), state.count)
    }
}

impl Swap {
    /// What an audit log says of it: `actor` has put the model `to` in the place of `from`, from this event of this stream on.
    #[must_use]
    pub fn audit_entry(&self, actor: impl Into<String>) -> AuditEntry {
        let EventRange { stream, first, .. } = &self.events;
        AuditEntry {
            actor: actor.into(),
            action: "model.replace".to_owned(),
            object: format!("{} {} -> {}", self.to.name, self.from.digest, self.to.digest),
            outcome: AuditOutcome::Success,
            reason: format!("{self}, from event {first} of {stream} on"),
        }
    }
}

impl<A> Shared<A> {
    fn lock(&self) -> MutexGuard<'_, State<A>> {
        // Nothing is left half done in it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A> Clone for SlotHandle<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A: fmt::Debug> fmt::Debug for ModelSlot<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelSlot")
            .field("current", &self.current)
            .finish_non_exhaustive()
    }
}

impl<A> fmt::Debug for SlotHandle<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlotHandle").finish_non_exhaustive()
    }
}

impl fmt::Display for Swap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [from, to] = [&self.from, &self.to].map(|model| short(&model.digest));
        let state = match self.state {
            Taken::Over => "goes on from its state",
            Taken::Anew => "begins afresh",
        };
        write!(f, "model {} {to} replaces {from} and {state}", self.to.name)
    }
}

/// What an observation is about.
fn place(observation: Observation<'_>) -> Option<(EventRange, Timestamp)> {
    match observation {
        Observation::Event(event) => {
            let range = EventRange {
                stream: (*event.stream).clone(),
                first: Seq(event.seq.0),
                last: Seq(event.seq.0),
            };
            Some((range, event.event.time))
        }
        Observation::Features(vector) => Some((vector.events.clone(), vector.end)),
        _ => None,
    }
}

/// The first digits of a digest, for people.
pub(super) fn short(digest: &Digest) -> String {
    digest.to_string().chars().take(12).collect()
}
