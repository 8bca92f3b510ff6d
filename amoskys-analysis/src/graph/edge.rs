//! Scores edges from who they join and when, and nothing else.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::GraphError;
use super::number::{ln, ln_count};
use super::table::Table;
use super::tail::Tail;

/// Edges an active tick of a key is expected to have before anything is known of it.
const TICK_PRIOR: f32 = 2.0;
/// The same of an hour of a pair.
const HOUR_PRIOR: f32 = 20.0;
/// Nats of burst that count as one: a burst begins to matter late, and then grows with its logarithm.
const TICK_BURST: f32 = 20.0;
const HOUR_BURST: f32 = 100.0;
/// How much the rarity of the other end counts.
const OTHER_END: f32 = 0.1;
/// What an edge from a node to itself adds: no honest host sends itself packets over a network (the land attack).
const SELF_LOOP: f32 = 10.0;
/// Rarities above this are not told apart by [`Role::Either`].
const HIGHEST_RARITY: f32 = 16.0;

/// Which end of an edge is the one whose rarity means something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Role {
    /// The source: the monitored hosts begin most conversations, and who begins one is one of few. The default.
    #[default]
    Source,
    /// The destination: sources come and go, as at a server that is open to all, and destinations are few.
    Destination,
    /// Whichever is the rarer among its kind: each end's rarity is turned into a p-value among the rarities seen at that end.
    Either,
}

/// Settings of an [`EdgeScorer`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EdgeParams {
    /// Keys remembered in each of four tables, a power of two from 4 to 2^24. Default 8,192: 1 MiB in all.
    pub cells: usize,
    /// Ticks after which what was seen counts half; `None` never forgets. Default 40,320: four weeks of minutes.
    pub half_life: Option<f32>,
    /// Ticks of the longer window in which a pair is watched. Default 60.
    pub long_ticks: u32,
    /// Which end is judged by its rarity.
    pub role: Role,
    /// Key of the hash that finds a node's place. Who knows it can choose names that share a place. Default 0: fixed, so that
    /// evaluations can be repeated; set a random one where names come from outside.
    pub seed: u64,
}

impl Default for EdgeParams {
    fn default() -> Self {
        Self {
            cells: 8192,
            half_life: Some(40_320.0),
            long_ticks: 60,
            role: Role::Source,
            seed: 0,
        }
    }
}

impl EdgeParams {
    fn check(&self) -> Result<NonZeroU32, GraphError> {
        let refuse = |setting, reason| Err(GraphError::Setting { setting, reason });
        if !self.cells.is_power_of_two() || !(4..=1 << 24).contains(&self.cells) {
            return refuse("cells", "must be a power of two from 4 to 2^24");
        }
        if self
            .half_life
            .is_some_and(|ticks| !(ticks >= 1.0 && ticks.is_finite()))
        {
            return refuse("half_life", "must be a number of ticks from 1 up");
        }
        match NonZeroU32::new(self.long_ticks) {
            Some(ticks) if ticks.get() > 1 => Ok(ticks),
            _ => refuse("long_ticks", "must be 2 or more"),
        }
    }
}

/// What an edge amounts to: its score, and what it is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct EdgeScore {
    /// Higher is more anomalous: the rarity that the role asks for, a tenth of the other end's, `ln(1 + burst)`, and 10 for a
    /// self-loop.
    pub value: f32,
    /// How rarely the source acted in earlier ticks, in nats.
    pub source_rarity: f32,
    /// The same of the destination.
    pub destination_rarity: f32,
    /// The greatest burst of pair, source, destination in this tick, or of the pair in the longer window, 1 being where it begins
    /// to matter.
    pub burst: f32,
    /// Whether source and destination are the same.
    pub self_loop: bool,
}

/// Scores each edge of a stream from those before it and from itself, in constant memory and constant time.
///
/// Three things make an edge suspicious: that its source seldom acts (counted in the logarithm of its edges a tick, so that
/// a flood makes nobody familiar), that pair, source or destination have far more edges in this tick than in the ticks in which they
/// were active, and that it leads from a node to itself.
///
/// Histories lie in buckets of four; in a full bucket the least familiar goes, so that a flood of forged names drives out
/// forged names.
///
/// # When it fails
///
/// An attack of one or a few edges between two hosts that also talk normally looks as they do. Sources that come and go
/// make [`Role::Source`] say nothing; see [`Role`], and [`ContactScorer`](super::ContactScorer), which reads more of a
/// conversation.
///
/// # Cost
///
/// About 50 ns an edge on one core; 128 bytes for each of [`EdgeParams::cells`].
///
/// ```
/// use amoskys_analysis::graph::{EdgeParams, EdgeScorer};
///
/// let mut scorer = EdgeScorer::new(&EdgeParams::default())?;
/// for minute in 0..500 {
///     for host in 0..20 {
///         scorer.score(host, 100 + (host + minute) % 7, minute);
///     }
/// }
/// let usual = scorer.score(3, 102, 500);
/// let stranger = scorer.score(66, 102, 500);
/// assert!(stranger.value > usual.value + 2.0);
/// # Ok::<(), amoskys_analysis::graph::GraphError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EdgeScorer {
    keys: [u64; 4],
    role: Role,
    long_ticks: NonZeroU32,
    decay: f32,
    /// The first tick; ticks are counted from there.
    origin: Option<u64>,
    now: u32,
    /// Logarithm of the ticks so far, decayed.
    ln_ticks: f32,
    sources: Table,
    destinations: Table,
    pairs: Table,
    long_pairs: Table,
    source_tail: Tail,
    destination_tail: Tail,
}

