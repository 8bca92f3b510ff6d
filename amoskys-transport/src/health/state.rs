use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use amoskys_core::Name;

/// What a process says of its health: whether it has started, and which named checks fail. Clones share it.
///
/// It keeps what it was last told; whoever does the work tells it, so that an answer never waits for the work.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    ready: bool,
    failing: BTreeMap<Name, String>,
}

impl Health {
    /// Not ready yet; nothing fails.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether the process has started and is not about to stop. Default no.
    pub fn ready(&self, ready: bool) {
        self.state().ready = ready;
    }

    /// A check fails. `reason` is shown to whoever asks, so it should hold no secret.
    pub fn fail(&self, check: impl Into<Name>, reason: impl Into<String>) {
        self.state().failing.insert(check.into(), reason.into());
    }

    /// A check passes, or is no longer made.
    pub fn pass(&self, check: impl Into<Name>) {
        self.state().failing.remove(&check.into());
    }

    /// A function for whoever makes a check: it takes the reason why the check fails, or `None` if it passes. Until it
    /// is called the check fails, as nothing is known yet.
    pub fn reporter(&self, check: impl Into<Name>) -> impl Fn(Option<&str>) + Send + Sync + 'static {
        let (health, check) = (self.clone(), check.into());
        health.fail(check.clone(), "not known yet");
        move |failure| match failure {
            None => health.pass(check.clone()),
            Some(reason) => health.fail(check.clone(), reason),
        }
    }

    /// Whether it is ready and nothing fails.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let state = self.state();
        state.ready && state.failing.is_empty()
    }

    /// The checks that fail, with their reasons. A process that has not started fails the check `started`.
    #[must_use]
    pub fn failing(&self) -> BTreeMap<Name, String> {
        let state = self.state();
        let mut failing = state.failing.clone();
        if !state.ready {
            let reason = "the process is starting or stopping";
            failing
                .entry(Name::from("started"))
                .or_insert_with(|| reason.to_owned());
        }
        failing
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
