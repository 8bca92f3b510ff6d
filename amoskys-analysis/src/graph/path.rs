//! Chains of sessions: a host that is logged in to, and logs in elsewhere soon after.

use serde::{Deserialize, Serialize};

use super::GraphError;
use crate::measure::{BoundedMap, mix};

/// Settings of [`Paths`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathParams {
    /// Ticks after an incoming session in which an outgoing one may be its continuation. Default 60.
    pub memory: u64,
    /// Nodes and pairs remembered, each. Default 65,536, at most about 10 MB.
    pub capacity: usize,
}

impl Default for PathParams {
    fn default() -> Self {
        Self {
            memory: 60,
            capacity: 65_536,
        }
    }
}

/// Where a step led.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathScore {
    /// Steps of the longest chain that ends with this one; 1 if it continues none.
    pub steps: u32,
    /// Steps among them that were never taken before.
    pub new_steps: u32,
    /// Where the chain began.
    pub origin: u64,
}

/// Follows chains of steps between nodes: sessions from host to host (lateral movement), or changes from user to user (crossings of
/// privilege). Report only steps that hand over control: remote logins, remote procedure calls, changes of user.
///
/// Administrators who hop through a gateway take the same chains again and again; a chain of several steps that nobody took before is
/// what an intruder leaves.
///
/// # When it fails
///
/// A step that comes later than [`PathParams::memory`] begins a chain of its own. Chains are guessed from times: that a host was
/// logged in to and then logs in elsewhere may be chance, above all on a busy gateway.
#[derive(Debug, Serialize, Deserialize)]
pub struct Paths {
    params: PathParams,
    /// Chains that end at a node, the one with the most new steps.
    ends: BoundedMap<u64, End>,
    taken: BoundedMap<u64, ()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct End {
    tick: u64,
    steps: u32,
    new_steps: u32,
    origin: u64,
}

impl Paths {
    /// Paths of which nothing is known.
    ///
    /// # Errors
    ///
    /// [`GraphError::Setting`] if a setting is out of range.
    pub fn new(params: &PathParams) -> Result<Self, GraphError> {
        if params.capacity == 0 {
            let (setting, reason) = ("capacity", "must be 1 or more");
            return Err(GraphError::Setting { setting, reason });
        }
        Ok(Self {
            params: params.clone(),
            ends: BoundedMap::new(params.capacity),
            taken: BoundedMap::new(params.capacity),
        })
    }

    /// Takes a step.
    pub fn step(&mut self, from: u64, to: u64, tick: u64) -> PathScore {
        let pair = mix(from ^ mix(to));
        let is_new = self.taken.peek(&pair).is_none();
        self.taken.entry(&pair, || ());
        let before = self.ends.get(&from).copied();
        let before =
            before.filter(|end| tick.saturating_sub(end.tick) <= self.params.memory && end.origin != to);
        let end = End {
            tick,
            steps: before.map_or(0, |end| end.steps).saturating_add(1),
            new_steps: before
                .map_or(0, |end| end.new_steps)
                .saturating_add(u32::from(is_new)),
            origin: before.map_or(from, |end| end.origin),
        };
        let memory = self.params.memory;
        let kept = self.ends.entry(&to, || end);
        // The chain that is the stranger, while it lasts.
        if end.new_steps >= kept.new_steps || tick.saturating_sub(kept.tick) > memory {
            *kept = end;
        }
        PathScore {
            steps: end.steps,
            new_steps: end.new_steps,
            origin: end.origin,
        }
    }

    /// Nodes and pairs forgotten because there was no room.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.ends.evicted() + self.taken.evicted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_of_new_steps_is_followed_and_a_usual_one_is_not_new() {
        let mut paths = Paths::new(&PathParams::default()).unwrap();
        for (tick, (from, to)) in (0..).zip([(1, 2), (2, 3), (3, 4)]) {
            let score = paths.step(from, to, tick);
            let steps = u32::try_from(tick + 1).unwrap();
            assert_eq!((score.steps, score.new_steps, score.origin), (steps, steps, 1));
        }
        let again = [(1, 2), (2, 3), (3, 4)].map(|(from, to)| paths.step(from, to, 5_000));
        assert_eq!(again.map(|score| score.new_steps), [0, 0, 0]);
        assert_eq!(again[2].steps, 3);
    }

    #[test]
    fn what_comes_late_or_goes_back_is_no_chain() {
        let mut paths = Paths::new(&PathParams::default()).unwrap();
        paths.step(1, 2, 0);
        assert_eq!(paths.step(2, 3, 61).steps, 1);
        paths.step(7, 8, 100);
        assert_eq!(paths.step(8, 7, 101).steps, 1);
    }
}