impl EdgeScorer {
    /// A scorer that has seen nothing.
    ///
    /// # Errors
    ///
    /// [`GraphError::Setting`] if a setting is out of range.
    pub fn new(params: &EdgeParams) -> Result<Self, GraphError> {
        let long_ticks = params.check()?;
        let decay = params.half_life.map_or(0.0, |ticks| 1.0 / ticks);
        let table = |prior, decay| Table::new(params.cells, prior, decay);
        Ok(Self {
            keys: super::node::keys(params.seed),
            role: params.role,
            long_ticks,
            decay,
            origin: None,
            now: 0,
            ln_ticks: 0.0,
            sources: table(TICK_PRIOR, decay),
            destinations: table(TICK_PRIOR, decay),
            pairs: table(TICK_PRIOR, decay),
            long_pairs: table(HOUR_PRIOR, decay * params.long_ticks as f32),
            source_tail: Tail::new(HIGHEST_RARITY),
            destination_tail: Tail::new(HIGHEST_RARITY),
        })
    }

    /// Scores an edge, and remembers it. Nodes are any numbers, the same for the same node; a tick is a length of time of the
    /// caller's choosing, a minute for most networks. An edge of an earlier tick than the latest counts as of the latest.
    #[inline]
    pub fn score(&mut self, source: u64, destination: u64, tick: u64) -> EdgeScore {
        let origin = *self.origin.get_or_insert(tick);
        let tick = u32::try_from(tick.saturating_sub(origin)).unwrap_or(u32::MAX);
        if tick > self.now {
            self.advance(tick);
        }
        let (tick, long) = (self.now, self.now / self.long_ticks);
        let (from, to) = (self.hash(source), self.hash(destination));
        let pair = mix(from.rotate_left(23) ^ to, self.keys[3]);

        let cell = self.sources.touch(from, tick);
        let source_rarity = self.ln_ticks - cell.ln_familiar;
        let mut burst = cell.burst();
        let new_source = cell.count == 1;
        let cell = self.destinations.touch(to, tick);
        let destination_rarity = self.ln_ticks - cell.ln_familiar;
        burst = burst.max(cell.burst());
        let new_destination = cell.count == 1;
        burst = burst.max(self.pairs.touch(pair, tick).burst());
        let long = self.long_pairs.touch(pair, long).burst();
        let burst = (burst * (1.0 / TICK_BURST)).max(long * (1.0 / HOUR_BURST));

        let rarity = match self.role {
            Role::Source => source_rarity + OTHER_END * destination_rarity,
            Role::Destination => destination_rarity + OTHER_END * source_rarity,
            Role::Either => {
                // Each node counts once a tick, or a flood would be what is usual.
                if new_source {
                    self.source_tail.add(source_rarity);
                }
                if new_destination {
                    self.destination_tail.add(destination_rarity);
                }
                let source = self.source_tail.surprise(source_rarity);
                source.max(self.destination_tail.surprise(destination_rarity))
            }
        };
        let self_loop = source == destination;
        EdgeScore {
            value: rarity + ln(1.0 + burst) + if self_loop { SELF_LOOP } else { 0.0 },
            source_rarity,
            destination_rarity,
            burst,
            self_loop,
        }
    }

    /// Nodes and pairs forgotten because there was no room.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        let nodes = self.sources.evicted().saturating_add(self.destinations.evicted());
        nodes.saturating_add(self.pairs.evicted())
    }

    /// Goes on from the state of another scorer that was made with the same settings, for example one read back from a
    /// snapshot. What follows is the same, bit for bit.
    ///
    /// # Errors
    ///
    /// [`GraphError::State`] if it was made with other settings, or is not sound; this scorer is then as it was before.
    pub fn adopt(&mut self, state: Self) -> Result<(), GraphError> {
        let same = self.keys == state.keys
            && self.role == state.role
            && self.long_ticks == state.long_ticks
            && self.decay.to_bits() == state.decay.to_bits();
        let mut next = self.clone();
        let same = same
            && next.sources.adopt(state.sources)
            && next.destinations.adopt(state.destinations)
            && next.pairs.adopt(state.pairs)
            && next.long_pairs.adopt(state.long_pairs);
        if !same {
            return Err(GraphError::State);
        }
        (next.origin, next.now, next.ln_ticks) = (state.origin, state.now, state.ln_ticks);
        (next.source_tail, next.destination_tail) = (state.source_tail, state.destination_tail);
        *self = next;
        Ok(())
    }

    #[inline]
    fn hash(&self, node: u64) -> u64 {
        mix(mix(node, self.keys[0]) ^ self.keys[1], self.keys[2])
    }

    #[inline(never)]
    fn advance(&mut self, tick: u32) {
        if self.role == Role::Either {
            let passed = self.decay * (tick - self.now) as f32;
            self.source_tail.settle(passed);
            self.destination_tail.settle(passed);
        }
        self.now = tick;
        // With decay, ticks so far are those a key could have been active in, as its history would count them.
        self.ln_ticks = if self.decay > 0.0 {
            let rate = self.decay * std::f32::consts::LN_2;
            ln((1.0 - super::number::halved(self.decay * tick as f32)) / rate + 1.0)
        } else {
            ln_count(tick.saturating_add(1))
        };
    }
}

/// A multiplication to twice the width, folded. Half the key's bits decide about each bit of the result.
#[inline]
fn mix(value: u64, key: u64) -> u64 {
    let product = u128::from(value ^ key) * u128::from(key | 1);
    (product as u64) ^ (product >> 64) as u64
}
