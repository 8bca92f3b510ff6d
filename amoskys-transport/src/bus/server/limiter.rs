use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Keeps repeated messages from flooding: each kind is let through once in a while, with the number of those held
/// back in between.
#[derive(Debug)]
pub(crate) struct Limiter {
    every: Duration,
    kinds: Mutex<BTreeMap<String, (Instant, u64)>>,
}

/// Kinds kept in mind. An outsider chooses some of them.
const KINDS: usize = 1024;

impl Limiter {
    pub(crate) fn new(every: Duration) -> Self {
        Self {
            every,
            kinds: Mutex::default(),
        }
    }

    /// Whether one more of a kind may be said now; if so, how many were held back before it.
    pub(crate) fn pass(&self, kind: &str, now: Instant) -> Option<u64> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((last, held)) = kinds.get_mut(kind) {
            if now.duration_since(*last) < self.every {
                *held += 1;
                return None;
            }
            *last = now;
            return Some(std::mem::take(held));
        }
        if kinds.len() >= KINDS {
            let every = self.every;
            kinds.retain(|_, (last, _)| now.duration_since(*last) < every);
            if kinds.len() >= KINDS {
                return None;
            }
        }
        kinds.insert(kind.to_owned(), (now, 0));
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lets_one_of_a_kind_through_at_a_time_and_counts_the_others() {
        let limiter = Limiter::new(Duration::from_secs(1));
        let start = Instant::now();
        assert_eq!(limiter.pass("a", start), Some(0));
        assert_eq!(limiter.pass("b", start), Some(0));
        assert_eq!(limiter.pass("a", start), None);
        assert_eq!(limiter.pass("a", start + Duration::from_millis(999)), None);
        assert_eq!(limiter.pass("a", start + Duration::from_secs(1)), Some(2));
        for n in 0..3 * KINDS {
            limiter.pass(&n.to_string(), start + Duration::from_secs(2));
        }
        assert!(limiter.kinds.lock().unwrap().len() <= KINDS);
    }
}
