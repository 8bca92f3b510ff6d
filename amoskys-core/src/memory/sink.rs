use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use crate::batch::Recorded;
use crate::sink::Sink;

/// A sink that keeps what it gets, for tests.
#[derive(Debug)]
pub struct MemorySink {
    name: String,
    collected: Collected,
}

/// What a [`MemorySink`] got; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Collected(Arc<Mutex<Vec<Recorded>>>);

impl MemorySink {
    /// A sink named `name`, and the place where its events appear.
    #[must_use]
    pub fn new(name: &str) -> (Self, Collected) {
        let collected = Collected::default();
        (
            Self {
                name: name.to_owned(),
                collected: collected.clone(),
            },
            collected,
        )
    }
}

impl Collected {
    /// A copy of all events so far, in the order they were written.
    #[must_use]
    pub fn events(&self) -> Vec<Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Sink for MemorySink {
    type Error = Infallible;

    fn name(&self) -> &str {
        &self.name
    }

    async fn write(&mut self, events: &[Recorded]) -> Result<(), Infallible> {
        self.collected
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(events);
        Ok(())
    }
}
