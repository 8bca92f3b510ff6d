use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use amoskys_core::Name;
use tower::{Layer, Service};

use super::submission::{Admitted, Rejection, Submission};
use crate::bus::limits::{Rate, SharedLimits};
use crate::wal::segment::lock;

/// What an agent may save up.
const BURST: Duration = Duration::from_secs(1);

/// A layer that lets each agent send as many events and bytes in a second as [`Limits::rate`](crate::bus::Limits::rate)
/// and [`Limits::rates`](crate::bus::Limits::rates) say, on all its connections together. What is too much waits, and the
/// agent is told how long.
#[derive(Clone, Debug)]
pub struct RateLimit {
    limits: SharedLimits,
    buckets: Arc<Mutex<BTreeMap<Name, Bucket>>>,
}

impl RateLimit {
    /// Keeps to these limits, also when they are replaced.
    #[must_use]
    pub fn new(limits: SharedLimits) -> Self {
        Self {
            limits,
            buckets: Arc::default(),
        }
    }

    /// How long so much of an agent has to wait, and what it costs.
    fn charge(&self, agent: &Name, events: u64, bytes: u64) -> (Duration, Cost) {
        let limits = self.limits.snapshot();
        if !limits.has_rates() {
            return Default::default();
        }
        let rate = limits.rate_of(agent);
        if rate.is_unlimited() {
            return Default::default();
        }
        let mut buckets = lock(&self.buckets);
        let now = Instant::now();
        // Only agents with a certificate come so far, so there are not too many.
        let bucket = buckets.entry(agent.clone()).or_insert_with(|| Bucket::full(now));
        let cost = Cost::of(rate, events, bytes);
        (bucket.charge(cost, now), cost)
    }

    /// Takes so much of an agent if it need not wait; otherwise nothing, and says when it is worth trying again.
    #[cfg(feature = "legacy")]
    pub(crate) fn take_now(&self, agent: &Name, events: u64, bytes: u64) -> Result<(), Duration> {
        let (wait, cost) = self.charge(agent, events, bytes);
        if wait.is_zero() {
            return Ok(());
        }
        self.give_back(agent, cost);
        Err(wait)
    }

    fn give_back(&self, agent: &Name, cost: Cost) {
        if let Some(bucket) = lock(&self.buckets).get_mut(agent) {
            bucket.give_back(cost);
        }
    }
}

/// Gives back what a record has cost that did not get through, because its connection ended while it waited.
struct Unpaid {
    limit: RateLimit,
    agent: Name,
    cost: Cost,
}

impl Unpaid {
    /// The record passes.
    fn pay(mut self) {
        self.cost = Cost::default();
    }
}

impl Drop for Unpaid {
    fn drop(&mut self) {
        self.limit.give_back(&self.agent, self.cost);
    }
}

/// What a record takes of an agent's time, by events and by bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Cost([Duration; 2]);

impl Cost {
    /// A record cannot cost more than an hour, whatever it says.
    fn of(rate: Rate, events: u64, bytes: u64) -> Self {
        let cost = |rate: u64, amount: u64| match rate {
            0 => Duration::ZERO,
            rate => Duration::from_secs_f64((amount as f64 / rate as f64).min(3600.0)),
        };
        Self([cost(rate.events, events), cost(rate.bytes, bytes)])
    }
}

impl<S> Layer<S> for RateLimit {
    type Service = RateLimited<S>;

    fn layer(&self, inner: S) -> RateLimited<S> {
        RateLimited {
            inner,
            limit: self.clone(),
        }
    }
}

/// When the next record of an agent may pass, by events and by bytes.
#[derive(Debug)]
struct Bucket([Instant; 2]);

impl Bucket {
    fn full(now: Instant) -> Self {
        Self([now.checked_sub(BURST).unwrap_or(now); 2])
    }

    /// Takes a record out, and says how long it has to wait: until everything before it has been paid for. So one that
    /// is larger than what can be saved up passes too.
    fn charge(&mut self, cost: Cost, now: Instant) -> Duration {
        let saved = now.checked_sub(BURST).unwrap_or(now);
        let mut wait = Duration::ZERO;
        for (next, cost) in self.0.iter_mut().zip(cost.0) {
            if cost.is_zero() {
                continue;
            }
            let begin = (*next).max(saved);
            *next = begin + cost;
            // What was saved up counts as paid.
            wait = wait.max(begin.saturating_duration_since(now));
        }
        wait
    }

    fn give_back(&mut self, cost: Cost) {
        for (next, cost) in self.0.iter_mut().zip(cost.0) {
            *next = next.checked_sub(cost).unwrap_or(*next);
        }
    }
}

/// What [`RateLimit`] makes.
#[derive(Clone, Debug)]
pub struct RateLimited<S> {
    inner: S,
    limit: RateLimit,
}

impl<S> Service<Submission> for RateLimited<S>
where
    S: Service<Submission, Response = Admitted, Error = Rejection> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Admitted;
    type Error = Rejection;
    type Future = Pin<Box<dyn Future<Output = Result<Admitted, Rejection>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, submission: Submission) -> Self::Future {
        let bytes = submission.record().len() as u64;
        let (wait, cost) = self.limit.charge(submission.agent(), submission.events(), bytes);
        if wait.is_zero() {
            return Box::pin(self.inner.call(submission));
        }
        // The one that is ready goes along; its copy stays.
        let copy = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, copy);
        let unpaid = Unpaid {
            limit: self.limit.clone(),
            agent: submission.agent().clone(),
            cost,
        };
        Box::pin(async move {
            submission.ask_to_wait(wait, "rate");
            tokio::time::sleep(wait).await;
            unpaid.pay();
            inner.call(submission).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_saved_up_and_the_rest_has_to_wait() {
        let now = Instant::now();
        let rate = Rate {
            events: 100,
            bytes: 1000,
        };
        let mut bucket = Bucket::full(now);
        let mut charge = |events, bytes, now| bucket.charge(Cost::of(rate, events, bytes), now);
        for _ in 0..10 {
            assert_eq!(charge(10, 0, now), Duration::ZERO);
        }
        // The last of what was saved up, and what has to be paid for first.
        assert_eq!(charge(10, 0, now), Duration::ZERO);
        assert_eq!(charge(10, 0, now), Duration::from_millis(100));
        assert_eq!(charge(50, 0, now), Duration::from_millis(200));
        assert_eq!(charge(1, 0, now), Duration::from_millis(700));
        // By bytes too, each for itself.
        let later = now + Duration::from_secs(10);
        assert_eq!(charge(0, 5000, later), Duration::ZERO);
        assert_eq!(charge(0, 1, later), Duration::from_secs(4));
        // What says that it is endless does not block its agent for ever.
        assert_eq!(charge(u64::MAX, 0, later + BURST * 10), Duration::ZERO);
        let wait = charge(1, 0, later + BURST * 10);
        assert!(wait <= Duration::from_secs(3600), "{wait:?}");

        let mut bucket = Bucket::full(now);
        let cost = Cost::of(rate, 300, 0);
        assert_eq!(bucket.charge(cost, now), Duration::ZERO);
        assert_eq!(bucket.charge(cost, now), Duration::from_secs(2));
        // It gave up, so the next waits as long as it would have.
        bucket.give_back(cost);
        assert_eq!(bucket.charge(cost, now), Duration::from_secs(2));
        let nothing = Cost::of(Rate::UNLIMITED, 1 << 40, 1 << 40);
        assert_eq!(bucket.charge(nothing, now), Duration::ZERO);
    }
}
