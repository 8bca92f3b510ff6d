//! Which nodes belong together, and when one changes sides.

use serde::{Deserialize, Serialize};

use super::GraphError;
use crate::measure::BoundedMap;

/// Neighbourhoods a node keeps count of.
const VOTES: usize = 4;
/// Edges after which a vote counts half.
const MEMORY: f32 = 64.0;

/// What an edge says about communities.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct CommunityScore {
    /// Whether source and destination belong to different communities.
    pub crosses: bool,
    /// How rarely the source had to do with the destination's community before, in nats.
    pub value: f32,
    /// Whether the source's community is now another than before this edge.
    pub changed: bool,
}

/// Communities found while the graph grows, by label propagation (Raghavan et al. 2007) on decayed votes: a node takes the label
/// that most of its recent edges lead to.
///
/// # When it fails
///
/// Labels are local and settle over some dozen edges for each node; a graph without communities gets them all the same, and they
/// wander. Use the value beside others, not alone.
#[derive(Debug, Serialize, Deserialize)]
pub struct Communities {
    nodes: BoundedMap<u64, Node>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Node {
    label: u64,
    votes: [(u64, f32); VOTES],
    total: f32,
}

impl Communities {
    /// At most so many nodes, about 150 bytes each.
    ///
    /// # Errors
    ///
    /// [`GraphError::Setting`] if there may be none.
    pub fn new(capacity: usize) -> Result<Self, GraphError> {
        if capacity == 0 {
            let (setting, reason) = ("capacity", "must be 1 or more");
            return Err(GraphError::Setting { setting, reason });
        }
        Ok(Self {
            nodes: BoundedMap::new(capacity),
        })
    }

    /// Scores an edge, and learns from it.
    pub fn score(&mut self, source: u64, destination: u64) -> CommunityScore {
        let of = |nodes: &mut BoundedMap<u64, Node>, node: u64| nodes.entry(&node, || Node::new(node)).label;
        let from = of(&mut self.nodes, source);
        let to = of(&mut self.nodes, destination);
        let node = self.nodes.entry(&source, || Node::new(source));
        let known: f32 = node
            .votes
            .iter()
            .filter(|vote| vote.0 == to)
            .map(|vote| vote.1)
            .sum();
        let value = -((known + 0.5) / (node.total + 1.0)).min(1.0).ln();
        let changed = node.vote(to);
        // The destination is drawn towards the source just as well.
        self.nodes
            .entry(&destination, || Node::new(destination))
            .vote(from);
        CommunityScore {
            crosses: from != to,
            value,
            changed,
        }
    }

    /// The label of a node's community; `None` if it is not known.
    #[must_use]
    pub fn community(&self, node: u64) -> Option<u64> {
        self.nodes.peek(&node).map(|node| node.label)
    }

    /// Nodes forgotten because there was no room.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.nodes.evicted()
    }
}

impl Node {
    fn new(label: u64) -> Self {
        Self {
            label,
            votes: [(0, 0.0); VOTES],
            total: 0.0,
        }
    }

    /// Counts a vote; whether the label changes by it.
    fn vote(&mut self, label: u64) -> bool {
        let kept = (-std::f32::consts::LN_2 / MEMORY).exp();
        self.total = self.total * kept + 1.0;
        let mut least = 0;
        for at in 0..VOTES {
            self.votes[at].1 *= kept;
            if self.votes[at].1 < self.votes[least].1 {
                least = at;
            }
        }
        let own = self.votes.iter().position(|vote| vote.0 == label && vote.1 > 0.0);
        let place = own.unwrap_or(least);
        if self.votes[place].0 != label {
            self.votes[place] = (label, 0.0);
        }
        self.votes[place].1 += 1.0;
        let mut best = self.votes[0];
        for vote in &self.votes[1..] {
            // Of equals the lower number, so that neighbours agree.
            if vote.1 > best.1 || (vote.1 == best.1 && vote.0 < best.0) {
                best = *vote;
            }
        }
        // A community is left for one that clearly weighs more.
        let own: f32 = self
            .votes
            .iter()
            .filter(|vote| vote.0 == self.label)
            .map(|vote| vote.1)
            .sum();
        let changes = best.0 != self.label && best.1 > own + 1.0;
        if changes {
            self.label = best.0;
        }
        changes
    }
}
