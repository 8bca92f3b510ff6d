use serde::{Deserialize, Serialize};

use super::interval::share_interval;
use super::{CalibrateError, Interval, labelled};

/// Isotonic regression: the rising curve nearest to the labels, found by pooling adjacent violators.
///
/// Between the pools the curve is a straight line. Probabilities keep away from 0 and 1 by 1 / (n + 2) for n labels: so
/// many labels cannot tell of rarer things.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct Isotonic {
    /// Scores, rising, and the probability at each.
    points: Vec<(f64, f64)>,
    /// Rows of the pool that each point belongs to.
    rows: Vec<u32>,
    /// How near to 0 and 1 a probability may come.
    margin: f64,
}

#[derive(Serialize, Deserialize)]
struct Parts {
    points: Vec<(f64, f64)>,
    rows: Vec<u32>,
    margin: f64,
}

/// Neighbouring scores with one probability.
struct Pool {
    first: f64,
    last: f64,
    anomalies: f64,
    rows: f64,
}

impl Isotonic {
    /// Fits it on labelled scores. Scores that are not finite are left out.
    ///
    /// # Errors
    ///
    /// If scores and labels differ in number, or only one kind of label occurs.
    pub fn fit(scores: &[f64], labels: &[bool]) -> Result<Self, CalibrateError> {
        let pairs = labelled(scores, labels)?;
        let mut pools: Vec<Pool> = Vec::new();
        for same in pairs.chunk_by(|a, b| a.0 == b.0) {
            let anomalies = same.iter().filter(|pair| pair.1).count();
            pools.push(Pool {
                first: same[0].0,
                last: same[0].0,
                anomalies: anomalies as f64,
                rows: same.len() as f64,
            });
            pool_violators(&mut pools);
        }
        let ends = |pool: Pool| {
            let probability = pool.anomalies / pool.rows;
            let ends = if pool.first < pool.last {
                vec![pool.first, pool.last]
            } else {
                vec![pool.first]
            };
            let rows = pool.rows as u32;
            ends.into_iter().map(move |score| ((score, probability), rows))
        };
        let (points, rows) = pools.into_iter().flat_map(ends).unzip();
        Ok(Self {
            points,
            rows,
            margin: 1.0 / (pairs.len() as f64 + 2.0),
        })
    }

    /// The probability that a row of this score is an anomaly.
    #[must_use]
    pub fn probability(&self, score: f64) -> f64 {
        self.between(score, |at| self.points[at].1)
            .clamp(self.margin, 1.0 - self.margin)
    }

    /// The probability, and its bounds with a confidence between 0 and 1: those of the share of anomalies in its pool.
    #[must_use]
    pub fn interval(&self, score: f64, confidence: f64) -> Interval {
        let probability = self.probability(score);
        let bounds = |at: usize| {
            let rows = f64::from(self.rows[at]);
            share_interval(self.points[at].1 * rows, rows, confidence)
        };
        Interval {
            low: self.between(score, |at| bounds(at).0).min(probability),
            probability,
            high: self.between(score, |at| bounds(at).1).max(probability),
        }
    }

    /// What something has at a score that it has at each point: a straight line between two.
    fn between(&self, score: f64, of: impl Fn(usize) -> f64) -> f64 {
        let after = self.points.partition_point(|point| point.0 <= score);
        match (after.checked_sub(1), self.points.get(after)) {
            (Some(before), Some(right)) => {
                let (left, low) = (self.points[before].0, of(before));
                low + (of(after) - low) * ((score - left) / (right.0 - left))
            }
            (Some(before), None) => of(before),
            (None, Some(_)) => of(after),
            (None, None) => 0.5,
        }
    }
}

/// Joins the last pool with the one before while that one's probability is not lower.
fn pool_violators(pools: &mut Vec<Pool>) {
    while let [.., before, last] = &mut pools[..]
        && before.anomalies * last.rows >= last.anomalies * before.rows
    {
        before.last = last.last;
        before.anomalies += last.anomalies;
        before.rows += last.rows;
        pools.pop();
    }
}

impl TryFrom<Parts> for Isotonic {
    type Error = &'static str;

    fn try_from(Parts { points, rows, margin }: Parts) -> Result<Self, Self::Error> {
        let rising = points
            .windows(2)
            .all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
        let finite = points
            .iter()
            .all(|point| point.0.is_finite() && (0.0..=1.0).contains(&point.1));
        if rising && finite && margin > 0.0 && margin <= 0.5 && rows.len() == points.len() {
            Ok(Self { points, rows, margin })
        } else {
            Err("not a rising curve")
        }
    }
}

impl From<Isotonic> for Parts {
    fn from(Isotonic { points, rows, margin }: Isotonic) -> Self {
        Self { points, rows, margin }
    }
}
