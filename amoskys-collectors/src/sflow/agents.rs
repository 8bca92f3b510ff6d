//! What is known of the agents: how they count, and when they booted.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use amoskys_core::Timestamp;

use super::SflowExport;
use crate::netflow::sequence::{Observed, Sequence, Units, Uptime};

/// Agents and their sub-agents, limited in number.
#[derive(Debug)]
pub(super) struct Agents {
    known: HashMap<(IpAddr, u32), Agent>,
    most: usize,
    lifetime: Duration,
    /// No agent is forgotten before it, so there is no use in looking.
    sweep: Timestamp,
}

#[derive(Debug)]
struct Agent {
    sequence: Sequence,
    uptime: Uptime,
    seen: Timestamp,
}

/// What a datagram says beside what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) observed: Observed,
    /// The agent booted.
    pub(super) booted: bool,
}

impl Agents {
    pub(super) fn new(most: usize, lifetime: Duration) -> Self {
        Self {
            known: HashMap::new(),
            most,
            lifetime,
            sweep: Timestamp::MIN,
        }
    }

    /// Takes note of a datagram; `None` if there is no room for its agent.
    pub(super) fn observe(&mut self, export: &SflowExport) -> Option<Order> {
        let key = (export.agent, export.sub_agent);
        let now = export.received;
        if !self.known.contains_key(&key) && self.known.len() >= self.most && !self.make_room(now) {
            return None;
        }
        let agent = self.known.entry(key).or_insert_with(|| Agent {
            sequence: Sequence::default(),
            uptime: Uptime::default(),
            seen: now,
        });
        agent.seen = now;
        let secs = now.nanos().div_euclid(1_000_000_000) as u32;
        let booted = agent.uptime.observe(export.uptime_ms, secs);
        if booted {
            agent.sequence.reset();
        }
        let observed = agent.sequence.observe(export.sequence, Some(Units::of(1)));
        Some(Order { observed, booted })
    }

    /// Forgets agents that have been silent; whether there were any.
    fn make_room(&mut self, now: Timestamp) -> bool {
        if now < self.sweep {
            return false;
        }
        let oldest = now.minus(self.lifetime);
        let before = self.known.len();
        let mut next = now;
        self.known.retain(|_, agent| {
            let stays = agent.seen > oldest;
            if stays {
                next = next.min(agent.seen);
            }
            stays
        });
        self.sweep = next.plus(self.lifetime);
        self.known.len() < before
    }
}
