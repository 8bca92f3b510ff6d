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
    /// Triggered with it.
    others: Vec<Shutdown>,
}

impl Shutdown {
    /// A signal that has not been triggered.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Triggers it. Doing so again changes nothing.
    pub fn trigger(&self) {
        let (wakers, others) = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.triggered = true;
            (
                std::mem::take(&mut state.wakers),
                std::mem::take(&mut state.others),
            )
        };
        for waker in wakers {
            waker.wake();
        }
        for other in others {
            other.trigger();
        }
    }

    /// Triggers `other` too when this one is triggered; at once if it was.
    pub fn also_trigger(&self, other: &Self) {
        {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if !state.triggered {
                state.others.push(other.clone());
                return;
            }
        }
        other.trigger();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_signal_triggers_another_but_not_the_other_way_round() {
        let (process, part) = (Shutdown::new(), Shutdown::new());
        process.also_trigger(&part);
        part.trigger();
        assert!(!process.is_triggered());
        let another = Shutdown::new();
        process.also_trigger(&another);
        assert!(!another.is_triggered());
        process.trigger();
        assert!(another.is_triggered());
        let late = Shutdown::new();
        process.also_trigger(&late);
        assert!(late.is_triggered());
    }
}
