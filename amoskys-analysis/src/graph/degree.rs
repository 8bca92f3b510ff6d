//! How many others a node has to do with, in both directions, over a long window.

use serde::{Deserialize, Serialize};

use super::GraphError;
use crate::measure::{BoundedMap, Distinct, mix};

/// Settings of [`Degrees`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DegreeParams {
    /// Ticks of the window over which others are counted. Default 1,440: a day of minutes.
    pub window: u64,
    /// Nodes remembered in each direction. Default 16,384, about 4 MB.
    pub capacity: usize,
}

impl Default for DegreeParams {
    fn default() -> Self {
        Self {
            window: 1440,
            capacity: 16_384,
        }
    }
}

/// How many others, now and usually.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct DegreeScore {
    /// Distinct destinations of the source in this window and the one before, exact within a twentieth up to 500, and no more
    /// than about 3,000.
    pub fan_out: f64,
    /// What the source had in earlier windows, on the mean.
    pub usual_fan_out: f64,
    /// The same of the destination: distinct sources.
    pub fan_in: f64,
    /// What the destination had in earlier windows, on the mean.
    pub usual_fan_in: f64,
    /// The greater of ln((degree + 5) / (usual + 5)) of the two; 0 if neither has grown.
    pub value: f64,
}

/// Counts the distinct neighbours of each node over long windows. A scan of one host an hour is 24 destinations a day, which for most
/// hosts is more than usual; no rate would show it.
///
/// # When it fails
///
/// In its first two windows a node has no usual degree but that of the mean node. Servers grow popular, and new machines are rolled
/// out.
#[derive(Debug, Serialize, Deserialize)]
pub struct Degrees {
    params: DegreeParams,
    origin: Option<u64>,
    window: u64,
    sources: BoundedMap<u64, Neighbours>,
    destinations: BoundedMap<u64, Neighbours>,
}

/// The neighbours of a node in this window and the last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Neighbours {
    window: u64,
    now: Distinct,
    before: Distinct,
    /// Mean over closed windows, recent ones counting more.
    usual: f64,
    closed: u32,
}

/// Added to both degrees: one neighbour more or less means little.
const SOME: f64 = 5.0;
/// What a node without history is taken to have.
const PRIOR: f64 = 8.0;

impl Degrees {
    /// Degrees of which nothing is known.
    ///
    /// # Errors
    ///
    /// [`GraphError::Setting`] if a setting is out of range.
    pub fn new(params: &DegreeParams) -> Result<Self, GraphError> {
        if params.window == 0 || params.capacity == 0 {
            let reason = "must be 1 or more";
            let setting = if params.window == 0 { "window" } else { "capacity" };
            return Err(GraphError::Setting { setting, reason });
        }
        Ok(Self {
            params: params.clone(),
            origin: None,
            window: 0,
            sources: BoundedMap::new(params.capacity),
            destinations: BoundedMap::new(params.capacity),
        })
    }

    /// Counts an edge, and says how many others its ends have now. Give `destination` a number of host and port together to count
    /// ports, too.
    pub fn score(&mut self, source: u64, destination: u64, tick: u64) -> DegreeScore {
        let origin = *self.origin.get_or_insert(tick);
        self.window = self.window.max(tick.saturating_sub(origin) / self.params.window);
        let window = self.window;
        let (fan_out, usual_fan_out) = self
            .sources
            .entry(&source, || Neighbours::new(window))
            .add(destination, window);
        let (fan_in, usual_fan_in) = self
            .destinations
            .entry(&destination, || Neighbours::new(window))
            .add(source, window);
        let growth = |now: f64, usual: f64| ((now + SOME) / (usual + SOME)).ln();
        let value = growth(fan_out, usual_fan_out)
            .max(growth(fan_in, usual_fan_in))
            .max(0.0);
        DegreeScore {
            fan_out,
            usual_fan_out,
            fan_in,
            usual_fan_in,
            value,
        }
    }

    /// Nodes forgotten because there was no room.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.sources.evicted() + self.destinations.evicted()
    }
}

impl Neighbours {
    fn new(window: u64) -> Self {
        Self {
            window,
            ..Self::default()
        }
    }

    /// With this neighbour: how many there are, and how many there are usually.
    fn add(&mut self, other: u64, window: u64) -> (f64, f64) {
        while self.window < window {
            let degree = self.now.estimate();
            self.closed = self.closed.saturating_add(1);
            let share = 1.0 / f64::from(self.closed.min(14)).max(1.0);
            self.usual += (degree - self.usual) * share;
            // Windows without an edge are windows of degree zero; two of them, and both sets are empty.
            self.before = std::mem::take(&mut self.now);
            self.window = if self.closed > 1 && degree == 0.0 {
                window
            } else {
                self.window + 1
            };
        }
        self.now.insert(mix(other));
        let usual = if self.closed == 0 {
            PRIOR
        } else {
            self.usual.max(1.0)
        };
        // A scan that crosses the end of a window is not to be halved.
        (self.now.estimate().max(self.before.estimate()), usual)
    }
}
