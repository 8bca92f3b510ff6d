//! A stop signal that the caller gives.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// A stop signal: clones share it, anyone may trigger it, it stays triggered.
///
/// It is bound to no async runtime.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    triggered: bool,
    wakers: Vec<Waker>,
}

impl Shutdown {
    /// A signal that has not been triggered.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Triggers it. Doing so again changes nothing.
    pub fn trigger(&self) {
        let wakers = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.triggered = true;
            std::mem::take(&mut state.wakers)
        };
        for waker in wakers {
            waker.wake();
        }
    }

    /// Whether it has been triggered.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).triggered
    }

    /// Waits until it is triggered.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub fn triggered(&self) -> Triggered {
        Triggered(self.clone())
    }
}

/// Future of [`Shutdown::triggered`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Triggered(Shutdown);

impl Future for Triggered {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.triggered {
            return Poll::Ready(());
        }
        if !state.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }
}
