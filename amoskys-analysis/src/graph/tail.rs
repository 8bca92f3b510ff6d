//! How rare a value is among those seen so far: p-values of a stream, in constant memory.

use serde::{Deserialize, Serialize};

use super::number::{halved, ln};

const BINS: usize = 64;

/// Values from 0 up, in bins of equal width, with a memory that fades.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored")]
pub(super) struct Tail {
    bins: Vec<f32>,
    /// For each bin, minus the logarithm of the share of values in it and above.
    surprise: Vec<f32>,
    per_unit: f32,
}

impl Tail {
    /// Values from 0 to `highest` are told apart by a 64th of it.
    pub(super) fn new(highest: f32) -> Self {
        Self {
            bins: vec![0.0; BINS],
            surprise: vec![0.0; BINS],
            per_unit: BINS as f32 / highest,
        }
    }

    /// Counts a value.
    #[inline]
    pub(super) fn add(&mut self, value: f32) {
        let at = self.bin(value);
        self.bins[at] += 1.0;
    }

    /// Minus the logarithm of the share of earlier values that were as high or higher, in nats. As of the last
    /// [`settle`](Self::settle); 0 before it.
    #[inline]
    pub(super) fn surprise(&self, value: f32) -> f32 {
        self.surprise[self.bin(value)]
    }

    /// Makes the values counted so far count, and lets those before fade by so many half-lives.
    pub(super) fn settle(&mut self, half_lives: f32) {
        let kept = halved(half_lives);
        let total: f32 = self.bins.iter().sum::<f32>() + 1.0;
        let ln_total = ln(total);
        // As in conformal prediction, the value in question counts itself.
        let mut above = 1.0;
        for (bin, surprise) in self.bins.iter_mut().zip(&mut self.surprise).rev() {
            above += *bin;
            *surprise = (ln_total - ln(above)).max(0.0);
            *bin *= kept;
        }
    }

    fn bin(&self, value: f32) -> usize {
        // What is negative or not a number falls into the first bin.
        ((value * self.per_unit) as usize).min(BINS - 1)
    }
}

/// A tail as it is read, which need not have the shape of one.
#[derive(Deserialize)]
struct Stored {
    bins: Vec<f32>,
    surprise: Vec<f32>,
    per_unit: f32,
}

impl TryFrom<Stored> for Tail {
    type Error = &'static str;

    fn try_from(stored: Stored) -> Result<Self, Self::Error> {
        let Stored {
            bins,
            surprise,
            per_unit,
        } = stored;
        if bins.len() != BINS || surprise.len() != BINS {
            return Err("a tail of another number of bins");
        }
        Ok(Self {
            bins,
            surprise,
            per_unit,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surprise_is_the_share_above() {
        let mut tail = Tail::new(16.0);
        assert_eq!(tail.surprise(9.0), 0.0);
        for n in 0..999 {
            tail.add(n as f32 / 100.0);
        }
        tail.settle(0.0);
        assert!((tail.surprise(5.0) - 2.0_f32.ln()).abs() < 0.02);
        assert!((tail.surprise(15.0) - 1000.0_f32.ln()).abs() < 1e-4);
        assert_eq!(tail.surprise(f32::NAN), 0.0);
        assert_eq!(tail.surprise(0.0), 0.0);
    }

    #[test]
    fn it_forgets() {
        let mut tail = Tail::new(16.0);
        (0..1000).for_each(|_| tail.add(10.0));
        tail.settle(20.0);
        (0..1000).for_each(|_| tail.add(1.0));
        tail.settle(0.0);
        assert!(tail.surprise(10.0) > 6.0);
    }
}
