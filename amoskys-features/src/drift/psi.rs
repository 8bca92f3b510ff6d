use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Added to each count, so that an empty bin does not make the index infinite.
const SMOOTHING: f64 = 0.5;

/// The population stability index of the last values of a stream against its first ones.
///
/// The reference is cut into bins that hold equal shares of it, and the index is the sum of `(p - q) ln(p / q)` over the bins,
/// with p the recent and q the reference share. By custom, below 0.1 is no drift and above 0.25 is one; but samples of a few
/// hundred reach 0.1 by chance. [`limit`](Self::limit) is the value that is exceeded by chance with a stated probability: the
/// sum of the inverse sizes of both samples times a quantile of χ² with a degree less than there are bins (Yurdakul, 2018).
///
/// *Assumes* values that do not depend on each other, for the limit. *Fails* on changes within a bin. *Costs* memory for the
/// reference while it is collected, then 2 bytes for each value of the window; time to find a bin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PsiDrift {
    collected: Vec<f64>,
    wanted: usize,
    bins: usize,
    /// Upper edges of all bins but the last.
    edges: Vec<f64>,
    reference: Vec<u32>,
    recent: VecDeque<u16>,
    counts: Vec<u32>,
    window: usize,
}

impl PsiDrift {
    /// With a reference of so many values and a window of so many (10 to 100,000 each), in 2 to 100 bins.
    #[must_use]
    pub fn new(reference: usize, window: usize, bins: usize) -> Self {
        Self {
            collected: Vec::new(),
            wanted: reference.clamp(10, 100_000),
            bins: bins.clamp(2, 100),
            edges: Vec::new(),
            reference: Vec::new(),
            recent: VecDeque::new(),
            counts: Vec::new(),
            window: window.clamp(10, 100_000),
        }
    }

    /// Takes a value. One that is not a number counts as the lowest.
    pub fn push(&mut self, value: f64) {
        let value = if value.is_nan() { f64::NEG_INFINITY } else { value };
        if self.reference.is_empty() {
            self.collected.push(value);
            if self.collected.len() == self.wanted {
                self.cut();
            }
            return;
        }
        if self.recent.len() >= self.window
            && let Some(oldest) = self.recent.pop_front()
            && let Some(count) = self.counts.get_mut(usize::from(oldest))
        {
            *count = count.saturating_sub(1);
        }
        let bin = self.bin(value);
        self.recent.push_back(bin);
        self.counts[usize::from(bin)] += 1;
    }

    /// The index; `None` until the reference and the window are full.
    #[must_use]
    pub fn value(&self) -> Option<f64> {
        if self.reference.is_empty() || self.recent.len() < self.window {
            return None;
        }
        let bins = self.reference.len() as f64;
        let share = |count: u32, all: usize| (f64::from(count) + SMOOTHING) / (all as f64 + SMOOTHING * bins);
        let pairs = self.counts.iter().zip(&self.reference);
        let terms = pairs.map(|(&recent, &reference)| {
            let (p, q) = (share(recent, self.window), share(reference, self.wanted));
            (p - q) * (p / q).ln()
        });
        Some(terms.sum())
    }

    /// The index that is exceeded with probability `alpha` where nothing has changed.
    #[must_use]
    pub fn limit(&self, alpha: f64) -> f64 {
        // A reference of few distinct values has fewer bins than were asked for.
        let bins = if self.reference.is_empty() {
            self.bins
        } else {
            self.reference.len()
        };
        let samples = 1.0 / self.wanted as f64 + 1.0 / self.window as f64;
        samples * chi_square_quantile(bins.saturating_sub(1).max(1) as f64, alpha)
    }

    /// Takes what comes next as the reference.
    pub fn reset(&mut self) {
        *self = Self::new(self.wanted, self.window, self.bins);
    }

    fn cut(&mut self) {
        let mut sorted = std::mem::take(&mut self.collected);
        sorted.sort_by(f64::total_cmp);
        let mut edges: Vec<f64> = (1..self.bins)
            .map(|bin| sorted[(bin * sorted.len() / self.bins).min(sorted.len() - 1)])
            .collect();
        edges.dedup();
        self.edges = edges;
        let mut reference = vec![0_u32; self.edges.len() + 1];
        for value in sorted {
            reference[usize::from(self.bin(value))] += 1;
        }
        self.counts = vec![0; reference.len()];
        self.reference = reference;
    }

    fn bin(&self, value: f64) -> u16 {
        // At most a hundred bins.
        self.edges.partition_point(|edge| *edge <= value) as u16
    }
}

/// The value that χ² with so many degrees of freedom exceeds with probability `alpha`, by the approximation of Wilson and
/// Hilferty (1931).
fn chi_square_quantile(degrees: f64, alpha: f64) -> f64 {
    let part = 2.0 / (9.0 * degrees);
    let cube = 1.0 - part + super::normal_quantile(1.0 - alpha) * part.sqrt();
    degrees * cube.max(0.0).powi(3)
}
