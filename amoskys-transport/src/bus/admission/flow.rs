use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use amoskys_core::Name;
use tokio::sync::watch;
use tower::{Layer, Service};

use super::submission::{Admitted, Rejection, Submission};
use crate::bus::limits::{Limits, SharedLimits};
use crate::wal::segment::lock;

/// What an agent is asked to wait when it has more than its share.
const PAUSE: Duration = Duration::from_millis(50);
/// An agent may always have so much on the way.
const LEAST: u64 = 64 << 10;

/// A layer that bounds the bytes that were received and are not durable yet. Above
/// [`Limits::soft_bytes`](crate::bus::Limits::soft_bytes) an agent that has more than its share on the way waits until others
/// have had theirs, however many connections it has; at [`Limits::hard_bytes`](crate::bus::Limits::hard_bytes) all wait.
#[derive(Clone, Debug)]
pub struct FlowLimit {
    limits: SharedLimits,
    account: Arc<Account>,
}

impl FlowLimit {
    /// Keeps to these limits, also when they are replaced.
    #[must_use]
    pub fn new(limits: SharedLimits) -> Self {
        Self {
            limits,
            account: Arc::new(Account {
                on_the_way: Mutex::default(),
                changed: watch::Sender::new(()),
            }),
        }
    }

    /// Lets so many bytes of an agent in, if it need not wait; otherwise why it has to.
    #[cfg(feature = "legacy")]
    pub(crate) fn enter_now(&self, agent: &Name, bytes: u64) -> Result<Charge, &'static str> {
        self.account.enter(&self.limits.snapshot(), agent, bytes)
    }

    /// Bytes that were let in and are not durable yet.
    pub(crate) fn on_the_way_bytes(&self) -> u64 {
        lock(&self.account.on_the_way).bytes
    }
}

impl<S> Layer<S> for FlowLimit {
    type Service = Flow<S>;

    fn layer(&self, inner: S) -> Flow<S> {
        Flow {
            inner,
            limit: self.clone(),
        }
    }
}

#[derive(Debug)]
struct Account {
    on_the_way: Mutex<OnTheWay>,
    /// Something became less.
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct OnTheWay {
    bytes: u64,
    /// Only agents that have something on the way.
    agents: BTreeMap<Name, u64>,
}

impl OnTheWay {
    /// Why an agent has to wait.
    fn obstacle(&self, limits: &Limits, agent: &Name, bytes: u64) -> Option<&'static str> {
        let after = self.bytes.saturating_add(bytes);
        if self.bytes == 0 || after <= limits.soft_bytes {
            return None;
        }
        if after > limits.effective_hard_bytes() {
            return Some("overload");
        }
        let own = self.agents.get(agent).copied().unwrap_or_default();
        let others = self.agents.len() as u64 - u64::from(own > 0);
        let share = (limits.soft_bytes / (others + 1)).max(LEAST);
        // One record is always let in.
        (own > 0 && own.saturating_add(bytes) > share).then_some("share")
    }
}

impl Account {
    fn enter(self: &Arc<Self>, limits: &Limits, agent: &Name, bytes: u64) -> Result<Charge, &'static str> {
        let mut on_the_way = lock(&self.on_the_way);
        if let Some(obstacle) = on_the_way.obstacle(limits, agent, bytes) {
            return Err(obstacle);
        }
        on_the_way.bytes += bytes;
        match on_the_way.agents.get_mut(agent) {
            Some(own) => *own += bytes,
            None => {
                on_the_way.agents.insert(agent.clone(), bytes);
            }
        }
        Ok(Charge {
            account: self.clone(),
            agent: agent.clone(),
            bytes,
        })
    }
}

/// Bytes on the way, until this is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    account: Arc<Account>,
    agent: Name,
    bytes: u64,
}

impl Drop for Charge {
    fn drop(&mut self) {
        let mut on_the_way = lock(&self.account.on_the_way);
        on_the_way.bytes = on_the_way.bytes.saturating_sub(self.bytes);
        if let Some(own) = on_the_way.agents.get_mut(&self.agent) {
            *own = own.saturating_sub(self.bytes);
            if *own == 0 {
                on_the_way.agents.remove(&self.agent);
            }
        }
        drop(on_the_way);
        self.account.changed.send_replace(());
    }
}

/// What [`FlowLimit`] makes.
#[derive(Clone, Debug)]
pub struct Flow<S> {
    inner: S,
    limit: FlowLimit,
}

impl<S> Service<Submission> for Flow<S>
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
        // The one that is ready goes along; its copy stays.
        let copy = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, copy);
        let limit = self.limit.clone();
        Box::pin(async move {
            let bytes = submission.record().len() as u64;
            let mut changed = None;
            let charge = loop {
                let entered = limit
                    .account
                    .enter(&limit.limits.snapshot(), submission.agent(), bytes);
                let obstacle = match entered {
                    Ok(charge) => break charge,
                    Err(obstacle) => obstacle,
                };
                // Looked at once more after this, so that no change is missed.
                match &mut changed {
                    None => {
                        changed = Some(limit.account.changed.subscribe());
                        submission.ask_to_wait(PAUSE, obstacle);
                    }
                    Some(changed) => {
                        let _ = tokio::time::timeout(PAUSE, changed.changed()).await;
                    }
                }
            };
            let mut admitted = inner.call(submission).await?;
            if admitted.offset.is_some() {
                admitted.keep_until_durable(charge);
            }
            Ok(admitted)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;

    #[test]
    fn above_the_soft_limit_each_agent_has_a_share_and_above_the_hard_one_all_wait() {
        let limits = Limits {
            soft_bytes: 1000 * KIB,
            hard_bytes: 0,
            ..Limits::default()
        };
        let hard = limits.effective_hard_bytes();
        let account = FlowLimit::new(SharedLimits::default()).account;
        let (flood, quiet) = (Name::from("flood"), Name::from("quiet"));
        let mut held = Vec::new();
        // Alone it may have all of the soft limit.
        for _ in 0..10 {
            held.push(account.enter(&limits, &flood, 100 * KIB).unwrap());
        }
        assert_eq!(account.enter(&limits, &flood, KIB).unwrap_err(), "share");
        // Others get in meanwhile, up to their share.
        for _ in 0..5 {
            held.push(account.enter(&limits, &quiet, 100 * KIB).unwrap());
        }
        assert_eq!(account.enter(&limits, &quiet, KIB).unwrap_err(), "share");
        // The flood has to come below its share, which is half now.
        held.drain(..4);
        assert_eq!(account.enter(&limits, &flood, 100 * KIB).unwrap_err(), "share");
        held.push(
            account
                .enter(&limits, &"third".into(), hard - 1200 * KIB)
                .unwrap(),
        );
        assert_eq!(
            account.enter(&limits, &"fourth".into(), 200 * KIB).unwrap_err(),
            "overload"
        );
        held.clear();
        assert_eq!(lock(&account.on_the_way).bytes, 0);
        assert!(lock(&account.on_the_way).agents.is_empty());
        // One record always gets in, whatever its size.
        account.enter(&limits, &flood, 2 * hard).unwrap();
    }
}
