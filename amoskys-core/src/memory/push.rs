use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use crate::batch::{Batch, Tally};
use crate::collector::Collector;
use crate::event::Event;
use crate::id::Name;

/// A bounded queue for a host that has no source to pull: it pushes events at one end, a pipeline collects
/// them at the other.
///
/// `capacity` is in events. When the queue is full, [`PushHandle::try_push`] gives the event back, and the host
/// decides: wait, drop, or slow down.
#[must_use]
pub fn push(name: &str, capacity: usize) -> (PushHandle, PushCollector) {
    let queue = Arc::new(Queue {
        capacity: capacity.max(1),
        state: Mutex::default(),
    });
    queue.lock().handles = 1;
    let handle = PushHandle(queue.clone());
    (
        handle,
        PushCollector {
            name: name.into(),
            queue,
        },
    )
}

/// The pushing end. Clones share the queue; when the last is dropped, the source has ended.
#[derive(Debug)]
pub struct PushHandle(Arc<Queue>);

/// Why an event was not taken. The event comes back with it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The queue is full. The same event may be pushed again later.
    #[error("the queue is full")]
    Full(Box<Event>),
    /// The collecting end is gone; no event will be taken any more.
    #[error("the pipeline has stopped")]
    Closed(Box<Event>),
}

impl PushError {
    /// The event that was not taken.
    #[must_use]
    pub fn into_event(self) -> Event {
        match self {
            Self::Full(event) | Self::Closed(event) => *event,
        }
    }
}

impl PushHandle {
    /// Pushes an event, or says at once why not. Never blocks for longer than another push takes.
    ///
    /// # Errors
    ///
    /// [`PushError::Full`] and [`PushError::Closed`]; both give the event back.
    pub fn try_push(&self, event: Event) -> Result<(), PushError> {
        let waker = {
            let mut state = self.0.lock();
            if state.closed {
                return Err(PushError::Closed(Box::new(event)));
            }
            if state.events.len() >= self.0.capacity {
                return Err(PushError::Full(Box::new(event)));
            }
            state.events.push_back(event);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }
}

impl Clone for PushHandle {
    fn clone(&self) -> Self {
        self.0.lock().handles += 1;
        Self(self.0.clone())
    }
}

impl Drop for PushHandle {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.0.lock();
            state.handles -= 1;
            if state.handles == 0 {
                state.waker.take()
            } else {
                None
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The collecting end.
#[derive(Debug)]
pub struct PushCollector {
    name: Name,
    queue: Arc<Queue>,
}

impl Collector for PushCollector {
    type Error = Infallible;

    fn source(&self) -> &str {
        self.name.as_str()
    }

    async fn next_batch(&mut self) -> Result<Option<Batch>, Infallible> {
        let name = self.name.clone();
        let queue = &self.queue;
        Ok(poll_fn(|cx| {
            let mut state = queue.lock();
            if state.events.is_empty() {
                if state.handles == 0 || state.closed {
                    return Poll::Ready(None);
                }
                state.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let mut events: Vec<Event> = state.events.drain(..).collect();
            drop(state);
            for event in &mut events {
                event.source = name.clone();
            }
            let tally = Tally {
                used: events.len() as u64,
                ..Tally::default()
            };
            Poll::Ready(Some(Batch {
                events,
                position: None,
                tally,
            }))
        })
        .await)
    }

    /// Takes no more events; those in the queue are still handed over.
    fn stop(&mut self) -> bool {
        self.queue.lock().closed = true;
        true
    }
}

impl Drop for PushCollector {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
    }
}

#[derive(Debug)]
struct Queue {
    capacity: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Event>,
    handles: usize,
    closed: bool,
    waker: Option<Waker>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
